/**
 * Soaks a parent, its relay and its tunnels, in churn on real sockets: this process is callers, enclave and the
 * destination outside; the parent is a process of its own, which is all that is measured.
 */
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Link } from '../../../link/link.ts';
import { HOST_SERVICE_PORT, SERVICE_PORT } from '../../../link/ports.ts';
import { unixLink } from '../../../link/unix.ts';
import type { SoakQuestion, SoakSample } from './soak-parent.ts';
import { KINDS, type Kind, randomTransfer, runTransfer, serveTransfer } from './soak-traffic.ts';
import { startWorker } from './worker.ts';

export interface SoakOptions {
  readonly kinds: readonly Kind[];
  /** Connections at once. */
  readonly atOnce: number;
  /** What each of them waits before the next one. */
  readonly pauseMs: number;
  readonly bigBytes: number;
  readonly idleTimeoutMs: number;
}

export interface Soak {
  readonly failures: readonly string[];
  readonly done: Readonly<Record<Kind, number>>;
  /** Lets connections churn until `enough`, then waits until all are closed, on the parent's side too. */
  churn(enough: () => boolean): Promise<void>;
  sample(): Promise<SoakSample>;
  reload(): Promise<void>;
  /** Drains the parent: its last sample, and whether nobody was cut. */
  drain(): Promise<SoakSample>;
  stop(): Promise<void>;
}

const EGRESS_HOST = 'soak.test';
const TUNNEL_SHARE = 0.3;
const CLOSED_TIMEOUT_MS = 120_000;

export async function startSoak(options: SoakOptions): Promise<Soak> {
  const folder = await mkdtemp(join(tmpdir(), 'sr-soak-'));
  const failures: string[] = [];
  const failed = (why: string): void => {
    if (failures.length < 100) failures.push(why);
  };
  const destination = createServer({ allowHalfOpen: true }, (socket) => serveTransfer(socket, failed));
  destination.listen({ host: '127.0.0.1', port: 0, backlog: 1024 });
  await once(destination, 'listening');
  const { port: egressPort } = destination.address() as { port: number };
  const enclaveLink = unixLink({ dial: join(folder, 'p'), listen: join(folder, 'e') });
  const listener = await enclaveLink.listen(SERVICE_PORT, (stream) => serveTransfer(stream, failed));

  const parent = await startWorker<SoakQuestion, SoakSample>(
    new URL('./soak-parent.ts', import.meta.url),
    [folder, EGRESS_HOST, String(egressPort), String(options.idleTimeoutMs)],
    undefined,
    ['--expose-gc'],
  );
  const done = Object.fromEntries(KINDS.map((kind) => [kind, 0])) as Record<Kind, number>;
  const random = randomFrom(1);
  const ask = queued(parent.ask);

  async function one(): Promise<void> {
    const kind = options.kinds[Math.floor(random() * options.kinds.length)] as Kind;
    const transfer = randomTransfer(kind, random, options.bigBytes);
    // Tunnels have an idle deadline of minutes, which nobody waits for here.
    const tunnel = kind !== 'idle' && random() < TUNNEL_SHARE;
    try {
      const connection = tunnel ? await openTunnel(enclaveLink) : await call(parent.ready.port);
      await runTransfer(connection, transfer);
      done[kind] += 1;
    } catch (error) {
      failed(`${tunnel ? 'tunnel' : 'caller'} ${JSON.stringify(transfer)}: ${(error as Error).message}`);
    }
  }

  async function churn(enough: () => boolean): Promise<void> {
    const lane = async (): Promise<void> => {
      while (!enough()) {
        await one();
        if (options.pauseMs > 0) await sleep(options.pauseMs * 2 * random());
      }
    };
    await Promise.all(Array.from({ length: options.atOnce }, lane));
    const deadline = performance.now() + CLOSED_TIMEOUT_MS;
    while (openOf(await ask({ kind: 'sample' })) > 0) {
      if (performance.now() > deadline) return failed('connections stay open in the parent');
      await sleep(50);
    }
  }

  return {
    failures,
    done,
    churn,
    sample: () => ask({ kind: 'sample' }),
    reload: async () => void (await ask({ kind: 'reload' })),
    drain: () => ask({ kind: 'drain' }),
    stop: async () => {
      await parent.stop();
      await listener.close();
      destination.close();
      await rm(folder, { recursive: true });
    },
  };
}

/** Connections that the parent still holds, by its own gauges. */
function openOf({ counters }: SoakSample): number {
  return (counters['ingress.open'] ?? 0) + (counters[`egress.open.${EGRESS_HOST}:443`] ?? 0);
}

async function call(port: number): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
  await once(socket, 'connect');
  return socket.on('error', () => {});
}

async function openTunnel(link: Link): Promise<Duplex> {
  const stream = await link.dial(HOST_SERVICE_PORT, { timeoutMs: 30_000 });
  stream.write(`CONNECT ${EGRESS_HOST}:443 HTTP/1.1\r\nHost: ${EGRESS_HOST}:443\r\n\r\n`);
  let head = '';
  while (!head.endsWith('\r\n\r\n')) {
    const byte = stream.read(1) as Buffer | null;
    if (byte !== null) head += byte.toString('latin1');
    else if (stream.destroyed || stream.readableEnded) throw new Error(`no tunnel: ${head}`);
    else await Promise.race([once(stream, 'readable'), once(stream, 'close')]);
  }
  if (!head.startsWith('HTTP/1.1 200 ')) throw new Error(`no tunnel: ${head}`);
  return stream;
}

/** One question after the other. */
function queued<Question, Answer>(
  ask: (question: Question) => Promise<Answer>,
): (question: Question) => Promise<Answer> {
  let last: Promise<unknown> = Promise.resolve();
  return (question) => {
    const answer = last.then(() => ask(question));
    last = answer.catch(() => {});
    return answer;
  };
}

/** Numbers from 0 to 1 that are the same in every run (mulberry32). */
function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
