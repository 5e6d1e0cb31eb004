import type { ServerResponse } from 'node:http';
import { ClientError } from '../../client/index.ts';
import { codeOf, StrongroomError } from '../../shared/errors.ts';

/** Nothing was sent, and later it may go well: a caller loses nothing by asking again. */
const MAY_RETRY = [
  'CLIENT_UNREACHABLE',
  'CLIENT_BUSY',
  'CLIENT_TIMEOUT',
  'CLIENT_CONNECTION_LOST',
  'PROXY_BUSY',
];

const STATUS: Readonly<Record<string, number>> = {
  CLIENT_BUSY: 503,
  CLIENT_TIMEOUT: 504,
  PROXY_BUSY: 503,
  PROXY_HOST: 403,
  PROXY_CROSS_SITE: 403,
  PROXY_PATH: 404,
  PROXY_HTTP_VERSION: 505,
};

/** Answers in the shape that OpenAI's clients read; cuts an answer that has begun, so that it does not look whole. */
export function sendRefusal(response: ServerResponse, error: unknown): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const code = codeOf(error) ?? 'UNEXPECTED';
  const status = STATUS[code] ?? 502;
  const body = Buffer.from(`${JSON.stringify({ error: described(error, code) })}\n`);
  response.writeHead(status, {
    'content-type': 'application/json',
    'content-length': String(body.length),
    'cache-control': 'no-store',
    // The OpenAI clients go by it.
    'x-should-retry': String(MAY_RETRY.includes(code)),
    ...(status === 503 ? { 'retry-after': String(retryAfterSeconds(error)) } : {}),
  });
  response.end(body);
}

function retryAfterSeconds(error: unknown): number {
  return (error instanceof ClientError ? error.retryAfterSeconds : undefined) ?? 1;
}

function described(error: unknown, code: string) {
  const message = error instanceof Error ? error.message : String(error);
  const action = error instanceof StrongroomError ? ` ${error.action}` : '';
  const isOwn = code.startsWith('PROXY_') && code !== 'PROXY_BUSY';
  const type = isOwn ? 'invalid_request_error' : 'enclave_error';
  return { message: `${message}${action}`, type, param: null, code };
}
