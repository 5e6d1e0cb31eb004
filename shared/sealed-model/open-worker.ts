/**
 * The worker thread that opens segments: fetch, hash, decrypt, compare, place. Everything about a chunk happens
 * here and in this order, and a byte leaves a chunk's buffer for a file only once its tag was right. It gets
 * payload keys and never the data key, and ends as soon as the model is open.
 */
import { createHash, type Hash, type KeyObject, timingSafeEqual } from 'node:crypto';
import { writeSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { decryptChunk } from './chunk-cipher.ts';
import { chunkSupply } from './chunk-supply.ts';
import type { SealedModelErrorCode } from './errors.ts';
import { type FilePart, filePartOf } from './file-layout.ts';
import {
  chunkAssociatedData,
  chunkLengthBytes,
  chunkNonce,
  chunksOfSegment,
  DIGEST_BYTES,
  KEY_BYTES,
  TAG_BYTES,
} from './format.ts';
import { secretKeyOf } from './keys.ts';
import { CONTROL, type FromWorker, type Job, type ToWorker, type WorkerStart } from './open-protocol.ts';

if (parentPort === null) throw new Error('open-worker.ts runs as a worker thread only');
const port = parentPort;
const start = workerData as WorkerStart;
const { geometry } = start;
const tell = (message: FromWorker): void => port.postMessage(message);
const supply = chunkSupply(start, tell);
const control = new Int32Array(start.control);
/** Plaintext waits here for its tag when it may not stand where the ciphertext was. */
const scratch = supply.lendsItsBuffer ? undefined : new Uint8Array(new ArrayBuffer(geometry.chunkBytes));
const keys = new Map<number, KeyObject>();

class Refused extends Error {
  readonly code: SealedModelErrorCode;
  constructor(code: SealedModelErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}
const STOPPED = Symbol('the main thread stops the opening');

port.on('message', (message: ToWorker) => {
  if (message.kind === 'job') run(message);
  else close();
});

function run(job: Job): void {
  supply.begin(job);
  try {
    for (let segment = supply.nextSegment(); segment !== undefined; segment = supply.nextSegment()) {
      tell({ kind: 'opened', sizeBytes: openSegment(job, segment) });
    }
  } catch (error) {
    if (error instanceof Refused) tell({ kind: 'refused', code: error.code, message: error.message });
    else if (error !== STOPPED) throw error;
  }
  tell({ kind: 'idle' });
}

function openSegment(job: Job, segment: number): number {
  let digest = job.checkDigests ? createHash('sha256') : undefined;
  let sizeBytes = 0;
  const { first, end } = chunksOfSegment(geometry, segment);
  for (let chunk = first; chunk < end; chunk++) {
    digest = openChunk(job, chunk, digest);
    sizeBytes += chunkLengthBytes(geometry, chunk);
  }
  if (digest !== undefined) {
    const expected = new Uint8Array(start.digests, segment * DIGEST_BYTES, DIGEST_BYTES);
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
function openChunk(job: Job, chunk: number, before: Hash | undefined): Hash | undefined {
  for (let attempt = 0; ; attempt++) {
    if (Atomics.load(control, CONTROL.stop) !== 0) throw STOPPED;
    const ciphertext = fetch(chunk, attempt);
    if (ciphertext !== undefined) {
      // Hashed first, because plaintext may take its place; on a copy, because a damaged chunk must not count.
      const digest = before?.copy().update(ciphertext);
      const plaintext = placeOf(job, chunk, ciphertext);
      if (decrypt(chunk, ciphertext, plaintext)) {
        const part = filePartOf(start.files, geometry, chunk, plaintext.length);
        checkGap(part, plaintext, chunk);
        if (job.target.kind === 'files') writePart(job.target.fds, part, plaintext);
        supply.accept();
        return digest;
      }
      if (attempt >= start.refetchLimit) {
        throw new Refused(
          'SEALED_CHUNK_REFUSED',
          `Chunk ${chunk} failed its authentication tag, fetched ${attempt + 1} times.`,
        );
      }
    }
  }
}

/** Undefined if the source failed this time. */
function fetch(chunk: number, attempt: number): Uint8Array | undefined {
  let bytes: Uint8Array | undefined;
  try {
    bytes = attempt === 0 ? supply.fetch(chunk) : supply.fetchAgain(chunk);
  } catch (error) {
    if (attempt < start.refetchLimit) return undefined;
    throw new Refused(
      'SEALED_SOURCE_FAILED',
      `Chunk ${chunk} could not be read: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
  if (bytes === undefined) throw STOPPED;
  return bytes;
}

function decrypt(chunk: number, ciphertext: Uint8Array, plaintext: Uint8Array): boolean {
  return decryptChunk(
    {
      key: keyOfEpoch(Math.floor(chunk / geometry.chunksPerEpoch)),
      nonce: chunkNonce(geometry, chunk),
      associatedData: chunkAssociatedData(start.context, geometry, chunk),
      slabBytes: supply.slabBytes,
    },
    new Uint8Array(start.tags, chunk * TAG_BYTES, TAG_BYTES),
    ciphertext,
    plaintext,
  );
}

function keyOfEpoch(epoch: number): KeyObject {
  const known = keys.get(epoch);
  if (known !== undefined) return known;
  const key = secretKeyOf(new Uint8Array(start.payloadKeys, epoch * KEY_BYTES, KEY_BYTES));
  keys.set(epoch, key);
  return key;
}

/** Memory is written at once (its owner reads nothing before the promise resolves), a file only afterwards. */
function placeOf({ target }: Job, chunk: number, ciphertext: Uint8Array): Uint8Array {
  if (target.kind === 'memory') {
    const at = (chunk - target.firstChunk) * geometry.chunkBytes;
    if (at >= 0 && at + ciphertext.length <= target.buffer.byteLength) {
      return new Uint8Array(target.buffer, at, ciphertext.length);
    }
  }
  return scratch === undefined ? ciphertext : scratch.subarray(0, ciphertext.length);
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
      `File ${index} of the model could not be written: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
}

function close(): void {
  supply.wipe();
  scratch?.fill(0);
  keys.clear();
  port.close();
}
