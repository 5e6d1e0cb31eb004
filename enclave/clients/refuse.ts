/** Tells a client that it may not come in, without reading a byte of what it sends. */
import { STATUS_CODES } from 'node:http';
import type { TLSSocket } from 'node:tls';
import type { ApiError } from '../serve/errors.ts';

/** How long what the client sends is still swallowed, so that it gets to read the refusal. */
const LINGER_MS = 1_000;

/**
 * Node closes a connection whose certificate it does not accept without an alert, so the reason is said in HTTP. It is
 * said when the first byte has come, so that it is an answer, and what has come never reaches a parser.
 */
export function refuseConnection(socket: TLSSocket, error: ApiError, waitMs: number): void {
  const late = setTimeout(() => socket.destroy(), waitMs);
  socket.once('close', () => clearTimeout(late));
  socket.once('data', () => {
    clearTimeout(late);
    socket.end(refusal(error));
    const linger = setTimeout(() => socket.destroy(), LINGER_MS);
    socket.once('close', () => clearTimeout(linger));
  });
}

function refusal({ status, code, message, retryAfterSeconds }: ApiError): string {
  const body = JSON.stringify({ error: message, code });
  return [
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
    'content-type: application/json',
    'cache-control: no-store',
    `content-length: ${Buffer.byteLength(body)}`,
    ...(retryAfterSeconds === undefined ? [] : [`retry-after: ${retryAfterSeconds}`]),
    'connection: close',
    '',
    body,
  ].join('\r\n');
}
