/**
 * What an owner waits for: whole processes that seal a file and open it again, from file to file, beside what else
 * people use for it, in turns. `npm run bench -- seal [--mib 512] [--rounds 5] [--folder /dev/shm]`.
 *
 * They do not do the same: `age` and the AWS Encryption SDK authenticate chunks; `openssl enc` authenticates nothing;
 * `strongroom seal` also makes two tables of digests, flushes to the disk, and `open` checks them all. No bar is set.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { randomBytes, randomFillSync } from 'node:crypto';
import { createReadStream, createWriteStream, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { parseArgs } from 'node:util';
import { ageKey, encryptionSdkStreams } from './sealed-model-peers.ts';

const STRONGROOM = join(import.meta.dirname, '..', 'strongroom.ts');
const MIB = 1 << 20;

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
      const plain = join(folder, 'model.bin');
      const sizeMib = Number(values.mib);
      writePlaintext(plain, sizeMib);
      const tools = [strongroom(folder, plain), ...peers(folder, plain)];
      await compare(tools, { sizeMib, rounds: Number(values.rounds) });
      return 0;
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  },
};

async function compare(
  tools: readonly Tool[],
  { sizeMib, rounds }: { readonly sizeMib: number; readonly rounds: number },
): Promise<void> {
  const seconds = new Map(tools.map(({ name }) => [name, { seal: [] as number[], open: [] as number[] }]));
  for (let round = 0; round < rounds; round++) {
    for (const tool of tools) {
      const taken = seconds.get(tool.name);
      taken?.seal.push(await timed(() => tool.seal()));
      taken?.open.push(await timed(() => tool.open()));
      if (statSync(tool.opened).size !== sizeMib * MIB) throw new Error(`${tool.name} lost something`);
      tool.clear();
    }
  }
  process.stdout.write(
    `${sizeMib} MiB from file to file, medians of ${rounds} rounds in turns, MiB a second\n`,
  );
  for (const [name, { seal, open }] of seconds) {
    const rate = (taken: number[]): string => (sizeMib / median(taken)).toFixed(0).padStart(6);
    process.stdout.write(`  ${name.padEnd(44)} seal ${rate(seal)}   open ${rate(open)}\n`);
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

async function timed(work: () => Promise<void> | void): Promise<number> {
  const startedMs = performance.now();
  await work();
  return (performance.now() - startedMs) / 1000;
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] as number;
}
