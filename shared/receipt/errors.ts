import { type ErrorTable, StrongroomError } from '../errors.ts';

export const receiptErrors = {
  RECEIPT_TOO_LARGE: {
    exit: 2,
    means: 'The bytes are more than a receipt can have.',
    action: 'Check that this is the receipt alone, as the enclave gave it.',
  },
  RECEIPT_STRUCTURE: {
    exit: 2,
    means: 'The bytes are not a COSE_Sign1: a definite array of two headers, payload and signature.',
    action: 'Use the receipt as the enclave gave it, or its base64; do not decode and encode it again.',
  },
  RECEIPT_ALGORITHM: {
    exit: 1,
    means: 'The signed header does not say ES256 and the type of a receipt, and nothing else.',
    action: 'Refuse it: this is another signed message, or of a version that this verifier does not know.',
  },
  RECEIPT_UNPROTECTED_HEADER: {
    exit: 1,
    means: 'The unprotected header is not empty. Nobody signed what it says.',
    action: 'Refuse the receipt: somebody changed it on its way.',
  },
  RECEIPT_SIGNATURE_FORM: {
    exit: 1,
    means: 'The signature is not r and s in 32 bytes each, from 1 to n - 1, with s in the lower half.',
    action: 'Use the receipt as the enclave gave it; a receipt has exactly one form.',
  },
  RECEIPT_PAYLOAD: {
    exit: 1,
    means: 'The payload is not the one deterministic map of known fields, each of its type and size.',
    action: 'Refuse the receipt, or use a verifier of the release that issued it.',
  },
  RECEIPT_CLAIMS: {
    exit: 1,
    means: 'The attestation document in the receipt does not carry the claims of a document for receipts.',
    action: 'Refuse the receipt: its document was made for something else.',
  },
  RECEIPT_DEPLOYMENT: {
    exit: 1,
    means: 'The deployment that the document claims is not the one measured into PCR16.',
    action: 'Refuse the receipt, and tell your reviewer: the image does not measure what it says.',
  },
  RECEIPT_KEY: {
    exit: 1,
    means: 'The attestation document in the receipt does not carry a P-256 key.',
    action: 'Refuse the receipt: nothing vouches for the key that signed it.',
  },
  RECEIPT_SIGNATURE: {
    exit: 1,
    means: 'The signature is not by the key that the attestation document vouches for.',
    action: 'Refuse the receipt: it was changed, or joined with the document of another enclave.',
  },
  RECEIPT_TIME: {
    exit: 1,
    means: 'The receipt is dated outside the time that its attestation document covers, or in the future.',
    action: 'Check the time that you gave; otherwise refuse the receipt.',
  },
  RECEIPT_MODELS: {
    exit: 1,
    means: 'The models in the receipt are not those that its attestation document covers.',
    action: 'Refuse the receipt: it contradicts itself.',
  },
  RECEIPT_MODEL_UNEXPECTED: {
    exit: 1,
    means: 'The model that answered is not one of those that you expect.',
    action: 'Compare the model in the message with your expectations.',
  },
  RECEIPT_OTHER_KEY: {
    exit: 1,
    means: 'The receipt is genuine, and by another enclave than the one whose evidence was verified.',
    action: 'Do not take it as a receipt of this answer; somebody may have exchanged it.',
  },
  RECEIPT_OTHER_REQUEST: {
    exit: 1,
    means: 'The receipt is of another request, or the salt is of another receipt.',
    action: 'Give method, path, body and salt exactly as they were sent and received.',
  },
  RECEIPT_OTHER_ANSWER: {
    exit: 1,
    means: 'The receipt is of another answer, or the salt is of another receipt.',
    action: 'Give status, content type, body and salt exactly as they were received.',
  },
  RECEIPT_MISSING: {
    exit: 1,
    means: 'A receipt was asked for, and the answer ended without one: it may have been cut short.',
    action: 'Do not rely on the answer being whole; ask again.',
  },
  RECEIPT_SALT: {
    exit: 2,
    means: 'The salt is missing or is not 32 bytes in base64url.',
    action: 'Give the value of the header Strongroom-Receipt-Salt of the same answer.',
  },
  RECEIPT_NOT_VERIFIED: {
    exit: 3,
    means: 'Something was used as a checked receipt that this code never checked.',
    action: 'Report it as a bug; nothing was accepted.',
  },
} as const satisfies ErrorTable;

export type ReceiptErrorCode = keyof typeof receiptErrors;

export class ReceiptError extends StrongroomError<ReceiptErrorCode> {
  constructor(code: ReceiptErrorCode, message: string, cause?: unknown) {
    super(receiptErrors, code, message, cause);
  }
}
