/**
 * Serving under callers who behave and callers who do not, for as long as you like:
 * `npm run bench -- serve-soak [--minutes 5]`. A local stack of processes, tensors and text, and both models replaced
 * by a newer version every minute. Nothing that a well-behaved caller asks may be lost or wrong, and memory and
 * descriptors of parent, enclave and engines must not grow any more in the last third of the run.
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { LocalStack } from '../../simulator/local-stack.ts';
import type { Bench } from './main.ts';
import { type ServeLoad, startLoad } from './serve/load.ts';
import { childrenOf, type ProcessSample, processSample } from './serve/process-sample.ts';
import { replaceModel, startServing } from './serve/stack.ts';

const PROJECT = join(import.meta.dirname, '..', '..');
const MIB = 1 << 20;
const SAMPLE_EVERY_MS = 5_000;
const REPLACE_EVERY_MS = 60_000;
const GOOD = 12;
const BAD = 24;
/** What memory may differ by between two thirds of a run in which nothing leaks. */
const PLATEAU = { share: 0.05, bytes: 8 * MIB, descriptors: 16 };

interface Sample {
  readonly parent: ProcessSample;
  readonly enclave: ProcessSample;
  /** All of them together: two, and while a model is replaced three or four. */
  readonly engines: ProcessSample;
}

export const bench: Bench = {
  name: 'serve-soak',
  async run(args) {
    const { values } = parseArgs({ args: [...args], options: { minutes: { type: 'string', default: '5' } } });
    const minutes = Number(values.minutes);
    if (!(minutes > 0)) {
      process.stderr.write('Usage: npm run bench -- serve-soak [--minutes 5]\n');
      return 2;
    }
    await using stack = await LocalStack.start({ projectFolder: PROJECT, now: () => new Date() });
    const serving = await startServing(stack);
    const { instance, targets } = serving;
    const load = await startLoad({ url: instance.url, targets, good: GOOD, bad: BAD, patienceMs: 20_000 });
    const sample = (): Sample => ({
      parent: processSample([instance.parentPid]),
      enclave: processSample([instance.enclave.process.pid]),
      engines: processSample(childrenOf(instance.enclave.process.pid)),
    });
    const samples: Sample[] = [];
    const until = performance.now() + minutes * 60_000;
    let replaced = 0;
    const replacing = (async () => {
      while (performance.now() + REPLACE_EVERY_MS < until) {
        await sleep(REPLACE_EVERY_MS);
        for (const name of [targets.tensors, targets.text]) {
          await replaceModel(serving, name, replaced + 2);
        }
        replaced += 1;
        print(`${new Date().toISOString()} both models replaced by version ${replaced + 1}`);
      }
    })();
    while (performance.now() < until) {
      await sleep(Math.min(SAMPLE_EVERY_MS, Math.max(until - performance.now(), 1)));
      samples.push(sample());
      if (samples.length % 6 === 0)
        print(`${new Date().toISOString()} ${show(samples.at(-1) as Sample)}; ${told(load)}`);
    }
    await replacing;
    await load.stop();
    print(`done: ${told(load)}; ${replaced} times both models replaced`);
    return judge(samples, load) ? 0 : 1;
  },
};

function judge(samples: readonly Sample[], load: ServeLoad): boolean {
  const checks = [
    check(
      'every answer is right and complete',
      load.failures.length === 0,
      load.failures.slice(0, 10).join('; '),
    ),
    check('there were answers of both kinds', load.counts.tensors > 0 && load.counts.texts > 0, ''),
  ];
  for (const process of ['parent', 'enclave', 'engines'] as const) {
    const of = samples.map((sample) => sample[process]);
    checks.push(
      plateau(
        `resident memory of ${process}`,
        of.map(({ rssBytes }) => rssBytes),
        PLATEAU.bytes,
        mib,
      ),
      plateau(
        `heaps and stacks of ${process}`,
        of.map(({ anonymousBytes }) => anonymousBytes),
        PLATEAU.bytes,
        mib,
      ),
      plateau(
        `descriptors of ${process}`,
        of.map(({ descriptors }) => descriptors),
        PLATEAU.descriptors,
        String,
      ),
    );
  }
  return checks.every((met) => met);
}

/** The last third of the samples beside the second one. */
function plateau(
  name: string,
  values: readonly number[],
  slack: number,
  unit: (value: number) => string,
): boolean {
  const third = Math.floor(values.length / 3);
  const second = median(values.slice(third, 2 * third));
  const last = median(values.slice(2 * third));
  const met = last <= second * (1 + PLATEAU.share) + slack;
  return check(
    `${name}: no growth`,
    met,
    `median ${unit(second)} in the second third, ${unit(last)} in the last`,
  );
}

function check(name: string, met: boolean, detail: string): boolean {
  print(`${met ? 'met   ' : 'MISSED'} ${name}${detail === '' ? '' : `: ${detail}`}`);
  return met;
}

function told({ counts }: ServeLoad): string {
  return `${counts.tensors} tensors, ${counts.texts} texts, ${counts.later} told to come later, ${counts.misbehaved} misbehaved`;
}

function show({ parent, enclave, engines }: Sample): string {
  const one = (name: string, { rssBytes, anonymousBytes, descriptors }: ProcessSample): string =>
    `${name} RSS ${mib(rssBytes)} (own ${mib(anonymousBytes)}), ${descriptors} fds`;
  return [one('parent', parent), one('enclave', enclave), one('engines', engines)].join('; ');
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
