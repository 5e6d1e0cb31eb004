/**
 * The relay beside socat and HAProxy, in one run: callers on TCP, the enclave's end on a UNIX socket, each in a
 * process of its own and the same for all. `npm run bench -- relay [--rounds 5] [--mib 512]`.
 *
 * Every round measures every peer in turn, so that whatever else the machine does falls on all of them; figures are
 * medians of the rounds, ratios medians of the rounds' ratios.
 *
 * Bulk is judged by bytes a processor second of the carrier, and on a quiet machine by the clock too. There whoever
 * carries on one thread has processor 0 alone and the load has the others: with two processors the load can be the
 * limit, so those rounds do not count in which it is, nor those in which neighbours came.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import type { Bench } from './main.ts';
import type { CallersQuestion } from './relay/callers.ts';
import type { Measurement } from './relay/load.ts';
import { divideProcessors, type Peer, type Processors, startPeers } from './relay/peers.ts';
import { machineSeconds, memoryBytes, processorSeconds } from './relay/processor-time.ts';
import { startWorker, type Worker } from './relay/worker.ts';

const BARS = { ofHaproxyBulk: 0.75, ofSocatBulk: 2, ofHaproxyAddedP50: 3 } as const;
const STREAMS = [1, 8, 64] as const;
const DIRECTIONS = ['up', 'down'] as const;
/** Below this, what others take of the machine is noise. */
const QUIET_PROCESSORS = 0.15;
const QUIET_LOOK_MS = 2_000;
/** Above this share of its processors, the load is the limit and not the carrier. */
const LOAD_LIMIT = 0.9;
const ROUND_TRIPS = 2_000;
/** Round trips take little time, so they are repeated more often. */
const ROUND_TRIP_ROUNDS = 4;
const HELD = 1_000;
const MIB = 1 << 20;

interface Load {
  readonly callers: Worker<CallersQuestion>;
  readonly enclave: Worker<Measurement>;
  /** The carrier has a processor of its own. */
  readonly pinned: boolean;
}

interface BulkSample {
  /** The clock tells of the carrier: neither neighbours nor the load itself wanted more processor than there is. */
  readonly fair: boolean;
  readonly bytesPerSecond: number;
  /** Of the carrier; NaN for the direct connection. */
  readonly bytesPerProcessorSecond: number;
  readonly processors: number;
}

/** peer name -> one sample a round */
type Samples<T> = Map<string, T[]>;

export const bench: Bench = {
  name: 'relay',
  async run(args) {
    const { values } = parseArgs({
      args: [...args],
      options: {
        rounds: { type: 'string', default: '5' },
        mib: { type: 'string', default: '512' },
      },
    });
    const folder = await mkdtemp(join(tmpdir(), 'strongroom-bench-relay-'));
    try {
      return await measureAll(folder, Number(values.rounds), Number(values.mib));
    } finally {
      await rm(folder, { recursive: true });
    }
  },
};

async function measureAll(folder: string, rounds: number, mib: number): Promise<number> {
  const neighbours = watchNeighbours();
  await sleep(QUIET_LOOK_MS);
  const busy = neighbours();
  // A processor of one's own is worth having only where nobody else comes to it.
  const processors = busy < QUIET_PROCESSORS ? divideProcessors(availableParallelism()) : {};
  const pinned =
    processors.carrier === undefined
      ? `not pinned, neighbours take ${busy.toFixed(2)}: only processor time is judged`
      : `for bulk, carrier on ${processors.carrier}, load on ${processors.load}`;
  print(
    `relay: ${rounds} rounds, ${mib} MiB each, ${availableParallelism()} processors (${pinned}), ` +
      `load average ${loadavg()[0]?.toFixed(1)}, Node ${process.version}`,
  );
  const sizeBytes = mib * MIB;
  const inBulk = await withPeers(folder, processors, (load, peers) => bulk(load, peers, rounds, sizeBytes));
  // One at a time nobody is in another's way, so the scheduler may place them as it does in production.
  const oneByOne = await withPeers(folder, {}, async (load, peers) => [
    ...(await roundTrips(load, peers, rounds)),
    ...(await held(load, peers)),
  ]);
  const verdicts = [...inBulk.verdicts, ...oneByOne.verdicts];
  print('\nBars');
  for (const { text, met } of verdicts) print(`  ${met ? 'met   ' : 'MISSED'} ${text}`);
  for (const name of inBulk.skipped)
    print(`  SKIPPED ${name} is not installed: its column and its bars are missing`);
  if (!verdicts.every(({ met }) => met)) return 1;
  // What was not compared is not passed.
  return inBulk.skipped.length === 0 ? 0 : 3;
}

async function withPeers(
  folder: string,
  processors: Processors,
  measure: (load: Load, peers: readonly Peer[]) => Promise<Verdict[]>,
): Promise<{ readonly verdicts: Verdict[]; readonly skipped: readonly string[] }> {
  const own = await mkdtemp(join(folder, 'p-'));
  const socketPath = join(own, '7443.sock');
  const enclave = await startWorker<Measurement>(
    new URL('./relay/enclave.ts', import.meta.url),
    [socketPath],
    processors.load,
  );
  const callers = await startWorker<CallersQuestion>(
    new URL('./relay/callers.ts', import.meta.url),
    [],
    processors.load,
  );
  const [directPort] = enclave.ready as [number];
  const { peers, skipped } = await startPeers(own, socketPath, directPort, processors);
  try {
    return {
      verdicts: await measure({ callers, enclave, pinned: processors.carrier !== undefined }, peers),
      skipped,
    };
  } finally {
    for (const worker of [...peers, callers, enclave]) await worker.stop();
  }
}

interface Verdict {
  readonly text: string;
  readonly met: boolean;
}

async function bulk(
  load: Load,
  peers: readonly Peer[],
  rounds: number,
  sizeBytes: number,
): Promise<Verdict[]> {
  const verdicts: Verdict[] = [];
  for (const direction of DIRECTIONS) {
    for (const streams of STREAMS) {
      const samples: Samples<BulkSample> = new Map(peers.map(({ name }) => [name, []]));
      // The first round is not counted: code is compiled and buffers of the kernel grow in it.
      for (let round = -1; round < rounds; round++) {
        for (const peer of peers) {
          const sample = await bulkOnce(load, peer, direction, streams, sizeBytes);
          if (round >= 0) samples.get(peer.name)?.push(sample);
        }
      }
      print(
        `\nBulk ${direction === 'up' ? 'to' : 'from'} the enclave, ${streams} streams: MB/s, MB per processor second, processors`,
      );
      for (const [name, of] of samples) {
        const column = (pick: (sample: BulkSample) => number): number => median(of.map(pick));
        print(
          `  ${name.padEnd(10)} ${mb(column((s) => s.bytesPerSecond))} ${mb(column((s) => s.bytesPerProcessorSecond))} ` +
            `${column((s) => s.processors)
              .toFixed(2)
              .padStart(6)}`,
        );
      }
      const bars = [
        ['haproxy-1', BARS.ofHaproxyBulk],
        ['socat', BARS.ofSocatBulk],
      ] as const;
      for (const [peer, bar] of bars) {
        const ratio = ratios(samples, peer);
        if (ratio === undefined) continue;
        const byClock = Number.isNaN(ratio.clock)
          ? 'not judged (neighbours, or the load at its limit)'
          : ratio.clock.toFixed(2);
        verdicts.push({
          // NaN is smaller than nothing: without a fair round only processor time is judged.
          met: ratio.processor >= bar && !(ratio.clock < bar),
          text:
            `bulk ${direction}, ${streams} streams, of ${peer}: ${ratio.processor.toFixed(2)} by processor time, ` +
            `by the clock ${byClock}, bar at least ${bar}`,
        });
      }
    }
  }
  return verdicts;
}

/**
 * Of the relay to a peer: by the clock, over the rounds in which it tells of the carriers, and by processor time,
 * which neighbours disturb less, over all of them.
 */
function ratios(
  samples: Samples<BulkSample>,
  peer: string,
): { clock: number; processor: number } | undefined {
  const [own, other] = [samples.get('relay'), samples.get(peer)];
  if (own === undefined || other === undefined) return undefined;
  const pairs = own.map((sample, round) => [sample, other[round] as BulkSample] as const);
  const fair = pairs.filter((pair) => pair.every((sample) => sample.fair));
  return {
    clock: median(fair.map(([a, b]) => a.bytesPerSecond / b.bytesPerSecond)),
    processor: median(pairs.map(([a, b]) => a.bytesPerProcessorSecond / b.bytesPerProcessorSecond)),
  };
}

async function bulkOnce(
  { callers, enclave, pinned }: Load,
  peer: Peer,
  direction: (typeof DIRECTIONS)[number],
  streams: number,
  sizeBytes: number,
): Promise<BulkSample> {
  const receiver: Pick<Worker<Measurement>, 'ask'> = direction === 'up' ? enclave : callers;
  // So many streams hold hundreds of MiB in the kernel's buffers; what is measured must be far more.
  const size = streams > 8 ? sizeBytes * 4 : sizeBytes;
  await callers.ask({ kind: 'bulk', port: peer.port, streams, direction });
  const neighbours = watchNeighbours();
  const loadSeconds = (): number => processorSeconds(callers.pid) + processorSeconds(enclave.pid);
  const loadBefore = loadSeconds();
  const startedMs = performance.now();
  const [bytes, seconds, processor] = (await receiver.ask({
    kind: 'measure',
    warmUpBytes: size / 4,
    sizeBytes: size,
    carrier: peer.pid,
  })) as [number, number, number];
  const loadBusy = ((loadSeconds() - loadBefore) * 1000) / (performance.now() - startedMs);
  const loadProcessors = Math.max(availableParallelism() - 1, 1);
  const fair = pinned && neighbours() < QUIET_PROCESSORS && loadBusy < LOAD_LIMIT * loadProcessors;
  await callers.ask({ kind: 'leave' });
  const carried = peer.pid === undefined ? Number.NaN : processor;
  return {
    fair,
    bytesPerSecond: bytes / seconds,
    bytesPerProcessorSecond: bytes / carried,
    processors: carried / seconds,
  };
}

/** How many processors the rest of the machine takes between this call and the next. */
function watchNeighbours(): () => number {
  const used = (): number => machineSeconds() - processorSeconds(process.pid);
  const [before, startedMs] = [used(), performance.now()];
  return () => ((used() - before) * 1000) / (performance.now() - startedMs);
}

async function roundTrips({ callers }: Load, peers: readonly Peer[], rounds: number): Promise<Verdict[]> {
  const samples = new Map(peers.map(({ name }) => [name, { p50: [] as number[], p99: [] as number[] }]));
  for (let round = 0; round < rounds * ROUND_TRIP_ROUNDS; round++) {
    for (const { name, port } of peers) {
      const times = await callers.ask({ kind: 'round-trips', port, count: ROUND_TRIPS });
      await callers.ask({ kind: 'leave' });
      const sorted = times.slice(ROUND_TRIPS / 10).sort((a, b) => a - b);
      samples.get(name)?.p50.push(quantile(sorted, 0.5) / 1000);
      samples.get(name)?.p99.push(quantile(sorted, 0.99) / 1000);
    }
  }
  print('\nRound trip of 64 bytes, microseconds: p50, p99; added to the direct connection: p50, p99');
  const direct = samples.get('direct') as { p50: number[]; p99: number[] };
  const added = (name: string, at: 'p50' | 'p99'): number[] =>
    samples.get(name)?.[at].map((us, round) => us - (direct[at][round] as number)) ?? [];
  for (const [name, { p50, p99 }] of samples) {
    print(
      `  ${name.padEnd(10)} ${us(median(p50))} ${us(median(p99))} ` +
        `${us(median(added(name, 'p50')))} ${us(median(added(name, 'p99')))}`,
    );
  }
  if (!samples.has('haproxy-1')) return [];
  // Of medians: one round's addition may be next to nothing, and its ratio anything.
  const ratio = median(added('relay', 'p50')) / median(added('haproxy-1', 'p50'));
  return [
    {
      met: ratio <= BARS.ofHaproxyAddedP50,
      text: `added p50 of haproxy-1: ${ratio.toFixed(2)}, bar at most ${BARS.ofHaproxyAddedP50}`,
    },
  ];
}

async function held({ callers }: Load, peers: readonly Peer[]): Promise<Verdict[]> {
  print(`\n${HELD} connections held: answered when opened, answered again, KiB a connection`);
  const verdicts: Verdict[] = [];
  for (const { name, port, pid } of peers) {
    const before = pid === undefined ? Number.NaN : memoryBytes(pid);
    const [opened] = (await callers.ask({ kind: 'hold', port, count: HELD })) as [number];
    const after = pid === undefined ? Number.NaN : memoryBytes(pid);
    const [again] = (await callers.ask({ kind: 'greet' })) as [number];
    await callers.ask({ kind: 'leave' });
    const each = ((after - before) / HELD / 1024).toFixed(1);
    print(`  ${name.padEnd(10)} ${opened} ${again} ${each.padStart(8)}`);
    if (name === 'relay') {
      const met = opened === HELD && again === HELD;
      verdicts.push({ met, text: `${HELD} connections held: ${opened} answered, ${again} again` });
    }
  }
  return verdicts;
}

function median(values: readonly number[]): number {
  return quantile(
    values.toSorted((a, b) => a - b),
    0.5,
  );
}

function quantile(sorted: readonly number[], share: number): number {
  return sorted[Math.floor(share * (sorted.length - 1))] ?? Number.NaN;
}

function mb(bytes: number): string {
  return (bytes / 1e6).toFixed(0).padStart(7);
}

function us(value: number): string {
  return value.toFixed(1).padStart(7);
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
