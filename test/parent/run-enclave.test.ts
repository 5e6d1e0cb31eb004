/** `strongroom run` as the supervisor of an enclave: the real command, nitro-cli and the enclave as stand-ins. */
import { type ChildProcess, spawn } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { type AddressInfo, connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { serveControl } from '../../enclave/serve/control.ts';
import { CONTROL_PORT, SERVICE_PORT } from '../../link/ports.ts';
import { unixLink } from '../../link/unix.ts';
import { eventually } from '../support/eventually.ts';
import { type FakeEnclave, FakeNitro, failure } from '../support/fake-nitro.ts';
import { NO_MODELS } from '../support/serving.ts';
import { readAll } from './setup.ts';

const repository = join(import.meta.dirname, '..', '..');
const node = join(repository, 'node_modules', '.bin', 'node');
vi.setConfig({ testTimeout: 120_000 });

const MIB = 1024 * 1024;

interface Line {
  readonly event: string;
  readonly [field: string]: unknown;
}

let folder: string;
let fake: FakeNitro;
let children: ChildProcess[];
let drains: number;
/** An enclave does not come to life before this resolves. */
let gate: Promise<void>;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'sr-'));
  children = [];
  drains = 0;
  gate = Promise.resolve();
  fake = await FakeNitro.start(standIn);
  await mkdir(join(folder, 'models', 'iris.sealed'), { recursive: true });
  await writeFile(join(folder, 'models', 'iris.sealed', 'payload'), Buffer.alloc(MIB));
  await writeFile(join(folder, 'image.eif'), 'image');
  await writeFile(join(folder, 'deployment.json'), JSON.stringify(deployment()));
});
afterEach(async () => {
  for (const child of children) child.kill('SIGKILL');
  await fake[Symbol.asyncDispose]();
  await rm(folder, { recursive: true });
});

/** The enclave's side of the link: its real control port, and an echo where it would serve. */
async function standIn(): Promise<FakeEnclave> {
  await gate;
  const link = unixLink({ dial: join(folder, 'p'), listen: join(folder, 'e') });
  const open = new Set<Duplex>();
  const held = (take: (connection: Duplex) => void) => (connection: Duplex) => {
    open.add(connection);
    connection.once('close', () => open.delete(connection));
    take(connection);
  };
  const drain = async (): Promise<void> => {
    drains += 1;
  };
  const listeners = [
    await link.listen(
      SERVICE_PORT,
      held((connection) => connection.pipe(connection)),
    ),
    await link.listen(CONTROL_PORT, held(serveControl({ ready: true, drain }, NO_MODELS))),
  ];
  const { promise: ended, resolve } = Promise.withResolvers<void>();
  const end = async (): Promise<void> => {
    await Promise.all(listeners.map((listener) => listener.close()));
    for (const connection of open) connection.destroy();
    resolve();
  };
  return { ended, end };
}

function deployment(): object {
  const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const signer = publicKey.export({ type: 'spki', format: 'pem' });
  return {
    format: 'strongroom-deployment/1',
    models: [{ name: 'iris', minimumVersion: 1, signer }],
    kmsKeys: ['arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab'],
    clients: 'anyone',
  };
}

async function writeConfig(change: object = {}, enclave: object = {}): Promise<void> {
  const config = {
    format: 'strongroom-parent/1',
    link: { kind: 'unix', dial: 'e', listen: 'p' },
    enclave: {
      kind: 'nitro-cli',
      image: 'image.eif',
      cpuCount: 2,
      memoryMib: 2_048,
      program: fake.program,
      ...enclave,
    },
    ingress: { host: '127.0.0.1', port: 0 },
    egress: [],
    deployment: 'deployment.json',
    models: { kind: 'folder', path: 'models' },
    credentials: { kind: 'file', path: 'credentials.json' },
    ...change,
  };
  await writeFile(join(folder, 'parent.json'), JSON.stringify(config));
}

function start(...options: readonly string[]) {
  const args = [join(repository, 'scripts', 'strongroom.ts'), 'run', '--config', 'parent.json', ...options];
  const child = spawn(node, args, { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
  children.push(child);
  let told = '';
  let output = '';
  child.stderr.on('data', (chunk: Buffer) => {
    told += chunk.toString();
  });
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString();
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    child,
    ended: new Promise<number | null>((resolve) => child.once('close', resolve)),
    told: () => told,
    output: () => output,
    next: async (event: string): Promise<Line> => {
      for (;;) {
        const { value, done } = await lines.next();
        if (done === true) throw new Error(`the parent ended before it said ${event}: ${told}`);
        const line = JSON.parse(String(value)) as Line;
        if (line.event === event) return line;
      }
    },
  };
}

async function caller(port: unknown) {
  const socket = connect({ port: Number(port), host: '127.0.0.1', allowHalfOpen: true });
  socket.on('error', () => {});
  await once(socket, 'connect');
  return socket;
}

async function echoed(port: unknown): Promise<string> {
  const socket = await caller(port);
  socket.end('hello');
  return (await readAll(socket)).toString();
}

const enclaveIds = () => [...fake.running.keys()];

describe('strongroom run with an enclave of its own', () => {
  it('takes a SIGHUP while it is still starting, and reloads once it has started', async () => {
    const { promise: asked, resolve } = Promise.withResolvers<void>();
    const registry = createServer((socket) => {
      registry.close();
      socket.on('error', () => {});
      // The parent waits for this TLS server until the socket is closed.
      setTimeout(() => socket.destroy(), 1_000);
      resolve();
    });
    await new Promise<void>((listening) => registry.listen(0, '127.0.0.1', listening));
    const { port } = registry.address() as AddressInfo;
    await writeConfig({ models: { kind: 'registry', url: `https://127.0.0.1:${port}` } });
    const run = start();
    await asked;
    run.child.kill('SIGHUP');
    await run.next('ready');
    await run.next('reloaded');
    run.child.kill('SIGTERM');
    expect(await run.ended).toBe(0);
  });

  it('starts it, relays to it, starts it again when it dies, and ends it with itself', async () => {
    await writeConfig({ admin: { port: 0 } });
    const run = start();
    const { port } = await run.next('ready');
    const admin = await run.next('admin-ready');
    await run.next('enclave-serving');
    expect(await echoed(port)).toBe('hello');
    const ready = await fetch(`http://127.0.0.1:${admin.port}/readyz`);
    expect(ready.status).toBe(200);

    const [first = ''] = enclaveIds();
    await fake.running.get(first)?.enclave.end();
    expect(await run.next('enclave-lost')).toMatchObject({ reason: 'ended' });
    await run.next('enclave-serving');
    expect(await echoed(port)).toBe('hello');
    expect(enclaveIds()).toEqual([expect.not.stringMatching(first)]);
    const metrics = await (await fetch(`http://127.0.0.1:${admin.port}/metrics`)).text();
    expect(metrics).toMatch(/^strongroom_enclave_restarts_total 1$/m);

    run.child.kill('SIGTERM');
    expect(await run.next('stopped')).toMatchObject({ graceful: true });
    expect(await run.ended).toBe(0);
    expect(enclaveIds()).toEqual([]);
    expect(drains).toBe(1);
  });

  it('lets open connections finish before it ends the enclave', async () => {
    await writeConfig();
    const run = start();
    const { port } = await run.next('ready');
    await run.next('enclave-serving');
    const socket = await caller(port);
    socket.write('one, ');
    await once(socket, 'data');
    run.child.kill('SIGTERM');
    await run.next('draining');
    await eventually(() => drains).toBe(1);
    expect(enclaveIds()).toHaveLength(1);
    socket.end('two');
    expect((await readAll(socket)).toString()).toBe('two');
    expect(await run.next('stopped')).toMatchObject({ graceful: true });
    expect(await run.ended).toBe(0);
    expect(enclaveIds()).toEqual([]);
  });

  it('cuts them at a second signal, and takes one that comes twice for one', async () => {
    await writeConfig();
    const run = start();
    const { port } = await run.next('ready');
    await run.next('enclave-serving');
    const socket = await caller(port);
    socket.write('hello');
    await once(socket, 'data');
    run.child.kill('SIGTERM');
    run.child.kill('SIGTERM');
    await run.next('draining');
    await sleep(1_200);
    expect(socket.destroyed).toBe(false);
    const closed = new Promise((resolve) => socket.once('close', resolve));
    run.child.kill('SIGTERM');
    await closed;
    expect(await run.next('stopped')).toMatchObject({ graceful: false });
    expect(await run.ended).toBe(0);
    expect(enclaveIds()).toEqual([]);
  });

  it('that was killed leaves an enclave, which the next start finds, ends and replaces', async () => {
    await writeConfig();
    const first = start();
    await first.next('enclave-serving');
    const [left = ''] = enclaveIds();
    first.child.kill('SIGKILL');
    await first.ended;
    expect(enclaveIds()).toEqual([left]);

    const second = start();
    expect(await second.next('enclave-leftover')).toMatchObject({ id: left });
    await second.next('enclave-serving');
    expect(enclaveIds()).toEqual([expect.not.stringMatching(left)]);
  });

  it('that was killed while the enclave starts leaves a state from which the next start succeeds', async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    gate = promise;
    await writeConfig();
    const first = start();
    await eventually(() => fake.count('run-enclave')).toBe(1);
    first.child.kill('SIGKILL');
    await first.ended;
    const second = start();
    await eventually(() => fake.count('run-enclave')).toBe(2);
    resolve();
    await second.next('enclave-serving');
    expect(enclaveIds()).toHaveLength(1);
  });

  it('that is ended while the enclave starts leaves none', async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    gate = promise;
    await writeConfig();
    const run = start();
    await run.next('ready');
    await eventually(() => fake.count('run-enclave')).toBe(1);
    run.child.kill('SIGTERM');
    await run.next('draining');
    resolve();
    expect(await run.ended).toBe(0);
    expect(enclaveIds()).toEqual([]);
  });

  it('says what nitro-cli means when the enclave does not start, and goes on trying', async () => {
    fake.next('run-enclave', failure('E27', 'Insufficient memory available.'), {
      status: 0,
      stdout: 'not JSON',
      stderr: '',
    });
    await writeConfig();
    const run = start();
    const failed = await run.next('enclave-start-failed');
    expect(failed).toMatchObject({ level: 'error', code: 'NITRO_CLI_FAILED' });
    expect(failed.message).toMatch(/E27: .* Raise memory_mib in \/etc\/nitro_enclaves/);
    expect(await run.next('enclave-restarting')).toMatchObject({ failures: 1 });
    expect(await run.next('enclave-start-failed')).toMatchObject({ code: 'NITRO_CLI_UNREADABLE' });
    await run.next('enclave-serving');
  });

  it('reads its configuration again on SIGHUP, but for what only a restart changes', async () => {
    await writeConfig();
    const run = start();
    await run.next('enclave-serving');
    await writeConfig({ egress: [{ host: 'kms.example.com', port: 443 }] });
    run.child.kill('SIGHUP');
    expect(await run.next('reloaded')).toMatchObject({ destinations: 1 });
    await writeConfig({}, { memoryMib: 4_096 });
    run.child.kill('SIGHUP');
    expect(await run.next('reload-refused')).toMatchObject({ message: expect.stringContaining('enclave') });
    expect(enclaveIds()).toHaveLength(1);
  });
});

describe('strongroom run refuses at once', () => {
  it('an image that is too large for its memory, with the sum, and starts nothing', async () => {
    await truncate(join(folder, 'image.eif'), 513 * MIB);
    await writeConfig();
    const run = start();
    expect(await run.ended).toBe(1);
    expect(run.told()).toContain('4 x 513 = 2052 MiB, enclave.memoryMib is 2048');
    expect(run.told()).toContain('NITRO_SIZE_REFUSED');
    expect(fake.calls).toEqual([]);
  });

  it('a model that is not there', async () => {
    await rm(join(folder, 'models', 'iris.sealed'), { recursive: true });
    await writeConfig();
    const run = start();
    expect(await run.ended).toBe(1);
    expect(run.told()).toContain('The model iris is not where models come from');
  });

  it('a host without nitro-cli', async () => {
    await writeConfig({}, { program: '/nowhere/nitro-cli' });
    const run = start();
    expect(await run.ended).toBe(2);
    expect(run.told()).toContain('NITRO_CLI_MISSING');
  });

  it('an image that is not there', async () => {
    await writeConfig({}, { image: 'other.eif' });
    const run = start();
    expect(await run.ended).toBe(2);
    expect(run.told()).toContain('other.eif');
  });

  it('an image that is a folder', async () => {
    await writeConfig({}, { image: '.' });
    const run = start();
    expect(await run.ended).toBe(2);
    expect(run.told()).toContain('PARENT_CONFIG_INVALID');
    expect(fake.calls).toEqual([]);
  });
});

describe('strongroom run --check', () => {
  it('shows the sum of the memory, and starts nothing', async () => {
    await writeConfig();
    const run = start('--check');
    expect(await run.ended).toBe(0);
    expect(run.output()).toMatch(/iris: weights in a memory file +1 MiB/);
    expect(run.output()).toMatch(/needed +\d+ MiB\nenclave.memoryMib +2048 MiB/);
    expect(run.output()).toContain('The enclave fits.');
    expect(fake.calls).toEqual([]);
  });

  it('tells a program the same, and ends with 1 when it does not fit', async () => {
    await writeConfig({}, { memoryMib: 512 });
    const run = start('--check', '--json');
    expect(await run.ended).toBe(1);
    expect(JSON.parse(run.output())).toMatchObject({
      configuration: 'accepted',
      enclave: { fits: false, memoryMib: 512, findings: [{ severity: 'error' }] },
    });
  });

  it('has nothing to size where somebody else starts the enclave', async () => {
    await writeConfig({ enclave: { kind: 'external' } });
    const run = start('--check', '--json');
    expect(await run.ended).toBe(0);
    expect(JSON.parse(run.output())).toEqual({ configuration: 'accepted', enclave: null });
  });
});

describe('strongroom run beside another launcher', () => {
  it('answers the sign of life, and says when the enclave serves and when it is gone', async () => {
    await writeConfig({ enclave: { kind: 'external' }, admin: { port: 0 } });
    const run = start();
    const admin = await run.next('admin-ready');
    const link = unixLink({ dial: join(folder, 'p'), listen: join(folder, 'e') });
    const beat = await link.dial(9_000, { timeoutMs: 20_000 });
    beat.end(Uint8Array.of(0xb7));
    expect(await readAll(beat)).toEqual(Buffer.of(0xb7));
    expect(await run.next('heartbeat')).toMatchObject({ outcome: 'answered' });
    const enclave = await standIn();
    await run.next('enclave-serving');
    expect((await fetch(`http://127.0.0.1:${admin.port}/readyz`)).status).toBe(200);
    await enclave.end();
    expect(await run.next('enclave-lost')).toMatchObject({ reason: 'silent' });
    run.child.kill('SIGTERM');
    expect(await run.ended).toBe(0);
    expect(fake.calls).toEqual([]);
  });
});
