/**
 * The enclave's public face: TLS 1.3 that ends here, evidence first, then the inference protocols.
 *
 * A request climbs this ladder, and each rung has its refusal:
 *
 *     connection    too many: closed
 *     handshake     TLS 1.3 only, in time, else closed
 *     client        a certificate of a client that the deployment names, else 403 and closed, nothing read
 *     exchange      at most 16 open on a connection, else cut
 *     headers       in time and bounded (Node: 408, 431), a known path (404) and method (405)
 *     client        its certificate still valid and not denied (403), within its own limits (429)
 *     evidence      this connection asked for it and got it, else 403; health checks alone go without
 *     body          type (415), size (413, before it is read), in time (408)
 *     content       every field understood and fitting the model (400)
 *     turn          a bounded queue (503, Retry-After)
 *     engine        running (503), and content with the inputs (400)
 *
 * This file has it up to the exchange, dispatch.ts up to the evidence, and the rest is each protocol's.
 */
import {
  createServer,
  type Server as HttpServer,
  type IncomingMessage,
  type ServerResponse,
} from 'node:http';
import type { Duplex } from 'node:stream';
import type { TLSSocket, Server as TlsServer } from 'node:tls';
import { Exchanges } from '../../link/exchanges.ts';
import type { Listener } from '../../link/link.ts';
import type { DurationClass } from '../../shared/telemetry.ts';
import { type Door, doorForAnyone } from '../clients/door.ts';
import { refuseConnection } from '../clients/refuse.ts';
import type { EvidenceIssuer } from '../evidence.ts';
import type { ModelSet } from '../models/model-set.ts';
import type { ModelRegistry } from '../models/registry.ts';
import type { ReceiptIssuer } from '../receipts.ts';
import type { TlsIdentity } from '../tls-identity.ts';
import { Dispatcher } from './dispatch.ts';
import { type ApiLimits, DEADLINES, type Deadlines, MAX_HEADER_BYTES } from './limits.ts';
import type { RouteKind } from './routes.ts';
import { createTls } from './tls.ts';

/** All that anybody but the caller learns of a request. */
export interface RequestEvent {
  readonly route: RouteKind | 'handshake' | 'unknown';
  /** HTTP status; 0 if the connection ended before there was an answer. */
  readonly status: number;
  readonly duration: DurationClass;
}

export interface ServerOptions {
  readonly listen: (onConnection: (connection: Duplex) => void) => Promise<Listener>;
  readonly identity: TlsIdentity;
  readonly evidence: EvidenceIssuer<ModelSet>;
  readonly receipts: ReceiptIssuer;
  readonly models: ModelRegistry;
  readonly limits: ApiLimits;
  /** Enclave time. */
  readonly now: () => Date;
  readonly observe: (event: RequestEvent) => void;
  /** Anyone may come in if absent. */
  readonly door?: Door;
  /** For tests. */
  readonly deadlines?: Partial<Deadlines>;
}

export interface Server {
  /** Whether new inferences are taken. */
  readonly ready: boolean;
  readonly connections: number;
  /**
   * Stops accepting, refuses new inferences, finishes the ones at work, then closes; cuts at the deadline. The
   * engines end with it, and their copies of the weights.
   */
  drain(timeoutMs?: number): Promise<void>;
}

export async function startServer(options: ServerOptions): Promise<Server> {
  const server = new EnclaveServer(options);
  await server.start();
  return server;
}

/**
 * On one connection. A client that waits for its answer can send the next request before this side has noticed that
 * the answer left, and some pipeline; many more at once is a client that does not read.
 */
const OPEN_EXCHANGES = 16;

/** How long a closed connection may still take what was sent to it. */
const CLOSE_GRACE_MS = 250;

class EnclaveServer implements Server {
  readonly #options: ServerOptions;
  readonly #deadlines: Deadlines;
  readonly #door: Door;
  readonly #dispatcher: Dispatcher;
  readonly #tls: TlsServer;
  readonly #http: HttpServer;
  readonly #connections = new Set<Duplex>();
  #listener: Listener | undefined;
  #draining: Promise<void> | undefined;

  constructor(options: ServerOptions) {
    this.#options = options;
    this.#deadlines = { ...DEADLINES, ...options.deadlines };
    this.#door = options.door ?? doorForAnyone();
    this.#dispatcher = new Dispatcher({ ...options, door: this.#door }, this.#deadlines);
    this.#http = this.#createHttp();
    this.#tls = createTls(
      { identity: options.identity, clientCa: this.#door.clientCa, handshakeMs: this.#deadlines.handshakeMs },
      {
        onSecure: (socket) => this.#enter(socket),
        onFailure: () => options.observe({ route: 'handshake', status: 0, duration: 'under-10ms' }),
      },
    );
  }

  get ready(): boolean {
    return this.#dispatcher.ready;
  }

  get connections(): number {
    return this.#connections.size;
  }

  async start(): Promise<void> {
    // This server is handed its connections and never listens, but only then does Node watch its deadlines.
    this.#http.emit('listening');
    this.#listener = await this.#options.listen((connection) => this.#accept(connection));
  }

  drain(timeoutMs = this.#deadlines.drainMs): Promise<void> {
    this.#draining ??= this.#drain(timeoutMs);
    return this.#draining;
  }

  async #drain(timeoutMs: number): Promise<void> {
    const finished = this.#dispatcher.drain();
    await this.#listener?.close();
    const deadline = Promise.withResolvers<void>();
    const timer = setTimeout(deadline.resolve, timeoutMs);
    await Promise.race([finished, deadline.promise]);
    clearTimeout(timer);
    this.#http.close();
    for (const connection of this.#connections) {
      connection.end();
      setTimeout(() => connection.destroy(), CLOSE_GRACE_MS).unref();
    }
    await this.#options.models.close();
  }

  #accept(connection: Duplex): void {
    connection.on('error', () => connection.destroy());
    if (this.#draining !== undefined || this.#connections.size >= this.#options.limits.connections) {
      connection.destroy();
      return;
    }
    // As in Node's own HTTPS server. Else TLS would not notice that a client left before its handshake was done, and
    // would keep the place and some 120 KiB until the deadline.
    connection.allowHalfOpen = false;
    this.#connections.add(connection);
    connection.once('close', () => this.#connections.delete(connection));
    this.#tls.emit('connection', connection);
  }

  #enter(socket: TLSSocket): void {
    const refusal = this.#door.enter(socket);
    if (refusal === undefined) {
      this.#http.emit('connection', socket);
      return;
    }
    refuseConnection(socket, refusal, this.#deadlines.headersMs);
    this.#options.observe({ route: 'handshake', status: refusal.status, duration: 'under-10ms' });
  }

  #createHttp(): HttpServer {
    const server = createServer({
      maxHeaderSize: MAX_HEADER_BYTES,
      headersTimeout: this.#deadlines.headersMs,
      requestTimeout: this.#deadlines.requestMs,
      keepAliveTimeout: this.#deadlines.idleMs,
      connectionsCheckingInterval: Math.min(1_000, this.#deadlines.headersMs / 2),
    });
    const exchanges = new Exchanges(OPEN_EXCHANGES);
    const serve = (request: IncomingMessage, response: ServerResponse, proceed: () => void): void => {
      if (exchanges.begin(request.socket, response)) {
        void this.#dispatcher.serve(request, response, proceed);
      }
    };
    server.on('request', (request, response) => serve(request, response, () => {}));
    server.on('checkContinue', (request, response) => {
      serve(request, response, () => response.writeContinue());
    });
    // Else Node answers by itself, without evidence and without a bound on how many.
    server.on('checkExpectation', (request, response) => serve(request, response, () => {}));
    // Upgrades and CONNECT have no listeners: Node refuses them.
    return server;
  }
}
