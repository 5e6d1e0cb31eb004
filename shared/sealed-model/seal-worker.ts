/** The worker thread that seals: encrypts one chunk after another in place, and hashes what comes out. */
import { createCipheriv, createHash, type Hash, type KeyObject } from 'node:crypto';
import { parentPort, workerData } from 'node:worker_threads';
import { type ChunkParameters, placeSlab, SLAB_BYTES_BESIDE_BUFFER, secretKeyOf } from './chunk-cipher.ts';
import {
  chunkAssociatedData,
  chunkLengthBytes,
  chunkNonce,
  chunksOfSegment,
  DIGEST_BYTES,
  type Geometry,
  KEY_BYTES,
  TAG_BYTES,
} from './format.ts';

export interface SealWorkerStart {
  readonly geometry: Geometry;
  readonly context: Uint8Array;
  readonly payloadKeys: SharedArrayBuffer;
  readonly slots: SharedArrayBuffer;
  /** Filled by this worker. */
  readonly tags: SharedArrayBuffer;
  readonly digests: SharedArrayBuffer;
}

/** Chunks come in order; the answer is the slot, when its ciphertext is complete. */
export type ToSealWorker = { readonly chunk: number; readonly slot: number } | 'close';

if (parentPort === null) throw new Error('seal-worker.ts runs as a worker thread only');
const port = parentPort;
const { geometry, context, payloadKeys, slots, tags, digests } = workerData as SealWorkerStart;
let segmentHash: Hash = createHash('sha256');
let current: { epoch: number; key: KeyObject } | undefined;

port.on('message', (message: ToSealWorker) => {
  if (message === 'close') {
    current = undefined;
    port.close();
    return;
  }
  seal(message.chunk, message.slot);
  port.postMessage(message.slot);
});

function seal(chunk: number, slot: number): void {
  const bytes = new Uint8Array(slots, slot * geometry.chunkBytes, chunkLengthBytes(geometry, chunk));
  const tag = encryptChunk(
    {
      key: keyOfEpoch(Math.floor(chunk / geometry.chunksPerEpoch)),
      nonce: chunkNonce(geometry, chunk),
      associatedData: chunkAssociatedData(context, geometry, chunk),
      slabBytes: SLAB_BYTES_BESIDE_BUFFER,
    },
    bytes,
    bytes,
  );
  new Uint8Array(tags).set(tag, chunk * TAG_BYTES);
  segmentHash.update(bytes);
  const segment = Math.floor(chunk / geometry.chunksPerSegment);
  if (chunk + 1 === chunksOfSegment(geometry, segment).end) {
    new Uint8Array(digests).set(segmentHash.digest(), segment * DIGEST_BYTES);
    segmentHash = createHash('sha256');
  }
}

function keyOfEpoch(epoch: number): KeyObject {
  if (current?.epoch !== epoch) {
    current = { epoch, key: secretKeyOf(new Uint8Array(payloadKeys, epoch * KEY_BYTES, KEY_BYTES)) };
  }
  return current.key;
}

/** Encrypts and returns the tag. `ciphertext` may be `plaintext` itself. */
function encryptChunk(
  { key, nonce, associatedData, slabBytes }: ChunkParameters,
  plaintext: Uint8Array,
  ciphertext: Uint8Array,
): Uint8Array {
  const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(associatedData);
  for (let at = 0; at < plaintext.length; at += slabBytes) {
    const end = Math.min(at + slabBytes, plaintext.length);
    placeSlab(cipher.update(plaintext.subarray(at, end)), ciphertext, at);
  }
  cipher.final();
  return cipher.getAuthTag();
}
