import { type ErrorTable, StrongroomError } from '../errors.ts';

const TRY_AGAIN = 'Ask KMS again with a fresh key and a fresh attestation document; do not use these bytes.';

export const cmsErrors = {
  CMS_TOO_LARGE: {
    exit: 1,
    means: 'The CiphertextForRecipient is larger than KMS ever sends.',
    action: TRY_AGAIN,
  },
  CMS_MALFORMED: {
    exit: 1,
    means: 'The bytes are not a CMS ContentInfo in the form that KMS sends.',
    action: TRY_AGAIN,
  },
  CMS_TYPE_REFUSED: {
    exit: 1,
    means: 'The CMS message or its content is of another type than enveloped data.',
    action: TRY_AGAIN,
  },
  CMS_VERSION_REFUSED: {
    exit: 1,
    means: 'A version number of the CMS structure is not the one that KMS sends.',
    action: TRY_AGAIN,
  },
  CMS_RECIPIENT_REFUSED: {
    exit: 1,
    means: 'The message is not for exactly one recipient, the holder of this key.',
    action: 'Check that the answer belongs to the request that carried this key; then ask KMS again.',
  },
  CMS_KEY_ENCRYPTION_REFUSED: {
    exit: 1,
    means: 'The content key is not encrypted with RSAES-OAEP, SHA-256 and MGF1 with SHA-256.',
    action: 'Ask KMS with KeyEncryptionAlgorithm RSAES_OAEP_SHA_256; nothing else is accepted.',
  },
  CMS_CONTENT_ENCRYPTION_REFUSED: {
    exit: 1,
    means: 'The content is not encrypted with AES-256-CBC in whole blocks.',
    action: TRY_AGAIN,
  },
  CMS_DECRYPTION_FAILED: {
    exit: 1,
    means: 'The message could not be decrypted with this key. On purpose, no more is said.',
    action: TRY_AGAIN,
  },
} as const satisfies ErrorTable;

export type CmsErrorCode = keyof typeof cmsErrors;

export class CmsError extends StrongroomError<CmsErrorCode> {
  constructor(code: CmsErrorCode, message: string, cause?: unknown) {
    super(cmsErrors, code, message, cause);
  }
}
