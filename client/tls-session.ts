/**
 * One TLS 1.3 connection before it is trusted. It sends one request and reads one response; from then on a
 * single byte from the server ends it, until somebody takes the socket over.
 *
 * Node's own certificate check is off, on purpose: no CA vouches for an enclave. What takes its place is not a
 * callback of the handshake (`checkServerIdentity` is skipped on resumed sessions and when the check is off)
 * but the evidence, which the caller of this file verifies before it takes the socket. Nothing is resumed: a
 * session that begins with somebody else's handshake proves nothing about this one.
 */
import { createHash } from 'node:crypto';
import net from 'node:net';
import tls from 'node:tls';
import { codeOf } from '../shared/errors.ts';
import { EXPORTER_BYTES, EXPORTER_LABEL } from '../shared/evidence/evidence.ts';
import { TLS_PROFILE } from '../shared/tls-profile.ts';
import type { ClientCertificate } from './client-certificate.ts';
import { ClientError } from './errors.ts';
import { ResponseReader } from './response-reader.ts';

export interface SessionSettings {
  /** For connection, handshake, request and response together. */
  readonly timeoutMs: number;
  readonly clientCertificate?: ClientCertificate | undefined;
  /** Ends the session, until its socket is released; what is awaited then rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

export class TlsSession {
  readonly #socket: tls.TLSSocket;
  #reader: ResponseReader | undefined;
  #settle: { resolve(body: Uint8Array): void; reject(error: Error): void } | undefined;
  #failure: Error | undefined;
  #released = false;
  readonly #deadline: NodeJS.Timeout;
  readonly #signal: AbortSignal | undefined;

  private constructor(socket: tls.TLSSocket, { timeoutMs, signal }: SessionSettings) {
    this.#socket = socket;
    this.#signal = signal;
    signal?.addEventListener('abort', this.#onAbort);
    this.#deadline = setTimeout(() => {
      this.#fail(new ClientError('CLIENT_TIMEOUT', `No evidence within ${timeoutMs} ms.`));
    }, timeoutMs);
    // Not 'data': a flowing socket could lose bytes between this reader and the next.
    socket.on('readable', this.#onReadable);
    socket.on('error', this.#onError);
    socket.on('end', this.#onClose);
    socket.on('close', this.#onClose);
  }

  /** Rejects with ClientError `CLIENT_UNREACHABLE`, `CLIENT_TLS` or `CLIENT_TIMEOUT`. */
  static async open(origin: URL, settings: SessionSettings): Promise<TlsSession> {
    settings.signal?.throwIfAborted();
    const { cert, key } = settings.clientCertificate ?? {};
    const host = origin.hostname.replace(/^\[|\]$/g, '');
    const socket = tls.connect({
      ...TLS_PROFILE,
      // The enclave has the choice among three; runtimes with an older OpenSSL do not know the first of them.
      ecdhCurve: 'auto',
      host,
      port: Number(origin.port || 443),
      ...(net.isIP(host) === 0 ? { servername: host } : {}),
      ALPNProtocols: ['http/1.1'],
      rejectUnauthorized: false,
      ca: [],
      ...(cert === undefined ? {} : { cert: cert as string, key: key as string }),
    });
    socket.setNoDelay(true);
    const session = new TlsSession(socket, settings);
    await session.#handshake();
    return session;
  }

  #handshake(): Promise<void> {
    let connected = false;
    this.#socket.once('connect', () => {
      connected = true;
    });
    return new Promise((resolve, reject) => {
      this.#settle = {
        resolve: () => resolve(),
        // An error here has no ClientError's code yet: which it gets depends on how far the connection came.
        reject: (error) => reject(early(error, connected)),
      };
      this.#socket.once('secureConnect', () => {
        if (this.#socket.getProtocol() !== 'TLSv1.3' || this.#socket.isSessionReused()) {
          this.#fail(new ClientError('CLIENT_TLS', 'Expected a full TLS 1.3 handshake, found another.'));
          return;
        }
        this.#settle = undefined;
        resolve();
      });
    });
  }

  /** What this session alone has: the value that both ends derive from it, and the key that the server proved. */
  facts(nonce: Uint8Array): { readonly exporter: Uint8Array; readonly spkiSha256: Uint8Array } {
    if (this.#failure !== undefined) throw this.#failure;
    const certificate = this.#socket.getPeerX509Certificate();
    if (certificate === undefined) throw new ClientError('CLIENT_TLS', 'The server showed no certificate.');
    const spki = certificate.publicKey.export({ type: 'spki', format: 'der' });
    return {
      exporter: this.#socket.exportKeyingMaterial(EXPORTER_BYTES, EXPORTER_LABEL, Buffer.from(nonce)),
      spkiSha256: createHash('sha256').update(spki).digest(),
    };
  }

  /** Sends the request and resolves to the body of its response. Rejects with ClientError. */
  ask(request: string): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
      if (this.#failure !== undefined) {
        reject(this.#failure);
        return;
      }
      this.#reader = new ResponseReader();
      this.#socket.write(request, 'latin1');
    });
  }

  /** The bytes that are already here surface within one turn of the event loop. Rejects if there are any. */
  async expectSilence(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    clearTimeout(this.#deadline);
    if (this.#failure !== undefined) throw this.#failure;
    // A connection that waits for its first request is no reason for the program to go on.
    this.#socket.unref();
  }

  get alive(): boolean {
    const open = this.#failure === undefined && !this.#released && !this.#socket.destroyed;
    return open && this.#socket.readableLength === 0;
  }

  /** The socket, once and for good. Throws ClientError if the session has ended or the server spoke out of turn. */
  release(): tls.TLSSocket {
    if (!this.alive) {
      this.destroy();
      throw this.#failure ?? new ClientError('CLIENT_CONNECTION_LOST', 'The connection is in use already.');
    }
    this.#released = true;
    clearTimeout(this.#deadline);
    this.#detach();
    this.#socket.ref();
    return this.#socket;
  }

  destroy(): void {
    this.#fail(new ClientError('CLIENT_CONNECTION_LOST', 'The connection was closed.'));
  }

  readonly #onReadable = (): void => {
    for (let chunk = this.#read(); chunk !== null; chunk = this.#read()) {
      try {
        if (this.#reader === undefined) {
          throw new ClientError('CLIENT_RESPONSE_EXTRA', 'The server spoke before it was asked anything.');
        }
        if (!this.#reader.push(chunk) || this.#settle === undefined) continue;
        this.#settle.resolve(this.#reader.body);
        this.#settle = undefined;
      } catch (error) {
        this.#fail(error as Error);
        return;
      }
    }
  };

  #read(): Buffer | null {
    return this.#socket.read() as Buffer | null;
  }

  readonly #onError = (cause: Error): void => {
    this.#fail(
      refusedCertificate(cause) ??
        new ClientError('CLIENT_CONNECTION_LOST', `The connection broke: ${cause.message}`, cause),
    );
  };

  readonly #onClose = (): void => {
    this.#fail(new ClientError('CLIENT_CONNECTION_LOST', 'The server closed the connection.'));
  };

  readonly #onAbort = (): void => {
    this.#fail(this.#signal?.reason);
  };

  #fail(error: Error): void {
    if (this.#failure !== undefined || this.#released) return;
    this.#failure = error;
    clearTimeout(this.#deadline);
    this.#detach();
    // A socket that is being torn down may still report errors, and nobody is left to act on them.
    this.#socket.on('error', () => {});
    this.#socket.destroy();
    this.#settle?.reject(error);
    this.#settle = undefined;
  }

  #detach(): void {
    this.#socket.off('readable', this.#onReadable);
    this.#socket.off('error', this.#onError);
    this.#socket.off('end', this.#onClose);
    this.#socket.off('close', this.#onClose);
    this.#signal?.removeEventListener('abort', this.#onAbort);
  }
}

/** All that a parent can do for its callers while there is no enclave is to reset them. */
const ENDED = ['ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'CLIENT_CONNECTION_LOST'];

function early(error: Error, connected: boolean): Error {
  if (codeOf(error) !== 'CLIENT_CONNECTION_LOST') return error;
  const cause = error.cause ?? error;
  if (!connected) {
    return new ClientError('CLIENT_UNREACHABLE', `No connection could be opened: ${error.message}`, cause);
  }
  return ENDED.includes((cause as { code?: string }).code ?? '')
    ? new ClientError('CLIENT_UNREACHABLE', `Nothing was said before the end: ${error.message}`, cause)
    : new ClientError('CLIENT_TLS', `The TLS handshake failed: ${error.message}`, cause);
}

const CERTIFICATE_ALERT =
  /ALERT_(?:BAD_CERTIFICATE|UNSUPPORTED_CERTIFICATE|CERTIFICATE_(?:REVOKED|EXPIRED|UNKNOWN)|UNKNOWN_CA|ACCESS_DENIED)$/;

/**
 * In TLS 1.3 a client's handshake ends before the server has looked at its certificate (RFC 8446 4.4.2.4), so a
 * refusal arrives later, as an alert where an answer was expected.
 */
function refusedCertificate(cause: Error): ClientError | undefined {
  const { code = '' } = cause as { code?: string };
  if (code.endsWith('ALERT_CERTIFICATE_REQUIRED')) {
    return new ClientError(
      'CLIENT_CERTIFICATE_REQUIRED',
      'The enclave asks for a client certificate.',
      cause,
    );
  }
  const alert = CERTIFICATE_ALERT.exec(code)?.[0].replaceAll('_', ' ').toLowerCase();
  if (alert === undefined) return undefined;
  return new ClientError(
    'CLIENT_CERTIFICATE_REFUSED',
    `The enclave refuses the client certificate: ${alert}.`,
    cause,
  );
}
