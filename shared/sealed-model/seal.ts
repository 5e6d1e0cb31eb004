/**
 * Sealing, in one pass and constant memory: each chunk is read, hashed for its file's digest, encrypted in
 * place by a worker thread (which also hashes the ciphertext for the digest table), and written. The head
 * comes last, because the tables are in it (docs/sealed-model.md section 4).
 */
import { createHash, type Hash } from 'node:crypto';
import { Worker } from 'node:worker_threads';
import { SealedModelError } from './errors.ts';
import { chunkLengthBytes, DIGEST_BYTES, filePartOf, KEY_BYTES, TAG_BYTES } from './format.ts';
import { withKeySchedule } from './keys.ts';
import type { SealPlan } from './seal-plan.ts';
import type { SealWorkerStart } from './seal-worker.ts';
import type { PayloadSource } from './source.ts';
import { macOfHead } from './unlock.ts';

export interface PayloadSink {
  /** Writes all of `bytes` at this offset. Chunks come in any order, several at once. */
  write(offsetBytes: number, bytes: Uint8Array): Promise<void>;
}

export interface SealRequest {
  readonly plan: SealPlan;
  /** The plaintext of each file of the plan, in the plan's order. */
  readonly inputs: readonly PayloadSource[];
  /** 32 bytes, for this one seal. The caller wipes it. */
  readonly dataKey: Uint8Array;
  readonly sink: PayloadSink;
  readonly signal?: AbortSignal;
  readonly onProgress?: (sealedBytes: number) => void;
}

export interface SealedModel {
  readonly head: Uint8Array;
  /** SHA-256 of the head, hex. */
  readonly contentId: string;
  /** In the order of the head; sha256 is of the plaintext, hex. */
  readonly files: readonly { readonly path: string; readonly sizeBytes: number; readonly sha256: string }[];
}

/** Chunks in the pipeline at once: reading, hashing, encrypting, writing, and slack. */
const SLOTS = 8;

/** Throws SealedModelError (SEALED_INPUT_INVALID, SEALED_ABORTED) or the error of an input or the sink. */
export async function sealModel(request: SealRequest): Promise<SealedModel> {
  const { plan, dataKey, inputs } = request;
  if (plan.files.some((file, index) => inputs[index]?.sizeBytes !== file.sizeBytes)) {
    throw new SealedModelError('SEALED_INPUT_INVALID', 'The files to seal are not those of the plan.');
  }
  const payloadKeys = new SharedArrayBuffer(plan.geometry.epochCount * KEY_BYTES);
  try {
    withKeySchedule(dataKey, plan.salt, plan.context, (keys) =>
      keys.payloadKeys(new Uint8Array(payloadKeys)),
    );
    const { tags, digests, fileHashes } = await sealPayload(request, payloadKeys);
    const head = writeHead(plan, dataKey, tags, digests);
    return {
      head,
      contentId: createHash('sha256').update(head).digest('hex'),
      files: plan.files.map(({ path, sizeBytes }, index) => ({
        path,
        sizeBytes,
        sha256: (fileHashes[index] as Hash).digest('hex'),
      })),
    };
  } finally {
    new Uint8Array(payloadKeys).fill(0);
  }
}

/** prelude || core || commitment || MAC || tags || digests. */
export function writeHead(
  plan: SealPlan,
  dataKey: Uint8Array,
  tags: Uint8Array,
  digests: Uint8Array,
): Uint8Array {
  const { preludeAndCore } = plan;
  return withKeySchedule(dataKey, plan.salt, plan.context, (keys) => {
    const commitment = keys.commitment();
    const mac = macOfHead(keys, { preludeAndCore, commitment, tags, digests });
    return new Uint8Array(Buffer.concat([preludeAndCore, commitment, mac, tags, digests]));
  });
}

async function sealPayload(
  { plan, inputs, sink, signal, onProgress }: SealRequest,
  payloadKeys: SharedArrayBuffer,
): Promise<{ tags: Uint8Array; digests: Uint8Array; fileHashes: Hash[] }> {
  const { geometry } = plan;
  const slots = new SharedArrayBuffer(Math.min(SLOTS, geometry.chunkCount) * geometry.chunkBytes);
  const tags = new SharedArrayBuffer(geometry.chunkCount * TAG_BYTES);
  const digests = new SharedArrayBuffer(geometry.segmentCount * DIGEST_BYTES);
  const fileHashes = plan.files.map(() => createHash('sha256'));
  const sealer = startSealer({ geometry, context: plan.context, payloadKeys, slots, tags, digests });
  const running = new Map<number, Promise<number>>(); // by slot; resolves to the slot
  let inOrder: Promise<void> = Promise.resolve();
  let sealedBytes = 0;
  let failure: { readonly error: unknown } | undefined;

  const carry = async (chunk: number, slot: number): Promise<number> => {
    const bytes = new Uint8Array(slots, slot * geometry.chunkBytes, chunkLengthBytes(geometry, chunk));
    const part = filePartOf(plan.files, geometry, chunk, bytes.length);
    const ownBytes = bytes.subarray(0, part.length);
    const before = inOrder;
    const read = readPart(inputs[part.index], part.position, ownBytes);
    let encrypted: Promise<void> | undefined;
    inOrder = Promise.all([before, read]).then(() => {
      fileHashes[part.index]?.update(ownBytes);
      bytes.fill(0, part.length);
      encrypted = sealer.seal(chunk, slot);
      encrypted.catch(() => {}); // awaited below
    });
    await inOrder;
    await encrypted;
    await sink.write(chunk * geometry.chunkBytes, bytes);
    sealedBytes += bytes.length;
    onProgress?.(sealedBytes);
    return slot;
  };

  try {
    for (let chunk = 0; chunk < geometry.chunkCount; chunk++) {
      const slot = running.size < SLOTS ? running.size : await Promise.race(running.values());
      if (failure !== undefined) throw failure.error;
      if (signal?.aborted) throw new SealedModelError('SEALED_ABORTED', 'The sealing was stopped.');
      const carried = carry(chunk, slot);
      carried.catch((error: unknown) => {
        failure ??= { error };
      });
      running.set(slot, carried);
    }
    await Promise.all(running.values());
  } finally {
    await Promise.allSettled(running.values());
    await sealer.close();
    new Uint8Array(slots).fill(0);
  }
  return { tags: new Uint8Array(tags), digests: new Uint8Array(digests), fileHashes };
}

async function readPart(
  input: PayloadSource | undefined,
  position: number,
  target: Uint8Array,
): Promise<void> {
  if (target.length > 0) await input?.read(position, target);
}

interface Sealer {
  seal(chunk: number, slot: number): Promise<void>;
  close(): Promise<void>;
}

function startSealer(workerData: SealWorkerStart): Sealer {
  const worker = new Worker(new URL('./seal-worker.ts', import.meta.url), {
    name: 'seal-model',
    workerData,
    env: {},
    execArgv: [],
  });
  const waiting = new Map<number, PromiseWithResolvers<void>>();
  let failure: unknown;
  worker.on('message', (slot: number) => {
    waiting.get(slot)?.resolve();
    waiting.delete(slot);
  });
  worker.on('error', (error) => {
    failure = error;
    for (const { reject } of waiting.values()) reject(error);
    waiting.clear();
  });
  return {
    seal(chunk, slot) {
      if (failure !== undefined) return Promise.reject(failure);
      const answer = Promise.withResolvers<void>();
      waiting.set(slot, answer);
      worker.postMessage({ chunk, slot });
      return answer.promise;
    },
    async close() {
      if (worker.threadId === -1) return;
      const exited = new Promise<void>((resolve) => worker.once('exit', () => resolve()));
      worker.postMessage('close');
      await exited;
    },
  };
}
