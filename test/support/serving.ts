/** A server of the enclave over a UNIX socket, with an engine of the test's choice, and a raw client for it. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { request as httpRequest, type IncomingHttpHeaders } from 'node:http';
import { createServer, connect as netConnect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { type ConnectionOptions, type TLSSocket, connect as tlsConnect } from 'node:tls';
import type { Engine, InferRequest, InferResponse, TensorEngine } from '../../enclave/engine/engine.ts';
import type { ModelMetadata } from '../../enclave/engine/tensor.ts';
import type { EvidenceIssuer } from '../../enclave/evidence.ts';
import type { ModelLifecycle } from '../../enclave/models/lifecycle.ts';
import type { ModelSet, ServedModel } from '../../enclave/models/model-set.ts';
import { ModelRegistry } from '../../enclave/models/registry.ts';
import { ReceiptIssuer } from '../../enclave/receipts.ts';
import type { ApiLimits } from '../../enclave/serve/limits.ts';
import {
  type RequestEvent,
  type Server,
  type ServerOptions,
  startServer,
} from '../../enclave/serve/server.ts';
import { createTlsIdentity } from '../../enclave/tls-identity.ts';
import type { Listener } from '../../link/link.ts';

export const NONCE = Buffer.alloc(32, 7).toString('base64url');

/** Gives the nonce back as evidence: what evidence says is not the server's business. */
export function echoEvidence(models: ModelRegistry): EvidenceIssuer<ModelSet> {
  return {
    answer: async (_socket, nonce) => ({
      status: nonce === null ? 400 : 200,
      headers: { 'content-type': 'application/json' },
      body: Buffer.from(JSON.stringify({ nonce })),
      ...(nonce === null ? {} : { models: models.current }),
    }),
  };
}

export const LIMITS: ApiLimits = {
  requestBytes: 1024 * 1024,
  queueLength: 4,
  connections: 32,
  completionTokens: 256,
};

/** For a control port whose models are not the test's business. */
export const NO_MODELS: Pick<ModelLifecycle, 'status' | 'load' | 'unload'> = {
  status: () => [],
  load: () => {},
  unload: () => {},
};

/** A model around an engine, as the boot would have loaded it. */
export function servedModel(engine: Engine, changes: Partial<ServedModel> = {}): ServedModel {
  return {
    name: 'm',
    version: 3,
    manifestSha256: null,
    contentId: '00'.repeat(32),
    engine,
    loadedAt: new Date('2026-01-01T00:00:00Z'),
    close: () => engine.close(),
    ...changes,
  };
}

/** Receipts over a document that says nothing: what vouches for them is not the server's business. */
export function echoReceipts(attest = async () => Uint8Array.of(1)): ReceiptIssuer {
  return new ReceiptIssuer({
    nsm: { attest },
    deploymentSha384: new Uint8Array(48),
    now: () => new Date(),
  });
}

/** An engine in this process, for tests of what stands before it. */
export function fakeEngine(
  metadata: ModelMetadata,
  infer: (request: InferRequest, signal?: AbortSignal) => Promise<InferResponse>,
): TensorEngine & { ready: boolean } {
  return { kind: 'tensor', metadata, ready: true, infer, close: async () => {} };
}

export interface TestServer extends AsyncDisposable {
  readonly server: Server;
  readonly models: ModelRegistry;
  readonly events: RequestEvent[];
  readonly path: string;
  /** A TLS connection; `evidence` (default) asks for evidence first. */
  connect(options?: ConnectionOptions & { readonly evidence?: boolean }): Promise<Connection>;
  /** A connection below TLS. */
  dial(): Duplex;
}

export type TestServerOptions = Partial<Omit<ServerOptions, 'models' | 'limits'>> & {
  readonly models: readonly ServedModel[];
  readonly limits?: Partial<ApiLimits>;
};

export async function serveForTest({
  models: served,
  limits,
  ...options
}: TestServerOptions): Promise<TestServer> {
  const folder = mkdtempSync(join(tmpdir(), 'strongroom-serve-'));
  const path = join(folder, 'service.sock');
  const events: RequestEvent[] = [];
  const models = new ModelRegistry(served);
  const server = await startServer({
    listen: (onConnection) => listenOn(path, onConnection),
    identity: createTlsIdentity(new Date(), randomBytes(16)),
    evidence: echoEvidence(models),
    receipts: echoReceipts(),
    models,
    limits: { ...LIMITS, ...limits },
    now: () => new Date(),
    observe: (event) => events.push(event),
    ...options,
  });
  return {
    server,
    models,
    events,
    path,
    dial: () => netConnect(path),
    connect: async ({ evidence = true, ...tlsOptions } = {}) => {
      const socket = await new Promise<TLSSocket>((resolve, reject) => {
        const tls = tlsConnect({ path, rejectUnauthorized: false, ...tlsOptions }, () => resolve(tls));
        tls.once('error', reject);
      });
      socket.on('error', () => {});
      const connection = new Connection(socket);
      if (evidence) {
        const { status } = await connection.ask('GET', `/attestation?nonce=${NONCE}`);
        if (status !== 200) throw new Error(`no evidence: ${status}`);
      }
      return connection;
    },
    [Symbol.asyncDispose]: async () => {
      await server.drain(0);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

export function listenOn(path: string, onConnection: (connection: Duplex) => void): Promise<Listener> {
  const server = createServer({ allowHalfOpen: true }, onConnection);
  return new Promise((resolve) => {
    server.listen(path, () =>
      resolve({
        close: async () => {
          server.close();
        },
      }),
    );
  });
}

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  // biome-ignore lint/suspicious/noExplicitAny: answers are inspected member by member
  readonly json: any;
}

/** One TLS connection that requests are made on, one after the other. */
export class Connection {
  readonly socket: TLSSocket;

  constructor(socket: TLSSocket) {
    this.socket = socket;
  }

  /** A string body is sent as JSON text. */
  ask(
    method: string,
    path: string,
    body?: string | Uint8Array | object,
    headers: Record<string, string> = {},
  ): Promise<Answer> {
    const bytes =
      body === undefined
        ? undefined
        : body instanceof Uint8Array
          ? Buffer.from(body)
          : Buffer.from(typeof body === 'string' ? body : JSON.stringify(body));
    return new Promise((resolve, reject) => {
      const request = httpRequest({
        createConnection: () => this.socket,
        method,
        path,
        headers: {
          host: 'enclave',
          connection: 'keep-alive',
          ...(bytes === undefined
            ? {}
            : { 'content-type': 'application/json', 'content-length': bytes.length }),
          ...headers,
        },
      });
      request.once('error', reject);
      request.once('response', (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.once('error', reject);
        response.once('end', () => {
          const whole = Buffer.concat(chunks);
          const isJson = response.headers['content-type'] === 'application/json';
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: whole,
            json: isJson ? JSON.parse(whole.toString()) : undefined,
          });
        });
      });
      request.end(bytes);
    });
  }

  close(): void {
    this.socket.destroy();
  }
}
