import { setMaxListeners } from 'node:events';
import { Dispatcher, Dispatcher1Wrapper } from 'undici';
import { codeOf } from '../shared/errors.ts';
import { AnswerGuard } from './answer-guard.ts';
import { type ClientCertificateSource, loadClientCertificate } from './client-certificate.ts';
import { ClientError } from './errors.ts';
import { type CheckedExpectations, type ClientExpectations, checkExpectations } from './expectations.ts';
import { parseOrigin } from './origin.ts';
import { PooledConnection } from './pooled-connection.ts';
import { VerifiedConnection } from './verified-connection.ts';
import type { EnclaveEvidence } from './verify-evidence.ts';

export interface AgentOptions {
  /** The time at which certificates and evidence must be valid. */
  readonly now?: () => Date;
  /** For connecting, shaking hands and obtaining evidence together; 10 seconds unless given. */
  readonly timeoutMs?: number;
  /** After this time a connection carries no further request: the next one is verified anew. An hour unless given, at most a day. */
  readonly reverifyAfterMs?: number;
  /** How many connections may be open at once, 1 to 256; 16 unless given. Each costs the enclave one piece of evidence. */
  readonly connections?: number;
  /** For enclaves that admit only some callers; read anew for each connection. */
  readonly clientCertificate?: ClientCertificateSource;
  /** Called with what was verified, for each connection, before it is used; what it throws refuses the connection. */
  readonly onVerified?: (evidence: EnclaveEvidence) => void;
}

type CheckedOptions = Required<Omit<AgentOptions, 'clientCertificate'>> &
  Pick<AgentOptions, 'clientCertificate'>;

const DAY_MS = 24 * 60 * 60 * 1000;
/** How long at most a pool that has connections goes on with them alone after the enclave said that it is busy. */
const BUSY_PAUSE_MAX_SECONDS = 30;

interface Waiting {
  readonly options: Dispatcher.DispatchOptions;
  readonly handler: Dispatcher.DispatchHandler;
}

/**
 * An undici dispatcher that reaches one enclave and nothing else, over connections that were verified before a byte of
 * a request was sent: a pool of them, bounded, each replaced by a newly verified one after a time.
 *
 * A request is sent once. If its connection ends before any of it was sent, it goes over another one, once; otherwise
 * whoever asked is told, because whether it was computed is not known.
 */
export class VerifiedAgent extends Dispatcher {
  readonly #origin: URL;
  readonly #expected: CheckedExpectations;
  readonly #options: CheckedOptions;
  readonly #connections = new Set<PooledConnection>();
  readonly #waiting: Waiting[] = [];
  readonly #stopped = new AbortController();
  #opening = 0;
  #busyUntilMs = 0;
  #needsDrain = false;
  #closing: PromiseWithResolvers<void> | undefined;
  #evidence: EnclaveEvidence | undefined;
  /** Of every enclave that was verified: behind one address there can be several, and one after another. */
  readonly #receiptKeys = new Set<string>();

  /** Throws ClientError `CLIENT_URL`, `CLIENT_EXPECTATIONS` or `CLIENT_OPTIONS`; opens no connection yet. */
  constructor(url: string | URL, expectations: ClientExpectations, options: AgentOptions = {}) {
    super();
    this.#origin = parseOrigin(url);
    this.#expected = checkExpectations(expectations);
    this.#options = checkOptions(options);
    // One for each connection that is being opened or waits for its first request.
    setMaxListeners(0, this.#stopped.signal);
  }

  get origin(): string {
    return this.#origin.origin;
  }

  /** What was verified about the connection that was opened last; undefined before the first. */
  get evidence(): EnclaveEvidence | undefined {
    return this.#evidence;
  }

  /** Whether evidence that was verified named this key, SubjectPublicKeyInfo in DER, for receipts. */
  hasReceiptKey(spki: Uint8Array): boolean {
    return this.#receiptKeys.has(Buffer.from(spki).toString('hex'));
  }

  /**
   * Verifies the enclave now, over a new connection, which then serves requests; connections opened before carry no
   * further ones. Rejects with ClientError, AttestationError, EvidenceError or CodecError, or with the signal's reason;
   * connections opened before then stay in use.
   */
  async verify({ signal }: { readonly signal?: AbortSignal } = {}): Promise<EnclaveEvidence> {
    if (this.#closing !== undefined) throw closed();
    const before = [...this.#connections];
    const evidence = await this.#open(signal);
    for (const connection of before) connection.retire();
    this.#advance();
    return evidence;
  }

  override dispatch(options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): boolean {
    // The fetch of Node 22 itself speaks to dispatchers in undici's older way.
    if (!('onRequestStart' in handler)) return new Dispatcher1Wrapper(this).dispatch(options, handler);
    this.#expectOwnOrigin(options.origin);
    if (this.#closing !== undefined) {
      handler.onResponseError?.(null as never, closed());
      return false;
    }
    this.#wait(options, handler, 1);
    this.#advance();
    this.#needsDrain = this.#waiting.length > 0;
    return !this.#needsDrain;
  }

  /** Waits for requests under way, then ends every connection. */
  override close(): Promise<void>;
  override close(callback: () => void): void;
  override close(callback?: () => void): Promise<void> | undefined {
    this.#closing ??= Promise.withResolvers();
    this.#advance();
    if (callback === undefined) return this.#closing.promise;
    this.#closing.promise.then(callback, callback);
    return undefined;
  }

  /** Ends every connection at once; requests under way fail with `error`. */
  override destroy(error?: Error | null | (() => void), callback?: () => void): Promise<void> {
    const done = typeof error === 'function' ? error : callback;
    const reason = error instanceof Error ? error : closed();
    this.#closing ??= Promise.withResolvers();
    this.#stopped.abort(reason);
    for (const { handler } of this.#waiting.splice(0)) handler.onResponseError?.(null as never, reason);
    for (const connection of this.#connections) connection.destroy(reason);
    this.#advance();
    return done === undefined ? this.#closing.promise : this.#closing.promise.then(done, done);
  }

  #wait(
    options: Dispatcher.DispatchOptions,
    handler: Dispatcher.DispatchHandler,
    furtherAttempts: number,
  ): void {
    const again = (): boolean => {
      if (furtherAttempts === 0 || this.#stopped.signal.aborted) return false;
      this.#wait(options, handler, furtherAttempts - 1);
      return true;
    };
    this.#waiting.push({ options, handler: new AnswerGuard(handler, options.method, again) });
  }

  /** Gives waiting requests to connections that can take them, and opens connections for the others. */
  readonly #advance = (): void => {
    for (const connection of this.#connections) {
      if (this.#waiting.length === 0) break;
      if (connection.lost) connection.destroy();
      else if (connection.usable) {
        const { options, handler } = this.#waiting.shift() as Waiting;
        connection.carry(options, handler);
      }
    }
    const room = this.#options.connections - this.#connections.size - this.#opening;
    const short = this.#waiting.length - this.#opening;
    if (!this.#waitsOutBusy()) for (let i = 0; i < Math.min(room, short); i++) void this.#openForWaiting();
    if (this.#needsDrain && this.#waiting.length === 0) {
      this.#needsDrain = false;
      this.emit('drain', this.#origin);
    }
    if (this.#closing !== undefined && this.#waiting.length === 0) this.#end(this.#closing);
  };

  #waitsOutBusy(): boolean {
    return this.#connections.size > 0 && performance.now() < this.#busyUntilMs;
  }

  async #openForWaiting(): Promise<void> {
    try {
      await this.#open(undefined);
    } catch (error) {
      if (codeOf(error) === 'CLIENT_BUSY' && this.#connections.size > 0) {
        this.#pause((error as ClientError).retryAfterSeconds);
      } else {
        this.#waiting.shift()?.handler.onResponseError?.(null as never, error as Error);
      }
    }
    this.#advance();
  }

  /** The open connections go on; no other is opened for a while. */
  #pause(seconds = 1): void {
    const pauseMs = Math.min(Math.max(seconds, 1), BUSY_PAUSE_MAX_SECONDS) * 1000;
    this.#busyUntilMs = performance.now() + pauseMs;
    setTimeout(this.#advance, pauseMs + 1).unref();
  }

  async #open(signal: AbortSignal | undefined): Promise<EnclaveEvidence> {
    this.#opening++;
    try {
      const { now, timeoutMs, reverifyAfterMs, clientCertificate, onVerified } = this.#options;
      const stopped = this.#stopped.signal;
      const shown =
        clientCertificate === undefined ? undefined : await loadClientCertificate(clientCertificate, now());
      const verified = await VerifiedConnection.open(this.#origin, this.#expected, {
        now,
        timeoutMs,
        clientCertificate: shown,
        signal: signal === undefined ? stopped : AbortSignal.any([signal, stopped]),
      });
      try {
        onVerified(verified.evidence);
      } catch (error) {
        verified.destroy();
        throw error;
      }
      this.#evidence = verified.evidence;
      this.#receiptKeys.add(verified.evidence.receiptKey);
      const certificateMs =
        shown === undefined ? reverifyAfterMs : shown.notAfter.getTime() - now().getTime();
      const connection = new PooledConnection(
        this.#origin,
        verified,
        Math.min(reverifyAfterMs, certificateMs),
        {
          onIdle: this.#advance,
          onEnd: () => {
            this.#connections.delete(connection);
            this.#advance();
          },
        },
      );
      this.#connections.add(connection);
      return verified.evidence;
    } finally {
      this.#opening--;
    }
  }

  #end(closing: PromiseWithResolvers<void>): void {
    for (const connection of this.#connections) connection.retire();
    if (this.#connections.size === 0 && this.#opening === 0) closing.resolve();
  }

  #expectOwnOrigin(origin: string | URL | undefined): void {
    if (origin === undefined || origin === this.#origin.origin) return;
    const found = new URL(origin).origin;
    if (found === this.#origin.origin) return;
    throw new ClientError(
      'CLIENT_OTHER_ORIGIN',
      `Expected a request to ${this.#origin.origin}, found one to ${found}.`,
    );
  }
}

function checkOptions(options: AgentOptions): CheckedOptions {
  const {
    now = () => new Date(),
    timeoutMs = 10_000,
    reverifyAfterMs = 60 * 60 * 1000,
    connections = 16,
    clientCertificate,
    onVerified = () => {},
  } = options;
  expectWithin('timeoutMs', timeoutMs, 1, DAY_MS);
  expectWithin('reverifyAfterMs', reverifyAfterMs, 1, DAY_MS);
  expectWithin('connections', connections, 1, 256);
  return {
    now,
    timeoutMs,
    reverifyAfterMs,
    connections,
    onVerified,
    ...(clientCertificate === undefined ? {} : { clientCertificate }),
  };
}

function expectWithin(name: string, value: number, min: number, max: number): void {
  if (Number.isSafeInteger(value) && value >= min && value <= max) return;
  throw new ClientError(
    'CLIENT_OPTIONS',
    `${name}: expected a whole number from ${min} to ${max}, found ${value}.`,
  );
}

function closed(): ClientError {
  return new ClientError('CLIENT_CLOSED', 'The client of this enclave was closed.');
}
