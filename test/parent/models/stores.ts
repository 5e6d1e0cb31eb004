/** Real stores of models for the real parent routes: an S3 server and a web server with TLS, and who asks them. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type ServerOptions } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type HostService, hostService } from '../../../enclave/host/host-service.ts';
import { HTTP_LIMITS } from '../../../link/http-client.ts';
import type { Link } from '../../../link/link.ts';
import { unixLink } from '../../../link/unix.ts';
import type { ModelsConfig } from '../../../parent/config/models.ts';
import type { CredentialsProvider } from '../../../parent/credentials/provider.ts';
import { HOST_SERVICE_LIMITS, startHostService } from '../../../parent/host-service.ts';
import { openModelStore } from '../../../parent/models/open-store.ts';
import type { RemoteLimits } from '../../../parent/models/patience.ts';
import { Counters, type ParentEvent } from '../../../parent/observe.ts';
import { parseAwsCredentials } from '../../../shared/credentials/aws-credentials.ts';
import { answerObject, newObject } from '../../../simulator/s3/objects.ts';
import { startSimulatedS3 } from '../../../simulator/s3/server.ts';
import { CREDENTIALS } from '../setup.ts';
import { createTestCa, type Issued, type TestCa } from './certificates.ts';

export const REGION = 'eu-central-1';
export const BUCKET = 'sealed-models';

/** Answers in place of the server if it returns true. */
type Intercept = (request: IncomingMessage, response: ServerResponse) => boolean;

export interface TestStore extends AsyncDisposable {
  readonly config: ModelsConfig;
  /** For example `iris.sealed/payload`. */
  put(path: string, bytes: Uint8Array): void;
  /** What was asked for so far, oldest first: `HEAD iris.sealed/payload`. */
  readonly asked: string[];
  /** Each kind of request after the other meets the next of these; what comes after the last is answered. */
  meet(method: 'GET' | 'HEAD', ...faults: Intercept[]): void;
}

function interception(asked: string[]) {
  const waiting: { readonly method: string; readonly fault: Intercept }[] = [];
  return {
    meet: (method: string, ...faults: Intercept[]) =>
      void waiting.push(...faults.map((fault) => ({ method, fault }))),
    intercept: (request: IncomingMessage, response: ServerResponse): boolean => {
      const path = /[^/]+\.sealed\/[^?]+/.exec(request.url ?? '')?.[0] ?? request.url;
      asked.push(`${request.method} ${path}`);
      const at = waiting.findIndex(({ method }) => method === request.method);
      return at === -1 ? false : (waiting.splice(at, 1)[0]?.fault(request, response) ?? false);
    },
  };
}

export interface TestS3Options {
  readonly tls?: { readonly cert: string; readonly key: string };
  readonly config?: object;
}

export async function s3Store({ tls, config = {} }: TestS3Options = {}): Promise<TestStore> {
  const asked: string[] = [];
  const s3 = await startSimulatedS3({
    region: REGION,
    buckets: [BUCKET],
    principals: [CREDENTIALS],
    now: () => new Date(),
    ...(tls !== undefined && { tls }),
  });
  const { meet, intercept } = interception(asked);
  s3.intercept = intercept;
  return {
    config: {
      kind: 's3',
      bucket: BUCKET,
      prefix: 'team/a',
      region: REGION,
      endpoint: s3.endpoint,
      ...config,
    },
    put: (path, bytes) => void s3.objects.set(`${BUCKET}/team/a/${path}`, newObject(bytes, new Date())),
    asked,
    meet,
    [Symbol.asyncDispose]: () => s3.close(),
  };
}

export interface TestRegistry extends TestStore {
  readonly folder: string;
  readonly ca: TestCa;
  /** Subjects of the client certificates of the connections so far, and whether a session was resumed. */
  readonly handshakes: { readonly client: string | undefined; readonly resumed: boolean }[];
}

export interface TestRegistryOptions {
  readonly server?: ServerOptions;
  readonly ca?: TestCa;
  readonly issued?: Issued;
  /** Members of the configuration; the names of files are made. */
  readonly config?: { readonly ca?: string; readonly certificate?: string; readonly key?: string };
  readonly headers?: Readonly<Record<string, string>>;
}

export async function registry(options: TestRegistryOptions = {}): Promise<TestRegistry> {
  const ca = options.ca ?? (await createTestCa());
  const { certificate, key } = options.issued ?? (await ca.issue());
  const folder = await mkdtemp(join(tmpdir(), 'sr-registry-'));
  const files = { ca: ca.certificate, ...options.config };
  const config = { kind: 'registry' as const, url: '', ...(await writeFiles(folder, files)) };
  const objects = new Map<string, ReturnType<typeof newObject>>();
  const asked: string[] = [];
  const handshakes: { client: string | undefined; resumed: boolean }[] = [];
  const { meet, intercept } = interception(asked);
  const server = createServer({ key, cert: certificate, ...options.server }, (request, response) => {
    if (intercept(request, response)) return;
    const object = objects.get(String(request.url).replace('/models/', ''));
    if (object === undefined) return void response.writeHead(404, { 'content-length': 0 }).end();
    const refused = answerObject(request, response, object);
    if (refused === undefined) return;
    response.writeHead(refused === 'InvalidRange' ? 416 : 412, { 'content-length': 0 }).end();
  });
  server.on('secureConnection', (socket) => {
    socket.on('error', () => {});
    const { subject } = socket.getPeerCertificate();
    handshakes.push({ client: subject?.CN as string | undefined, resumed: socket.isSessionReused() });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    config: { ...config, url: `https://127.0.0.1:${(server.address() as AddressInfo).port}/models` },
    put: (path, bytes) => void objects.set(path, newObject(bytes, new Date(0))),
    asked,
    meet,
    folder,
    ca,
    handshakes,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await rm(folder, { recursive: true });
    },
  };
}

/** Writes each text to a file of its member's name and gives the paths. */
export async function writeFiles<Name extends string>(
  folder: string,
  texts: { readonly [name in Name]?: string },
): Promise<{ readonly [name in Name]?: string }> {
  const paths: { [name in Name]?: string } = {};
  for (const [name, text] of Object.entries(texts) as [Name, string][]) {
    paths[name] = join(folder, `${name}.pem`);
    await writeFile(paths[name], text, { mode: 0o600 });
  }
  return paths;
}

export interface Asking extends AsyncDisposable {
  /** The enclave's own client. */
  readonly host: HostService;
  readonly link: Link;
  readonly counters: Counters;
  readonly events: ParentEvent[];
}

interface AskOptions {
  readonly limits?: Partial<RemoteLimits>;
  readonly now?: () => number;
  readonly credentials?: CredentialsProvider;
}

/** The parent's host service over this store, and the enclave's client of it. Impatient, for tests. */
export async function ask(config: ModelsConfig, options: AskOptions = {}): Promise<Asking> {
  const folder = await mkdtemp(join(tmpdir(), 'sr-'));
  const counters = new Counters();
  const events: ParentEvent[] = [];
  const observe = (event: ParentEvent): void => void events.push(event);
  const credentials = options.credentials ?? {
    provide: async () => parseAwsCredentials(Buffer.from(JSON.stringify(CREDENTIALS))),
  };
  const limits: RemoteLimits = {
    attemptTimeoutMs: 30_000,
    answerTimeoutMs: 60_000,
    idleTimeoutMs: 30_000,
    attempts: 3,
    pauseMs: 1,
    ...options.limits,
  };
  const models = openModelStore(config, { credentials, observe, limits, now: options.now ?? Date.now });
  const service = await startHostService(unixLink({ dial: join(folder, 'e'), listen: join(folder, 'p') }), {
    sources: () => ({ deploymentPath: '/nowhere', models, credentials }),
    egress: { connect: async (_request, connection) => void connection.destroy(), abort: () => {} },
    limits: HOST_SERVICE_LIMITS,
    counters,
    observe,
  });
  const link = unixLink({ dial: join(folder, 'p'), listen: join(folder, 'e') });
  const host = hostService(link, { ...HTTP_LIMITS, headersTimeoutMs: 60_000, idleTimeoutMs: 60_000 });
  return {
    host,
    link,
    counters,
    events,
    [Symbol.asyncDispose]: async () => {
      host.close();
      await service.close();
      models.close();
      await rm(folder, { recursive: true });
    },
  };
}
