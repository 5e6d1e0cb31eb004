/**
 * The parent's relay and tunnels in churn for as long as you like: `npm run bench -- relay-soak [--minutes 30]`.
 * Nothing may be lost, descriptors must come back to where they were, and memory must not grow any more in the last
 * third of the run.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import type { Bench } from './main.ts';
import { type Soak, startSoak } from './relay/soak.ts';
import type { SoakSample } from './relay/soak-parent.ts';
import { KINDS, type Kind } from './relay/soak-traffic.ts';

const MIB = 1 << 20;
const WARM_UP_CONNECTIONS = 500;
const SAMPLE_EVERY_MS = 10_000;
/** An idle connection takes as long as its deadline, so there are few. */
const OTHERS_PER_IDLE = 40;
const IDLE_TIMEOUT_MS = 30_000;
/** What memory may differ by between two thirds of a run in which nothing leaks. */
const PLATEAU = { share: 0.05, rssBytes: 4 * MIB, heapBytes: MIB };

export const bench: Bench = {
  name: 'relay-soak',
  async run(args) {
    const { values } = parseArgs({
      args: [...args],
      options: { minutes: { type: 'string', default: '30' } },
    });
    const minutes = Number(values.minutes);
    if (!(minutes > 0)) {
      process.stderr.write('Usage: npm run bench -- relay-soak [--minutes 30]\n');
      return 2;
    }
    const busy = KINDS.filter((kind) => kind !== 'idle');
    const soak = await startSoak({
      kinds: [...Array.from({ length: OTHERS_PER_IDLE }, () => busy).flat(), 'idle'],
      atOnce: 24,
      pauseMs: 100,
      bigBytes: 8 * MIB,
      idleTimeoutMs: IDLE_TIMEOUT_MS,
    });
    try {
      return await soakFor(soak, minutes * 60_000);
    } finally {
      await soak.stop();
    }
  },
};

async function soakFor(soak: Soak, durationMs: number): Promise<number> {
  let warmUp = 0;
  await soak.churn(() => warmUp++ >= WARM_UP_CONNECTIONS);
  const base = await soak.sample();
  print(`after ${WARM_UP_CONNECTIONS} connections: ${show(base)}`);

  const until = performance.now() + durationMs;
  const churning = soak.churn(() => performance.now() >= until);
  const samples: SoakSample[] = [];
  while (performance.now() < until) {
    await sleep(Math.min(SAMPLE_EVERY_MS, Math.max(until - performance.now(), 1)));
    await soak.reload();
    const sample = await soak.sample();
    samples.push(sample);
    if (samples.length % 6 === 0) print(`${new Date().toISOString()} ${total(soak)} done: ${show(sample)}`);
  }
  await churning;
  const end = await soak.sample();
  const drained = await soak.drain();
  print(`all closed: ${show(end)}\n${JSON.stringify(soak.done)}\n${JSON.stringify(end.counters)}`);

  const checks = [
    check(
      `no loss in ${total(soak)} connections`,
      soak.failures.length === 0,
      soak.failures.slice(0, 10).join('; '),
    ),
    check(
      'descriptors are back',
      end.descriptors <= base.descriptors,
      `${base.descriptors} before, ${end.descriptors} after`,
    ),
    plateau('resident memory', samples, (sample) => sample.rssBytes, PLATEAU.rssBytes),
    plateau('heap', samples, (sample) => sample.heapBytes, PLATEAU.heapBytes),
    plateau('memory outside the heap', samples, (sample) => sample.externalBytes, PLATEAU.heapBytes),
    check('the drain cut nobody', drained.graceful === true, ''),
  ];
  return checks.every((met) => met) ? 0 : 1;
}

/** The last third of the samples beside the second one. */
function plateau(
  name: string,
  samples: readonly SoakSample[],
  pick: (sample: SoakSample) => number,
  slackBytes: number,
): boolean {
  const third = Math.floor(samples.length / 3);
  const second = median(samples.slice(third, 2 * third).map(pick));
  const last = median(samples.slice(2 * third).map(pick));
  const met = last <= second * (1 + PLATEAU.share) + slackBytes;
  return check(
    `${name} does not grow`,
    met,
    `median ${mib(second)} in the second third, ${mib(last)} in the last`,
  );
}

function check(name: string, met: boolean, detail: string): boolean {
  print(`${met ? 'met   ' : 'MISSED'} ${name}${detail === '' ? '' : `: ${detail}`}`);
  return met;
}

function total({ done }: Soak): number {
  return KINDS.reduce((sum: number, kind: Kind) => sum + done[kind], 0);
}

function show({ rssBytes, heapBytes, externalBytes, descriptors }: SoakSample): string {
  return `RSS ${mib(rssBytes)}, heap ${mib(heapBytes)}, outside ${mib(externalBytes)}, ${descriptors} descriptors`;
}

function mib(bytes: number): string {
  return `${(bytes / MIB).toFixed(1)} MiB`;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
