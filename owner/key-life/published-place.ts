/**
 * A published model whose key.json is replaced where it lies. Nobody can hold a claim in S3, so the write itself is
 * conditional: it replaces exactly the object that was read (`If-Match`; Amazon S3 User Guide, "Conditional writes").
 */
import { HEAD_MAX_BYTES, parseHead } from '../../shared/sealed-model/head.ts';
import { KEY_FILE_MAX_BYTES } from '../../shared/sealed-model/key-file.ts';
import {
  expectHeadOf,
  expectStatementOf,
  MANIFEST_MAX_BYTES,
  parseEnvelope,
  parseStatement,
  verifyManifest,
} from '../../shared/sealed-model/manifest.ts';
import { type BucketPlace, BucketStore, type StoredPart, statusOf } from '../publish/bucket-store.ts';
import { PublishError } from '../publish/errors.ts';
import { sha256 } from '../publish/local-model.ts';
import { DataKeyError } from './errors.ts';
import type { KeyFileWriter, SealedPlace } from './sealed-place.ts';

export function publishedPlace(
  where: Omit<BucketPlace, 'encryption'>,
  options: { readonly recoveryBeside: string; readonly signal?: AbortSignal | undefined },
): SealedPlace {
  const { recoveryBeside, signal } = options;
  const store = new BucketStore({ ...where, encryption: { kind: 'bucket' } }, signal);
  return {
    name: `s3://${where.bucket}/${where.prefix}`,
    recoveryBeside,
    async readHead(signer) {
      const head = parseHead(await readPart(store, 'head', HEAD_MAX_BYTES));
      const manifest = await readPart(store, 'manifest.json', MANIFEST_MAX_BYTES);
      if (signer !== undefined) expectHeadOf(verifyManifest(manifest, signer), head);
      else expectStatementOf(parseStatement(parseEnvelope(manifest).payload), head);
      return head;
    },
    claimKeyFile: async () => new PublishedKeyFile(where, store, signal),
  };
}

async function readPart(store: BucketStore, file: string, maxBytes: number): Promise<Uint8Array> {
  const bytes = await store.read(file, maxBytes);
  if (bytes === undefined) throw new PublishError('FETCH_NOT_FOUND', `There is no ${store.nameOf(file)}.`);
  return expectBounded(store, file, bytes, maxBytes);
}

function expectBounded(store: BucketStore, file: string, bytes: Uint8Array, maxBytes: number): Uint8Array {
  if (bytes.length <= maxBytes) return bytes;
  throw new PublishError('FETCH_OTHER_MODEL', `${store.nameOf(file)} has more than ${maxBytes} bytes.`);
}

class PublishedKeyFile implements KeyFileWriter {
  readonly #where: Omit<BucketPlace, 'encryption'>;
  readonly #store: BucketStore;
  readonly #signal: AbortSignal | undefined;
  #seen: StoredPart | undefined;

  constructor(where: Omit<BucketPlace, 'encryption'>, store: BucketStore, signal: AbortSignal | undefined) {
    this.#where = where;
    this.#store = store;
    this.#signal = signal;
  }

  async read(): Promise<Uint8Array | undefined> {
    const found = await this.#store.readStored('key.json', KEY_FILE_MAX_BYTES);
    this.#seen = found?.stored;
    return found && expectBounded(this.#store, 'key.json', found.bytes, KEY_FILE_MAX_BYTES);
  }

  async replace(content: Uint8Array): Promise<void> {
    const seen = this.#seen;
    // Encrypted at rest as it was: the bucket's default may be another.
    const isKms = seen?.encryption?.startsWith('aws:kms') === true;
    const keyArn = seen?.keyArn;
    const store = isKms
      ? new BucketStore(
          { ...this.#where, encryption: { kind: 'kms', ...(keyArn !== undefined && { keyArn }) } },
          this.#signal,
        )
      : this.#store;
    const digest = await sha256(content);
    try {
      await store.put('key.json', content, digest, seen === undefined ? 'nothing' : { etag: seen.etag });
    } catch (error) {
      if (!(error instanceof PublishError)) throw error;
      const isGone = seen !== undefined && statusOf(error.cause) === 404;
      if (error.code !== 'PUBLISH_CHANGED_MEANWHILE' && !isGone) throw error;
      // The answer to a write that was done may get lost; tried again, it finds itself in the way.
      const there = await this.#store.read('key.json', KEY_FILE_MAX_BYTES);
      if (there !== undefined && Buffer.compare(there, content) === 0) return;
      throw new DataKeyError(
        'REWRAP_BUSY',
        `Somebody else changed ${store.nameOf('key.json')} meanwhile; it was left as it is.`,
        error,
      );
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}
