import { type ErrorTable, StrongroomError } from '../../shared/errors.ts';

export const kmsErrors = {
  KMS_KEY_NOT_ALLOWED: {
    exit: 1,
    means: 'No wrap of the data key is under a KMS key that the deployment lists.',
    action: 'Rewrap the model to a listed key, or list the key in a new deployment document.',
  },
  KMS_DENIED: {
    exit: 1,
    means: 'AWS KMS refused to release the data key to this enclave.',
    action:
      'Compare the measurements of the image and the deployment with the key policy; KMS never says which condition failed.',
  },
  KMS_UNAVAILABLE: {
    exit: 1,
    means: 'AWS KMS could not be reached or did not answer properly.',
    action: "Check the parent's egress allow-list, its network and the instance role's credentials.",
  },
  KMS_ANSWER_REFUSED: {
    exit: 1,
    means: 'The answer of KMS did not carry a data key for this enclave.',
    action:
      'Treat the connection as tampered with; the enclave asked with an attestation document and accepts nothing else.',
  },
} as const satisfies ErrorTable;

export class KmsError extends StrongroomError<keyof typeof kmsErrors> {
  constructor(code: keyof typeof kmsErrors, message: string, cause?: unknown) {
    super(kmsErrors, code, message, cause);
  }
}
