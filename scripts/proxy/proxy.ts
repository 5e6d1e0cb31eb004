/**
 * The verifying proxy (docs/clients.md section 6): plain HTTP on a loopback address for programs of this machine,
 * attested TLS to one enclave. It adds nothing to a request and takes nothing from an answer but what belongs to one
 * connection alone.
 */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { VerifiedAgent } from '../../client/verified-agent.ts';
import { EVIDENCE_PATH } from '../../shared/evidence/evidence.ts';
import { ProxyError } from './errors.ts';
import { forward } from './forward.ts';
import { statusPage } from './page.ts';
import { sendRefusal } from './refusal.ts';
import type { ProxyStatus } from './status.ts';
import { expectNoOtherSite, expectOwnHost } from './visitor.ts';

const HOST = '127.0.0.1';
const STATUS_PATH = '/strongroom.json';
/** Those beyond what the agent has connections for wait; more than these are told to come back. */
const REQUESTS_MAX = 256;
const CONNECTIONS_MAX = 512;
const PAGE_REFRESH_SECONDS = '15';

export interface ProxyOptions {
  readonly agent: VerifiedAgent;
  readonly status: ProxyStatus;
  /** 0 takes a free one. */
  readonly port: number;
  /** Of requests that could not be passed on, or whose answer was lost. */
  readonly onFailure: (error: unknown) => void;
}

export class VerifyingProxy {
  readonly #server: Server;
  readonly #options: ProxyOptions;
  #underWay = 0;
  #closing = false;

  private constructor(options: ProxyOptions) {
    this.#options = options;
    this.#server = createServer(
      { headersTimeout: 10_000, requestTimeout: 300_000, keepAliveTimeout: 15_000 },
      (request, response) => void this.#answer(request, response),
    );
    this.#server.maxConnections = CONNECTIONS_MAX;
  }

  /** Throws ProxyError `PROXY_PORT`. */
  static async start(options: ProxyOptions): Promise<VerifyingProxy> {
    const proxy = new VerifyingProxy(options);
    proxy.#server.listen(options.port, HOST);
    try {
      await once(proxy.#server, 'listening');
    } catch (cause) {
      throw new ProxyError(
        'PROXY_PORT',
        `Cannot listen on ${HOST}:${options.port}: ${(cause as Error).message}.`,
        cause,
      );
    }
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get url(): string {
    return `http://${HOST}:${this.port}`;
  }

  /** Takes no more requests, gives those under way `graceMs` for their answers, and ends. */
  async close(graceMs: number): Promise<void> {
    this.#closing = true;
    const closed = new Promise((resolve) => this.#server.close(resolve));
    const late = new AbortController();
    await Promise.race([
      closed,
      delay(graceMs, undefined, { signal: late.signal, ref: false }).catch(() => {}),
    ]);
    late.abort();
    this.#server.closeAllConnections();
    await this.#options.agent.destroy();
    await closed;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    // Askers keep connections for their next request, which will not be taken.
    response.once('close', () => {
      if (this.#closing) setImmediate(() => this.#server.closeIdleConnections());
    });
    try {
      const { port } = this;
      expectOwnHost(request.headers, port);
      const [path = ''] = (request.url ?? '').split('?', 1);
      const looks = request.method === 'GET' || request.method === 'HEAD';
      if (looks && path === '/') this.#sendPage(response);
      else if (looks && path === STATUS_PATH) this.#sendStatus(response);
      else {
        expectNoOtherSite(request.headers, port);
        expectPassable(path, request.httpVersion);
        await this.#pass(request, response);
      }
    } catch (error) {
      sendRefusal(response, error);
    }
  }

  async #pass(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { agent, status, onFailure } = this.#options;
    if (this.#underWay >= REQUESTS_MAX) {
      throw new ProxyError('PROXY_BUSY', `There are ${REQUESTS_MAX} requests under way.`);
    }
    this.#underWay++;
    status.asked();
    try {
      await forward(agent, request, response);
    } catch (error) {
      // Whoever left is told nothing any more, and has not failed.
      if (response.destroyed && !response.writableFinished && !isOurs(error)) return;
      status.failed(error);
      onFailure(error);
      throw error;
    } finally {
      this.#underWay--;
    }
  }

  #sendPage(response: ServerResponse): void {
    send(response, 'text/html; charset=utf-8', statusPage(this.#options.status, this.url), {
      refresh: PAGE_REFRESH_SECONDS,
      'x-frame-options': 'DENY',
    });
  }

  #sendStatus(response: ServerResponse): void {
    send(
      response,
      'application/json',
      `${JSON.stringify({ url: this.url, ...this.#options.status.toJSON() })}\n`,
    );
  }
}

/** What says where a request ended is worth telling, whether or not somebody still listens. */
function isOurs(error: unknown): boolean {
  return error instanceof Error && 'action' in error;
}

/** Evidence is for the connection that it was asked on, and the proxy's connections are not the asker's. */
function expectPassable(path: string, httpVersion: string): void {
  if (httpVersion !== '1.1') {
    throw new ProxyError('PROXY_HTTP_VERSION', `Expected a request in HTTP/1.1, found HTTP/${httpVersion}.`);
  }
  if (path.startsWith('/') && path !== EVIDENCE_PATH) return;
  throw new ProxyError('PROXY_PATH', `The proxy does not pass ${JSON.stringify(path.slice(0, 100))} on.`);
}

function send(response: ServerResponse, type: string, text: string, more: Record<string, string> = {}): void {
  const body = Buffer.from(text);
  response.writeHead(200, {
    'content-type': type,
    'content-length': String(body.length),
    'cache-control': 'no-store',
    'cross-origin-resource-policy': 'same-origin',
    'x-content-type-options': 'nosniff',
    ...more,
  });
  response.end(body);
}
