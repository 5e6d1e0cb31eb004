/** Reads a request's body, never more than the limit, and decides by the headers before reading anything. */
import type { IncomingMessage } from 'node:http';
import { ApiError } from './errors.ts';

/** The announced size, or undefined for a chunked body. Throws ApiError for a size or encoding not taken. */
export function announcedSize(request: IncomingMessage, limitBytes: number): number | undefined {
  if (request.headers['content-encoding'] !== undefined) {
    throw new ApiError('API_MEDIA_TYPE', 'Content-Encoding: bodies are taken as they are');
  }
  // Node has refused anything but digits, and both headers at once.
  const announced = request.headers['content-length'];
  if (announced === undefined) {
    if (request.headers['transfer-encoding'] !== undefined) return undefined;
    return 0;
  }
  const sizeBytes = Number(announced);
  if (!(sizeBytes <= limitBytes)) throw tooLarge(limitBytes);
  return sizeBytes;
}

/**
 * Rejects with ApiError API_TOO_LARGE as soon as the limit is passed, or with the stream's error. Every piece is
 * copied into one buffer as it comes: pieces of one byte, kept as they are, take hundreds of times their size.
 */
export async function readBody(
  request: IncomingMessage,
  announcedBytes: number | undefined,
  limitBytes: number,
): Promise<Uint8Array> {
  // The kernel gives memory to the pages that are written, so a short chunked body takes no more than its size.
  const body = new Uint8Array(new ArrayBuffer(announcedBytes ?? limitBytes));
  let filled = 0;
  // Not `for await`: leaving that loop early would destroy the connection before the caller has its answer.
  await new Promise<void>((resolve, reject) => {
    request.on('data', (chunk: Uint8Array) => {
      if (chunk.length > body.length - filled) return reject(tooLarge(limitBytes));
      body.set(chunk, filled);
      filled += chunk.length;
    });
    request.once('end', resolve);
    request.once('error', reject);
    request.once('close', () => reject(new ApiError('API_INVALID', 'body: cut off')));
  });
  return body.subarray(0, filled);
}

function tooLarge(limitBytes: number): ApiError {
  return new ApiError('API_TOO_LARGE', `body: expected at most ${limitBytes} bytes`);
}
