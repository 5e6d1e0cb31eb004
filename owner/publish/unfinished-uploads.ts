/** Uploads in parts that nobody completed: found by asking S3, continued or ended. */
import { createHash } from 'node:crypto';
import {
  AbortMultipartUploadCommand,
  ListMultipartUploadsCommand,
  ListPartsCommand,
} from '@aws-sdk/client-s3';
import { type BucketStore, statusOf } from './bucket-store.ts';
import { type LocalModel, readPart } from './local-model.ts';
import type { PayloadParts } from './payload-parts.ts';
import type { Segment } from './segments.ts';

const FILE = 'payload';

interface BegunUpload {
  readonly uploadId: string;
  /** By part number, of the parts that are as they must be. */
  readonly etags: ReadonlyMap<number, string>;
}

/**
 * The upload that has most of this payload's parts. One without any is as good as a new one: if it is somebody
 * else's who is at work, S3 refuses to complete it with parts that are not those.
 */
export async function findUpload(
  store: BucketStore,
  payload: LocalModel['payload'],
  cut: PayloadParts,
): Promise<BegunUpload | undefined> {
  let best: BegunUpload | undefined;
  for (const uploadId of await listUploads(store)) {
    const etags = await goodParts(store, payload, uploadId, cut);
    if (etags !== undefined && etags.size > (best?.etags.size ?? -1)) best = { uploadId, etags };
  }
  return best;
}

/** Undefined if the upload has ended meanwhile. */
async function goodParts(
  store: BucketStore,
  payload: LocalModel['payload'],
  uploadId: string,
  cut: PayloadParts,
): Promise<Map<number, string> | undefined> {
  const good = new Map<number, string>();
  let marker: string | undefined;
  do {
    try {
      const page = await store.send('ListParts', FILE, (signal) =>
        store.place.client.send(
          new ListPartsCommand({
            ...store.where(FILE),
            UploadId: uploadId,
            ...(marker !== undefined && { PartNumberMarker: marker }),
          }),
          signal,
        ),
      );
      for (const { PartNumber = 0, ETag, Size, ChecksumSHA256 } of page.Parts ?? []) {
        const part = cut.parts[PartNumber - 1];
        // A part that this payload does not have would be in the way of completing the upload.
        if (part === undefined) return undefined;
        if (ETag === undefined || Size !== part.sizeBytes) continue;
        const isGood =
          ChecksumSHA256 === undefined
            ? await hasMd5(payload, part, PartNumber - 1, ETag)
            : ChecksumSHA256 === base64(part.sha256);
        if (isGood) good.set(PartNumber, ETag);
      }
      marker = page.IsTruncated === true ? page.NextPartNumberMarker : undefined;
    } catch (error) {
      if (statusOf((error as Error).cause) === 404) return undefined;
      throw error;
    }
  } while (marker !== undefined);
  return good;
}

/** For stores that keep no SHA-256: the ETag of a part is its MD5, wherever it is not encrypted under a key. */
async function hasMd5(
  payload: LocalModel['payload'],
  part: Segment,
  index: number,
  etag: string,
): Promise<boolean> {
  if (!/^"?[0-9a-f]{32}"?$/.test(etag)) return false;
  const bytes = new Uint8Array(part.sizeBytes);
  await readPart(payload, part, index, bytes);
  return createHash('md5').update(bytes).digest('hex') === etag.replaceAll('"', '');
}

/** Uploads to this very key that are not complete, newest first. */
async function listUploads(store: BucketStore): Promise<string[]> {
  const { Bucket, Key } = store.where(FILE);
  const found: { readonly id: string; readonly at: number }[] = [];
  let next: { KeyMarker?: string; UploadIdMarker?: string } | undefined = {};
  while (next !== undefined) {
    const markers: { KeyMarker?: string; UploadIdMarker?: string } = next;
    const page = await store.send('ListMultipartUploads', FILE, (signal) =>
      store.place.client.send(new ListMultipartUploadsCommand({ Bucket, Prefix: Key, ...markers }), signal),
    );
    for (const { Key: key, UploadId, Initiated } of page.Uploads ?? []) {
      if (key === Key && UploadId !== undefined) found.push({ id: UploadId, at: Initiated?.getTime() ?? 0 });
    }
    next =
      page.IsTruncated === true && page.NextKeyMarker !== undefined
        ? {
            KeyMarker: page.NextKeyMarker,
            ...(page.NextUploadIdMarker !== undefined && { UploadIdMarker: page.NextUploadIdMarker }),
          }
        : undefined;
  }
  return found.toSorted((a, b) => b.at - a.at).map(({ id }) => id);
}

/** Ends every upload to this key, and gives back what its parts took. Resolves to their number. */
export async function discardUploads(store: BucketStore): Promise<number> {
  const uploads = await listUploads(store);
  for (const UploadId of uploads) {
    await store.send('AbortMultipartUpload', FILE, (signal) =>
      store.place.client.send(new AbortMultipartUploadCommand({ ...store.where(FILE), UploadId }), signal),
    );
  }
  return uploads.length;
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}
