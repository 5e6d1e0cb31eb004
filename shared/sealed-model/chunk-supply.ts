/** The worker's side of a source: the same three questions, whether it holds the bytes, a file, or a ring. */
import { readSync } from 'node:fs';
import { SLAB_BYTES, SLAB_BYTES_BESIDE_BUFFER } from './chunk-cipher.ts';
import { chunkLengthBytes, type Geometry } from './format.ts';
import type { FromWorker, Job, WorkerStart } from './open-protocol.ts';
import { awaitFullSlot, CONTROL, markSlot, SLOT, slotBytes } from './ring.ts';

export interface ChunkSupply {
  readonly slabBytes: number;
  /** True if plaintext may replace the ciphertext that `fetch` returned. */
  readonly lendsItsBuffer: boolean;
  begin(job: Job): void;
  nextSegment(): number | undefined;
  /** Chunks of a segment are asked for in order. Undefined: the opening stops. Throws if unreadable. */
  fetch(chunk: number): Uint8Array | undefined;
  /** The same chunk, read from the source once more. */
  fetchAgain(chunk: number): Uint8Array | undefined;
  /** The chunk was accepted; its buffer may be reused. */
  accept(): void;
  wipe(): void;
}

export function chunkSupply(start: WorkerStart, tell: (message: FromWorker) => void): ChunkSupply {
  return start.supply.kind === 'ring'
    ? ringSupply(start.geometry, start.supply.memory, tell)
    : directSupply(start, start.supply);
}

/** Every worker takes the next segment from one counter and reads by itself. */
function directSupply(
  { geometry, control }: WorkerStart,
  source: Exclude<WorkerStart['supply'], { kind: 'ring' }>,
): ChunkSupply {
  const counter = new Int32Array(control);
  const buffer = source.kind === 'file' ? new Uint8Array(new ArrayBuffer(geometry.chunkBytes)) : undefined;
  let endSegment = 0;
  const fetch = (chunk: number): Uint8Array => {
    const offset = chunk * geometry.chunkBytes;
    const length = chunkLengthBytes(geometry, chunk);
    if (source.kind === 'memory') return new Uint8Array(source.buffer, offset, length);
    const target = (buffer as Uint8Array).subarray(0, length);
    for (let done = 0; done < length; ) {
      const read = readSync(source.fd, target, done, length - done, offset + done);
      if (read === 0) throw new Error(`the payload ended early, at byte ${offset + done}`);
      done += read;
    }
    return target;
  };
  return {
    slabBytes: source.kind === 'memory' ? SLAB_BYTES : SLAB_BYTES_BESIDE_BUFFER,
    lendsItsBuffer: source.kind === 'file',
    begin(job) {
      endSegment = job.endSegment;
    },
    nextSegment() {
      const segment = Atomics.add(counter, CONTROL.nextSegment, 1);
      return segment < endSegment ? segment : undefined;
    },
    fetch,
    fetchAgain: fetch,
    accept() {},
    wipe() {
      buffer?.fill(0);
    },
  };
}

/** The main thread reads ahead and decides which segments this worker gets. */
function ringSupply(
  geometry: Geometry,
  ring: Extract<WorkerStart['supply'], { kind: 'ring' }>['memory'],
  tell: (message: FromWorker) => void,
): ChunkSupply {
  let slot = 0;
  const fetch = (chunk: number): Uint8Array | undefined => {
    const found = awaitFullSlot(ring, slot);
    if (found === 'ended') return undefined;
    if (found !== chunk) throw new Error(`the ring holds chunk ${found} where ${chunk} was due`);
    return slotBytes(ring, slot, chunkLengthBytes(geometry, chunk));
  };
  return {
    slabBytes: SLAB_BYTES_BESIDE_BUFFER,
    lendsItsBuffer: true,
    begin() {
      slot = 0;
    },
    nextSegment() {
      const chunk = awaitFullSlot(ring, slot);
      return chunk === 'ended' ? undefined : Math.floor(chunk / geometry.chunksPerSegment);
    },
    fetch,
    fetchAgain(chunk) {
      markSlot(ring, slot, SLOT.damaged);
      tell({ kind: 'again', slot });
      return fetch(chunk);
    },
    accept() {
      markSlot(ring, slot, SLOT.free);
      tell({ kind: 'free', slot });
      slot = (slot + 1) % ring.slotCount;
    },
    wipe() {
      new Uint8Array(ring.slots).fill(0);
    },
  };
}
