import type { TLSSocket } from 'node:tls';
import { type buildConnector, Client, type Dispatcher } from 'undici';
import { NOTHING_SENT } from './answer-guard.ts';
import { VerifiedConnection } from './verified-connection.ts';

/** An enclave closes a connection that is idle for 30 s (docs/serving.md section 5); sooner here, so that no request meets that. */
const KEEP_ALIVE_MS = 20_000;

export interface PooledConnectionEvents {
  /** It may carry the next request. */
  onIdle(): void;
  onEnd(): void;
}

/**
 * One verified connection that carries one request at a time, until it is retired. undici's client speaks HTTP on it,
 * and has no other: it is given one socket, once, so it can neither reconnect nor send anything a second time.
 */
export class PooledConnection {
  readonly #verified: VerifiedConnection;
  readonly #client: Client;
  readonly #events: PooledConnectionEvents;
  readonly #life: NodeJS.Timeout;
  #state: 'fresh' | 'idle' | 'busy' | 'ended' = 'fresh';
  #retired = false;

  constructor(origin: URL, verified: VerifiedConnection, lifeMs: number, events: PooledConnectionEvents) {
    this.#verified = verified;
    this.#events = events;
    this.#client = new Client(origin, {
      connect: (_options, callback) => queueMicrotask(() => handOver(verified, callback)),
      pipelining: 1,
      allowH2: false,
      useMilo: false,
      keepAliveTimeout: KEEP_ALIVE_MS,
      keepAliveMaxTimeout: KEEP_ALIVE_MS,
    });
    this.#client.on('drain', () => this.#done());
    this.#client.on('disconnect', () => this.destroy());
    this.#client.on('connectionError', () => this.destroy());
    this.#life = setTimeout(() => this.retire(), lifeMs).unref();
  }

  /** True if it ended, or the server spoke out of turn, before it carried anything. */
  get lost(): boolean {
    return this.#state === 'fresh' && !this.#verified.alive;
  }

  /** True if a request given to it now would be sent at once. */
  get usable(): boolean {
    if (this.#retired) return false;
    return this.#state === 'fresh' ? this.#verified.alive : this.#state === 'idle';
  }

  carry(options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): void {
    this.#state = 'busy';
    const free = this.#client.dispatch(options, handler);
    // Nothing is under way if undici refused the request; otherwise it tells when the answer has ended.
    if (free || this.#client.stats.size === 0) queueMicrotask(() => this.#done());
  }

  /** Carries no further request, and ends when the one under way has its answer. */
  retire(): void {
    this.#retired = true;
    if (this.#state !== 'busy') this.destroy();
  }

  destroy(reason: Error = NOTHING_SENT): void {
    if (this.#state === 'ended') return;
    this.#state = 'ended';
    clearTimeout(this.#life);
    this.#verified.destroy();
    void this.#client.destroy(reason).then(() => this.#events.onEnd());
  }

  #done(): void {
    if (this.#state !== 'busy' || this.#client.stats.size > 0) return;
    this.#state = 'idle';
    if (this.#retired) this.destroy();
    else this.#events.onIdle();
  }
}

/** Within one turn of the event loop: nothing can arrive between the guard of the socket and undici's parser. */
function handOver(connection: VerifiedConnection, callback: buildConnector.Callback): void {
  let socket: TLSSocket;
  try {
    socket = VerifiedConnection.takeSocket(connection);
  } catch {
    callback(NOTHING_SENT, null);
    return;
  }
  callback(null, socket);
}
