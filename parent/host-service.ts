/**
 * What the parent does for its enclave, on one port of the link, as plain HTTP/1.1 (docs/link.md section 3).
 *
 * Whatever comes in is refused unless a route takes exactly it: the target is compared as received, so there is
 * no decoding, no normalising and no second meaning to a path.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { Exchanges } from '../link/exchanges.ts';
import type { Link, Listener } from '../link/link.ts';
import { HOST_SERVICE_PORT } from '../link/ports.ts';
import { DENY_LIST_MAX_BYTES } from '../shared/deny-list/deny-list.ts';
import { DEPLOYMENT_MAX_BYTES } from '../shared/deployment/deployment.ts';
import { TELEMETRY_MAX_BYTES } from '../shared/telemetry.ts';
import { type CredentialsProvider, encodeAwsCredentials } from './credentials/provider.ts';
import type { Egress } from './egress/tunnel.ts';
import { readBounded } from './files.ts';
import type { ModelStore } from './models/store.ts';
import type { Counters, Observe } from './observe.ts';
import { answerBytes, answerStatus, hasBody, readBody } from './routes/answer.ts';
import { parseModelPath, serveModelFile } from './routes/models.ts';
import { countTelemetry, parseTelemetry } from './routes/telemetry.ts';

export interface HostServiceLimits {
  readonly maxConnections: number;
  readonly headersTimeoutMs: number;
  readonly requestTimeoutMs: number;
  readonly keepAliveTimeoutMs: number;
}

export const HOST_SERVICE_LIMITS: HostServiceLimits = {
  maxConnections: 256,
  headersTimeoutMs: 10_000,
  requestTimeoutMs: 30_000,
  keepAliveTimeoutMs: 60_000,
};
const MAX_HEADER_BYTES = 8 * 1024;
const KNOWN = ['/deployment', '/deny-list', '/credentials'];

/** Read anew for every request, so that a reload changes the next answer and no running one. */
export interface HostServiceSources {
  readonly deploymentPath: string;
  /** Undefined if there is none. */
  readonly denyListPath?: string | undefined;
  readonly models: ModelStore;
  readonly credentials: CredentialsProvider;
}

export interface HostServiceOptions {
  readonly sources: () => HostServiceSources;
  readonly egress: Egress;
  readonly limits: HostServiceLimits;
  readonly counters: Counters;
  readonly observe: Observe;
}

export interface RunningHostService {
  /** Stops accepting and cuts what is open. */
  close(): Promise<void>;
}

export async function startHostService(link: Link, options: HostServiceOptions): Promise<RunningHostService> {
  const { counters, limits } = options;
  const server = createHttpServer(options);
  const open = new Set<Duplex>();

  function accept(connection: Duplex): void {
    if (open.size >= limits.maxConnections) {
      counters.add('host.refused.too-many');
      connection.destroy();
      return;
    }
    open.add(connection);
    connection.once('close', () => open.delete(connection));
    server.emit('connection', connection);
  }

  const listener: Listener = await link.listen(HOST_SERVICE_PORT, accept);
  return {
    close: async () => {
      await listener.close();
      server.close();
      for (const connection of open) connection.destroy();
    },
  };
}

function createHttpServer(options: HostServiceOptions): Server {
  const { limits, counters } = options;
  const server = createServer({
    maxHeaderSize: MAX_HEADER_BYTES,
    headersTimeout: limits.headersTimeoutMs,
    requestTimeout: limits.requestTimeoutMs,
    keepAliveTimeout: limits.keepAliveTimeoutMs,
    connectionsCheckingInterval: Math.min(1_000, limits.headersTimeoutMs),
    insecureHTTPParser: false,
  });
  const exchanges = new Exchanges(1);
  server.on('request', (request, response) => {
    if (!exchanges.begin(request.socket, response)) {
      counters.add('host.refused.malformed');
      return;
    }
    route(request, response, options).catch((error: unknown) => {
      counters.add('host.failed');
      options.observe({
        event: 'host-request-failed',
        path: (request.url ?? '').slice(0, 200),
        error: codeOf(error),
      });
      answerStatus(response, 500);
    });
  });
  server.on('connect', (request: IncomingMessage, connection: Duplex, head: Buffer) => {
    if (exchanges.begin(connection)) void options.egress.connect(request, connection, head);
    else counters.add('host.refused.malformed');
  });
  server.on('clientError', (error, connection) => {
    // Not HTTP, or not in time; a connection that broke comes here too.
    if (/^(HPE|ERR_HTTP)_/.test(codeOf(error))) counters.add('host.refused.malformed');
    if (connection.writable)
      connection.write('HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
    connection.destroy();
  });
  // node:http starts the timer behind headersTimeout and requestTimeout on 'listening', which a server whose
  // connections come from elsewhere never emits by itself.
  server.emit('listening');
  return server;
}

async function route(
  request: IncomingMessage,
  response: ServerResponse,
  options: HostServiceOptions,
): Promise<void> {
  const { counters } = options;
  const sources = options.sources();
  const path = request.url ?? '';
  response.sendDate = false;

  if (request.httpVersion !== '1.1') return answerStatus(response, 400, { connection: 'close' });
  if (path === '/telemetry') {
    if (request.method !== 'POST') return answerStatus(response, 405, { allow: 'POST' });
    return takeTelemetry(request, response, options);
  }
  const model = parseModelPath(path);
  const known = model !== undefined || KNOWN.includes(path);
  if (!known) {
    counters.add('host.refused.not-found');
    return answerStatus(response, 404, { connection: 'close' });
  }
  if (request.method !== 'GET') return answerStatus(response, 405, { allow: 'GET', connection: 'close' });
  if (hasBody(request)) return answerStatus(response, 400, { connection: 'close' });

  if (model !== undefined) {
    counters.add('host.models');
    return serveModelFile(model, request, response, { ...options, store: sources.models });
  }
  if (path === '/deployment') {
    counters.add('host.deployment');
    const bytes = await readBounded(sources.deploymentPath, DEPLOYMENT_MAX_BYTES);
    return bytes === undefined ? answerStatus(response, 500) : answerBytes(response, bytes);
  }
  if (path === '/deny-list') {
    counters.add('host.deny-list');
    if (sources.denyListPath === undefined) return answerStatus(response, 404);
    const bytes = await readBounded(sources.denyListPath, DENY_LIST_MAX_BYTES);
    return bytes === undefined ? answerStatus(response, 500) : answerBytes(response, bytes);
  }
  counters.add('host.credentials');
  return answerBytes(response, encodeAwsCredentials(await sources.credentials.provide()));
}

async function takeTelemetry(
  request: IncomingMessage,
  response: ServerResponse,
  { counters, observe }: HostServiceOptions,
): Promise<void> {
  const body = await readBody(request, TELEMETRY_MAX_BYTES);
  if (body === undefined) return answerStatus(response, 413, { connection: 'close' });
  const lines = parseTelemetry(body);
  if (lines === undefined) {
    counters.add('telemetry.refused');
    return answerStatus(response, 400);
  }
  for (const line of lines) {
    countTelemetry(counters, line);
    observe({ ...line.fields, event: `enclave-${line.event}` });
  }
  answerStatus(response, 200);
}

/** What an operator's log may show of an error: its code, never its text. */
function codeOf(error: unknown): string {
  if (error instanceof Error && 'code' in error) return String(error.code);
  return error instanceof Error ? error.name : 'unknown';
}
