import type { IncomingMessage, ServerResponse } from 'node:http';
import { pipeline } from 'node:stream/promises';
import type { VerifiedAgent } from '../../client/verified-agent.ts';
import { endToEnd } from './headers.ts';

/**
 * Passes a request on and its answer back, piece by piece, neither faster than its reader. Ends the request when the
 * asker leaves. Rejects when there is no answer, or no whole one.
 */
export async function forward(
  agent: VerifiedAgent,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const gone = new AbortController();
  response.once('close', () => gone.abort(new Error('the asker has left')));
  const { statusCode, statusText, headers, body } = await agent.request({
    method: request.method as 'GET',
    path: request.url ?? '/',
    headers: endToEnd(request.rawHeaders),
    body: hasBody(request) ? request : null,
    signal: gone.signal,
    responseHeaders: 'raw',
  });
  // The answer says when the enclave made it.
  response.sendDate = false;
  response.writeHead(statusCode, statusText, endToEnd(headers as unknown as Buffer[]));
  response.flushHeaders();
  await pipeline(body, response);
}

/** RFC 9112 6.3. */
function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
}
