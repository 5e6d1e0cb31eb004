/**
 * One place in S3, `s3://BUCKET/PREFIX/NAME.sealed`, as a publisher sees it. Each write carries the SHA-256 of its
 * body twice: as the checksum that S3 keeps, and as the digest that the signature of the request covers, which
 * every server that checks signatures compares (AWS Signature Version 4, "x-amz-content-sha256").
 */
import {
  DeleteObjectCommand,
  GetBucketEncryptionCommand,
  GetObjectCommand,
  HeadObjectCommand,
  PutObjectCommand,
  type PutObjectCommandInput,
  type S3Client,
  S3ServiceException,
} from '@aws-sdk/client-s3';
import { expectNotStopped, PublishError } from './errors.ts';

/** How objects shall be encrypted: under this KMS key (or S3's own KMS key), or however the bucket does it. */
export type Encryption = { readonly kind: 'kms'; readonly keyArn?: string } | { readonly kind: 'bucket' };

export interface BucketPlace {
  readonly client: S3Client;
  readonly bucket: string;
  /** Of the model: without a slash at its ends. */
  readonly prefix: string;
  readonly encryption: Encryption;
}

export interface StoredPart {
  readonly sizeBytes: number;
  readonly etag: string;
  /** Base64 SHA-256, `-PARTS` behind it for a composite. Some servers keep none. */
  readonly checksum: string | undefined;
  readonly encryption: string | undefined;
  readonly keyArn: string | undefined;
}

/** What a write may replace: whatever is there, nothing, or exactly this object. */
export type Over = 'anything' | 'nothing' | { readonly etag: string };

const NOT_IMPLEMENTED = 501;

export class BucketStore {
  readonly place: BucketPlace;
  readonly #signal: AbortSignal | undefined;

  constructor(place: BucketPlace, signal: AbortSignal | undefined) {
    this.place = place;
    this.#signal = signal;
  }

  /** `s3://…`, for messages. */
  nameOf(file: string): string {
    return `s3://${this.place.bucket}/${this.#key(file)}`;
  }

  where(file: string): { readonly Bucket: string; readonly Key: string } {
    return { Bucket: this.place.bucket, Key: this.#key(file) };
  }

  /** The headers that ask for encryption; they belong to whatever creates an object. */
  encryptionInput(): Pick<
    PutObjectCommandInput,
    'ServerSideEncryption' | 'SSEKMSKeyId' | 'BucketKeyEnabled'
  > {
    const { encryption } = this.place;
    if (encryption.kind === 'bucket') return {};
    return {
      ServerSideEncryption: 'aws:kms',
      BucketKeyEnabled: true,
      ...(encryption.keyArn !== undefined && { SSEKMSKeyId: encryption.keyArn }),
    };
  }

  /** Undefined if there is no such object. */
  async look(file: string): Promise<StoredPart | undefined> {
    const found = await this.#absentAs404('HeadObject', file, (abortSignal) =>
      this.place.client.send(
        new HeadObjectCommand({ ...this.where(file), ChecksumMode: 'ENABLED' }),
        abortSignal,
      ),
    );
    if (found === undefined) return undefined;
    return {
      sizeBytes: found.ContentLength ?? -1,
      etag: found.ETag ?? '',
      checksum: found.ChecksumSHA256,
      encryption: found.ServerSideEncryption,
      keyArn: found.SSEKMSKeyId,
    };
  }

  /** Undefined if there is no such object. Of a longer object only `maxBytes` + 1 bytes are read. */
  async read(file: string, maxBytes: number): Promise<Uint8Array | undefined> {
    return (await this.readStored(file, maxBytes))?.bytes;
  }

  /** The same, with what the store says of exactly these bytes. */
  async readStored(
    file: string,
    maxBytes: number,
  ): Promise<{ readonly bytes: Uint8Array; readonly stored: StoredPart } | undefined> {
    const looked = await this.look(file);
    if (looked === undefined) return undefined;
    if (looked.sizeBytes === 0) return { bytes: new Uint8Array(), stored: looked };
    const range = { Range: `bytes=0-${maxBytes}`, IfMatch: looked.etag };
    const found = await this.#absentAs404('GetObject', file, (abortSignal) =>
      this.place.client.send(new GetObjectCommand({ ...this.where(file), ...range }), abortSignal),
    );
    const bytes = await found?.Body?.transformToByteArray();
    return bytes && { bytes, stored: looked };
  }

  /** Throws PUBLISH_CHANGED_MEANWHILE if `over` is not what is there. */
  async put(file: string, body: Uint8Array, digest: Uint8Array, over: Over): Promise<void> {
    try {
      await this.#put(file, body, digest, over);
    } catch (error) {
      // Servers that know no conditional writes say so: then looking first is all that can be done.
      if (over === 'anything' || statusOf((error as Error).cause) !== NOT_IMPLEMENTED) throw error;
      const etag = (await this.look(file))?.etag;
      if (etag !== (over === 'nothing' ? undefined : over.etag)) {
        throw new PublishError('PUBLISH_CHANGED_MEANWHILE', `${this.nameOf(file)} changed meanwhile.`, error);
      }
      await this.#put(file, body, digest, 'anything');
    }
  }

  async #put(file: string, body: Uint8Array, digest: Uint8Array, over: Over): Promise<void> {
    const command = new PutObjectCommand({
      ...this.where(file),
      ...this.encryptionInput(),
      Body: body,
      ContentLength: body.length,
      ContentType: file.endsWith('.json') ? 'application/json' : 'application/octet-stream',
      ChecksumSHA256: Buffer.from(digest).toString('base64'),
      ...(over === 'nothing' && { IfNoneMatch: '*' }),
      ...(typeof over === 'object' && { IfMatch: over.etag }),
    });
    await this.send('PutObject', file, (options) =>
      this.place.client.send(signedDigest(command, digest), options),
    );
  }

  async remove(file: string): Promise<void> {
    await this.send('DeleteObject', file, (options) =>
      this.place.client.send(new DeleteObjectCommand(this.where(file)), options),
    );
  }

  /** Maps what the SDK throws. */
  async send<T>(
    operation: string,
    file: string,
    request: (options: { abortSignal?: AbortSignal }) => Promise<T>,
  ): Promise<T> {
    expectNotStopped(this.#signal);
    try {
      return await request(this.#signal === undefined ? {} : { abortSignal: this.#signal });
    } catch (cause) {
      throw storeFailure(operation, this.nameOf(file), cause, this.#signal);
    }
  }

  async #absentAs404<T>(
    operation: string,
    file: string,
    request: (options: { abortSignal?: AbortSignal }) => Promise<T>,
  ): Promise<T | undefined> {
    try {
      return await this.send(operation, file, request);
    } catch (error) {
      if (statusOf((error as Error).cause) === 404) return undefined;
      throw error;
    }
  }

  #key(file: string): string {
    return `${this.place.prefix}/${file}`;
  }
}

/** The KMS key that the bucket uses by default, undefined if it uses none or that cannot be asked. */
export async function defaultKmsKey(client: S3Client, bucket: string): Promise<string | undefined> {
  try {
    const answer = await client.send(new GetBucketEncryptionCommand({ Bucket: bucket }));
    const [rule] = answer.ServerSideEncryptionConfiguration?.Rules ?? [];
    const { SSEAlgorithm, KMSMasterKeyID } = rule?.ApplyServerSideEncryptionByDefault ?? {};
    return SSEAlgorithm?.startsWith('aws:kms') === true ? KMSMasterKeyID : undefined;
  } catch {
    return undefined;
  }
}

interface Signable {
  readonly middlewareStack: {
    add(
      middleware: (next: (args: unknown) => Promise<unknown>) => (args: unknown) => Promise<unknown>,
      options: { step: 'build'; name: string },
    ): void;
  };
}

/** Says what the body's SHA-256 is, so that signing the request does not compute it once more. */
export function signedDigest<T>(command: T, digest: Uint8Array): T {
  const hex = Buffer.from(digest).toString('hex');
  (command as unknown as Signable).middlewareStack.add(
    (next) => async (args) => {
      (args as { request: { headers: Record<string, string> } }).request.headers['x-amz-content-sha256'] =
        hex;
      return next(args);
    },
    { step: 'build', name: 'bodyDigest' },
  );
  return command;
}

export function statusOf(error: unknown): number | undefined {
  return error instanceof S3ServiceException ? error.$metadata.httpStatusCode : undefined;
}

/** A refusal is the store's own answer; the network's and the SDK's failures have other remedies. */
export function storeFailure(
  operation: string,
  place: string,
  cause: unknown,
  signal: AbortSignal | undefined,
): PublishError {
  if (signal?.aborted) return new PublishError('PUBLISH_STOPPED', 'The command was stopped.', cause);
  const { name, message } = cause as Error;
  const status = statusOf(cause);
  if (name === 'CredentialsProviderError') {
    return new PublishError(
      'PUBLISH_NO_CREDENTIALS',
      `No AWS credentials for ${operation}: ${message}`,
      cause,
    );
  }
  if (status === 412 || status === 409) {
    return new PublishError('PUBLISH_CHANGED_MEANWHILE', `${place} changed meanwhile (${name}).`, cause);
  }
  if (
    status === undefined ||
    (status >= 500 && status !== NOT_IMPLEMENTED) ||
    status === 408 ||
    status === 429
  ) {
    return new PublishError(
      'PUBLISH_UNREACHABLE',
      `No answer to ${operation} of ${place}: ${name}: ${message}`,
      cause,
    );
  }
  return new PublishError(
    'PUBLISH_REFUSED',
    `${operation} of ${place} was refused: ${status} ${name}.`,
    cause,
  );
}
