/** Who may use a model now, who waits, and who is told to come back: a fixed number, a bounded queue. */
import { ApiError } from './errors.ts';

interface Waiting {
  readonly admit: () => void;
  readonly refuse: (error: unknown) => void;
}

export class Admission {
  readonly #concurrency: number;
  readonly #queueLength: number;
  readonly #queue: Waiting[] = [];
  #running = 0;

  constructor(concurrency: number, queueLength: number) {
    this.#concurrency = concurrency;
    this.#queueLength = queueLength;
  }

  /**
   * Runs `work` in its turn. Rejects with ApiError API_OVERLOADED at once if the queue is full, and with the
   * signal's reason as soon as it aborts: whoever has gone does not wait in the queue.
   */
  async run<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    signal.throwIfAborted();
    if (this.#running >= this.#concurrency) await this.#turn(signal);
    else this.#running += 1;
    try {
      signal.throwIfAborted();
      return await work();
    } finally {
      const next = this.#queue.shift();
      if (next === undefined) this.#running -= 1;
      else next.admit();
    }
  }

  /** Resolves with the place of whoever finished. */
  #turn(signal: AbortSignal): Promise<void> {
    if (this.#queue.length >= this.#queueLength) {
      throw new ApiError('API_OVERLOADED', 'too many requests are waiting for this model');
    }
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        this.#queue.splice(this.#queue.indexOf(waiting), 1);
        reject(signal.reason);
      };
      const waiting: Waiting = {
        admit: () => {
          signal.removeEventListener('abort', leave);
          resolve();
        },
        refuse: reject,
      };
      signal.addEventListener('abort', leave, { once: true });
      this.#queue.push(waiting);
    });
  }
}

/** Memory for one body: it grows, and all of it comes back when disposed. */
export interface HeldBytes {
  /** Throws ApiError API_OVERLOADED, and then takes nothing. */
  take(sizeBytes: number): void;
}

/**
 * Bytes of request bodies that may be in memory at once, over all connections. Only what is taken counts: sizes
 * that are merely announced would let a few senders of nothing shut everybody else out.
 */
export class BodyBudget {
  #left: number;

  constructor(sizeBytes: number) {
    this.#left = sizeBytes;
  }

  open(): HeldBytes & Disposable {
    let held = 0;
    return {
      take: (sizeBytes) => {
        if (sizeBytes > this.#left) throw new ApiError('API_OVERLOADED', 'too many large requests at once');
        this.#left -= sizeBytes;
        held += sizeBytes;
      },
      [Symbol.dispose]: () => {
        this.#left += held;
        held = 0;
      },
    };
  }
}
