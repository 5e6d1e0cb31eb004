/** Reads a request's body, never more than the limit, and decides by the headers before reading anything. */
import type { IncomingMessage } from 'node:http';
import type { HeldBytes } from './admission.ts';
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

export interface BodyRules {
  readonly limitBytes: number;
  /** Each of these, from the first on, has to bring its share of `bytesPerSecond`. */
  readonly windowMs: number;
  readonly bytesPerSecond: number;
}

/** Whoever else has to see the body, piece by piece, in order. */
export type OnPiece = (piece: Uint8Array) => void;

/**
 * Rejects with ApiError API_TOO_LARGE as soon as the limit is passed, API_OVERLOADED when all bodies together hold
 * too much, API_SLOW after a window that brought too little, or with the stream's error; nothing is kept after that.
 */
export async function readBody(
  request: IncomingMessage,
  announcedBytes: number | undefined,
  held: HeldBytes,
  rules: BodyRules,
  onPiece: OnPiece = () => {},
): Promise<Uint8Array> {
  // What came along with the headers is there after this: of a small request, everything.
  await Promise.resolve();
  if (request.readableLength === announcedBytes) return takeArrived(request, held, onPiece);
  return readPieces(request, announcedBytes ?? rules.limitBytes, held, rules, onPiece);
}

/** Bodies that were taken as they arrived: Node learns that they are complete only afterwards. */
const taken = new WeakSet<IncomingMessage>();

/** Whether a request's sender may still be sending its body. */
export function isBodyComing(request: IncomingMessage): boolean {
  return announcesBody(request) && !request.complete && !taken.has(request);
}

export function announcesBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || (headers['content-length'] ?? '0') !== '0';
}

function takeArrived(request: IncomingMessage, held: HeldBytes, onPiece: OnPiece): Uint8Array {
  held.take(request.readableLength);
  taken.add(request);
  const body = new Uint8Array(request.read() ?? 0);
  onPiece(body);
  // Only a stream that flows comes to its end, which the connection's next request waits for.
  request.resume();
  return body;
}

/**
 * Every piece is copied into one buffer as it comes: pieces of one byte, kept as they are, take hundreds of times
 * their size. The buffer grows with what has arrived, to twice as much at most.
 */
async function readPieces(
  request: IncomingMessage,
  endBytes: number,
  held: HeldBytes,
  { limitBytes, windowMs, bytesPerSecond }: BodyRules,
  onPiece: OnPiece,
): Promise<Uint8Array> {
  let buffer = new ArrayBuffer(0);
  let filled = 0;
  const add = (chunk: Uint8Array): void => {
    const needed = filled + chunk.length;
    if (needed > endBytes) throw tooLarge(limitBytes);
    if (needed > buffer.byteLength) {
      const grown = Math.min(endBytes, Math.max(needed, 2 * buffer.byteLength));
      held.take(grown - buffer.byteLength);
      // Frees the old one at once, not when it is collected.
      buffer = buffer.transfer(grown);
    }
    new Uint8Array(buffer).set(chunk, filled);
    filled = needed;
    onPiece(chunk);
  };
  const { promise: done, resolve, reject } = Promise.withResolvers<void>();
  const take = (chunk: Uint8Array): void => {
    try {
      add(chunk);
    } catch (error) {
      stop();
      reject(error);
    }
  };
  let before = 0;
  // By window, not on average: whoever sent much at first could hold it for a long time without sending more.
  const watch = setInterval(() => {
    if (filled - before < (bytesPerSecond * windowMs) / 1000) {
      stop();
      reject(new ApiError('API_SLOW', `body: expected at least ${bytesPerSecond} bytes per second`));
    }
    before = filled;
  }, windowMs);
  const stop = (): void => {
    clearInterval(watch);
    request.off('data', take);
  };
  // Not `for await`: leaving that loop early would destroy the connection before the caller has its answer.
  request.on('data', take);
  request.once('end', resolve);
  request.on('error', reject);
  const cut = (): void => {
    // Of every request, sooner or later: an error costs more than the rest of a small one.
    if (!request.complete) reject(new ApiError('API_INVALID', 'body: cut off'));
  };
  if (request.closed) cut();
  request.once('close', cut);
  await done.finally(stop);
  return new Uint8Array(buffer, 0, filled);
}

function tooLarge(limitBytes: number): ApiError {
  return new ApiError('API_TOO_LARGE', `body: expected at most ${limitBytes} bytes`);
}
