import { createHash, randomBytes } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Refusal } from './refusals.ts';

/** An object as S3 keeps it: bytes, and an ETag that changes with them. */
export interface StoredObject {
  readonly bytes: Uint8Array;
  readonly etag: string;
  readonly lastModified: Date;
  /** Base64; of an upload in parts the composite of their checksums, `BASE64-PARTS`. */
  readonly checksumSha256?: string;
  readonly encryption?: ObjectEncryption;
}

/** Server-side encryption with a KMS key, as it was asked for or as the bucket has it by default. */
export interface ObjectEncryption {
  readonly algorithm: string;
  readonly keyArn?: string;
}

/** The ETag is the MD5 of the bytes, but not of an object under SSE-KMS (Amazon S3 API Reference, "Object"). */
export function newObject(
  bytes: Uint8Array,
  lastModified: Date,
  { checksumSha256, encryption }: Pick<StoredObject, 'checksumSha256' | 'encryption'> = {},
): StoredObject {
  return {
    bytes,
    etag: etagOf(createHash('md5').update(bytes).digest(), encryption),
    lastModified,
    ...(checksumSha256 !== undefined && { checksumSha256 }),
    ...(encryption !== undefined && { encryption }),
  };
}

/** `suffix` is `-PARTS` for an upload in parts. */
export function etagOf(md5: Uint8Array, encryption: ObjectEncryption | undefined, suffix = ''): string {
  const value = encryption === undefined ? md5 : randomBytes(md5.length);
  return `"${Buffer.from(value).toString('hex')}${suffix}"`;
}

export function encryptionHeaders(encryption: ObjectEncryption | undefined): Record<string, string> {
  return {
    'x-amz-server-side-encryption': encryption?.algorithm ?? 'AES256',
    ...(encryption?.keyArn !== undefined && {
      'x-amz-server-side-encryption-aws-kms-key-id': encryption.keyArn,
    }),
  };
}

/**
 * Answers HEAD or GET with If-Match and one Range as S3 does (Amazon S3 API Reference, "GetObject"), or says why
 * not. A Range in any other form is ignored, as RFC 9110 14.2 allows.
 */
export function answerObject(
  request: IncomingMessage,
  response: ServerResponse,
  { bytes, etag, lastModified, checksumSha256, encryption }: StoredObject,
): Refusal | undefined {
  const ifMatch = request.headers['if-match'];
  if (ifMatch !== undefined && ifMatch !== '*' && ifMatch !== etag) return 'PreconditionFailed';
  const range = /^bytes=([0-9]{1,15})-([0-9]{0,15})$/.exec(request.headers.range ?? '');
  const first = range === null ? 0 : Number(range[1]);
  const end = range === null || range[2] === '' ? bytes.length : Math.min(Number(range[2]) + 1, bytes.length);
  if (range !== null && first >= end) return 'InvalidRange';
  // A checksum belongs to the whole object, so S3 gives none for a part of it.
  const withChecksum = request.headers['x-amz-checksum-mode'] === 'ENABLED' && range === null;
  response.writeHead(range === null ? 200 : 206, {
    etag,
    'last-modified': lastModified.toUTCString(),
    'accept-ranges': 'bytes',
    'content-type': 'application/octet-stream',
    'content-length': end - first,
    ...encryptionHeaders(encryption),
    ...(range !== null && { 'content-range': `bytes ${first}-${end - 1}/${bytes.length}` }),
    ...(withChecksum &&
      checksumSha256 !== undefined && {
        'x-amz-checksum-sha256': checksumSha256,
        'x-amz-checksum-type': checksumSha256.includes('-') ? 'COMPOSITE' : 'FULL_OBJECT',
      }),
  });
  if (request.method === 'HEAD') response.end();
  else response.end(bytes.subarray(first, end));
  return undefined;
}
