/**
 * Random access to a sealed model: `read(offset, length)` fetches and opens no more than the segments that the
 * range touches, and returns bytes only after every chunk's tag and every segment's digest matched. What is
 * kept between two reads is keys, threads and wiped memory, never plaintext.
 */
import { SealedModelError } from './errors.ts';
import { type OpeningOptions, OpeningPool } from './opening-pool.ts';
import type { PayloadSource } from './source.ts';
import type { UnlockedHead } from './unlock.ts';

export class SealedModelReader {
  readonly #unlocked: UnlockedHead;
  readonly #source: PayloadSource;
  readonly #options: OpeningOptions;
  #pool: OpeningPool | undefined;
  /** Used again and again: shared memory that is dropped stays until the garbage collector happens to look. */
  #window = new SharedArrayBuffer(0);
  /** One range at a time: the workers share the work of one range. */
  #turn: Promise<unknown> = Promise.resolve();
  #closed = false;

  constructor(unlocked: UnlockedHead, source: PayloadSource, options: OpeningOptions = {}) {
    this.#unlocked = unlocked;
    this.#source = source;
    this.#options = options;
  }

  /**
   * Offsets are those of the payload: a file's bytes begin at its `offset` in the head. Resolves to bytes in an
   * ArrayBuffer of their own; a caller who reads much hands each to `wipeAndFree` when done with it.
   */
  read(offset: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
    const result = this.#turn.then(() => this.#read(offset, length));
    this.#turn = result.catch(() => {});
    return result;
  }

  async #read(offset: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
    const { geometry, payloadSizeBytes } = this.#unlocked.head;
    const inside = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0;
    if (this.#closed || !inside || offset + length > payloadSizeBytes) {
      throw new SealedModelError(
        'SEALED_RANGE_INVALID',
        this.#closed
          ? 'The reader is closed.'
          : `Bytes ${offset} to ${offset + length} are not all within the payload of ${payloadSizeBytes}.`,
      );
    }
    if (length === 0) return new Uint8Array(0);

    const firstChunk = Math.floor(offset / geometry.chunkBytes);
    const endBytes = Math.min(
      Math.ceil((offset + length) / geometry.chunkBytes) * geometry.chunkBytes,
      payloadSizeBytes,
    );
    const segments = {
      first: Math.floor(firstChunk / geometry.chunksPerSegment),
      end: Math.ceil(endBytes / geometry.chunkBytes / geometry.chunksPerSegment),
    };
    const windowBytes = endBytes - firstChunk * geometry.chunkBytes;
    if (this.#window.byteLength < windowBytes) this.#window = new SharedArrayBuffer(windowBytes);
    const buffer = this.#window;
    const window = new Uint8Array(buffer, 0, windowBytes);
    try {
      this.#pool ??= new OpeningPool(this.#unlocked, this.#source, this.#options, geometry.segmentCount);
      await this.#pool.run(segments, { kind: 'memory', buffer, firstChunk }, true, {});
      const start = offset - firstChunk * geometry.chunkBytes;
      const own = new Uint8Array(length);
      own.set(window.subarray(start, start + length));
      return own;
    } catch (error) {
      // Reads of the failed range may still be under way into this pool's rings.
      await this.#pool?.close();
      this.#pool = undefined;
      throw error;
    } finally {
      window.fill(0);
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#turn;
    await this.#pool?.close();
    this.#pool = undefined;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Gives the memory back at once: the garbage collector looks at big buffers when it pleases, gigabytes later. */
export function wipeAndFree(bytes: Uint8Array<ArrayBuffer>): void {
  bytes.fill(0);
  bytes.buffer.transfer(0);
}
