/** Writes receipts as an enclave would, over documents under a simulated chain, and lets a test break any part of them. */
import { createHash, type KeyObject, sign } from 'node:crypto';
import type { TrustAnchor } from '../../../shared/attestation/anchors.ts';
import { type CborValue, encodeCbor } from '../../../shared/cbor.ts';
import { type LoadedModel, modelsAsCbor, modelsDigest } from '../../../shared/evidence/evidence.ts';
import { lowerS } from '../../../shared/receipt/key.ts';
import { answerDigest, RECEIPT_PROTECTED_HEADER, requestDigest } from '../../../shared/receipt/receipt.ts';
import { buildDocument, type DocumentParts, keyPair, NOW } from '../attestation/build.ts';

export { NOW };

export const IRIS: LoadedModel = {
  name: 'iris',
  version: 3,
  manifestSha256: 'a1'.repeat(32),
  contentId: 'b2'.repeat(32),
};
export const MODELS: readonly LoadedModel[] = [
  { name: 'echo', version: 1, manifestSha256: null, contentId: 'c3'.repeat(32) },
  IRIS,
];

export const SALT = Uint8Array.from({ length: 32 }, (_, i) => i);
export const REQUEST = {
  method: 'POST',
  target: '/v2/models/iris/infer',
  contentType: 'application/json',
  framing: undefined,
};
export const REQUEST_BODY = Buffer.from('{"inputs":[]}');
export const ANSWER = { status: 200, contentType: 'application/json', framing: undefined };
export const ANSWER_BODY = Buffer.from('{"outputs":[]}');

const receiptKeys = keyPair('P-256');
export const RECEIPT_KEY = new Uint8Array(receiptKeys.publicKey.export({ type: 'spki', format: 'der' }));
/** SHA-384 of what `goodParts` measures into PCR16. */
export const DEPLOYMENT = createHash('sha384').update(Uint8Array.of(16)).digest();

export interface ReceiptParts {
  claims: Map<CborValue, CborValue>;
  document: (parts: DocumentParts) => void;
  payload: Map<CborValue, CborValue>;
  encodePayload: (payload: Map<CborValue, CborValue>) => Uint8Array;
  protectedHeader: Uint8Array;
  unprotectedHeader: Uint8Array;
  signedBy: KeyObject;
  signature: (signature: Uint8Array) => Uint8Array;
}

function goodParts(): ReceiptParts {
  return {
    claims: new Map<CborValue, CborValue>([
      ['v', 1],
      ['purpose', 'receipt'],
      ['models', modelsDigest(MODELS)],
      ['deployment', DEPLOYMENT],
    ]),
    document: () => {},
    payload: new Map<CborValue, CborValue>([
      ['v', 1],
      ['seq', 7],
      ['time', NOW.getTime() + 1000],
      ['model', 'iris'],
      ['answer', answerDigest(SALT, ANSWER).update(ANSWER_BODY).digest()],
      ['models', modelsAsCbor(MODELS)],
      ['request', requestDigest(SALT, REQUEST).update(REQUEST_BODY).digest()],
      ['document', new Uint8Array(0)],
    ]),
    encodePayload: encodeCbor,
    protectedHeader: RECEIPT_PROTECTED_HEADER,
    unprotectedHeader: Uint8Array.of(0xa0),
    signedBy: receiptKeys.privateKey,
    signature: lowerS,
  };
}

export interface BuiltReceipt {
  readonly bytes: Uint8Array;
  readonly anchor: TrustAnchor;
}

export function buildReceipt(change: (parts: ReceiptParts) => void = () => {}): BuiltReceipt {
  const parts = goodParts();
  change(parts);
  const { bytes: document, anchor } = buildDocument((of) => {
    of.payload.set('user_data', encodeCbor(parts.claims));
    of.payload.set('public_key', RECEIPT_KEY);
    of.payload.set('nonce', null);
    parts.document(of);
  });
  const held = parts.payload.get('document');
  if (held instanceof Uint8Array && held.length === 0) parts.payload.set('document', document);
  const payload = parts.encodePayload(parts.payload);
  const signed = encodeCbor(['Signature1', parts.protectedHeader, new Uint8Array(0), payload]);
  const signature = sign('sha256', signed, { key: parts.signedBy, dsaEncoding: 'ieee-p1363' });
  const bytes = Buffer.concat([
    Uint8Array.of(0x84),
    encodeCbor(parts.protectedHeader),
    parts.unprotectedHeader,
    encodeCbor(payload),
    encodeCbor(parts.signature(new Uint8Array(signature))),
  ]);
  return { bytes: new Uint8Array(bytes), anchor };
}
