import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CONTROL_PORT } from '../../link/ports.ts';
import { unixLink } from '../../link/unix.ts';
import { firstLine } from '../../simulator/processes.ts';
import { eventually } from '../support/eventually.ts';

const repository = join(import.meta.dirname, '..', '..');
const node = join(repository, 'node_modules', '.bin', 'node');
const strongroom = join(repository, 'scripts', 'strongroom.ts');

describe('strongroom run with an admin port', () => {
  let folder: string;
  let child: ChildProcess | undefined;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'sr-'));
  });
  afterEach(async () => {
    child?.kill('SIGKILL');
    await rm(folder, { recursive: true });
  });

  it('is healthy at once, ready when its enclave is, and shows metrics', async () => {
    await writeFile(
      join(folder, 'parent.json'),
      JSON.stringify({
        format: 'strongroom-parent/1',
        link: { kind: 'unix', dial: 'e', listen: 'p' },
        ingress: { host: '127.0.0.1', port: 0 },
        egress: [{ host: 'kms.example.com', port: 443 }],
        deployment: 'deployment.json',
        models: { kind: 'folder', path: 'models' },
        credentials: { kind: 'file', path: 'credentials.json' },
        admin: { port: 0 },
      }),
    );
    child = spawn(node, [strongroom, 'run', '--config', 'parent.json'], {
      cwd: folder,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const { address, port, level } = await firstLine<Record<string, unknown>>(
      child,
      ({ event }) => event === 'admin-ready',
    );
    expect(level).toBe('info');
    const at = (path: string) => fetch(`http://${address}:${port}${path}`);
    expect(await (await at('/healthz')).json()).toEqual({ healthy: true });
    const unready = await at('/readyz');
    expect(unready.status).toBe(503);
    expect(await unready.json()).toEqual({ ready: false, reason: 'enclave-not-live' });

    const enclave = unixLink({ dial: join(folder, 'p'), listen: join(folder, 'e') });
    const listener = await enclave.listen(CONTROL_PORT, (connection) => {
      const body = '{"live":true,"ready":true}';
      connection.on('data', () =>
        connection.write(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`),
      );
    });
    await eventually(async () => (await at('/readyz')).status).toBe(200);
    const metrics = await (await at('/metrics')).text();
    expect(metrics).toContain('\nstrongroom_enclave_up 1\n');
    expect(metrics).toContain('\nstrongroom_enclave_state{state="unmanaged"} 1\n');
    expect(metrics).toContain('\nstrongroom_egress_open_tunnels{destination="kms.example.com:443"} 0\n');
    await listener.close();
  });
});
