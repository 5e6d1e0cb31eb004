import { type ErrorTable, StrongroomError } from '../../shared/errors.ts';

export const keyPolicyErrors = {
  KEY_POLICY_INPUT: {
    exit: 2,
    means: 'A key policy cannot be generated from these values without opening the key to somebody else.',
    action:
      'Correct the value that the message names: whole ARNs in the key account, measured non-zero registers.',
  },
  KEY_POLICY_SHAPE: {
    exit: 3,
    means:
      'The key policy is not one that `strongroom policy generate` writes, so one sentence cannot describe it.',
    action: 'Generate the policy again, or have this one reviewed statement by statement.',
  },
} as const satisfies ErrorTable;

export class KeyPolicyError extends StrongroomError<keyof typeof keyPolicyErrors> {
  constructor(code: keyof typeof keyPolicyErrors, message: string, cause?: unknown) {
    super(keyPolicyErrors, code, message, cause);
  }
}
