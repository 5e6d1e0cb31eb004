/**
 * The worker thread that opens segments: fetch, hash, decrypt, compare, place. Everything about a chunk happens
 * here and in this order, and a byte leaves a chunk's buffer for a file only once its tag was right. It gets
 * payload keys and never the data key, and ends as soon as the model is open.
 */
import { createHash, type Hash, type KeyObject, timingSafeEqual } from 'node:crypto';
import { writeSync } from 'node:fs';
import { parentPort } from 'node:worker_threads';
import { decryptChunk, secretKeyOf } from './chunk-cipher.ts';
import { type ChunkSupply, chunkSupply } from './chunk-supply.ts';
import type { SealedModelErrorCode } from './errors.ts';
import {
  chunkAssociatedData,
  chunkLengthBytes,
  chunkNonce,
  chunksOfSegment,
  DIGEST_BYTES,
  type FilePart,
  filePartOf,
  type Geometry,
  KEY_BYTES,
  TAG_BYTES,
} from './format.ts';
import type { FromWorker, Job, ToWorker, WorkerStart } from './open-protocol.ts';
import { CONTROL } from './ring.ts';

if (parentPort === null) throw new Error('open-worker.ts runs as a worker thread only');
const port = parentPort;
const tell = (message: FromWorker): void => port.postMessage(message);

class Refused extends Error {
  readonly code: SealedModelErrorCode;
  constructor(code: SealedModelErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}
const STOPPED = Symbol('the main thread stops the opening');

class Opener {
  readonly #start: WorkerStart;
  readonly #geometry: Geometry;
  readonly #control: Int32Array;
  readonly #supply: ChunkSupply;
  /** Plaintext waits here for its tag when it may not stand where the ciphertext was. */
  readonly #scratch: Uint8Array | undefined;
  readonly #keys = new Map<number, KeyObject>();

  constructor(start: WorkerStart) {
    this.#start = start;
    this.#geometry = start.geometry;
    this.#control = new Int32Array(start.control);
    this.#supply = chunkSupply(start, tell);
    this.#scratch = this.#supply.lendsItsBuffer
      ? undefined
      : new Uint8Array(new ArrayBuffer(start.geometry.chunkBytes));
  }

  run(job: Job): void {
    this.#supply.begin(job);
    try {
      for (;;) {
        const segment = this.#supply.nextSegment();
        if (segment === undefined) break;
        tell({ kind: 'opened', sizeBytes: this.#openSegment(job, segment) });
      }
    } catch (error) {
      if (error instanceof Refused) tell({ kind: 'refused', code: error.code, message: error.message });
      else if (error !== STOPPED) throw error;
    }
    tell({ kind: 'idle' });
  }

  #openSegment(job: Job, segment: number): number {
    let digest = job.checkDigests ? createHash('sha256') : undefined;
    let sizeBytes = 0;
    const { first, end } = chunksOfSegment(this.#geometry, segment);
    for (let chunk = first; chunk < end; chunk++) {
      digest = this.#openChunk(job, chunk, digest);
      sizeBytes += chunkLengthBytes(this.#geometry, chunk);
    }
    if (digest !== undefined) {
      const expected = new Uint8Array(this.#start.digests, segment * DIGEST_BYTES, DIGEST_BYTES);
      if (!timingSafeEqual(digest.digest(), expected)) {
        throw new Refused(
          'SEALED_SEGMENT_REFUSED',
          `Segment ${segment} has valid tags, but its SHA-256 is not the one in the digest table.`,
        );
      }
    }
    return sizeBytes;
  }

  /** Returns the segment's digest with this chunk in it. */
  #openChunk(job: Job, chunk: number, before: Hash | undefined): Hash | undefined {
    for (let attempt = 0; ; attempt++) {
      if (Atomics.load(this.#control, CONTROL.stop) !== 0) throw STOPPED;
      const ciphertext = this.#fetch(chunk, attempt);
      if (ciphertext === undefined) continue;
      // Hashed first, because plaintext may take its place; on a copy, because a damaged chunk must not count.
      const digest = before?.copy().update(ciphertext);
      const plaintext = this.#placeOf(job, chunk, ciphertext);
      if (this.#decrypt(chunk, ciphertext, plaintext)) {
        const part = filePartOf(this.#start.files, this.#geometry, chunk, plaintext.length);
        checkGap(part, plaintext, chunk);
        if (job.target.kind === 'files') writePart(job.target.fds, part, plaintext);
        this.#supply.accept();
        return digest;
      }
      if (attempt >= this.#start.refetchLimit) {
        throw new Refused(
          'SEALED_CHUNK_REFUSED',
          `Chunk ${chunk} failed its authentication tag, fetched ${attempt + 1} times.`,
        );
      }
    }
  }

  /** Undefined if the source failed this time and may be asked again. */
  #fetch(chunk: number, attempt: number): Uint8Array | undefined {
    let bytes: Uint8Array | undefined;
    try {
      bytes = attempt === 0 ? this.#supply.fetch(chunk) : this.#supply.fetchAgain(chunk);
    } catch (error) {
      if (attempt < this.#start.refetchLimit) return undefined;
      throw new Refused('SEALED_SOURCE_FAILED', `Chunk ${chunk} could not be read: ${messageOf(error)}`);
    }
    if (bytes === undefined) throw STOPPED;
    return bytes;
  }

  #decrypt(chunk: number, ciphertext: Uint8Array, plaintext: Uint8Array): boolean {
    return decryptChunk(
      {
        key: this.#keyOfEpoch(Math.floor(chunk / this.#geometry.chunksPerEpoch)),
        nonce: chunkNonce(this.#geometry, chunk),
        associatedData: chunkAssociatedData(this.#start.context, this.#geometry, chunk),
        slabBytes: this.#supply.slabBytes,
      },
      new Uint8Array(this.#start.tags, chunk * TAG_BYTES, TAG_BYTES),
      ciphertext,
      plaintext,
    );
  }

  #keyOfEpoch(epoch: number): KeyObject {
    const known = this.#keys.get(epoch);
    if (known !== undefined) return known;
    const key = secretKeyOf(new Uint8Array(this.#start.payloadKeys, epoch * KEY_BYTES, KEY_BYTES));
    this.#keys.set(epoch, key);
    return key;
  }

  /** Memory is written at once (its owner reads nothing before the promise resolves), a file only afterwards. */
  #placeOf({ target }: Job, chunk: number, ciphertext: Uint8Array): Uint8Array {
    if (target.kind === 'memory') {
      const at = (chunk - target.firstChunk) * this.#geometry.chunkBytes;
      if (at >= 0 && at + ciphertext.length <= target.buffer.byteLength) {
        return new Uint8Array(target.buffer, at, ciphertext.length);
      }
    }
    return this.#scratch === undefined ? ciphertext : this.#scratch.subarray(0, ciphertext.length);
  }

  wipe(): void {
    this.#supply.wipe();
    this.#scratch?.fill(0);
    this.#keys.clear();
  }
}

function checkGap(part: FilePart, plaintext: Uint8Array, chunk: number): void {
  for (let at = part.length; at < plaintext.length; at++) {
    if (plaintext[at] !== 0) {
      throw new Refused('SEALED_GAP_NOT_ZERO', `Chunk ${chunk} holds something between two files.`);
    }
  }
}

function writePart(
  fds: readonly number[],
  { index, position, length }: FilePart,
  plaintext: Uint8Array,
): void {
  try {
    for (let done = 0; done < length; ) {
      done += writeSync(fds[index] as number, plaintext, done, length - done, position + done);
    }
  } catch (error) {
    throw new Refused(
      'SEALED_TARGET_UNUSABLE',
      `File ${index} of the model could not be written: ${messageOf(error)}`,
    );
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

let opener: Opener | undefined;
port.on('message', (message: ToWorker) => {
  switch (message.kind) {
    case 'begin':
      opener = new Opener(message.start);
      return;
    case 'job':
      opener?.run(message);
      return;
    case 'close':
      opener?.wipe();
      opener = undefined;
      port.close();
  }
});
