/**
 * The control port, for the parent: is the enclave alive, and please drain. Plain HTTP, because it says and
 * does nothing that the parent could not see or do anyway (docs/link.md).
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Server } from './server.ts';

const MAX_HEADER_BYTES = 4 * 1024;
const MAX_CONNECTIONS = 16;
const DEADLINE_MS = 5_000;

/** Takes connections of the control port. */
export function serveControl(server: Pick<Server, 'ready' | 'drain'>): (connection: Duplex) => void {
  const http = createServer(
    {
      maxHeaderSize: MAX_HEADER_BYTES,
      headersTimeout: DEADLINE_MS,
      requestTimeout: DEADLINE_MS,
      keepAliveTimeout: DEADLINE_MS,
      connectionsCheckingInterval: 1_000,
    },
    (request, response) => answer(server, request, response),
  );
  // Handed its connections, it never listens, but only then does Node watch its deadlines.
  http.emit('listening');
  const connections = new Set<Duplex>();
  return (connection) => {
    connection.on('error', () => connection.destroy());
    if (connections.size >= MAX_CONNECTIONS) {
      connection.destroy();
      return;
    }
    connections.add(connection);
    connection.once('close', () => connections.delete(connection));
    http.emit('connection', connection);
  };
}

function answer(
  server: Pick<Server, 'ready' | 'drain'>,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  const reply = (status: number, value: object): void => {
    const body = Buffer.from(JSON.stringify(value));
    // A request's body is not read, so the connection cannot be used for another.
    const headers = {
      'content-type': 'application/json',
      'content-length': body.length,
      connection: 'close',
    };
    response.writeHead(status, headers).end(body);
  };
  const key = `${request.method} ${request.url}`;
  if (key === 'GET /live') reply(200, { live: true, ready: server.ready });
  else if (key === 'POST /drain') {
    void server.drain();
    reply(202, { draining: true });
  } else reply(404, { error: 'expected GET /live or POST /drain' });
}
