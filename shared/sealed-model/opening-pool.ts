/**
 * The main thread's side of opening: starts the workers, feeds those that cannot read the source themselves,
 * stops all of them at the first refusal. It touches ciphertext only.
 */
import type { Worker } from 'node:worker_threads';
import { SealedModelError } from './errors.ts';
import { chunkLengthBytes, chunksOfSegment } from './format.ts';
import type { Head } from './head.ts';
import type { FromWorker, Job, JobTarget, WorkerStart } from './open-protocol.ts';
import { OpeningThreads, startOpeningThreads } from './opening-threads.ts';
import { CONTROL, markSlot, newRing, type RingMemory, readSlot, SLOT, slotBytes } from './ring.ts';
import type { PayloadSource } from './source.ts';
import { UnlockedHead } from './unlock.ts';

export interface OpeningOptions {
  /** How many threads, or threads started beforehand. Default: one a processor. */
  readonly workers?: number | OpeningThreads;
  /** How often a chunk that was damaged or unreadable is asked for again. Default 3. */
  readonly refetchLimit?: number;
}

const REFETCH_LIMIT = 3;

export interface Segments {
  readonly first: number;
  readonly end: number;
}

interface Member {
  readonly worker: Worker;
  readonly ring: RingMemory | undefined;
  /** Told of each message while a job runs. */
  hear: (message: FromWorker) => void;
}

export class OpeningPool {
  readonly #head: Head;
  readonly #source: PayloadSource;
  readonly #refetchLimit: number;
  readonly #control = new Int32Array(new SharedArrayBuffer(CONTROL.cells * Int32Array.BYTES_PER_ELEMENT));
  readonly #threads: OpeningThreads;
  readonly #members: Member[] = [];
  #crash: ((error: unknown) => void) | undefined;
  #crashed: { readonly error: unknown } | undefined;

  /** `segmentsAtMost` bounds the workers: a segment is one worker's. */
  constructor(
    unlocked: UnlockedHead,
    source: PayloadSource,
    options: OpeningOptions,
    segmentsAtMost: number,
  ) {
    this.#head = unlocked.head;
    this.#source = source;
    this.#refetchLimit = options.refetchLimit ?? REFETCH_LIMIT;
    if (source.sizeBytes !== this.#head.payloadSizeBytes) {
      throw new SealedModelError(
        'SEALED_PAYLOAD_SIZE',
        `The payload has ${source.sizeBytes} bytes, the head says ${this.#head.payloadSizeBytes}.`,
      );
    }
    const payloadKeys = UnlockedHead.payloadKeysOf(unlocked);
    this.#threads =
      options.workers instanceof OpeningThreads
        ? options.workers
        : startOpeningThreads(options.workers, segmentsAtMost);
    const tags = shared(this.#head.parts.tags);
    const digests = shared(this.#head.parts.digests);
    for (const worker of this.#threads.take((error) => {
      this.#crashed ??= { error };
      this.#crash?.(error);
    })) {
      const ring = source.direct === undefined ? newRing(this.#head.geometry.chunkBytes) : undefined;
      const member: Member = { worker, ring, hear: () => {} };
      this.#members.push(member);
      worker.on('message', (message: FromWorker) => member.hear(message));
      worker.postMessage({ kind: 'begin', start: this.#startOf({ payloadKeys, tags, digests, ring }) });
    }
  }

  #startOf(given: {
    payloadKeys: SharedArrayBuffer;
    tags: SharedArrayBuffer;
    digests: SharedArrayBuffer;
    ring: RingMemory | undefined;
  }): WorkerStart {
    const { geometry, context, files } = this.#head;
    const { ring, payloadKeys, tags, digests } = given;
    return {
      geometry,
      context,
      payloadKeys,
      tags,
      digests,
      files: files.map(({ offset, sizeBytes }) => ({ offset, sizeBytes })),
      supply: ring === undefined ? directOf(this.#source) : { kind: 'ring', memory: ring },
      refetchLimit: this.#refetchLimit,
      control: this.#control.buffer as SharedArrayBuffer,
    };
  }

  /** Opens these segments into the target. When it rejects, no worker writes to the target any more. */
  async run(
    segments: Segments,
    target: JobTarget,
    checkDigests: boolean,
    observe: { readonly signal?: AbortSignal | undefined; readonly onOpened?: (sizeBytes: number) => void },
  ): Promise<void> {
    if (this.#crashed !== undefined) throw this.#crashed.error;
    let failure: { readonly error: unknown } | undefined;
    const fail = (error: unknown): void => {
      failure ??= { error };
      this.#stop();
    };
    const onAbort = (): void => fail(new SealedModelError('SEALED_ABORTED', 'The opening was stopped.'));
    this.#reset(segments);
    const queue = segmentQueue(segments);
    const job: Job = { kind: 'job', endSegment: segments.end, checkDigests, target };

    observe.signal?.addEventListener('abort', onAbort);
    try {
      const crashed = new Promise<void>((resolve) => {
        this.#crash = (error) => {
          fail(error);
          resolve();
        };
      });
      const done = this.#members.map((member) => this.#open(member, job, queue, fail, observe.onOpened));
      if (observe.signal?.aborted) onAbort();
      await Promise.race([Promise.all(done), crashed]);
    } finally {
      observe.signal?.removeEventListener('abort', onAbort);
      this.#crash = undefined;
    }
    if (failure !== undefined) throw failure.error;
  }

  /** One worker's part of a job; resolves when the worker is idle. */
  #open(
    member: Member,
    job: Job,
    queue: () => number | undefined,
    fail: (error: unknown) => void,
    onOpened: ((sizeBytes: number) => void) | undefined,
  ): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const feed = member.ring === undefined ? undefined : this.#feed(member.ring, queue, fail);
    member.hear = (message) => {
      switch (message.kind) {
        case 'opened':
          return onOpened?.(message.sizeBytes);
        case 'refused':
          return fail(new SealedModelError(message.code, message.message));
        case 'free':
          return feed?.freed();
        case 'again':
          return feed?.again(message.slot);
        case 'idle':
          return resolve();
      }
    };
    member.worker.postMessage(job);
    return promise;
  }

  /** Keeps every slot of one ring busy: reads are started in order and end in any order. */
  #feed(
    ring: RingMemory,
    queue: () => number | undefined,
    fail: (error: unknown) => void,
  ): { freed: () => void; again: (slot: number) => void } {
    const next = chunkQueue(this.#head, queue);
    let turn = 0;
    let free = ring.slotCount;
    let ended = false;

    const fill = async (slot: number, chunk: number, readsLeft: number): Promise<void> => {
      const { geometry } = this.#head;
      const bytes = slotBytes(ring, slot, chunkLengthBytes(geometry, chunk));
      try {
        await this.#source.read(chunk * geometry.chunkBytes, bytes);
        if (!this.#stopped) markSlot(ring, slot, SLOT.full, chunk);
      } catch (cause) {
        if (this.#stopped) return;
        if (readsLeft > 0) return fill(slot, chunk, readsLeft - 1);
        const why = cause instanceof Error ? cause.message : String(cause);
        fail(new SealedModelError('SEALED_SOURCE_FAILED', `Chunk ${chunk} could not be read: ${why}`, cause));
      }
    };
    const feedMore = (): void => {
      while (free > 0 && !ended && !this.#stopped) {
        const slot = turn % ring.slotCount;
        const chunk = next();
        if (chunk === undefined) {
          ended = true;
          markSlot(ring, slot, SLOT.ended);
        } else {
          free--;
          turn++;
          void fill(slot, chunk, this.#refetchLimit);
        }
      }
    };
    feedMore();
    return {
      freed() {
        free++;
        feedMore();
      },
      again: (slot) => void fill(slot, readSlot(ring, slot).chunk, this.#refetchLimit),
    };
  }

  get #stopped(): boolean {
    return Atomics.load(this.#control, CONTROL.stop) !== 0;
  }

  #reset(segments: Segments): void {
    Atomics.store(this.#control, CONTROL.stop, 0);
    Atomics.store(this.#control, CONTROL.nextSegment, segments.first);
    for (const { ring } of this.#members) forEachSlot(ring, SLOT.free);
  }

  #stop(): void {
    Atomics.store(this.#control, CONTROL.stop, 1);
    for (const { ring } of this.#members) forEachSlot(ring, SLOT.ended);
  }

  async close(): Promise<void> {
    this.#stop();
    await this.#threads.close();
  }
}

function segmentQueue({ first, end }: Segments): () => number | undefined {
  let next = first;
  return () => (next < end ? next++ : undefined);
}

/** The chunks of one segment after another, for one worker. */
function chunkQueue(head: Head, takeSegment: () => number | undefined): () => number | undefined {
  let chunk = 0;
  let end = 0;
  return () => {
    if (chunk === end) {
      const segment = takeSegment();
      if (segment === undefined) return undefined;
      ({ first: chunk, end } = chunksOfSegment(head.geometry, segment));
    }
    return chunk++;
  };
}

function forEachSlot(ring: RingMemory | undefined, state: number): void {
  for (let slot = 0; slot < (ring?.slotCount ?? 0); slot++) markSlot(ring as RingMemory, slot, state);
}

function directOf(source: PayloadSource): NonNullable<PayloadSource['direct']> {
  if (source.direct === undefined) throw new TypeError('the source has no direct bytes');
  return source.direct;
}

function shared(bytes: Uint8Array): SharedArrayBuffer {
  const copy = new SharedArrayBuffer(bytes.length);
  new Uint8Array(copy).set(bytes);
  return copy;
}
