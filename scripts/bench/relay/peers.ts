/** Who carries the bytes in the benchmark: nobody, this project's relay, socat, HAProxy with one and two threads. */
import { type ChildProcess, spawnSync } from 'node:child_process';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { spawnOn, startWorker, stopProcess } from './worker.ts';

export interface Peer {
  readonly name: string;
  /** Where its callers connect. */
  readonly port: number;
  /** Undefined for the direct connection, which has no process. */
  readonly pid?: number;
  stop(): Promise<void>;
}

export interface Processors {
  /** For whoever carries on one thread; undefined where taskset cannot pin. */
  readonly carrier?: string;
  readonly carrierOfTwo?: string;
  readonly load?: string;
}

const START_TIMEOUT_MS = 10_000;

/** Two processors: one carries, one makes the load. With more, the load has all the others. */
export function divideProcessors(count: number): Processors {
  if (count < 2 || missing('taskset')) return {};
  return { carrier: '0', carrierOfTwo: '0,1', load: count === 2 ? '1' : `${count > 3 ? 2 : 1}-${count - 1}` };
}

export function missing(program: string): boolean {
  return spawnSync(program, ['-V']).status !== 0 && spawnSync(program, ['-v']).status !== 0;
}

export async function startPeers(
  folder: string,
  socketPath: string,
  directPort: number,
  processors: Processors,
): Promise<{ readonly peers: readonly Peer[]; readonly skipped: readonly string[] }> {
  const peers: Peer[] = [{ name: 'direct', port: directPort, stop: async () => {} }];
  const skipped: string[] = [];
  const own = await startWorker(new URL('./own-relay.ts', import.meta.url), [folder], processors.carrier);
  peers.push({ name: 'relay', port: own.ready[0] as number, pid: own.pid, stop: own.stop });

  if (missing('socat')) skipped.push('socat');
  else peers.push(await startSocat(socketPath, processors.carrier));

  if (missing('haproxy')) skipped.push('haproxy-1', 'haproxy-2');
  else {
    peers.push(await startHaproxy('haproxy-1', 'haproxy-1-thread.cfg', socketPath, processors.carrier));
    peers.push(await startHaproxy('haproxy-2', 'haproxy-2-threads.cfg', socketPath, processors.carrierOfTwo));
  }
  return { peers, skipped };
}

async function startSocat(socketPath: string, processors: string | undefined): Promise<Peer> {
  const port = await freePort();
  const from = `TCP-LISTEN:${port},bind=127.0.0.1,fork,reuseaddr,nodelay,backlog=1024`;
  const child = spawnOn(processors, 'socat', ['-lf', '/dev/null', from, `UNIX-CONNECT:${socketPath}`]);
  return awaitPeer('socat', port, child);
}

async function startHaproxy(
  name: string,
  config: string,
  socketPath: string,
  processors: string | undefined,
): Promise<Peer> {
  const port = await freePort();
  const args = ['-db', '-q', '-f', join(import.meta.dirname, config)];
  const env = { BENCH_PORT: String(port), BENCH_SOCKET: socketPath };
  return awaitPeer(name, port, spawnOn(processors, 'haproxy', args, env));
}

async function awaitPeer(name: string, port: number, child: ChildProcess): Promise<Peer> {
  const deadline = performance.now() + START_TIMEOUT_MS;
  while (!(await answers(port))) {
    if (child.exitCode !== null || performance.now() > deadline) throw new Error(`${name} does not start`);
    await sleep(50);
  }
  return { name, port, pid: child.pid as number, stop: () => stopProcess(child) };
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect({ port, host: '127.0.0.1' });
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', () => resolve(false));
  });
}

/** These programs take no port 0, so a port is tried out and given back. */
function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer();
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}
