/** The enclave's side of receipts: writes what decode.ts reads (docs/receipts.md sections 2 and 3). */
import { type KeyObject, sign } from 'node:crypto';
import { type CborValue, encodeCbor } from '../cbor.ts';
import { type LoadedModel, modelsAsCbor, modelsDigest } from '../evidence/evidence.ts';
import { lowerS } from './key.ts';
import { RECEIPT_PROTECTED_HEADER, RECEIPT_PURPOSE, RECEIPT_VERSION, type ReceiptFields } from './receipt.ts';

/** The `user_data` of the attestation document that receipts hold; `public_key` carries their key. */
export function encodeReceiptClaims(
  models: readonly LoadedModel[],
  deploymentSha384: Uint8Array,
): Uint8Array {
  return encodeCbor(
    new Map<CborValue, CborValue>([
      ['v', RECEIPT_VERSION],
      ['purpose', RECEIPT_PURPOSE],
      ['models', modelsDigest(models)],
      ['deployment', deploymentSha384],
    ]),
  );
}

/** RFC 8949 4.2.1: shortest heads, definite lengths, keys in the order of their encoded bytes. */
export function encodeReceiptPayload(fields: ReceiptFields): Uint8Array {
  return encodeCbor(
    new Map<CborValue, CborValue>([
      ['v', RECEIPT_VERSION],
      ['seq', fields.sequence],
      ['time', fields.timestampMs],
      ['model', fields.model],
      ['answer', fields.answerDigest],
      ['models', modelsAsCbor(fields.models)],
      ['request', fields.requestDigest],
      ['document', fields.document],
    ]),
  );
}

/** RFC 9052 4.4: what the signature is over. */
export function receiptToBeSigned(payload: Uint8Array): Uint8Array {
  return encodeCbor(['Signature1', RECEIPT_PROTECTED_HEADER, new Uint8Array(0), payload]);
}

/** The whole receipt, signed by the private key of its document's `public_key`. */
export function signReceipt(fields: ReceiptFields, privateKey: KeyObject): Uint8Array {
  const payload = encodeReceiptPayload(fields);
  const signature = sign('sha256', receiptToBeSigned(payload), {
    key: privateKey,
    dsaEncoding: 'ieee-p1363',
  });
  return encodeCbor([RECEIPT_PROTECTED_HEADER, new Map(), payload, lowerS(signature)]);
}
