/** Writes answers and refusals, so that a client gets to read them and a slow one is cut off. */
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { isBodyComing } from './body.ts';
import type { ApiAnswer } from './exchange.ts';
import { encodeRefusal, refusalOf } from './refusal.ts';
import { allowedMethod, apiOf, type Route } from './routes.ts';

export interface ReplyOptions {
  /** The connection takes no further request. */
  readonly last: boolean;
  /** For the client to take a whole answer. */
  readonly deliveryMs: number;
  /** For the next part of one that is still being made. */
  readonly partMs: number;
}

/** How long a refused body is still swallowed, so that its sender gets to read the refusal. */
const LINGER_MS = 1_000;

/** Resolves when the answer is with the connection. Rejects, without its end, if it could not be made to the end. */
export async function sendAnswer(
  response: ServerResponse,
  answer: ApiAnswer,
  options: ReplyOptions,
): Promise<void> {
  const { status, headers, body } = answer;
  if (response.destroyed) return;
  if (options.last) response.shouldKeepAlive = false;
  const common = { 'cache-control': 'no-store', ...headers };
  if (Symbol.asyncIterator in body) {
    response.writeHead(status, common);
    await sendParts(response, body, options);
    return;
  }
  const sizeBytes = body.reduce((sum, part) => sum + part.length, 0);
  response.writeHead(status, { ...common, 'content-length': String(sizeBytes) });
  cutOffAfter(response, options.deliveryMs);
  // The last with the end: most answers then leave in one piece.
  for (const part of body.slice(0, -1)) response.write(part);
  response.end(body.at(-1));
}

/** The next part is made only once the connection has taken the last: nothing piles up for a client that does not read. */
async function sendParts(
  response: ServerResponse,
  parts: AsyncIterable<Uint8Array>,
  { deliveryMs, partMs }: ReplyOptions,
): Promise<void> {
  // Each event has to leave when it is made; Nagle's algorithm would hold it for the one before.
  response.socket?.setNoDelay(true);
  response.flushHeaders();
  for await (const part of parts) {
    if (response.destroyed) return;
    if (!response.write(part)) await taken(response, partMs);
  }
  cutOffAfter(response, deliveryMs);
  response.end();
}

/** Resolves when what was written has left, or the connection has gone, at the latest after the time for it. */
async function taken(response: ServerResponse, partMs: number): Promise<void> {
  const cut = setTimeout(() => response.destroy(), partMs);
  const done = new AbortController();
  try {
    await Promise.race([
      once(response, 'drain', { signal: done.signal }),
      once(response, 'close', { signal: done.signal }),
    ]);
  } finally {
    done.abort();
    clearTimeout(cut);
  }
}

/** `route` is undefined if the path is unknown. */
export function sendRefusal(
  request: IncomingMessage,
  response: ServerResponse,
  error: unknown,
  route: Route | undefined,
  options: ReplyOptions,
): void {
  if (response.destroyed || response.headersSent) {
    response.destroy();
    return;
  }
  const refusal = refusalOf(error);
  const { status, retryAfterSeconds } = refusal;
  const body = Buffer.from(JSON.stringify(encodeRefusal(apiOf(request.url ?? ''), refusal)));
  const unread = isBodyComing(request);
  if (unread || options.last) response.shouldKeepAlive = false;
  response.writeHead(status, {
    'content-type': 'application/json',
    'cache-control': 'no-store',
    'content-length': String(body.length),
    ...(retryAfterSeconds === undefined ? {} : { 'retry-after': String(retryAfterSeconds) }),
    ...(status === 405 && route !== undefined ? { allow: allowedMethod(route) } : {}),
  });
  cutOffAfter(response, options.deliveryMs);
  response.write(body);
  if (unread) endOnceSent(request, response);
  else response.end();
}

/** Ending at once would reset the connection under the feet of a client that is still sending. */
function endOnceSent(request: IncomingMessage, response: ServerResponse): void {
  const finish = (): void => {
    clearTimeout(linger);
    response.end();
  };
  const linger = setTimeout(finish, LINGER_MS);
  request.once('close', finish);
  request.resume();
}

function cutOffAfter(response: ServerResponse, deliveryMs: number): void {
  const timer = setTimeout(() => response.destroy(), deliveryMs);
  response.once('close', () => clearTimeout(timer));
}
