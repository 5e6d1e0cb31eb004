/**
 * The control port, for the parent: is the enclave alive, please drain, and which models it has, to be loaded anew or
 * unloaded. Plain HTTP, because it says and does nothing that the parent could not see or do anyway (docs/link.md).
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { ModelsError } from '../models/errors.ts';
import type { ModelLifecycle } from '../models/lifecycle.ts';
import type { Server } from './server.ts';

const MAX_HEADER_BYTES = 4 * 1024;
const MAX_CONNECTIONS = 16;
const DEADLINE_MS = 5_000;

type ControlledServer = Pick<Server, 'ready' | 'drain'>;
type ControlledModels = Pick<ModelLifecycle, 'status' | 'load' | 'unload'>;

/** Takes connections of the control port. */
export function serveControl(
  server: ControlledServer,
  models: ControlledModels,
): (connection: Duplex) => void {
  const http = createServer(
    {
      maxHeaderSize: MAX_HEADER_BYTES,
      headersTimeout: DEADLINE_MS,
      requestTimeout: DEADLINE_MS,
      keepAliveTimeout: DEADLINE_MS,
      connectionsCheckingInterval: 1_000,
    },
    (request, response) => answer(server, models, request, response),
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
  server: ControlledServer,
  models: ControlledModels,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  const { status, value } = replyTo(`${request.method} ${request.url}`, server, models);
  const body = Buffer.from(JSON.stringify(value));
  // A request's body is not read, so the connection cannot be used for another.
  const headers = {
    'content-type': 'application/json',
    'content-length': body.length,
    connection: 'close',
  };
  response.writeHead(status, headers).end(body);
}

const MODEL_CHANGE = /^POST \/models\/([A-Za-z0-9][A-Za-z0-9._-]{0,63})\/(load|unload)$/;
const EXPECTED = 'expected GET /live, GET /models, POST /models/NAME/load or unload, or POST /drain';

interface Reply {
  readonly status: number;
  readonly value: object;
}

function replyTo(asked: string, server: ControlledServer, models: ControlledModels): Reply {
  if (asked === 'GET /live') return { status: 200, value: { live: true, ready: server.ready } };
  if (asked === 'GET /models') return { status: 200, value: { models: models.status() } };
  if (asked === 'POST /drain') {
    void server.drain();
    return { status: 202, value: { draining: true } };
  }
  const [, name, verb] = MODEL_CHANGE.exec(asked) ?? [];
  if (name === undefined) return { status: 404, value: { error: EXPECTED } };
  const refused = refusalOf(() => (verb === 'load' ? models.load(name) : models.unload(name)));
  return { status: 200, value: { refused, models: models.status() } };
}

/** The code of what speaks against it; null if it was done, or has begun. */
function refusalOf(change: () => void): string | null {
  try {
    change();
    return null;
  } catch (error) {
    if (error instanceof ModelsError) return error.code;
    throw error;
  }
}
