import { createHash } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';

/** An object as S3 keeps it: bytes, and an ETag that changes with them (the quoted MD5 of a single-part upload). */
export interface StoredObject {
  readonly bytes: Uint8Array;
  readonly etag: string;
  readonly lastModified: Date;
}

export function newObject(bytes: Uint8Array, lastModified: Date): StoredObject {
  return { bytes, etag: `"${createHash('md5').update(bytes).digest('hex')}"`, lastModified };
}

/** Why an object is not served; nothing has been written then. */
export type Refusal = 'PreconditionFailed' | 'InvalidRange';

/**
 * Answers HEAD or GET with If-Match and one Range as S3 does (Amazon S3 API Reference, "GetObject"), or says why
 * not. A Range in any other form is ignored, as RFC 9110 14.2 allows.
 */
export function answerObject(
  request: IncomingMessage,
  response: ServerResponse,
  { bytes, etag, lastModified }: StoredObject,
): Refusal | undefined {
  const ifMatch = request.headers['if-match'];
  if (ifMatch !== undefined && ifMatch !== '*' && ifMatch !== etag) return 'PreconditionFailed';
  const range = /^bytes=([0-9]{1,15})-([0-9]{0,15})$/.exec(request.headers.range ?? '');
  const first = range === null ? 0 : Number(range[1]);
  const end = range === null || range[2] === '' ? bytes.length : Math.min(Number(range[2]) + 1, bytes.length);
  if (range !== null && first >= end) return 'InvalidRange';
  response.writeHead(range === null ? 200 : 206, {
    etag,
    'last-modified': lastModified.toUTCString(),
    'accept-ranges': 'bytes',
    'content-type': 'application/octet-stream',
    'content-length': end - first,
    ...(range !== null && { 'content-range': `bytes ${first}-${end - 1}/${bytes.length}` }),
  });
  if (request.method === 'HEAD') response.end();
  else response.end(bytes.subarray(first, end));
  return undefined;
}
