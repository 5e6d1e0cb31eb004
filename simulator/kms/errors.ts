import { type ErrorTable, StrongroomError } from '../../shared/errors.ts';

export const simulatedKmsErrors = {
  SIMULATED_KMS_CONFIG: {
    exit: 2,
    means: 'The configuration of the simulated KMS cannot be used.',
    action: 'Correct the member that the message names; docs/simulated-kms.md lists all of them.',
  },
} as const satisfies ErrorTable;

export class SimulatedKmsError extends StrongroomError<keyof typeof simulatedKmsErrors> {
  constructor(code: keyof typeof simulatedKmsErrors, message: string, cause?: unknown) {
    super(simulatedKmsErrors, code, message, cause);
  }
}
