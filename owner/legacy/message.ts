/**
 * Reading one AES-GCM message as large as a model (docs/legacy.md section 5). GCM says at its end whether anything
 * before it was genuine, so the file is read twice. The first pass checks tag and digest, releases nothing, and
 * notes the SHA-256 of each piece of ciphertext. The second releases plaintext piece by piece, in any order, and
 * each only if its ciphertext is still what the first pass saw: a file that changes in between is caught before
 * a byte of the change gets out.
 */
import { createDecipheriv, createHash, type Hash, type KeyObject } from 'node:crypto';
import { secretKeyOf } from '../../shared/sealed-model/chunk-cipher.ts';
import type { PayloadSource } from '../../shared/sealed-model/source.ts';
import { expectNotAborted } from '../spool.ts';
import { LegacyError } from './errors.ts';
import { changed, KEY_BYTES, type LegacyMessage, readInto, TAG_BYTES } from './layout.ts';

export interface Observe {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined;
}

/** What the second pass can check and release alone: as large as a production chunk of a sealed model. */
export const PIECE_BYTES = 1 << 20;
/** Small enough for the main thread (docs/sealed-model.md section 9.2). */
export const SLAB_BYTES = 128 << 10;

const onlyVerify = Symbol('only verifyMessage makes these');

/** A message whose tag and digest matched. Its bytes can be read for as long as the file stays open. */
export class VerifiedMessage implements PayloadSource {
  readonly sizeBytes: number;
  readonly #message: LegacyMessage;
  readonly #key: KeyObject;
  readonly #digests: readonly Uint8Array[];

  constructor(
    token: typeof onlyVerify,
    message: LegacyMessage,
    key: KeyObject,
    digests: readonly Uint8Array[],
  ) {
    if (token !== onlyVerify) throw new TypeError('a VerifiedMessage comes from verifyMessage alone');
    this.sizeBytes = message.sizeBytes;
    this.#message = message;
    this.#key = key;
    this.#digests = digests;
  }

  /** Fills `target` with plaintext. Throws LEGACY_CHANGED. */
  async read(offsetBytes: number, target: Uint8Array): Promise<void> {
    if (offsetBytes < 0 || offsetBytes + target.length > this.sizeBytes) {
      throw new RangeError(`bytes ${offsetBytes} to ${offsetBytes + target.length} of ${this.sizeBytes}`);
    }
    for (let done = 0; done < target.length; ) {
      const piece = Math.floor((offsetBytes + done) / PIECE_BYTES);
      const start = offsetBytes + done - piece * PIECE_BYTES;
      const length = Math.min(this.#lengthOf(piece) - start, target.length - done);
      const place = target.subarray(done, done + length);
      if (length === this.#lengthOf(piece)) await this.#open(piece, place);
      else {
        const whole = new Uint8Array(new ArrayBuffer(this.#lengthOf(piece)));
        try {
          await this.#open(piece, whole);
          place.set(whole.subarray(start, start + length));
        } finally {
          whole.fill(0);
        }
      }
      done += length;
    }
  }

  /** Plaintext from the first byte to the last, in a buffer that is used again. */
  plaintext(observe: Observe = {}): AsyncIterable<Uint8Array> {
    return this.#each((piece, target) => this.#open(piece, target), observe);
  }

  /** The ciphertext that was verified, likewise. */
  ciphertext(observe: Observe = {}): AsyncIterable<Uint8Array> {
    return this.#each((piece, target) => this.#fetch(piece, target), observe);
  }

  async *#each(
    fill: (piece: number, target: Uint8Array) => Promise<void>,
    { signal, onProgress }: Observe,
  ): AsyncIterable<Uint8Array> {
    const buffer = new Uint8Array(new ArrayBuffer(Math.min(PIECE_BYTES, this.sizeBytes)));
    try {
      for (let piece = 0; piece < this.#digests.length; piece++) {
        expectNotAborted(signal);
        const target = buffer.subarray(0, this.#lengthOf(piece));
        await fill(piece, target);
        yield target;
        onProgress?.(piece * PIECE_BYTES + target.length, this.sizeBytes);
      }
    } finally {
      buffer.fill(0);
    }
  }

  #lengthOf(piece: number): number {
    return Math.min(PIECE_BYTES, this.sizeBytes - piece * PIECE_BYTES);
  }

  async #fetch(piece: number, target: Uint8Array): Promise<void> {
    await readInto(this.#message.file, this.#message.offsetBytes + piece * PIECE_BYTES, target);
    const digest = createHash('sha256').update(target).digest();
    if (digest.equals(this.#digests[piece] as Uint8Array)) return;
    target.fill(0);
    throw changed(`bytes ${piece * PIECE_BYTES} and after are others than those that were verified`);
  }

  /** GCM's encryption is CTR from counter 2 on (NIST SP 800-38D, 7.1), so any piece opens alone. */
  async #open(piece: number, target: Uint8Array): Promise<void> {
    await this.#fetch(piece, target);
    const counter = new Uint8Array(16);
    counter.set(this.#message.nonce);
    new DataView(counter.buffer).setUint32(12, 2 + (piece * PIECE_BYTES) / 16);
    const decipher = createDecipheriv('aes-256-ctr', this.#key, counter);
    for (let at = 0; at < target.length; at += SLAB_BYTES) {
      const slab = decipher.update(target.subarray(at, at + SLAB_BYTES));
      target.set(slab, at);
      discard(slab);
    }
  }
}

/**
 * The first pass, once for each candidate of the associated data until one matches. `dataKey`: 32 bytes, which the
 * caller wipes. Throws LegacyError: LEGACY_TAG_REFUSED, LEGACY_DIGEST_REFUSED, LEGACY_CHANGED.
 */
export async function verifyMessage(
  message: LegacyMessage,
  dataKey: Uint8Array,
  associatedData: readonly Uint8Array[],
  observe: Observe = {},
): Promise<VerifiedMessage> {
  if (dataKey.length !== KEY_BYTES) {
    throw new LegacyError('LEGACY_KEY_FOREIGN', `A data key has ${KEY_BYTES} bytes, not ${dataKey.length}.`);
  }
  const key = secretKeyOf(dataKey);
  for (const candidate of associatedData) {
    const pass = await firstPass(message, key, candidate, observe);
    if (pass === undefined) continue;
    // GCM does not commit to its key: one file can be made to open under two. Its plaintext has one digest.
    if (pass.plaintextSha256 !== message.plaintextSha256) {
      throw new LegacyError(
        'LEGACY_DIGEST_REFUSED',
        `The plaintext has SHA-256 ${pass.plaintextSha256}, the file says ${message.plaintextSha256}.`,
      );
    }
    return new VerifiedMessage(onlyVerify, message, key, pass.digests);
  }
  throw new LegacyError(
    'LEGACY_TAG_REFUSED',
    `The tag of ${message.sizeBytes} bytes does not match this key and associated data; nothing was released.`,
  );
}

async function firstPass(
  { file, nonce, offsetBytes, sizeBytes, tag }: LegacyMessage,
  key: KeyObject,
  associatedData: Uint8Array,
  { signal, onProgress }: Observe,
): Promise<{ digests: Uint8Array[]; plaintextSha256: string } | undefined> {
  const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES });
  decipher.setAAD(associatedData);
  decipher.setAuthTag(tag);
  const plaintextHash = createHash('sha256');
  const digests: Uint8Array[] = [];
  const buffer = new Uint8Array(new ArrayBuffer(Math.min(PIECE_BYTES, sizeBytes)));
  for (let done = 0; done < sizeBytes; ) {
    expectNotAborted(signal);
    const piece = buffer.subarray(0, Math.min(PIECE_BYTES, sizeBytes - done));
    await readInto(file, offsetBytes + done, piece);
    digests.push(createHash('sha256').update(piece).digest());
    for (let at = 0; at < piece.length; at += SLAB_BYTES) {
      hashAndDiscard(decipher.update(piece.subarray(at, at + SLAB_BYTES)), plaintextHash);
    }
    done += piece.length;
    onProgress?.(done, sizeBytes);
  }
  try {
    decipher.final();
  } catch {
    return undefined;
  }
  return { digests, plaintextSha256: plaintextHash.digest('hex') };
}

function hashAndDiscard(slab: Buffer, hash: Hash): void {
  hash.update(slab);
  discard(slab);
}

/** Wiped, and its memory given back at once where it is alone in it. */
function discard(slab: Buffer): void {
  slab.fill(0);
  if (slab.buffer instanceof ArrayBuffer && slab.length === slab.buffer.byteLength) slab.buffer.transfer(0);
}
