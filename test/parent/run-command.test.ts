import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { hostService } from '../../enclave/host/host-service.ts';
import { SERVICE_PORT } from '../../link/ports.ts';
import { unixLink } from '../../link/unix.ts';
import { eventually, readAll, tcpServer } from './setup.ts';

const repository = join(import.meta.dirname, '..', '..');
const node = join(repository, 'node_modules', '.bin', 'node');

interface Line {
  readonly event: string;
  readonly [field: string]: unknown;
}

describe('strongroom run', () => {
  let folder: string;
  let child: ChildProcess | undefined;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'sr-'));
  });
  afterEach(async () => {
    child?.kill('SIGKILL');
    await rm(folder, { recursive: true });
  });

  async function writeConfig(change: object = {}): Promise<void> {
    await writeFile(join(folder, 'deployment.json'), 'first');
    await writeFile(
      join(folder, 'parent.json'),
      JSON.stringify({
        format: 'strongroom-parent/1',
        link: { kind: 'unix', dial: 'e', listen: 'p' },
        ingress: { host: '127.0.0.1', port: 0 },
        egress: [],
        deployment: 'deployment.json',
        models: { kind: 'folder', path: 'models' },
        credentials: { kind: 'file', path: 'credentials.json' },
        ...change,
      }),
    );
  }

  /** Starts the command in the folder and gives its log, line by line. */
  function start(): {
    next(event: string): Promise<Line>;
    told(): string;
    readonly child: ChildProcess;
    /** Resolves to the exit code once everything that it said has been read. */
    readonly ended: Promise<number | null>;
  } {
    const started = spawn(
      node,
      [join(repository, 'scripts', 'strongroom.ts'), 'run', '--config', 'parent.json'],
      {
        cwd: folder,
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    );
    child = started;
    let told = '';
    started.stderr?.on('data', (chunk: Buffer) => {
      told += chunk.toString();
    });
    const lines = createInterface({ input: started.stdout as NodeJS.ReadableStream })[Symbol.asyncIterator]();
    return {
      child: started,
      ended: new Promise((resolve) => started.once('close', resolve)),
      told: () => told,
      next: async (event) => {
        for (;;) {
          const { value, done } = await lines.next();
          if (done === true) throw new Error(`the parent ended before it said ${event}: ${told}`);
          const line = JSON.parse(String(value)) as Line;
          if (line.event === event) return line;
        }
      },
    };
  }

  it('says where it listens, relays, and drains on an interrupt', async () => {
    await writeConfig();
    const run = start();
    const { port } = await run.next('ready');
    const enclave = unixLink({ dial: join(folder, 'p'), listen: join(folder, 'e') });
    const listener = await enclave.listen(SERVICE_PORT, (connection) => connection.pipe(connection));
    const caller = connect({ port: Number(port), host: '127.0.0.1', allowHalfOpen: true });
    await once(caller, 'connect');
    caller.write('one, ');
    await once(caller, 'data');
    run.child.kill('SIGTERM');
    await eventually(() => connectFails(Number(port))).toBe(true);
    caller.end('two');
    expect((await readAll(caller)).toString()).toBe('two');
    expect(await run.next('stopped')).toMatchObject({ graceful: true });
    expect(await run.ended).toBe(0);
    await listener.close();
  });

  it('reads its configuration again on SIGHUP, and open tunnels live on', async () => {
    await using echo = await tcpServer((socket) => socket.pipe(socket));
    const override = { address: '127.0.0.1', port: echo.port };
    await writeConfig({ egress: [{ host: 'kms.example.com', port: 443, override }] });
    const run = start();
    await run.next('ready');
    const host = hostService(unixLink({ dial: join(folder, 'p'), listen: join(folder, 'e') }));
    const open = await host.connect('kms.example.com', 443, 5_000);

    await writeConfig({ egress: [] });
    run.child.kill('SIGHUP');
    await run.next('reloaded');
    await expect(host.connect('kms.example.com', 443, 5_000)).rejects.toMatchObject({
      code: 'LINK_ANSWER_REFUSED',
    });
    open.end('still here');
    expect((await readAll(open)).toString()).toBe('still here');

    await writeConfig({ ingress: { host: '127.0.0.2', port: 0 } });
    run.child.kill('SIGHUP');
    expect(await run.next('reload-refused')).toMatchObject({ code: 'PARENT_RELOAD_REFUSED' });
    await writeFile(join(folder, 'parent.json'), '{');
    run.child.kill('SIGHUP');
    expect(await run.next('reload-refused')).toMatchObject({ code: 'PARENT_CONFIG_INVALID' });
    host.close();
  });

  it.each(['a full disk', 'a reader that has left'])(
    'goes on when its log cannot be written: %s',
    async (why) => {
      await writeConfig();
      const full = openSync('/dev/full', 'w');
      const started = spawn(
        node,
        [join(repository, 'scripts', 'strongroom.ts'), 'run', '--config', 'parent.json'],
        { cwd: folder, stdio: ['ignore', why === 'a full disk' ? full : 'pipe', 'ignore'] },
      );
      closeSync(full);
      child = started;
      started.stdout?.destroy();
      const ended = once(started, 'exit');
      const host = hostService(unixLink({ dial: join(folder, 'p'), listen: join(folder, 'e') }));
      const deployment = () =>
        host.fetchDeployment().then(
          (bytes) => Buffer.from(bytes).toString(),
          () => undefined,
        );
      await eventually(deployment).toBe('first');
      await writeFile(join(folder, 'second.json'), 'second');
      await writeConfig({ deployment: 'second.json' });
      // It has said several things by then, none of which could be written.
      for (const signal of ['SIGHUP', 'SIGHUP'] as const) started.kill(signal);
      await eventually(deployment).toBe('second');
      started.kill('SIGTERM');
      expect(await ended).toEqual([0, null]);
      host.close();
    },
  );

  it('replaces the socket of a killed run', async () => {
    await writeConfig();
    const first = start();
    await first.next('ready');
    first.child.kill('SIGKILL');
    await first.ended;
    await start().next('ready');
  });

  it('refuses a second parent on the same link', async () => {
    await writeConfig();
    await start().next('ready');
    const first = child;
    const second = start();
    expect(await second.ended).toBe(2);
    expect(second.told()).toContain('LINK_ADDRESS_IN_USE');
    first?.kill('SIGKILL');
  });
});

async function connectFails(port: number): Promise<boolean> {
  const socket = connect({ port, host: '127.0.0.1' });
  try {
    await once(socket, 'connect');
    return false;
  } catch {
    return true;
  } finally {
    socket.destroy();
  }
}
