/**
 * A ring of slots in shared memory, one a worker: the main thread reads ciphertext from any source into the
 * slots, the worker drains them in the same order. A slot holds one chunk and says which.
 *
 *   free --filled by the main thread--> full --tag was right--> free
 *                                        |  ^
 *                         tag was wrong  v  |  read again
 *                                      damaged
 *   ended: nothing follows (the job is done, or everything stops)
 *
 * The worker sleeps in Atomics.wait. The main thread must not block, so it is told by messages.
 */
export const SLOT = { free: 0, full: 1, damaged: 2, ended: 3 } as const;

/** Int32 cells of the memory that all workers of one opening share. */
export const CONTROL = { stop: 0, nextSegment: 1, cells: 2 } as const;

/** Reads in flight per worker, and the memory they may take. */
const SLOTS_MAX = 8;
const SLOTS_MIN = 2;
const RING_BYTES = 8 << 20;

export interface RingMemory {
  readonly slots: SharedArrayBuffer;
  /** Per slot two Int32 cells: state, chunk. */
  readonly cells: SharedArrayBuffer;
  readonly slotCount: number;
  readonly slotBytes: number;
}

export function newRing(chunkBytes: number): RingMemory {
  const slotCount = Math.max(SLOTS_MIN, Math.min(SLOTS_MAX, Math.floor(RING_BYTES / chunkBytes)));
  return {
    slots: new SharedArrayBuffer(slotCount * chunkBytes),
    cells: new SharedArrayBuffer(slotCount * 2 * Int32Array.BYTES_PER_ELEMENT),
    slotCount,
    slotBytes: chunkBytes,
  };
}

export function slotBytes(ring: RingMemory, slot: number, length: number): Uint8Array {
  return new Uint8Array(ring.slots, slot * ring.slotBytes, length);
}

export function readSlot(ring: RingMemory, slot: number): { state: number; chunk: number } {
  const cells = new Int32Array(ring.cells);
  return { state: Atomics.load(cells, slot * 2), chunk: Atomics.load(cells, slot * 2 + 1) };
}

/** Sets the chunk before the state, so that whoever sees the state sees its chunk. */
export function markSlot(ring: RingMemory, slot: number, state: number, chunk?: number): void {
  const cells = new Int32Array(ring.cells);
  if (chunk !== undefined) Atomics.store(cells, slot * 2 + 1, chunk);
  Atomics.store(cells, slot * 2, state);
  Atomics.notify(cells, slot * 2);
}

/** For workers: sleeps until the slot is full or ended, and returns which chunk it holds. */
export function awaitFullSlot(ring: RingMemory, slot: number): number | 'ended' {
  const cells = new Int32Array(ring.cells);
  for (;;) {
    const { state, chunk } = readSlot(ring, slot);
    if (state === SLOT.full) return chunk;
    if (state === SLOT.ended) return 'ended';
    Atomics.wait(cells, slot * 2, state);
  }
}
