/** Small sealed models in memory, for tests. */
import { createHash, randomBytes } from 'node:crypto';
import type { ChunkSizes } from '../../../shared/sealed-model/format.ts';
import { type Head, parseHead } from '../../../shared/sealed-model/head.ts';
import type { ModelIdentity } from '../../../shared/sealed-model/identity.ts';
import { type SealedModel, sealModel } from '../../../shared/sealed-model/seal.ts';
import { planSeal } from '../../../shared/sealed-model/seal-plan.ts';
import { memorySource, type PayloadSource } from '../../../shared/sealed-model/source.ts';

/** Chunks of 256 bytes, segments of 1 KiB, epochs of 4 KiB: every edge is near. */
export const SMALL: ChunkSizes = { chunkLog2: 8, segmentLog2: 10, epochLog2: 12 };
export const IRIS: ModelIdentity = { name: 'iris', version: 3, format: 'onnx' };

export interface TestSeal {
  readonly sealed: SealedModel;
  readonly head: Head;
  readonly dataKey: Uint8Array;
  readonly payload: SharedArrayBuffer;
  /** The plaintext with its gaps. */
  readonly image: Uint8Array;
}

export async function sealFiles(
  files: Readonly<Record<string, Uint8Array>>,
  {
    identity = IRIS,
    sizes = SMALL,
    dataKey = new Uint8Array(randomBytes(32)),
    salt = new Uint8Array(randomBytes(32)),
  }: { identity?: ModelIdentity; sizes?: ChunkSizes; dataKey?: Uint8Array; salt?: Uint8Array } = {},
): Promise<TestSeal> {
  const list = Object.entries(files).map(([path, content]) => ({ path, sizeBytes: content.length }));
  const plan = planSeal(identity, list, salt, sizes);
  const image = new Uint8Array(plan.geometry.payloadSizeBytes);
  for (const { path, offset } of plan.files) image.set(files[path] as Uint8Array, offset);
  const payload = new SharedArrayBuffer(image.length);
  const sealed = await sealModel({
    plan,
    inputs: plan.files.map(({ path }) => memorySource(shared(files[path] as Uint8Array))),
    dataKey,
    sink: {
      async write(offset, bytes) {
        new Uint8Array(payload).set(bytes, offset);
      },
    },
  });
  return { sealed, head: parseHead(sealed.head), dataKey, payload, image };
}

export function sealBytes(content: Uint8Array, options?: Parameters<typeof sealFiles>[1]): Promise<TestSeal> {
  return sealFiles({ 'model.onnx': content }, options);
}

export function shared(bytes: Uint8Array): SharedArrayBuffer {
  const buffer = new SharedArrayBuffer(bytes.length);
  new Uint8Array(buffer).set(bytes);
  return buffer;
}

/** The same bytes through `read` alone, as a remote source offers them. */
export function remote(
  payload: SharedArrayBuffer,
  change: (offset: number, target: Uint8Array) => void | Promise<void> = () => {},
): PayloadSource {
  const source = memorySource(payload);
  return {
    sizeBytes: source.sizeBytes,
    async read(offset, target) {
      await source.read(offset, target);
      await change(offset, target);
    },
  };
}

export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

export function bytesOf(length: number): Uint8Array {
  return new Uint8Array(randomBytes(length));
}
