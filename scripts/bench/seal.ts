/**
 * What an owner waits for: whole processes that seal a file and open it again, from file to file, beside what else
 * people use for it, in turns. `npm run bench -- seal [--mib 512] [--rounds 5] [--folder /dev/shm]`.
 *
 * They do not do the same: `age` and the AWS Encryption SDK authenticate chunks; `openssl enc` authenticates nothing;
 * `strongroom seal` also makes two tables of digests, flushes to the disk, and `open` checks them all. No bar is set.
 * A small file shows what a start costs; what is left of a large one without that is the rate of a model of many GB.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { randomBytes, randomFillSync } from 'node:crypto';
import {
  createReadStream,
  createWriteStream,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { parseArgs } from 'node:util';
import { ageKey, encryptionSdkStreams } from './sealed-model-peers.ts';

/** What npx starts. */
const STRONGROOM = join(import.meta.dirname, '..', 'strongroom.mjs');
const MIB = 1 << 20;
const SMALL_MIB = 1;

interface Tool {
  readonly name: string;
  seal(): Promise<void> | void;
  open(): Promise<void> | void;
  /** Removes what `seal` and `open` made, so that the next round begins as the first. */
  clear(): void;
  readonly opened: string;
}

export const bench = {
  name: 'seal',
  async run(args: readonly string[]): Promise<number> {
    const { values } = parseArgs({
      args: [...args],
      options: {
        mib: { type: 'string', default: '512' },
        rounds: { type: 'string', default: '5' },
        folder: { type: 'string', default: '/dev/shm' },
      },
    });
    const folder = mkdtempSync(join(values.folder, 'strongroom-bench-'));
    try {
      const [sizeMib, rounds] = [Number(values.mib), Number(values.rounds)];
      const large = await compare(toolsFor(folder, sizeMib), { sizeMib, rounds });
      const small = await compare(toolsFor(folder, SMALL_MIB), { sizeMib: SMALL_MIB, rounds });
      report(large, small, { sizeMib, rounds });
      return 0;
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  },
};

function toolsFor(parent: string, sizeMib: number): readonly Tool[] {
  const folder = mkdtempSync(join(parent, `${sizeMib}-`));
  const plain = join(folder, 'model.bin');
  writePlaintext(plain, sizeMib);
  return [strongroom(folder, plain), ...peers(folder, plain)];
}

interface Cost {
  readonly seconds: number;
  /** Of the processor, user and system, by all threads; none for what runs in this process. */
  readonly processorSeconds: number | undefined;
}

type Costs = ReadonlyMap<string, { readonly seal: Cost; readonly open: Cost }>;

async function compare(
  tools: readonly Tool[],
  { sizeMib, rounds }: { readonly sizeMib: number; readonly rounds: number },
): Promise<Costs> {
  const taken = new Map(tools.map(({ name }) => [name, { seal: [] as Cost[], open: [] as Cost[] }]));
  for (let round = 0; round < rounds; round++) {
    for (const tool of tools) {
      taken.get(tool.name)?.seal.push(await costOf(() => tool.seal()));
      taken.get(tool.name)?.open.push(await costOf(() => tool.open()));
      if (statSync(tool.opened).size !== sizeMib * MIB) throw new Error(`${tool.name} lost something`);
      tool.clear();
    }
  }
  return new Map(
    [...taken].map(([name, { seal, open }]) => [name, { seal: medianOf(seal), open: medianOf(open) }]),
  );
}

function report(
  large: Costs,
  small: Costs,
  { sizeMib, rounds }: { readonly sizeMib: number; readonly rounds: number },
): void {
  process.stdout.write(`${sizeMib} MiB from file to file, medians of ${rounds} rounds in turns\n`);
  process.stdout.write('  MiB a second (without the start) | processor seconds (of it for the start)\n');
  for (const work of ['seal', 'open'] as const) {
    for (const [name, costs] of large) {
      const [all, start] = [costs[work], small.get(name)?.[work] as Cost];
      const without = (sizeMib - SMALL_MIB) / (all.seconds - start.seconds);
      const processor =
        all.processorSeconds === undefined
          ? '-'
          : `${all.processorSeconds.toFixed(2)} (${start.processorSeconds?.toFixed(2)})`;
      const rate = `${(sizeMib / all.seconds).toFixed(0)} (${without > 0 ? without.toFixed(0) : '-'})`;
      process.stdout.write(`  ${work}  ${name.padEnd(44)} ${rate.padStart(12)} | ${processor}\n`);
    }
  }
}

function strongroom(folder: string, plain: string): Tool {
  const [key, sealed, opened] = [join(folder, 'data.key'), join(folder, 'm.sealed'), join(folder, 'opened')];
  writeFileSync(key, randomBytes(32), { mode: 0o600 });
  const run = (...args: string[]): void => {
    execFileSync(process.execPath, [STRONGROOM, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
  };
  return {
    name: 'strongroom seal, open',
    seal: () => run('seal', '--name', 'm', '--version', '1', '--key-file', key, '-o', sealed, plain),
    open: () => run('open', sealed, '--key-file', key, '-o', opened),
    clear: () => {
      for (const path of [sealed, opened]) rmSync(path, { recursive: true });
    },
    opened: join(opened, 'model.bin'),
  };
}

function peers(folder: string, plain: string): Tool[] {
  const found: Tool[] = [encryptionSdk(folder, plain)];
  for (const [program, make] of [
    ['age', age],
    ['openssl', openssl],
  ] as const) {
    if (spawnSync(program, ['--version']).error === undefined) found.push(make(folder, plain));
    else process.stdout.write(`SKIPPED ${program}: the program is absent\n`);
  }
  return found;
}

function age(folder: string, plain: string): Tool {
  const { keyFile, recipient } = ageKey(folder);
  const [sealed, opened] = [join(folder, 'm.age'), join(folder, 'age.opened')];
  return {
    name: 'age (ChaCha20-Poly1305)',
    seal: () => void execFileSync('age', ['-r', recipient, '-o', sealed, plain]),
    open: () => void execFileSync('age', ['-d', '-i', keyFile, '-o', opened, sealed]),
    clear: () => {
      for (const path of [sealed, opened]) rmSync(path);
    },
    opened,
  };
}

function openssl(folder: string, plain: string): Tool {
  const [key, sealed, opened] = [join(folder, 'pass'), join(folder, 'm.enc'), join(folder, 'enc.opened')];
  writeFileSync(key, randomBytes(32).toString('hex'), { mode: 0o600 });
  const run = (...args: string[]): void => {
    execFileSync('openssl', ['enc', '-aes-256-ctr', '-pbkdf2', '-pass', `file:${key}`, ...args]);
  };
  return {
    name: 'openssl enc (AES-256-CTR, unauthenticated)',
    seal: () => run('-in', plain, '-out', sealed),
    open: () => run('-d', '-in', sealed, '-out', opened),
    clear: () => {
      for (const path of [sealed, opened]) rmSync(path);
    },
    opened,
  };
}

/** In this process, so without a start of Node. */
function encryptionSdk(folder: string, plain: string): Tool {
  const [sealed, opened] = [join(folder, 'm.esdk'), join(folder, 'esdk.opened')];
  const sdk = encryptionSdkStreams(MIB);
  return {
    name: 'AWS Encryption SDK (1 MiB frames)',
    seal: () => pipeline(createReadStream(plain), sdk.encrypt(), createWriteStream(sealed)),
    open: () => pipeline(createReadStream(sealed), sdk.decrypt(), createWriteStream(opened)),
    clear: () => {
      for (const path of [sealed, opened]) rmSync(path);
    },
    opened,
  };
}

function writePlaintext(path: string, sizeMib: number): void {
  const piece = new Uint8Array(MIB);
  for (let done = 0; done < sizeMib; done++) writeFileSync(path, randomFillSync(piece), { flag: 'a' });
}

/** The children that ended during `work`: `cutime` and `cstime` of proc_pid_stat(5), in ticks of 1/100 s. */
async function costOf(work: () => Promise<void> | void): Promise<Cost> {
  const [startedMs, before] = [performance.now(), processorOfChildren()];
  await work();
  const processorSeconds = processorOfChildren() - before;
  return {
    seconds: (performance.now() - startedMs) / 1000,
    processorSeconds: processorSeconds > 0 ? processorSeconds : undefined,
  };
}

function processorOfChildren(): number {
  const stat = readFileSync('/proc/self/stat', 'latin1');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[13]) + Number(fields[14])) / 100;
}

function medianOf(costs: readonly Cost[]): Cost {
  const processor = costs.flatMap(({ processorSeconds }) => processorSeconds ?? []);
  return {
    seconds: median(costs.map(({ seconds }) => seconds)),
    processorSeconds: processor.length === 0 ? undefined : median(processor),
  };
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] as number;
}
