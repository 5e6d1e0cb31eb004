/**
 * Who may use a model now, who waits, and who is told to come back: a fixed number of places, a bounded queue, and
 * turns that go round between the callers, so that one who sends much delays himself and nobody else.
 */
import { Lease } from '../lease.ts';
import { ApiError } from './errors.ts';

interface Waiting {
  readonly caller: string;
  readonly admit: () => void;
  readonly refuse: (error: unknown) => void;
}

export interface QueueRules {
  /** So many may wait, of all callers together. */
  readonly queueLength: number;
  /** No longer than this. */
  readonly waitMs: number;
}

export class Admission {
  readonly #places: number;
  readonly #queue: QueueRules;
  /** By caller, in the order of their next turns; no caller without requests. */
  readonly #queues = new Map<string, Waiting[]>();
  #waiting = 0;
  #taken = 0;

  /** `places` run at once. */
  constructor(places: number, queue: QueueRules) {
    this.#places = places;
    this.#queue = queue;
  }

  get waiting(): number {
    return this.#waiting;
  }

  /**
   * `caller` is a `Caller.key`. Resolves with a place, to be disposed when it is free again. Rejects with ApiError API_OVERLOADED at once if the
   * queue is full, unless another caller has more in it than this one: then the newest of those has to go instead.
   * Rejects with API_DEADLINE after `waitMs`, and with the signal's reason as soon as it aborts: whoever has gone does
   * not wait in the queue.
   */
  async enter(caller: string, signal: AbortSignal): Promise<Disposable> {
    signal.throwIfAborted();
    if (this.#taken >= this.#places) await this.#turn(caller, signal);
    else this.#taken += 1;
    return new Lease(() => this.#leave());
  }

  /** Resolves with the place of whoever finished. */
  #turn(caller: string, signal: AbortSignal): Promise<void> {
    if (this.#waiting >= this.#queue.queueLength) this.#makeRoomFor(caller);
    return new Promise((resolve, reject) => {
      const settle = (done: () => void): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', leave);
        done();
      };
      const giveUp = (reason: unknown): void => {
        this.#remove(waiting);
        waiting.refuse(reason);
      };
      const leave = (): void => giveUp(signal.reason);
      const timer = setTimeout(
        () => giveUp(new ApiError('API_DEADLINE', 'the request waited too long for its turn')),
        this.#queue.waitMs,
      );
      const waiting: Waiting = {
        caller,
        admit: () => settle(resolve),
        refuse: (reason) => settle(() => reject(reason)),
      };
      signal.addEventListener('abort', leave, { once: true });
      const queue = this.#queues.get(caller);
      if (queue === undefined) this.#queues.set(caller, [waiting]);
      else queue.push(waiting);
      this.#waiting += 1;
    });
  }

  #makeRoomFor(caller: string): void {
    const own = this.#queues.get(caller)?.length ?? 0;
    let longest: readonly Waiting[] = [];
    for (const queue of this.#queues.values()) if (queue.length > longest.length) longest = queue;
    const newest = longest.at(-1);
    if (newest === undefined || longest.length <= own + 1) throw overloaded();
    this.#remove(newest);
    newest.refuse(overloaded());
  }

  #remove(waiting: Waiting): void {
    const queue = this.#queues.get(waiting.caller);
    const index = queue?.indexOf(waiting) ?? -1;
    if (queue === undefined || index < 0) return;
    queue.splice(index, 1);
    if (queue.length === 0) this.#queues.delete(waiting.caller);
    this.#waiting -= 1;
  }

  /** The next caller's oldest request gets the place, and that caller goes to the end. */
  #leave(): void {
    const [turn] = this.#queues;
    if (turn === undefined) {
      this.#taken -= 1;
      return;
    }
    const [caller, queue] = turn;
    const next = queue.shift();
    this.#waiting -= 1;
    this.#queues.delete(caller);
    if (queue.length > 0) this.#queues.set(caller, queue);
    next?.admit();
  }
}

function overloaded(): ApiError {
  return new ApiError('API_OVERLOADED', 'too many requests are waiting for this model');
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
    return new BodyBytes((sizeBytes) => this.#move(sizeBytes));
  }

  #move(sizeBytes: number): void {
    if (sizeBytes > this.#left) throw new ApiError('API_OVERLOADED', 'too many large requests at once');
    this.#left -= sizeBytes;
  }
}

class BodyBytes implements HeldBytes, Disposable {
  readonly #move: (sizeBytes: number) => void;
  #heldBytes = 0;

  constructor(move: (sizeBytes: number) => void) {
    this.#move = move;
  }

  take(sizeBytes: number): void {
    this.#move(sizeBytes);
    this.#heldBytes += sizeBytes;
  }

  [Symbol.dispose](): void {
    this.#move(-this.#heldBytes);
    this.#heldBytes = 0;
  }
}
