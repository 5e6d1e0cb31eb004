/** Every check of a receipt in the order in which it is made, which is the order of docs/receipts.md. */
export const RECEIPT_CHECKS = [
  { id: 'size', section: '4.1', step: 'well formed', what: 'no larger than a receipt can be' },
  { id: 'cose', section: '4.2', step: 'well formed', what: 'one strict CBOR item, a COSE_Sign1' },
  { id: 'header', section: '4.3', step: 'well formed', what: 'signed header names ES256 and a receipt' },
  { id: 'unprotected-header', section: '4.4', step: 'well formed', what: 'unprotected header is empty' },
  { id: 'signature-form', section: '4.5', step: 'well formed', what: 'signature in its one form' },
  { id: 'payload', section: '4.6', step: 'well formed', what: 'payload is the one map of known fields' },
  { id: 'document', section: '5.1', step: 'genuine', what: 'its attestation document is well formed' },
  { id: 'document-genuine', section: '5.2', step: 'genuine', what: 'document leads to a trusted root' },
  { id: 'claims', section: '5.3', step: 'genuine', what: 'document was made for receipts' },
  { id: 'deployment', section: '5.4', step: 'genuine', what: 'deployment is the one measured into PCR16' },
  { id: 'key', section: '5.5', step: 'genuine', what: 'document carries the P-256 key of receipts' },
  { id: 'signature', section: '5.6', step: 'genuine', what: 'receipt signed by that key' },
  { id: 'models', section: '5.7', step: 'genuine', what: 'models are those that the document covers' },
  { id: 'time', section: '5.8', step: 'genuine', what: 'dated within the time that the document covers' },
  { id: 'not-debug', section: '5.9', step: 'genuine', what: 'not of an enclave in debug mode' },
  { id: 'pcrs', section: '6.1', step: 'expected', what: 'registers have the expected values' },
  { id: 'model', section: '6.2', step: 'expected', what: 'answered by an expected model' },
  { id: 'request', section: '7.1', step: 'of this exchange', what: 'request is the one that it names' },
  { id: 'answer', section: '7.2', step: 'of this exchange', what: 'answer is the one that it names' },
] as const;

export type ReceiptCheck = (typeof RECEIPT_CHECKS)[number];
export type ReceiptCheckId = ReceiptCheck['id'];

/** Told of every check that passed, with what was found. */
export type NoteReceiptPassed = (check: ReceiptCheckId, found: string) => void;

export interface ReceiptCheckResult extends Pick<ReceiptCheck, 'section' | 'step' | 'what'> {
  readonly check: ReceiptCheckId;
  /** `not-asked`: nothing was given to compare with. */
  readonly outcome: 'passed' | 'failed' | 'not-reached' | 'not-asked';
  /** What was found, or why the check failed; empty if not reached. */
  readonly detail: string;
}
