/**
 * Publishing into S3. A reader begins with the head and needs the manifest, so these come last; and where another
 * model is replaced, they are taken away before its payload is. Whoever looks at any moment, also after a kill,
 * finds the old model, none, or the new one, and never parts of two.
 */
import { HEAD_MAX_BYTES } from '../../shared/sealed-model/head.ts';
import { type BucketPlace, BucketStore, type StoredPart } from './bucket-store.ts';
import { PublishError } from './errors.ts';
import { type LocalModel, SMALL_PARTS, sha256 } from './local-model.ts';
import { cutPayload, type PayloadParts } from './payload-parts.ts';
import { discardUploads } from './unfinished-uploads.ts';
import { expectSame, uploadPayload } from './upload-payload.ts';

export interface PublishToBucket {
  readonly model: LocalModel;
  readonly place: BucketPlace;
  /** Whether another model of this name may be replaced. */
  readonly replace: boolean;
  /** Ends unfinished uploads first instead of continuing one. */
  readonly discard: boolean;
  readonly lanes: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
}

export interface PublishResult {
  readonly contentId: string;
  readonly destination: string;
  /** What was written, in order. What was there already is not among it. */
  readonly written: readonly string[];
  readonly payloadSizeBytes: number;
  /** Bytes that an earlier, unfinished run had brought there. */
  readonly resumedBytes: number;
  /** Whether the store keeps and shows SHA-256 of what it holds; otherwise only sizes could be compared. */
  readonly checksums: boolean;
}

/** Throws PublishError. */
export async function publishToBucket(request: PublishToBucket): Promise<PublishResult> {
  const { model, place, replace, discard, lanes, signal, onProgress } = request;
  const store = new BucketStore(place, signal);
  const published = await contentIdAt(store);
  const other = published !== undefined && published !== model.contentId;
  if (other && !replace) {
    throw new PublishError(
      'PUBLISH_WOULD_REPLACE',
      `${store.nameOf('head')} has content id ${published}, this model ${model.contentId}.`,
    );
  }
  if (discard) await discardUploads(store);

  const written: string[] = [];
  let resumedBytes = 0;
  const cut = await cutPayload(model);
  if (!isPayload(await store.look('payload'), cut, store, published === model.contentId)) {
    const upload = await uploadPayload({ store, payload: model.payload, cut, lanes, onProgress });
    resumedBytes = upload.resumedBytes;
    if (other) await withdraw(store);
    await upload.complete();
    written.push('payload');
  } else if (other) await withdraw(store);

  const payload = await expectPayload(store, cut);
  for (const part of SMALL_PARTS) {
    const bytes = model.parts.get(part);
    if (bytes === undefined) continue;
    const digest = await sha256(bytes);
    if (await isSame(store, part, bytes, digest)) continue;
    // Once the head is there the model counts: nobody may have put another payload under it meanwhile.
    if (part === 'head') await expectUntouched(store, payload);
    await store.put(
      part,
      bytes,
      digest,
      part === 'head' && published !== model.contentId ? 'nothing' : 'anything',
    );
    await expectStored(store, part, bytes.length, base64(digest));
    written.push(part);
  }
  await expectUntouched(store, payload);
  return {
    contentId: model.contentId,
    destination: `s3://${place.bucket}/${place.prefix}`,
    written,
    payloadSizeBytes: cut.sizeBytes,
    resumedBytes,
    checksums: payload.checksum !== undefined,
  };
}

async function contentIdAt(store: BucketStore): Promise<string | undefined> {
  const head = await store.read('head', HEAD_MAX_BYTES);
  return head === undefined ? undefined : Buffer.from(await sha256(head)).toString('hex');
}

/** Whether the payload is there. A store without checksums is believed only where the head is there, which comes later. */
function isPayload(
  found: StoredPart | undefined,
  cut: PayloadParts,
  store: BucketStore,
  headIsThere: boolean,
): boolean {
  if (found === undefined || found.sizeBytes !== cut.sizeBytes) return false;
  if (faultOfEncryption(found, store) !== undefined) return false;
  return found.checksum === undefined ? headIsThere : found.checksum === cut.checksum;
}

/** In the order in which a reader would miss them. */
async function withdraw(store: BucketStore): Promise<void> {
  for (const part of SMALL_PARTS.toReversed()) await store.remove(part);
}

async function isSame(
  store: BucketStore,
  part: string,
  bytes: Uint8Array,
  digest: Uint8Array,
): Promise<boolean> {
  const found = await store.look(part);
  if (found === undefined || found.sizeBytes !== bytes.length) return false;
  if (faultOfEncryption(found, store) !== undefined) return false;
  if (found.checksum !== undefined) return found.checksum === base64(digest);
  const there = await store.read(part, bytes.length);
  return there !== undefined && Buffer.compare(there, bytes) === 0;
}

async function expectPayload(store: BucketStore, cut: PayloadParts): Promise<StoredPart> {
  return expectStored(store, 'payload', cut.sizeBytes, cut.checksum);
}

/** Throws PUBLISH_NOT_AS_SENT. */
async function expectStored(
  store: BucketStore,
  file: string,
  sizeBytes: number,
  checksum: string,
): Promise<StoredPart> {
  const found = await store.look(file);
  const name = store.nameOf(file);
  if (found === undefined)
    throw new PublishError('PUBLISH_NOT_AS_SENT', `${name}: expected it, found nothing.`);
  expectSame(String(found.sizeBytes), String(sizeBytes), `${name}, size in bytes`);
  if (found.checksum !== undefined) expectSame(found.checksum, checksum, `${name}, SHA-256`);
  const fault = faultOfEncryption(found, store);
  if (fault !== undefined) throw new PublishError('PUBLISH_NOT_AS_SENT', `${name}: ${fault}.`);
  return found;
}

function faultOfEncryption({ encryption, keyArn }: StoredPart, { place }: BucketStore): string | undefined {
  const asked = place.encryption;
  if (asked.kind === 'bucket') return undefined;
  if (encryption?.startsWith('aws:kms') !== true) {
    return `expected encryption aws:kms, found ${encryption ?? 'none'}`;
  }
  // A key may be named by id or alias; the store always answers with its ARN.
  const isArn = asked.keyArn?.includes(':key/') === true;
  return isArn && keyArn !== asked.keyArn ? `expected the key ${asked.keyArn}, found ${keyArn}` : undefined;
}

async function expectUntouched(store: BucketStore, payload: StoredPart): Promise<void> {
  const now = await store.look('payload');
  if (now?.etag === payload.etag) return;
  throw new PublishError(
    'PUBLISH_CHANGED_MEANWHILE',
    `${store.nameOf('payload')} was replaced by somebody else.`,
  );
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}
