/**
 * Every check in the order in which it is made, which is the order of docs/attestation.md. A check passes once,
 * after the ones before it; the first that did not pass is the one that failed.
 */
export const CHECKS = [
  { id: 'size', section: '2.1', step: 'well formed', what: 'no larger than AWS allows' },
  { id: 'cbor', section: '2.2', step: 'well formed', what: 'exactly one strict CBOR item, tag 18 or none' },
  {
    id: 'cose',
    section: '2.3',
    step: 'well formed',
    what: 'a COSE_Sign1 of two headers, payload, signature',
  },
  {
    id: 'algorithm',
    section: '2.4',
    step: 'well formed',
    what: 'signed header names ES384 and nothing else',
  },
  { id: 'unprotected-header', section: '2.5', step: 'well formed', what: 'unprotected header is empty' },
  { id: 'signature-length', section: '2.6', step: 'well formed', what: 'signature is r and s of 48 bytes' },
  { id: 'payload', section: '2.7', step: 'well formed', what: 'payload is a map of known fields, each once' },
  { id: 'enclave', section: '2.8', step: 'well formed', what: 'of an enclave, not of a NitroTPM' },
  { id: 'fields', section: '2.9', step: 'well formed', what: 'every field of its type and size' },
  { id: 'root', section: '3.1', step: 'genuine', what: 'chain begins with a trusted root' },
  { id: 'certificates', section: '3.2', step: 'genuine', what: 'X.509 v3, P-384, nothing critical unknown' },
  { id: 'issuers', section: '3.3', step: 'genuine', what: 'each certificate names the one before as issuer' },
  { id: 'validity', section: '3.4', step: 'genuine', what: 'all certificates valid at the time' },
  {
    id: 'authorities',
    section: '3.5',
    step: 'genuine',
    what: 'only authorities sign, within their path length',
  },
  { id: 'key-usage', section: '3.6', step: 'genuine', what: 'each key used as its certificate allows' },
  { id: 'timestamp', section: '3.7', step: 'genuine', what: 'dated within the life of all certificates' },
  {
    id: 'certificate-signatures',
    section: '3.8',
    step: 'genuine',
    what: 'each certificate signed by its issuer',
  },
  { id: 'signature', section: '3.9', step: 'genuine', what: 'document signed by its certificate' },
  { id: 'not-debug', section: '4.2', step: 'expected', what: 'not a debug image' },
  { id: 'age', section: '4.3', step: 'expected', what: 'not too old and not from the future' },
  { id: 'nonce', section: '4.4', step: 'expected', what: 'carries the expected nonce' },
  { id: 'public-key', section: '4.5', step: 'expected', what: 'carries the expected public key' },
  { id: 'pcrs', section: '4.6', step: 'expected', what: 'registers have the expected values' },
] as const;

export type Check = (typeof CHECKS)[number];
export type CheckId = Check['id'];

/** Told of every check that passed, with what was found. */
export type NotePassed = (check: CheckId, found: string) => void;
