/** Writes answers and refusals, so that a client gets to read them and a slow one is cut off. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { EngineError } from '../engine/errors.ts';
import type { ApiAnswer } from './api.ts';
import { ApiError } from './errors.ts';
import { allowedMethod, type Route } from './routes.ts';

export interface ReplyOptions {
  /** The connection takes no further request. */
  readonly last: boolean;
  /** For the client to take the answer. */
  readonly deliveryMs: number;
}

/** How long a refused body is still swallowed, so that its sender gets to read the refusal. */
const LINGER_MS = 1_000;

export function sendAnswer(response: ServerResponse, answer: ApiAnswer, options: ReplyOptions): void {
  if (response.destroyed) return;
  if (options.last) response.shouldKeepAlive = false;
  response.writeHead(answer.status, {
    'cache-control': 'no-store',
    ...answer.headers,
    'content-length': String(answer.body.reduce((sum, part) => sum + part.length, 0)),
  });
  cutOffAfter(response, options.deliveryMs);
  for (const part of answer.body) response.write(part);
  response.end();
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
  const { status, code, message, retryAfterSeconds = status === 503 ? 1 : undefined } = publicError(error);
  const body = Buffer.from(JSON.stringify({ error: message, code }));
  const unread = announcesBody(request) && !request.complete;
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

export function announcesBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || (headers['content-length'] ?? '0') !== '0';
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

interface Refusal {
  readonly status: number;
  readonly code: string;
  readonly message: string;
  readonly retryAfterSeconds?: number | undefined;
}

/** What the caller is told: our own words, or nothing but that something failed. */
function publicError(error: unknown): Refusal {
  if (error instanceof ApiError) return error;
  if (error instanceof EngineError) {
    if (error.code === 'ENGINE_REJECTED') return { status: 400, code: error.code, message: error.message };
    return { status: 503, code: 'ENGINE_UNAVAILABLE', message: 'the engine of this model is not available' };
  }
  return { status: 500, code: 'API_INTERNAL', message: 'something failed inside the enclave' };
}
