/**
 * HTTP/1.1 over the link, for a caller that takes the answer as hostile input (docs/link.md section 3).
 *
 * The caller says beforehand which one status it takes and how many bytes; memory is allocated only after the
 * announced length has been found acceptable. Every answer has exactly one Content-Length. Chunked or compressed
 * bodies, redirects, interim answers (1xx), surplus bytes and early ends are refused, and every phase has a
 * deadline. The text of a refusal is never read: the status is all that crosses.
 */
import { request as httpRequest, type IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { LinkError } from './errors.ts';
import { LinkAgent } from './http-agent.ts';
import type { Link } from './link.ts';

export interface HttpLimits {
  readonly connectTimeoutMs: number;
  /** From sending the request to the end of the answer's headers. */
  readonly headersTimeoutMs: number;
  /** The longest silence inside a body. */
  readonly idleTimeoutMs: number;
  /** The slowest accepted body, so that one byte per idle deadline cannot hold an exchange for days. */
  readonly minimumBytesPerSecond: number;
  readonly maxHeaderBytes: number;
  readonly maxConnections: number;
}

export const HTTP_LIMITS: HttpLimits = {
  connectTimeoutMs: 5_000,
  headersTimeoutMs: 15_000,
  idleTimeoutMs: 15_000,
  minimumBytesPerSecond: 64 * 1024,
  maxHeaderBytes: 8 * 1024,
  maxConnections: 16,
};

export interface Exchange {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array;
  /** The one status that is taken; every other is LINK_ANSWER_REFUSED. */
  readonly status: number;
  /**
   * Sees the announced length before a byte is read and returns exactly that many bytes of room, or throws.
   * `contentRange` is the answer's one Content-Range, if it has any.
   */
  readonly receive: (sizeBytes: number, contentRange: string | undefined) => Uint8Array;
}

export interface HttpClient {
  /** Resolves to the whole body. Rejects with LinkError, or with what `receive` threw. */
  exchange(exchange: Exchange): Promise<Uint8Array>;
  /** Opens a tunnel by CONNECT on a connection of its own; the stream begins after the answer's headers. */
  tunnel(authority: string, timeoutMs: number): Promise<Duplex>;
  /** Ends the pooled connections; running exchanges fail. */
  close(): void;
}

export function httpOverLink(link: Link, port: number, limits: HttpLimits = HTTP_LIMITS): HttpClient {
  const { connectTimeoutMs } = limits;
  const pool = new LinkAgent(link, port, { keepAlive: true, connectTimeoutMs });
  const fresh = new LinkAgent(link, port, { keepAlive: false, connectTimeoutMs });
  const slots = new Slots(limits.maxConnections);
  return {
    exchange: async (exchange) => {
      await slots.take();
      try {
        return await attempt(exchange, pool, limits);
      } catch (error) {
        // The peer may close a pooled connection at the moment of its reuse: try once more on a new one.
        if (error instanceof StaleConnection) return await attempt(exchange, fresh, limits);
        throw error;
      } finally {
        slots.give();
      }
    },
    tunnel: async (authority, timeoutMs) => {
      const started = performance.now();
      const connection = await link.dial(port, { timeoutMs: Math.min(timeoutMs, connectTimeoutMs) });
      return openTunnel(connection, authority, timeoutMs - (performance.now() - started), limits);
    },
    close: () => {
      pool.destroy();
      fresh.destroy();
    },
  };
}

/** How many exchanges may run; the others wait in order. */
class Slots {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(count: number) {
    this.#free = count;
  }

  async take(): Promise<void> {
    if (this.#free > 0) this.#free -= 1;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  give(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#free += 1;
    else next();
  }
}

/** A pooled connection ended before any part of an answer came. */
class StaleConnection extends Error {}

function attempt(exchange: Exchange, agent: LinkAgent, limits: HttpLimits): Promise<Uint8Array> {
  const what = `${exchange.method} ${exchange.path}`;
  return new Promise((resolve, reject) => {
    const body = exchange.body ?? new Uint8Array(0);
    const outgoing = httpRequest({
      agent,
      host: 'parent',
      method: exchange.method,
      path: exchange.path,
      headers: { ...exchange.headers, ...(exchange.method === 'POST' && { 'content-length': body.length }) },
      maxHeaderSize: limits.maxHeaderBytes,
    });
    let answered = false;
    let settled = false;
    let idle = deadline(limits.connectTimeoutMs + limits.headersTimeoutMs, 'an answer');
    let total: NodeJS.Timeout | undefined;

    function deadline(timeoutMs: number, missing: string): NodeJS.Timeout {
      return setTimeout(
        () => fail(new LinkError('LINK_TIMEOUT', `${what}: expected ${missing} within ${timeoutMs} ms.`)),
        timeoutMs,
      );
    }
    /** True the first time: a finished exchange's connection is back in the pool and must not be touched. */
    function settle(): boolean {
      clearTimeout(idle);
      clearTimeout(total);
      const first = !settled;
      settled = true;
      return first;
    }
    function fail(error: unknown): void {
      if (!settle()) return;
      reject(error);
      outgoing.destroy();
    }

    outgoing.on('error', (error) => {
      const stale = !answered && outgoing.reusedSocket && !(error instanceof LinkError) && isLoss(error);
      fail(stale ? new StaleConnection() : asAnswerError(error, what));
    });
    outgoing.on('information', () => fail(malformed(what, 'a final answer', 'an interim one (1xx)')));
    outgoing.on('upgrade', (_answer, connection) => {
      connection.destroy();
      fail(malformed(what, `status ${exchange.status}`, 'a change of protocol'));
    });
    outgoing.on('response', (answer) => {
      answered = true;
      answer.on('error', (error) => fail(asAnswerError(error, what)));
      let room: Uint8Array;
      try {
        room = admit(answer, exchange, what);
      } catch (error) {
        return fail(error);
      }
      clearTimeout(idle);
      idle = deadline(limits.idleTimeoutMs, 'more of the body');
      const slowestMs = (room.length / limits.minimumBytesPerSecond) * 1_000;
      total = deadline(Math.ceil(limits.idleTimeoutMs + slowestMs), 'the whole body');
      let filled = 0;
      answer.on('data', (chunk: Buffer) => {
        if (settled) return;
        if (filled + chunk.length > room.length) return fail(malformed(what, `${room.length} bytes`, 'more'));
        room.set(chunk, filled);
        filled += chunk.length;
        idle.refresh();
      });
      answer.on('end', () => {
        if (filled !== room.length || !answer.complete) {
          return fail(new LinkError('LINK_LOST', `${what}: expected ${room.length} bytes, found ${filled}.`));
        }
        if (settle()) resolve(room);
      });
      answer.on('close', () => {
        if (!settled) fail(new LinkError('LINK_LOST', `${what}: the connection ended early.`));
      });
    });
    outgoing.end(body);
  });
}

/** Checks everything that the headers say before room for the body is made. */
function admit(answer: IncomingMessage, exchange: Exchange, what: string): Uint8Array {
  if (answer.statusCode !== exchange.status) {
    throw new LinkError(
      'LINK_ANSWER_REFUSED',
      `${what}: expected status ${exchange.status}, found ${answer.statusCode}.`,
    );
  }
  if (answer.httpVersion !== '1.1') throw malformed(what, 'HTTP/1.1', `HTTP/${answer.httpVersion}`);
  for (const name of ['transfer-encoding', 'content-encoding', 'trailer', 'upgrade']) {
    if (answer.headersDistinct[name] !== undefined) throw malformed(what, `no ${name} header`, 'one');
  }
  const length = onlyOne(answer, 'content-length', what);
  if (length === undefined || !/^(0|[1-9][0-9]{0,14})$/.test(length)) {
    throw malformed(what, 'one decimal Content-Length', length ?? 'none');
  }
  const sizeBytes = Number(length);
  const room = exchange.receive(sizeBytes, onlyOne(answer, 'content-range', what));
  if (room.length !== sizeBytes) throw malformed(what, `${room.length} bytes`, `${sizeBytes} bytes`);
  return room;
}

function onlyOne(answer: IncomingMessage, name: string, what: string): string | undefined {
  const found = answer.headersDistinct[name];
  if (found !== undefined && found.length !== 1)
    throw malformed(what, `one ${name} header`, `${found.length}`);
  return found?.[0];
}

function openTunnel(
  connection: Duplex,
  authority: string,
  timeoutMs: number,
  limits: HttpLimits,
): Promise<Duplex> {
  const what = `CONNECT ${authority}`;
  return new Promise((resolve, reject) => {
    const outgoing = httpRequest({
      createConnection: () => connection,
      method: 'CONNECT',
      path: authority,
      headers: { host: authority },
      maxHeaderSize: limits.maxHeaderBytes,
    });
    const timer = setTimeout(
      () => fail(new LinkError('LINK_TIMEOUT', `${what}: no answer within ${Math.ceil(timeoutMs)} ms.`)),
      Math.max(timeoutMs, 1),
    );
    function fail(error: unknown): void {
      clearTimeout(timer);
      reject(error);
      outgoing.destroy();
      connection.destroy();
    }
    outgoing.on('error', (error) => fail(asAnswerError(error, what)));
    outgoing.on('information', () => fail(malformed(what, 'a final answer', 'an interim one (1xx)')));
    outgoing.on('upgrade', () => fail(malformed(what, 'status 200', 'a change of protocol')));
    // node:http reports every final answer to CONNECT here, whatever its status.
    outgoing.on('connect', (answer, stream, head) => {
      try {
        admitTunnel(answer, what);
      } catch (error) {
        return fail(error);
      }
      clearTimeout(timer);
      // Bytes of the tunnel may have arrived with the headers.
      if (head.length > 0) stream.unshift(head);
      resolve(stream);
    });
    outgoing.end();
  });
}

/** RFC 9110 9.3.6: a 2xx answer to CONNECT has no body; one that announces a body is not a tunnel. */
function admitTunnel(answer: IncomingMessage, what: string): void {
  if (answer.statusCode !== 200) {
    throw new LinkError('LINK_ANSWER_REFUSED', `${what}: expected status 200, found ${answer.statusCode}.`);
  }
  for (const name of ['transfer-encoding', 'content-length', 'content-encoding', 'trailer']) {
    if (answer.headersDistinct[name] !== undefined) throw malformed(what, `no ${name} header`, 'one');
  }
}

function malformed(what: string, expected: string, found: string): LinkError {
  return new LinkError('LINK_ANSWER_MALFORMED', `${what}: expected ${expected}, found ${found}.`);
}

function asAnswerError(error: Error, what: string): Error {
  if (error instanceof LinkError) return error;
  if ('code' in error && String(error.code) === 'HPE_HEADER_OVERFLOW') {
    return new LinkError('LINK_ANSWER_TOO_LARGE', `${what}: the headers of the answer are too long.`, error);
  }
  if ('code' in error && String(error.code).startsWith('HPE_')) {
    return new LinkError(
      'LINK_ANSWER_MALFORMED',
      `${what}: expected HTTP/1.1, found ${String(error.code)}.`,
      error,
    );
  }
  return isLoss(error) ? new LinkError('LINK_LOST', `${what}: the connection ended early.`, error) : error;
}

function isLoss(error: Error): boolean {
  return (
    'code' in error && ['ECONNRESET', 'EPIPE', 'ERR_STREAM_PREMATURE_CLOSE'].includes(String(error.code))
  );
}
