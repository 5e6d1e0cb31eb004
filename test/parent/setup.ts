/** A parent and its enclave's side of the link, over real UNIX sockets in a folder of its own. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { type HostService, hostService } from '../../enclave/host/host-service.ts';
import type { Link } from '../../link/link.ts';
import { unixLink } from '../../link/unix.ts';
import type { ParentConfig } from '../../parent/config/config.ts';
import type { Resolve } from '../../parent/egress/dial.ts';
import type { ParentEvent } from '../../parent/observe.ts';
import { type Parent, startParent } from '../../parent/parent.ts';

export { eventually } from '../support/eventually.ts';

export const CREDENTIALS = {
  accessKeyId: 'ASIAEXAMPLEEXAMPLE01',
  secretAccessKey: 'ExampleSecretAccessKey0123456789/+abcdef',
  sessionToken: 'ExampleSessionToken==',
  expiration: '2099-01-01T00:00:00Z',
};

export interface Setup extends AsyncDisposable {
  readonly folder: string;
  readonly config: ParentConfig;
  /** The enclave's end. */
  readonly enclaveLink: Link;
  readonly host: HostService;
  readonly parent: Parent;
  readonly events: ParentEvent[];
}

export async function setup(
  change: (config: ParentConfig) => ParentConfig = (config) => config,
  options: { readonly resolve?: Resolve; readonly wrap?: (link: Link) => Link } = {},
): Promise<Setup> {
  const folder = await mkdtemp(join(tmpdir(), 'sr-'));
  const config = change(await makeHost(folder));
  const events: ParentEvent[] = [];
  const enclaveLink = unixLink({ dial: join(folder, 'p'), listen: join(folder, 'e') });
  const parentLink = unixLink({ dial: join(folder, 'e'), listen: join(folder, 'p') });
  const parent = await startParent(config, parentLink, {
    ...options,
    observe: (event) => events.push(event),
  });
  const host = hostService(enclaveLink);
  return {
    folder,
    config,
    enclaveLink,
    host,
    parent,
    events,
    [Symbol.asyncDispose]: async () => {
      host.close();
      await parent.drain(0);
      await rm(folder, { recursive: true });
    },
  };
}

async function makeHost(folder: string): Promise<ParentConfig> {
  await mkdir(join(folder, 'models', 'iris.sealed'), { recursive: true });
  await writeFile(join(folder, 'deployment.json'), '{"format":"example"}');
  await writeFile(join(folder, 'credentials.json'), JSON.stringify(CREDENTIALS));
  await writeFile(join(folder, 'models', 'iris.sealed', 'head'), 'the head');
  await writeFile(join(folder, 'models', 'iris.sealed', 'payload'), pattern(3_000_000));
  return {
    link: { kind: 'unix', dial: join(folder, 'e'), listen: join(folder, 'p') },
    ingress: {
      host: '127.0.0.1',
      port: 0,
      maxConnections: 1_000,
      maxConnectionsPerAddress: 1_000,
      idleTimeoutMs: 30_000,
      connectTimeoutMs: 5_000,
    },
    egress: [],
    deploymentPath: join(folder, 'deployment.json'),
    models: { kind: 'folder', path: join(folder, 'models') },
    credentials: { kind: 'file', path: join(folder, 'credentials.json') },
  };
}

/** Bytes that differ at every offset that a mistake is likely to confuse. */
export function pattern(sizeBytes: number): Buffer {
  const bytes = Buffer.alloc(sizeBytes);
  for (let at = 0; at < sizeBytes; at += 1) bytes[at] = (at * 31 + (at >> 8) * 7 + (at >> 16)) & 0xff;
  return bytes;
}

/** A TCP server on a free port of this machine, gone with its connections at the end. */
export async function tcpServer(
  onConnection: (socket: Socket) => void,
): Promise<{ readonly port: number; readonly sockets: Set<Socket> } & AsyncDisposable> {
  const sockets = new Set<Socket>();
  const server: Server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.once('close', () => sockets.delete(socket));
    onConnection(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  return {
    port,
    sockets,
    [Symbol.asyncDispose]: async () => {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** Everything that a stream gives until its end. */
export async function readAll(stream: Duplex): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}
