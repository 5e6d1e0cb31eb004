/**
 * The payload on its way into S3: in parts, several at a time, each known to S3 by its digest. What a killed upload
 * left is found by asking S3 (ListMultipartUploads, ListParts) and continued part by part: a part counts only if S3
 * says that it has the size and the digest that it must have. Nothing is visible until `complete`.
 */
import {
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { type BucketStore, signedDigest, statusOf } from './bucket-store.ts';
import { PublishError } from './errors.ts';
import { type LocalModel, readPart, sha256 } from './local-model.ts';
import type { PayloadParts } from './payload-parts.ts';
import type { Segment } from './segments.ts';
import { findUpload } from './unfinished-uploads.ts';

const FILE = 'payload';

export interface UploadOptions {
  readonly store: BucketStore;
  readonly payload: LocalModel['payload'];
  readonly cut: PayloadParts;
  /** Parts on their way at once; each takes `cut.partBytes` of memory. */
  readonly lanes: number;
  readonly onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined;
}

/** All parts are there; `complete` makes them the payload. */
export interface ReadyUpload {
  readonly resumedBytes: number;
  complete(): Promise<void>;
}

export async function uploadPayload(options: UploadOptions): Promise<ReadyUpload> {
  return options.cut.parts.length > 1 ? uploadInParts(options) : uploadAtOnce(options);
}

/** One part or none: nothing to continue, and the checksum is that of the bytes. */
async function uploadAtOnce({ store, payload, cut, onProgress }: UploadOptions): Promise<ReadyUpload> {
  const bytes = new Uint8Array(cut.sizeBytes);
  await readPart(payload, cut.parts[0], 0, bytes);
  return {
    resumedBytes: 0,
    complete: async () => {
      await store.put(FILE, bytes, await sha256(bytes), 'anything');
      onProgress?.(cut.sizeBytes, cut.sizeBytes);
    },
  };
}

async function uploadInParts(options: UploadOptions): Promise<ReadyUpload> {
  const { store, payload, cut, lanes, onProgress } = options;
  const { place } = store;
  const begun = await findUpload(store, payload, cut);
  const uploadId = begun?.uploadId ?? (await createUpload(store));
  const etags = new Map(begun?.etags);
  const missing = cut.parts.map((_, index) => index).filter((index) => !etags.has(index + 1));
  const bytesOf = (indexes: Iterable<number>) =>
    [...indexes].reduce((sum, index) => sum + (cut.parts[index]?.sizeBytes ?? 0), 0);
  const resumedBytes = cut.sizeBytes - bytesOf(missing);
  let doneBytes = resumedBytes;
  onProgress?.(doneBytes, cut.sizeBytes);

  const queue = missing[Symbol.iterator]();
  let failed = false;
  const lane = async (): Promise<void> => {
    const buffer = new Uint8Array(cut.partBytes);
    for (const index of queue) {
      if (failed) return;
      const part = cut.parts[index] as Segment;
      const bytes = buffer.subarray(0, part.sizeBytes);
      await readPart(payload, part, index, bytes);
      const answer = await store.send('UploadPart', FILE, (signal) =>
        place.client.send(
          signedDigest(
            new UploadPartCommand({
              ...store.where(FILE),
              UploadId: uploadId,
              PartNumber: index + 1,
              Body: bytes,
              ContentLength: bytes.length,
              ChecksumSHA256: base64(part.sha256),
            }),
            part.sha256,
          ),
          signal,
        ),
      );
      etags.set(index + 1, answer.ETag ?? '');
      doneBytes += part.sizeBytes;
      onProgress?.(doneBytes, cut.sizeBytes);
    }
  };
  const results = await Promise.allSettled(
    Array.from({ length: Math.min(lanes, missing.length) }, () =>
      lane().catch((error) => {
        failed = true;
        throw error;
      }),
    ),
  );
  const failure = results.find((result) => result.status === 'rejected');
  if (failure !== undefined) throw failure.reason;
  return { resumedBytes, complete: () => completeUpload(store, uploadId, cut, etags) };
}

async function createUpload(store: BucketStore): Promise<string> {
  const answer = await store.send('CreateMultipartUpload', FILE, (signal) =>
    store.place.client.send(
      new CreateMultipartUploadCommand({
        ...store.where(FILE),
        ...store.encryptionInput(),
        ContentType: 'application/octet-stream',
        ChecksumAlgorithm: 'SHA256',
        ChecksumType: 'COMPOSITE',
      }),
      signal,
    ),
  );
  return answer.UploadId ?? '';
}

async function completeUpload(
  store: BucketStore,
  uploadId: string,
  cut: PayloadParts,
  etags: ReadonlyMap<number, string>,
): Promise<void> {
  const Parts = cut.parts.map((part, index) => ({
    PartNumber: index + 1,
    ETag: etags.get(index + 1) ?? '',
    ChecksumSHA256: base64(part.sha256),
  }));
  try {
    await store.send('CompleteMultipartUpload', FILE, (signal) =>
      store.place.client.send(
        new CompleteMultipartUploadCommand({
          ...store.where(FILE),
          UploadId: uploadId,
          MultipartUpload: { Parts },
          MpuObjectSize: cut.sizeBytes,
        }),
        signal,
      ),
    );
  } catch (error) {
    // An answer that was lost: a second attempt finds the upload gone and the object there.
    if (statusOf((error as Error).cause) !== 404) throw error;
    const found = await store.look(FILE);
    if (found?.checksum !== cut.checksum) throw error;
  }
}

export function expectSame(found: string | undefined, wanted: string, what: string): void {
  if (found === wanted) return;
  throw new PublishError('PUBLISH_NOT_AS_SENT', `${what}: expected ${wanted}, found ${found ?? 'nothing'}.`);
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}
