import { type ErrorTable, StrongroomError } from '../errors.ts';

export const evidenceErrors = {
  EVIDENCE_CLAIMS: {
    exit: 1,
    means: 'The claims inside the attestation document are not the CBOR map that this version knows.',
    action: 'Do not use this server; check that client and enclave are releases that belong together.',
  },
  EVIDENCE_RESPONSE: {
    exit: 1,
    means: 'The answer to the evidence request is not the JSON that this version knows.',
    action: 'Do not use this server; check that the URL is a Strongroom enclave of the same release.',
  },
  EVIDENCE_MODELS: {
    exit: 1,
    means: 'The list of loaded models is not in its one canonical form.',
    action: 'Do not use this server; check that client and enclave are releases that belong together.',
  },
  EVIDENCE_RECEIPT_KEY: {
    exit: 1,
    means: 'The evidence does not carry the P-256 key by which the enclave signs receipts.',
    action: 'Do not use this server; check that client and enclave are releases that belong together.',
  },
  EVIDENCE_NONCE: {
    exit: 2,
    means: 'The nonce of an evidence request is not 32 bytes in base64url.',
    action: 'Send 43 characters of base64url without padding, fresh and random for every connection.',
  },
} as const satisfies ErrorTable;

export class EvidenceError extends StrongroomError<keyof typeof evidenceErrors> {
  constructor(code: keyof typeof evidenceErrors, message: string, cause?: unknown) {
    super(evidenceErrors, code, message, cause);
  }
}
