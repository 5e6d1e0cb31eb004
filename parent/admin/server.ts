/**
 * Health and metrics for the operator, on loopback (docs/link.md section 7). It changes nothing and says nothing
 * that the host does not know; bounds and the Host check keep a web page in somebody's browser, and any other
 * local program, from more than reading it.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Exchanges } from '../../link/exchanges.ts';
import type { AdminConfig } from '../config/admin.ts';
import { ParentError } from '../errors.ts';
import { isLoopbackAddress } from '../loopback.ts';
import { hasBody } from '../routes/answer.ts';
import { createMetrics, type Metrics } from './metrics.ts';
import type { AdminSources } from './sources.ts';

const MAX_HEADER_BYTES = 8 * 1024;
const MAX_CONNECTIONS = 32;
const HEADERS_TIMEOUT_MS = 5_000;
const REQUEST_TIMEOUT_MS = 10_000;
const KEEP_ALIVE_TIMEOUT_MS = 5_000;
const PROBE_TIMEOUT_MS = 2_000;

export interface RunningAdmin {
  readonly address: AddressInfo;
  /** Stops listening and cuts what is open. */
  close(): Promise<void>;
}

/** Throws ParentError `PARENT_LISTEN_FAILED`. */
export async function startAdmin(config: AdminConfig, sources: AdminSources): Promise<RunningAdmin> {
  const metrics = createMetrics();
  const live = sharedProbe(sources);
  const exchanges = new Exchanges(1);
  const server = createServer(
    {
      maxHeaderSize: MAX_HEADER_BYTES,
      headersTimeout: HEADERS_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
      connectionsCheckingInterval: 1_000,
      insecureHTTPParser: false,
    },
    (request, response) => {
      if (!exchanges.begin(request.socket, response)) return;
      answer(request, { sources, live, metrics }).then(
        (found) => send(request, response, found),
        () => send(request, response, text(500, 'The parent could not tell.\n')),
      );
    },
  );
  server.maxConnections = MAX_CONNECTIONS;
  await listen(server, config);
  return {
    address: server.address() as AddressInfo,
    close: async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
    },
  };
}

interface Answer {
  readonly status: number;
  readonly type: string;
  readonly body: string;
  readonly headers?: Readonly<Record<string, string>>;
}

interface Context {
  readonly sources: AdminSources;
  readonly live: () => Promise<boolean>;
  readonly metrics: Metrics;
}

async function answer(request: IncomingMessage, { sources, live, metrics }: Context): Promise<Answer> {
  if (!isForLoopback(request)) return text(421, 'Ask for a loopback address or localhost.\n');
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    return { ...text(405, 'GET and HEAD only.\n'), headers: { allow: 'GET, HEAD' } };
  }
  if (hasBody(request)) return text(400, 'A request here has no body.\n');
  switch (request.url) {
    case '/healthz':
      return json(200, { healthy: true });
    case '/readyz': {
      const reason = await notReady(sources, live);
      return reason === undefined ? json(200, { ready: true }) : json(503, { ready: false, reason });
    }
    case '/metrics': {
      const input = {
        live: await live(),
        counters: sources.counters(),
        state: sources.state(),
        nowMs: Date.now(),
      };
      return { status: 200, type: metrics.contentType, body: await metrics.text(input) };
    }
    default:
      return text(404, 'There are /healthz, /readyz and /metrics.\n');
  }
}

/** Why callers cannot be served now, as a word; undefined when they can. */
async function notReady(sources: AdminSources, live: Context['live']): Promise<string | undefined> {
  const { accepting, draining, enclave } = sources.state();
  if (draining) return 'draining';
  if (!accepting) return 'not-accepting';
  if (enclave !== 'running' && enclave !== 'unmanaged') return `enclave-${enclave}`;
  if (!(await live())) return 'enclave-not-live';
  return sources.state().draining ? 'draining' : undefined;
}

/** However many ask, the enclave is asked once at a time, and nobody waits longer than the deadline. */
function sharedProbe(sources: AdminSources): () => Promise<boolean> {
  let running: Promise<boolean> | undefined;
  return () => {
    running ??= sources
      .live()
      .catch(() => false)
      .finally(() => {
        running = undefined;
      });
    const late = Promise.withResolvers<boolean>();
    const timer = setTimeout(() => late.resolve(false), PROBE_TIMEOUT_MS);
    return Promise.race([running, late.promise]).finally(() => clearTimeout(timer));
  };
}

const HOST = /^(?:\[([0-9a-fA-F:]+)\]|([0-9A-Za-z.-]+))(?::[0-9]{1,5})?$/;

/**
 * A name that somebody else's DNS points to 127.0.0.1 makes a browser send that name here ("DNS rebinding").
 * The port is left alone: behind a tunnel it is another one.
 */
function isForLoopback(request: IncomingMessage): boolean {
  const hosts = request.headersDistinct.host ?? [];
  const parts = HOST.exec(hosts[0] ?? '');
  if (hosts.length !== 1 || parts === null) return false;
  const name = parts[1] ?? parts[2] ?? '';
  return name.toLowerCase() === 'localhost' || isLoopbackAddress(name);
}

function send(request: IncomingMessage, response: ServerResponse, found: Answer): void {
  const refused = found.status >= 400 && found.status !== 503;
  response.writeHead(found.status, {
    ...found.headers,
    'content-type': found.type,
    'content-length': Buffer.byteLength(found.body),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    'cross-origin-resource-policy': 'same-origin',
    ...(refused ? { connection: 'close' } : {}),
  });
  response.end(request.method === 'HEAD' ? undefined : found.body);
}

function text(status: number, body: string): Answer {
  return { status, type: 'text/plain; charset=utf-8', body };
}

function json(status: number, body: object): Answer {
  return { status, type: 'application/json', body: `${JSON.stringify(body)}\n` };
}

async function listen(server: Server, { host, port }: AdminConfig): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => {
      const found = `Cannot listen for health and metrics on ${host} port ${port}: ${error.message}`;
      reject(new ParentError('PARENT_LISTEN_FAILED', found, error));
    });
    server.listen({ host, port, backlog: MAX_CONNECTIONS }, resolve);
  });
  // A failed accept (too many open files) loses that one connection and must not end the process.
  server.on('error', () => {});
}
