/**
 * SHA-384 of a stream, of which the digest so far can be asked for. A large image is hashed twice over (PCR0 and
 * PCR2 both cover the application), so for large ones a lane of its own thread makes two hashes cost the time
 * of one.
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';

export interface HashLane {
  /** The piece may be used again once this is fulfilled. */
  update(piece: Uint8Array): void | Promise<void>;
  digestSoFar(): Uint8Array | Promise<Uint8Array>;
  close(): void | Promise<void>;
}

export function hashLane(): HashLane {
  const hash = createHash('sha384');
  return {
    update: (piece) => void hash.update(piece),
    digestSoFar: () => new Uint8Array(hash.copy().digest()),
    close: () => {},
  };
}

const SLAB_BYTES = 1 << 20;
const SLABS = 4;

/** What the thread is told; it answers `hashed` with the slab, or with the digest. */
export type LaneOrder = { readonly slab: number; readonly sizeBytes: number } | 'digest';
export type LaneAnswer = { readonly hashed: number } | { readonly digest: Uint8Array };

/** The same, in a thread of its own, over a ring of slabs of constant size. Close it. */
export class ThreadHashLane implements HashLane {
  // Buffers, because their copy() moves shared memory at once; set() does so byte by byte where a piece is not
  // aligned as its slab is, at half the speed of the hash itself.
  readonly #slabs = Array.from({ length: SLABS }, () => Buffer.from(new SharedArrayBuffer(SLAB_BYTES)));
  readonly #free: number[] = [...this.#slabs.keys()];
  readonly #thread: Worker;
  #filling: { slab: number; sizeBytes: number } | undefined;
  #wake: (() => void) | undefined;
  #digest: Uint8Array | undefined;
  #failed: Error | undefined;

  constructor() {
    this.#thread = new Worker(new URL('./hash-thread.ts', import.meta.url), { workerData: this.#slabs });
    this.#thread.on('message', (answer: LaneAnswer) => {
      if ('hashed' in answer) this.#free.push(answer.hashed);
      else this.#digest = answer.digest;
      this.#wake?.();
    });
    this.#thread.on('error', (error: Error) => {
      this.#failed = error;
      this.#wake?.();
    });
  }

  async update(piece: Uint8Array): Promise<void> {
    const bytes = Buffer.from(piece.buffer, piece.byteOffset, piece.length);
    for (let at = 0; at < piece.length; ) {
      this.#filling ??= { slab: await this.#freeSlab(), sizeBytes: 0 };
      const { slab, sizeBytes } = this.#filling;
      const copied = bytes.copy(this.#slabs[slab] as Buffer, sizeBytes, at);
      this.#filling.sizeBytes += copied;
      at += copied;
      if (this.#filling.sizeBytes === SLAB_BYTES) this.#send();
    }
  }

  async digestSoFar(): Promise<Uint8Array> {
    this.#send();
    this.#digest = undefined;
    this.#thread.postMessage('digest' satisfies LaneOrder);
    await this.#until(() => this.#digest !== undefined);
    return this.#digest as unknown as Uint8Array;
  }

  async close(): Promise<void> {
    if (this.#thread.threadId === -1) return;
    const ended = once(this.#thread, 'exit');
    await this.#thread.terminate();
    await ended.catch(() => {});
  }

  #send(): void {
    if (this.#filling !== undefined) this.#thread.postMessage(this.#filling satisfies LaneOrder);
    this.#filling = undefined;
  }

  async #freeSlab(): Promise<number> {
    await this.#until(() => this.#free.length > 0);
    return this.#free.pop() as number;
  }

  async #until(ready: () => boolean): Promise<void> {
    while (!ready()) {
      if (this.#failed !== undefined) throw this.#failed;
      await new Promise<void>((wake) => {
        this.#wake = wake;
      });
    }
  }
}
