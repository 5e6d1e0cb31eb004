/**
 * The polynomial hash inside GCM (NIST SP 800-38D 6.3, 6.4), to build ciphertexts that abuse its linearity:
 * one that two keys accept, and two that share a tag. Slow and for test vectors only.
 */
import { createCipheriv } from 'node:crypto';

const R = 0xe1n << 120n;
const BITS = 128n;

export function toField(block: Uint8Array): bigint {
  return BigInt(`0x${Buffer.from(block).toString('hex').padEnd(32, '0')}`);
}

export function fromField(element: bigint): Uint8Array {
  return new Uint8Array(Buffer.from(element.toString(16).padStart(32, '0'), 'hex'));
}

export function multiply(x: bigint, y: bigint): bigint {
  let product = 0n;
  let shifted = y;
  for (let bit = BITS - 1n; bit >= 0n; bit--) {
    if ((x >> bit) & 1n) product ^= shifted;
    shifted = shifted & 1n ? (shifted >> 1n) ^ R : shifted >> 1n;
  }
  return product;
}

/** x^(2^128 - 2). */
export function invert(x: bigint): bigint {
  let result = 1n << 127n;
  let square = x;
  for (let bit = 1; bit < 128; bit++) {
    square = multiply(square, square);
    result = multiply(result, square);
  }
  return result;
}

/** GHASH over associated data, ciphertext (each padded to whole blocks) and their lengths. */
export function ghash(h: bigint, associatedData: Uint8Array, ciphertext: Uint8Array): bigint {
  const lengths = new DataView(new ArrayBuffer(16));
  lengths.setBigUint64(0, BigInt(associatedData.length) * 8n);
  lengths.setBigUint64(8, BigInt(ciphertext.length) * 8n);
  const blocks = [...blocksOf(associatedData), ...blocksOf(ciphertext), new Uint8Array(lengths.buffer)];
  return blocks.reduce((hash, block) => multiply(hash ^ toField(block), h), 0n);
}

function blocksOf(bytes: Uint8Array): Uint8Array[] {
  return Array.from({ length: Math.ceil(bytes.length / 16) }, (_, at) =>
    bytes.subarray(at * 16, at * 16 + 16),
  );
}

/** H = AES(0), and the mask AES(nonce || 1) that hides GHASH in the tag. */
export function gcmConstants(key: Uint8Array, nonce: Uint8Array): { h: bigint; mask: bigint } {
  const encrypt = (block: Uint8Array): bigint => {
    const cipher = createCipheriv('aes-256-ecb', key, null).setAutoPadding(false);
    return toField(cipher.update(block));
  };
  return { h: encrypt(new Uint8Array(16)), mask: encrypt(Uint8Array.from([...nonce, 0, 0, 0, 1])) };
}

/** A ciphertext (whole blocks, the last one chosen here) that has one tag under both keys. */
export function twoKeyCiphertext(
  keys: readonly [Uint8Array, Uint8Array],
  nonce: Uint8Array,
  associatedData: Uint8Array,
  start: Uint8Array,
): { ciphertext: Uint8Array; tag: Uint8Array } {
  const [a, b] = [gcmConstants(keys[0], nonce), gcmConstants(keys[1], nonce)];
  const ciphertext = new Uint8Array(start.length + 16);
  ciphertext.set(start);
  const difference =
    ghash(a.h, associatedData, ciphertext) ^ a.mask ^ ghash(b.h, associatedData, ciphertext) ^ b.mask;
  // The last block is multiplied by H twice: once for itself, once for the block of lengths.
  const free = multiply(difference, invert(multiply(a.h, a.h) ^ multiply(b.h, b.h)));
  ciphertext.set(fromField(free), start.length);
  return { ciphertext, tag: fromField(ghash(a.h, associatedData, ciphertext) ^ a.mask) };
}

/** Another ciphertext with the same tag under the same key: two neighbouring blocks changed so as to cancel. */
export function sameTagCiphertext(key: Uint8Array, nonce: Uint8Array, ciphertext: Uint8Array): Uint8Array {
  const { h } = gcmConstants(key, nonce);
  const changed = new Uint8Array(ciphertext);
  const delta = 1n << 100n;
  changed.set(fromField(toField(ciphertext.subarray(0, 16)) ^ delta), 0);
  changed.set(fromField(toField(ciphertext.subarray(16, 32)) ^ multiply(delta, h)), 16);
  return changed;
}
