/**
 * Serving under callers who behave and callers who do not, for as long as you like:
 * `npm run bench -- serve-soak [--minutes 5] [--keep-models]`. A local stack of processes, tensors and text, and both
 * models replaced by a newer version every minute; with --keep-models they are not, so that their engines grow as old
 * as the run. Nothing that a well-behaved caller asks may be lost or wrong. Memory and descriptors of parent, enclave
 * and engines must not grow any more in the last third of the run, nor may what the enclave's heap holds after a
 * full collection.
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
/** One for each model. */
const ENGINES = 2;
const GOOD = 12;
const BAD = 24;
/** What memory may differ by between two thirds of a run in which nothing leaks. */
const PLATEAU = { share: 0.05, bytes: 8 * MIB, descriptors: 16 };
/** The same of what a full collection leaves. */
const HELD_PLATEAU_BYTES = 1 * MIB;
/** A third with fewer full collections says nothing. */
const LEAST_COLLECTIONS = 3;
const COLLECTED_ENCLAVE = 'scripts/bench/serve/collected-enclave.ts';
const COLLECTED = /^\{"event":"collected","heldBytes":(\d+)\}$/;

interface Sample {
  readonly parent: ProcessSample;
  readonly enclave: ProcessSample;
  /** All of them together: two, and while a model is replaced three or four. */
  readonly engines: ProcessSample;
  /** No model is being replaced, which takes its memory twice for as long as it takes. */
  readonly settled: boolean;
}

interface Collection {
  readonly atMs: number;
  readonly heldBytes: number;
}

export const bench: Bench = {
  name: 'serve-soak',
  async run(args) {
    const { values } = parseArgs({
      args: [...args],
      options: {
        minutes: { type: 'string', default: '5' },
        'keep-models': { type: 'boolean', default: false },
      },
    });
    const minutes = Number(values.minutes);
    if (!(minutes > 0)) {
      process.stderr.write('Usage: npm run bench -- serve-soak [--minutes 5] [--keep-models]\n');
      return 2;
    }
    await using stack = await LocalStack.start({
      projectFolder: PROJECT,
      now: () => new Date(),
      standIn: COLLECTED_ENCLAVE,
    });
    const collections: Collection[] = [];
    const serving = await startServing(stack, {
      onLine: (from, line) => {
        const heldBytes = from === 'enclave' ? COLLECTED.exec(line)?.[1] : undefined;
        if (heldBytes !== undefined)
          collections.push({ atMs: performance.now(), heldBytes: Number(heldBytes) });
      },
    });
    const { instance, targets } = serving;
    const load = await startLoad({ url: instance.url, targets, good: GOOD, bad: BAD, patienceMs: 20_000 });
    const sample = (): Sample => {
      const { pid } = instance.enclave.process;
      const engines = childrenOf(pid);
      return {
        parent: processSample([instance.parentPid]),
        enclave: processSample([pid]),
        engines: processSample(engines),
        settled: engines.length === ENGINES,
      };
    };
    const samples: Sample[] = [];
    const begunMs = performance.now();
    const until = begunMs + minutes * 60_000;
    let replaced = 0;
    const replacing = (async () => {
      while (!values['keep-models'] && performance.now() + REPLACE_EVERY_MS < until) {
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
    const thirdMs = (until - begunMs) / 3;
    const held = [1, 2].map((third) =>
      collections
        .filter(({ atMs }) => Math.floor((atMs - begunMs) / thirdMs) === third)
        .map(({ heldBytes }) => heldBytes),
    );
    return [judge(samples, load), holds(held)].every((met) => met) ? 0 : 1;
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
    const of = samples.filter(({ settled }) => settled).map((sample) => sample[process]);
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

/** The last third of the settled samples beside the second one. */
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

/** What full collections left in the last third, beside the second one. */
function holds([second = [], last = []]: readonly (readonly number[])[]): boolean {
  const name = "what the enclave's heap holds: no growth";
  if (Math.min(second.length, last.length) < LEAST_COLLECTIONS) {
    return check(name, false, `${second.length} and ${last.length} full collections: run it for longer`);
  }
  const [before, after] = [median(second), median(last)];
  return check(
    name,
    after <= before + HELD_PLATEAU_BYTES,
    `median ${mib(before)} after ${second.length} full collections in the second third, ${mib(after)} after ${last.length} in the last`,
  );
}

function check(name: string, met: boolean, detail: string): boolean {
  print(`${met ? 'met   ' : 'MISSED'} ${name}${detail === '' ? '' : `: ${detail}`}`);
  return met;
}

function told({ counts }: ServeLoad): string {
  return `${counts.tensors} tensors, ${counts.texts} texts, ${counts.later} told to come later, ${counts.misbehaved} misbehaved, ${counts.left} left early`;
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
