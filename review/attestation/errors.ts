import { type ErrorTable, StrongroomError } from '../../shared/errors.ts';

export const documentErrors = {
  ATTESTATION_USER_DATA_MISMATCH: {
    exit: 1,
    means: 'The document carries other user data than was expected, or none.',
    action:
      'Treat it as evidence of something else; ask for a new document with the user data that you expect.',
  },
  ATTESTATION_DEPLOYMENT_CONTRADICTED: {
    exit: 1,
    means: 'The user data names a deployment that is not the one in PCR16.',
    action: 'Do not use this enclave: it says one thing and measured another.',
  },
} as const satisfies ErrorTable;

export class DocumentError extends StrongroomError<keyof typeof documentErrors> {
  constructor(code: keyof typeof documentErrors, message: string, cause?: unknown) {
    super(documentErrors, code, message, cause);
  }
}
