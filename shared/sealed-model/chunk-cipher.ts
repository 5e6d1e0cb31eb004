/**
 * One chunk through AES-256-GCM, the way that Node is fast (docs/sealed-model.md section 9.2): `update()` always
 * allocates its result, so feed it slabs, copy each to its place, wipe it, and give its memory back at once with
 * `transfer(0)`. Waiting for the garbage collector instead costs three quarters of the speed.
 *
 * For worker threads only: on the main thread, slabs from 256 KiB on make glibc return and fault in the same
 * pages again at every call.
 */
import { createDecipheriv, createSecretKey, type KeyObject } from 'node:crypto';
import { TAG_BYTES } from './format.ts';

/** Input in memory is touched once, so the slab is the largest that fits into a core's L2 beside it. */
export const SLAB_BYTES = 512 << 10;
/** A reused 1 MiB buffer should stay in L2 beside the slab. */
export const SLAB_BYTES_BESIDE_BUFFER = 128 << 10;

export interface ChunkParameters {
  readonly key: KeyObject;
  readonly nonce: Uint8Array;
  readonly associatedData: Uint8Array;
  readonly slabBytes: number;
}

/** True if the tag was right. Else `plaintext` has been wiped. `plaintext` may be `ciphertext` itself. */
export function decryptChunk(
  { key, nonce, associatedData, slabBytes }: ChunkParameters,
  tag: Uint8Array,
  ciphertext: Uint8Array,
  plaintext: Uint8Array,
): boolean {
  const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES });
  decipher.setAAD(associatedData);
  decipher.setAuthTag(tag);
  for (let at = 0; at < ciphertext.length; at += slabBytes) {
    const end = Math.min(at + slabBytes, ciphertext.length);
    placeSlab(decipher.update(ciphertext.subarray(at, end)), plaintext, at);
  }
  try {
    decipher.final();
    return true;
  } catch {
    plaintext.fill(0);
    return false;
  }
}

/** Copies a slab to its place, wipes it and gives its memory back. */
export function placeSlab(slab: Buffer, target: Uint8Array, at: number): void {
  // `set` and `copy` move shared memory word by word (V8 must not tear what another thread may read); `fill` is a
  // plain memcpy, half as long again as fast, and nobody else looks at this range yet.
  Buffer.from(target.buffer, target.byteOffset + at, slab.length).fill(slab);
  slab.fill(0);
  // A slab that is not alone in its memory (a pooled Buffer) must not take its neighbours with it.
  if (slab.buffer instanceof ArrayBuffer && slab.length === slab.buffer.byteLength) slab.buffer.transfer(0);
}

/**
 * A key object from key bytes. The copy in between has its own ArrayBuffer: Node moves small typed arrays off
 * V8's heap when OpenSSL looks at them, and the bytes that stay behind on the heap are never wiped.
 */
export function secretKeyOf(bytes: Uint8Array): KeyObject {
  const own = new Uint8Array(new ArrayBuffer(bytes.length));
  try {
    own.set(bytes);
    return createSecretKey(own);
  } finally {
    own.fill(0);
  }
}
