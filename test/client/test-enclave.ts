/**
 * Enclaves and impostors for the client's tests: real TLS, real evidence from the software NSM, and servers
 * whose every byte the test chooses.
 */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import net, { type AddressInfo } from 'node:net';
import tls from 'node:tls';
import type { ClientExpectations } from '../../client/index.ts';
import { createEvidenceIssuer, type EvidenceIssuer, type EvidenceSource } from '../../enclave/evidence.ts';
import { type Nsm, nsmClient } from '../../enclave/nsm/client.ts';
import { ReceiptIssuer } from '../../enclave/receipts.ts';
import { createTlsIdentity, type TlsIdentity } from '../../enclave/tls-identity.ts';
import type { LoadedModel } from '../../shared/evidence/evidence.ts';
import { DEPLOYMENT_PCR, PCR_COUNT, pcrOfMeasuredBytes } from '../../shared/pcr.ts';
import { createSimulatedCa, type SimulatedCa } from '../../simulator/nsm/ca.ts';
import { newInstanceId, newModuleId } from '../../simulator/nsm/identity.ts';
import { SoftwareNsm } from '../../simulator/nsm/software-nsm.ts';

export const IRIS: LoadedModel = {
  name: 'iris',
  version: 3,
  manifestSha256: 'a1'.repeat(32),
  contentId: 'b2'.repeat(32),
};
export const DEPLOYMENT = Buffer.from('{"format":"strongroom-deployment/1"}');
const UNLIMITED = { burst: 1e9, perSecond: 1e9 };

export interface TestPlatform {
  readonly ca: SimulatedCa;
  readonly nsm: Nsm;
  readonly expectations: ClientExpectations;
}

/** An NSM whose deployment is measured and whose registers are locked. */
export async function startPlatform(
  options: { debug?: boolean; now?: () => Date } = {},
): Promise<TestPlatform> {
  const { debug = false, now = () => new Date() } = options;
  const ca = await createSimulatedCa({ region: 'eu-central-1', now: now() });
  const image = randomBytes(48);
  const software = await SoftwareNsm.create({
    ca,
    moduleId: newModuleId(newInstanceId(), now()),
    pcrs: { 0: image, 1: randomBytes(48), 2: randomBytes(48) },
    now,
    debug,
  });
  const nsm = nsmClient((request) => software.handle(request));
  await nsm.extendPcr(DEPLOYMENT_PCR, createHash('sha384').update(DEPLOYMENT).digest());
  await nsm.lockPcrs(PCR_COUNT);
  return {
    ca,
    nsm,
    expectations: {
      pcrs: { 0: image.toString('hex'), 16: Buffer.from(pcrOfMeasuredBytes(DEPLOYMENT)).toString('hex') },
      simulationRoot: ca.rootPem,
    },
  };
}

export function newIdentity(): TlsIdentity {
  return createTlsIdentity(new Date(Date.now() - 1000), randomBytes(16));
}

export function newIssuer<
  Set extends { readonly models: readonly LoadedModel[] } = { models: LoadedModel[] },
>(
  platform: TestPlatform,
  identity: TlsIdentity,
  changes: Partial<EvidenceSource<Set>> = {},
): EvidenceIssuer<Set> {
  return createEvidenceIssuer({
    nsm: platform.nsm,
    spkiSha256: identity.spkiSha256,
    receiptKey: newReceiptIssuer(platform).publicKey,
    deploymentSha384: createHash('sha384').update(DEPLOYMENT).digest(),
    currentModels: () => ({ models: [IRIS] }) as unknown as Set,
    monotonicMs: () => performance.now(),
    onFailure: (error) => {
      throw error;
    },
    limits: { overall: UNLIMITED, perConnection: UNLIMITED, queueLength: 1000 },
    ...changes,
  });
}

/** As the enclave that is measured on this platform makes one when it boots. */
export function newReceiptIssuer(platform: TestPlatform): ReceiptIssuer {
  return new ReceiptIssuer({
    nsm: platform.nsm,
    deploymentSha384: createHash('sha384').update(DEPLOYMENT).digest(),
    now: () => new Date(),
  });
}

export interface RawServer {
  readonly url: string;
  readonly port: number;
  /** Every connection that finished its handshake, in order. */
  readonly connections: readonly tls.TLSSocket[];
  /** Of each of them, whether it resumed an earlier session. */
  readonly resumed: readonly boolean[];
  close(): void;
}

/** A TLS server that does nothing but what `serve` does with each connection. */
export async function startRawServer(
  identityOf: (connectionIndex: number) => TlsIdentity,
  serve: (socket: tls.TLSSocket, connectionIndex: number) => void,
  options: tls.SecureContextOptions & Pick<tls.TLSSocketOptions, 'requestCert' | 'rejectUnauthorized'> = {},
): Promise<RawServer> {
  const connections: tls.TLSSocket[] = [];
  const resumed: boolean[] = [];
  const open = new Set<net.Socket>();
  let accepted = 0;
  const listener = net.createServer((plain) => {
    open.add(plain);
    plain.on('error', () => {}).on('close', () => open.delete(plain));
    const index = accepted++;
    const { key, certificatePem } = identityOf(index);
    const secureContext = tls.createSecureContext({
      key: Buffer.from(key),
      cert: certificatePem,
      ...options,
    });
    const { requestCert = false, rejectUnauthorized = false } = options;
    const socket = new tls.TLSSocket(plain, {
      isServer: true,
      secureContext,
      ALPNProtocols: ['http/1.1'],
      requestCert,
      rejectUnauthorized,
    });
    socket.on('error', () => {});
    socket.once('secure', () => {
      connections.push(socket);
      resumed.push(socket.isSessionReused());
      serve(socket, index);
    });
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address() as AddressInfo;
  return {
    url: `https://127.0.0.1:${port}`,
    port,
    connections,
    resumed,
    close() {
      listener.close();
      for (const socket of open) socket.destroy();
    },
  };
}

export type Handler = (request: IncomingMessage, response: ServerResponse, body: string) => void;

/** Serves evidence and `handler` over HTTP on one connection of a raw server; the requests are recorded. */
export function honestHttp(issuer: EvidenceIssuer, handler: Handler = echo) {
  const requests: string[] = [];
  const server = createServer({ keepAliveTimeout: 60_000 }, async (request, response) => {
    const url = new URL(request.url ?? '/', 'https://enclave');
    requests.push(`${request.method} ${url.pathname}`);
    if (url.pathname === '/attestation') {
      const answer = await issuer.answer(request.socket as tls.TLSSocket, url.searchParams.get('nonce'));
      response.writeHead(answer.status, answer.headers).end(answer.body);
      return;
    }
    let body = '';
    request.setEncoding('utf8').on('data', (text: string) => {
      body += text;
    });
    await once(request, 'end');
    handler(request, response, body);
  });
  const serve = (socket: tls.TLSSocket): void => {
    server.emit('connection', socket);
  };
  return { serve, requests, server };
}

const echo: Handler = (_request, response, body) => {
  response.writeHead(200, { 'content-type': 'text/plain' }).end(`echo ${body}`);
};

export interface TestEnclave extends RawServer {
  readonly platform: TestPlatform;
  readonly identity: TlsIdentity;
  readonly issuer: EvidenceIssuer;
  readonly expectations: ClientExpectations;
  /** Method and path of every request, those for evidence included. */
  readonly requests: readonly string[];
}

export async function startTestEnclave(
  options: { platform?: TestPlatform; changes?: Partial<EvidenceSource>; handler?: Handler } = {},
): Promise<TestEnclave> {
  const platform = options.platform ?? (await startPlatform());
  const identity = newIdentity();
  const issuer = newIssuer(platform, identity, options.changes);
  const { serve, requests } = honestHttp(issuer, options.handler);
  const raw = await startRawServer(() => identity, serve);
  return { ...raw, platform, identity, issuer, requests, expectations: platform.expectations };
}

/** The nonce of the evidence request that arrives on a raw connection; resolves once the request is whole. */
export async function evidenceRequestOn(socket: tls.TLSSocket): Promise<{ text: string; nonce: string }> {
  let text = '';
  while (!text.includes('\r\n\r\n')) {
    const [chunk] = (await once(socket, 'data')) as [Buffer];
    text += chunk.toString('latin1');
  }
  return { text, nonce: /nonce=([A-Za-z0-9_-]+)/.exec(text)?.[1] ?? '' };
}

/** What an honest enclave would answer on this connection, as bytes. */
export async function honestAnswer(
  issuer: EvidenceIssuer,
  socket: tls.TLSSocket,
  nonce: string,
): Promise<Buffer> {
  const { status, headers, body } = await issuer.answer(socket, nonce);
  return httpResponse(`HTTP/1.1 ${status} OK`, headers, body);
}

export function httpResponse(
  statusLine: string,
  headers: Readonly<Record<string, string>>,
  body: Uint8Array,
): Buffer {
  const fields = Object.entries(headers).map(([name, value]) => `${name}: ${value}`);
  return Buffer.concat([Buffer.from(`${[statusLine, ...fields].join('\r\n')}\r\n\r\n`, 'latin1'), body]);
}
