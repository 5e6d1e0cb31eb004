import type { TLSSocket } from 'node:tls';
import { type buildConnector, Dispatcher, Pool, fetch as undiciFetch } from 'undici';
import { StrongroomError } from '../shared/errors.ts';
import { ClientError } from './errors.ts';
import { VerifiedConnection } from './verified-connection.ts';
import type { EnclaveEvidence } from './verify-evidence.ts';

/** After this time a connection is replaced by a new one, and so by new evidence, before its next request. */
const CONNECTION_LIFE_MS = 60 * 60 * 1000;
const KEEP_ALIVE_MS = 60_000;
/** Each costs the enclave a request to its NSM, which serves one at a time. */
const CONNECTIONS_MAX = 16;

/** A verified enclave. Its `fetch` and `dispatcher` reach it and nothing else, over verified connections only. */
export class VerifiedEnclave {
  /** For undici's functions and everything that takes an undici dispatcher. */
  readonly dispatcher: Dispatcher;
  readonly #bound: BoundDispatcher;
  readonly #origin: URL;

  constructor(origin: URL, first: VerifiedConnection, open: () => Promise<VerifiedConnection>) {
    this.#origin = origin;
    this.#bound = new BoundDispatcher(origin, first, open);
    this.dispatcher = this.#bound;
  }

  /** What was verified about the connection that was opened last. */
  get evidence(): EnclaveEvidence {
    return this.#bound.evidence;
  }

  /**
   * The standard `fetch`; a path such as `/v2/models/iris` is enough of a URL. Rejects with ClientError
   * `CLIENT_OTHER_ORIGIN` for another server, also where a redirect leads there, `CLIENT_ANSWER_LOST` when the
   * connection ends before an answer comes, and with the verifier's errors when a new connection does not pass.
   */
  readonly fetch: typeof globalThis.fetch = async (input, init) => {
    try {
      const [url, request] = typeof input === 'object' && 'url' in input ? [input.url, input] : [input, {}];
      const { method, headers, body, signal, redirect } = request as Request;
      const taken = { method, headers, body, signal, redirect, ...(body ? { duplex: 'half' } : {}) };
      const options = { ...withoutMissing(taken), ...init, dispatcher: this.dispatcher };
      const response = await undiciFetch(
        new URL(url, this.#origin),
        options as Parameters<typeof undiciFetch>[1],
      );
      return response as unknown as Response;
    } catch (error) {
      throw error instanceof TypeError ? explained(error) : error;
    }
  };

  /** Waits for requests under way, then closes every connection. */
  async close(): Promise<void> {
    await this.#bound.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** What undici calls "fetch failed": ours as it stands, and a verified connection that ended by its name. */
function explained(error: TypeError): Error {
  const { cause } = error;
  if (cause instanceof StrongroomError) return cause;
  const { code = '' } = (cause ?? {}) as { code?: string };
  return ['UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE'].includes(code)
    ? new ClientError('CLIENT_ANSWER_LOST', `The connection ended: ${(cause as Error).message}.`, cause)
    : error;
}

function withoutMissing(members: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(members).filter(([, value]) => value !== undefined && value !== null),
  );
}

/**
 * A pool of connections to one origin. undici's own pool sends whatever it is given to its one origin, and its
 * agent opens a pool for any origin; this one refuses everything but its own.
 */
class BoundDispatcher extends Dispatcher {
  readonly #origin: string;
  readonly #pool: Pool;
  readonly #open: () => Promise<VerifiedConnection>;
  #waiting: VerifiedConnection | undefined;
  #evidence: EnclaveEvidence;

  constructor(origin: URL, first: VerifiedConnection, open: () => Promise<VerifiedConnection>) {
    super();
    this.#origin = origin.origin;
    this.#open = open;
    this.#waiting = first;
    this.#evidence = first.evidence;
    this.#pool = new Pool(origin, {
      // undici asks this for a socket whenever it needs one; it has no other way to get one.
      connect: (_options, callback) => {
        this.#nextConnection().then(
          (connection) => handOver(connection, callback),
          (error: Error) => callback(error, null),
        );
      },
      connections: CONNECTIONS_MAX,
      allowH2: false,
      useMilo: false,
      clientTtl: CONNECTION_LIFE_MS,
      keepAliveTimeout: KEEP_ALIVE_MS,
    });
  }

  get evidence(): EnclaveEvidence {
    return this.#evidence;
  }

  /** The connection that `connect` verified if it is still good, else a new one that passes the same checks. */
  async #nextConnection(): Promise<VerifiedConnection> {
    const kept = this.#waiting;
    this.#waiting = undefined;
    if (kept?.alive) return kept;
    kept?.destroy();
    const connection = await this.#open();
    this.#evidence = connection.evidence;
    return connection;
  }

  override dispatch(options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): boolean {
    const { origin = this.#origin } = options;
    if (new URL(origin).origin !== this.#origin) {
      throw new ClientError(
        'CLIENT_OTHER_ORIGIN',
        `Expected a request to ${this.#origin}, found one to ${new URL(origin).origin}.`,
      );
    }
    return this.#pool.dispatch(options, handler);
  }

  override close(): Promise<void>;
  override close(callback: () => void): void;
  override close(callback?: () => void): Promise<void> | undefined {
    this.#forgetWaiting();
    const closed = this.#pool.closed || this.#pool.destroyed ? Promise.resolve() : this.#pool.close();
    if (callback === undefined) return closed;
    closed.then(callback, callback);
    return undefined;
  }

  override destroy(error?: Error | null | (() => void), callback?: () => void): Promise<void> {
    this.#forgetWaiting();
    const done = typeof error === 'function' ? error : callback;
    const destroyed = this.#pool.destroy(typeof error === 'function' ? null : (error ?? null));
    return done === undefined ? destroyed : destroyed.then(done, done);
  }

  #forgetWaiting(): void {
    this.#waiting?.destroy();
    this.#waiting = undefined;
  }
}

/** Within one turn of the event loop: nothing can arrive between the guard of the socket and undici's parser. */
function handOver(connection: VerifiedConnection, callback: buildConnector.Callback): void {
  let socket: TLSSocket;
  try {
    socket = VerifiedConnection.takeSocket(connection);
  } catch (error) {
    callback(error as Error, null);
    return;
  }
  callback(null, socket);
}
