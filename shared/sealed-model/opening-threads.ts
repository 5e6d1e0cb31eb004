/**
 * The threads that open a model. Starting them takes some 50 ms, most of it Node reading TypeScript; whoever
 * waits for a key meanwhile can start them beforehand. They hold nothing until an opening begins, serve one
 * opening, and end with it.
 */
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';

/** A worker leaves between two chunks, which takes milliseconds; this is for one stuck in a read. */
const CLOSE_TIMEOUT_MS = 5_000;

export class OpeningThreads {
  readonly #workers: readonly Worker[];
  readonly #exited: Promise<unknown>;
  #onCrash: ((error: unknown) => void) | undefined;
  #crash: { readonly error: unknown } | undefined;
  #taken = false;

  constructor(count: number) {
    this.#workers = Array.from(
      { length: count },
      () =>
        new Worker(new URL('./open-worker.ts', import.meta.url), {
          name: 'open-sealed-model',
          env: {},
          execArgv: [],
        }),
    );
    this.#exited = Promise.all(
      this.#workers.map((worker) => new Promise<void>((resolve) => worker.once('exit', () => resolve()))),
    );
    for (const worker of this.#workers) {
      worker.on('error', (error) => {
        this.#crash ??= { error };
        this.#onCrash?.(error);
      });
    }
  }

  /** For the one opening that uses them; `onCrash` also hears of a crash that has already happened. */
  take(onCrash: (error: unknown) => void): readonly Worker[] {
    if (this.#taken) throw new TypeError('these threads served an opening already');
    this.#taken = true;
    this.#onCrash = onCrash;
    const crash = this.#crash;
    if (crash !== undefined) queueMicrotask(() => onCrash(crash.error));
    return this.#workers;
  }

  /** Each wipes its buffers and leaves; one that does not is terminated. Resolves when all are gone. */
  async close(): Promise<void> {
    for (const worker of this.#workers) worker.postMessage({ kind: 'close' });
    const deadline = setTimeout(() => {
      for (const worker of this.#workers) void worker.terminate();
    }, CLOSE_TIMEOUT_MS);
    await this.#exited;
    clearTimeout(deadline);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Threads waiting for one opening; hand them over as its `workers`. Default: one a processor. */
export function startOpeningThreads(count = availableParallelism(), atMost = count): OpeningThreads {
  return new OpeningThreads(Math.min(Math.max(1, count), atMost));
}
