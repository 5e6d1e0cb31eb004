/** The key of receipts: P-256, uncompressed, as SubjectPublicKeyInfo in DER (RFC 5480), and signatures by it. */
import { createPublicKey, type KeyObject } from 'node:crypto';
import { RECEIPT_SIGNATURE_BYTES } from './receipt.ts';

/** id-ecPublicKey with prime256v1, and the BIT STRING of an uncompressed point up to its 64 bytes. */
const SPKI_PREFIX = Buffer.from('3059301306072a8648ce3d020106082a8648ce3d03010703420004', 'hex');
export const RECEIPT_KEY_BYTES = SPKI_PREFIX.length + 64;

/** Undefined unless the bytes are exactly such a key, and its point is on the curve. */
export function readReceiptKey(spki: Uint8Array | null): KeyObject | undefined {
  if (spki?.length !== RECEIPT_KEY_BYTES) return undefined;
  if (!SPKI_PREFIX.equals(spki.subarray(0, SPKI_PREFIX.length))) return undefined;
  try {
    return createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' });
  } catch {
    return undefined;
  }
}

/** Order of the base point of P-256, NIST SP 800-186, 3.2.1.3. */
const P256_ORDER = BigInt('0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551');
const HALF_BYTES = RECEIPT_SIGNATURE_BYTES / 2;

/**
 * With (r, s) also (r, n - s) is a signature, which anybody can compute. Only the lower s is issued and accepted,
 * so a receipt has one form and its hash can serve as its name.
 */
export function lowerS(signature: Uint8Array): Uint8Array {
  const s = numberOf(signature.subarray(HALF_BYTES));
  const lower = new Uint8Array(signature);
  if (s > P256_ORDER / 2n) {
    lower.set(Buffer.from((P256_ORDER - s).toString(16).padStart(HALF_BYTES * 2, '0'), 'hex'), HALF_BYTES);
  }
  return lower;
}

/** r from 1 to n - 1, s from 1 to (n - 1) / 2, in 32 bytes each. */
export function isReceiptSignature(signature: Uint8Array): boolean {
  if (signature.length !== RECEIPT_SIGNATURE_BYTES) return false;
  const r = numberOf(signature.subarray(0, HALF_BYTES));
  const s = numberOf(signature.subarray(HALF_BYTES));
  return r > 0n && r < P256_ORDER && s > 0n && s <= P256_ORDER / 2n;
}

function numberOf(bytes: Uint8Array): bigint {
  return BigInt(`0x${Buffer.from(bytes).toString('hex')}`);
}
