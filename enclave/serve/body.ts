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

/** Rejects with ApiError API_TOO_LARGE as soon as the limit is passed, or with the stream's error. */
export async function readBody(
  request: IncomingMessage,
  announcedBytes: number | undefined,
  limitBytes: number,
): Promise<Uint8Array> {
  if (announcedBytes !== undefined) {
    const body = new Uint8Array(new ArrayBuffer(announcedBytes));
    let filled = 0;
    for await (const chunk of request as AsyncIterable<Uint8Array>) {
      body.set(chunk, filled);
      filled += chunk.length;
    }
    if (filled !== announcedBytes) throw new ApiError('API_INVALID', 'body: cut off');
    return body;
  }
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  // Not `for await`: leaving that loop early would destroy the connection before the caller has its answer.
  await new Promise<void>((resolve, reject) => {
    request.on('data', (chunk: Uint8Array) => {
      sizeBytes += chunk.length;
      if (sizeBytes <= limitBytes) chunks.push(chunk);
      else {
        chunks.length = 0;
        reject(tooLarge(limitBytes));
      }
    });
    request.once('end', resolve);
    request.once('error', reject);
    request.once('close', () => reject(new ApiError('API_INVALID', 'body: cut off')));
  });
  const body = new Uint8Array(new ArrayBuffer(sizeBytes));
  let offset = 0;
  for (const chunk of chunks) {
    body.set(chunk, offset);
    offset += chunk.length;
  }
  return body;
}

function tooLarge(limitBytes: number): ApiError {
  return new ApiError('API_TOO_LARGE', `body: expected at most ${limitBytes} bytes`);
}
