/**
 * How fast models are sealed and opened, as ratios to what the same machine does in the same run: absolute
 * figures say more about the host and its neighbours than about this code. `npm run bench -- sealed-model`.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { closeSync, constants, mkdtempSync, openSync, rmSync, statfsSync, writeSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';
import { type Head, parseHead } from '../../shared/sealed-model/head.ts';
import { openSealedModel } from '../../shared/sealed-model/open.ts';
import { openTagsOnly } from '../../shared/sealed-model/open-tags-only.ts';
import type { OpenTarget } from '../../shared/sealed-model/opening.ts';
import { startOpeningThreads } from '../../shared/sealed-model/opening-threads.ts';
import { type PayloadSink, sealModel } from '../../shared/sealed-model/seal.ts';
import { planSeal } from '../../shared/sealed-model/seal-plan.ts';
import { fileSource, memorySource, type PayloadSource } from '../../shared/sealed-model/source.ts';
import { type UnlockedHead, unlockHead } from '../../shared/sealed-model/unlock.ts';
import { measureAge, measureEncryptionSdk, measureTypage, type PeerResult } from './sealed-model-peers.ts';
import type { Yardstick } from './sealed-model-worker.ts';

const MIB = 1 << 20;
const THREADS = 2;
/** Bars of docs/sealed-model.md section 9.4. */
const BARS = { ofMemcpy: 0.7, ofBestPeer: 5, ofStrictIdeal: 0.75, overDataMiB: 64 } as const;

interface Run {
  readonly sizeBytes: number;
  readonly passes: number;
  readonly folder: string;
  readonly plaintext: SharedArrayBuffer;
  readonly payload: SharedArrayBuffer;
  readonly target: SharedArrayBuffer;
}

export const bench = {
  name: 'sealed-model',
  async run(args: readonly string[]): Promise<number> {
    const { values } = parseArgs({
      args: [...args],
      options: {
        size: { type: 'string', default: '1024' },
        passes: { type: 'string', default: '5' },
        'without-peers': { type: 'boolean', default: false },
      },
    });
    const sizeBytes = Number(values.size) * MIB;
    const folder = mkdtempSync(join(roomyFolder(sizeBytes), 'strongroom-bench-'));
    try {
      const shared = (): SharedArrayBuffer => touched(new SharedArrayBuffer(sizeBytes));
      const run: Run = {
        sizeBytes,
        passes: Number(values.passes),
        folder,
        plaintext: shared(),
        payload: shared(),
        target: shared(),
      };
      fillRandom(run.plaintext);
      print(
        `sealed-model: ${values.size} MiB, ${THREADS} threads, Node ${process.version}, OpenSSL ${process.versions.openssl}, files in ${folder}`,
      );
      return await measureAll(run, !values['without-peers']);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  },
};

async function measureAll(run: Run, withPeers: boolean): Promise<number> {
  const workers = await Promise.all(Array.from({ length: THREADS }, startYardstick));
  const yardstick = (kind: Yardstick['kind'], threads: number): Promise<number> =>
    runYardstick(run, workers.slice(0, threads), kind);
  await printYardsticks(run, yardstick);
  const { head, dataKey } = await measureSealing(run);
  using unlocked = unlockHead(head, dataKey);
  const ratios = await measureOpening(run, unlocked, yardstick);
  for (const worker of workers) worker.postMessage('close');
  await measureFiles(run, unlocked);
  const overMiB = measureMemory(run);
  const bestPeer = withPeers ? await measurePeers(run) : undefined;

  print('\nBars');
  const verdicts = [
    verdict('aead of two-thread memcpy', ratios.ofMemcpy, BARS.ofMemcpy),
    ...(bestPeer === undefined
      ? []
      : [verdict('aead of the best peer', ratios.aead / bestPeer, BARS.ofBestPeer)]),
    verdict('strict of 2/(1/decrypt + 1/SHA-256)', ratios.ofIdeal, BARS.ofStrictIdeal),
    verdictAtMost('memory over the data, MiB', overMiB, BARS.overDataMiB),
  ];
  return verdicts.every((met) => met) ? 0 : 1;
}

/** What this machine does right now, and whether its two threads are worth two. */
async function printYardsticks(
  run: Run,
  yardstick: (kind: Yardstick['kind'], threads: number) => Promise<number>,
): Promise<void> {
  print('\nYardsticks');
  const line = (name: string, one: number, two: number): void =>
    print(`  ${name.padEnd(44)} ${gbs(one)} one thread, ${gbs(two)} two (${(two / one).toFixed(2)} x)`);
  const gb = run.sizeBytes / 1e9;
  const rate = async (kind: Yardstick['kind'], threads: number): Promise<number> =>
    gb / middle(await series(run.passes, () => yardstick(kind, threads)));
  const cipher = [await rate('cipher', 1), await rate('cipher', THREADS)] as const;
  line("Node's own OpenSSL, AES-256-GCM in cache", ...cipher);
  line('memcpy between shared buffers', await rate('copy', 1), await rate('copy', THREADS));
  line('SHA-256', await rate('hash', 1), await rate('hash', THREADS));
  const debian = opensslSpeed();
  if (debian === undefined) print('  openssl speed: skipped, the openssl program is absent');
  else line(`openssl speed (${debian.version}), 1 MiB`, debian.one, debian.two);
  if (cipher[1] / cipher[0] < SCALING) {
    print(
      '  NOTE: two threads are not worth two on this host right now; two-thread figures are low, run again later',
    );
  }
}

/** Below this, the host runs both threads on what amounts to one core. */
const SCALING = 1.8;

/** Seconds that these threads need together for the whole size. */
function runYardstick(run: Run, workers: readonly Worker[], kind: Yardstick['kind']): Promise<number> {
  const part = run.sizeBytes / workers.length;
  return seconds(() =>
    Promise.all(
      workers.map((worker, index) => {
        const range = { start: index * part, end: (index + 1) * part };
        worker.postMessage({ kind, from: run.plaintext, to: run.target, ...range } satisfies Yardstick);
        return new Promise((resolve) => worker.once('message', resolve));
      }),
    ),
  );
}

async function startYardstick(): Promise<Worker> {
  const worker = new Worker(new URL('./sealed-model-worker.ts', import.meta.url));
  await new Promise((resolve) => worker.once('message', resolve));
  return worker;
}

function opensslSpeed(): { version: string; one: number; two: number } | undefined {
  const speed = (multi: readonly string[]): number | undefined => {
    const options = ['speed', '-mr', '-elapsed', '-seconds', '1', '-bytes', String(MIB), '-decrypt'];
    const { stdout } = spawnSync('openssl', [...options, ...multi, '-evp', 'aes-256-gcm'], {
      encoding: 'utf8',
    });
    const rate = /^\+F:\d+:[^:]+:([0-9.]+)\s*$/m.exec(stdout ?? '')?.[1];
    return rate === undefined ? undefined : Number(rate) / 1e9;
  };
  const version = spawnSync('openssl', ['version'], { encoding: 'utf8' }).stdout?.split(' ')[1];
  const [one, two] = [speed([]), speed(['-multi', String(THREADS)])];
  return version === undefined || one === undefined || two === undefined ? undefined : { version, one, two };
}

async function measureSealing(run: Run): Promise<{ head: Head; dataKey: Uint8Array }> {
  print('\nSealing (with the plaintext digest, the digest table and the tags)');
  const plan = planSeal(
    { name: 'bench', version: 1, format: 'raw' },
    [{ path: 'model.raw', sizeBytes: run.sizeBytes }],
    randomFillSync(new Uint8Array(32)),
  );
  const dataKey = randomFillSync(new Uint8Array(new ArrayBuffer(32)));
  const seal = (input: PayloadSource, sink: PayloadSink): ReturnType<typeof sealModel> =>
    sealModel({ plan, inputs: [input], dataKey, sink });
  const intoMemory = (buffer: SharedArrayBuffer): PayloadSink => ({
    async write(offset, bytes) {
      new Uint8Array(buffer).set(bytes, offset);
    },
  });
  const inMemory = memorySource(run.plaintext);
  const cold = await seconds(() => seal(inMemory, intoMemory(new SharedArrayBuffer(run.sizeBytes))));
  const warm = await median(run.passes, () => seal(inMemory, intoMemory(run.payload)));
  report('memory to memory', run, { cold, warm });

  writeWhole(join(run.folder, 'plain'), run.plaintext);
  await using input = await fileSource(join(run.folder, 'plain'));
  const intoFile = async (): Promise<void> => {
    await using file = await open(join(run.folder, 'payload'), KEEP_PAGES);
    await seal(input, {
      async write(offset, bytes) {
        for (let done = 0; done < bytes.length; ) {
          done += (await file.write(bytes, done, bytes.length - done, offset + done)).bytesWritten;
        }
      },
    });
  };
  const fileCold = await seconds(intoFile);
  report('file to file', run, { cold: fileCold, warm: await median(run.passes, intoFile) });
  const { head } = await seal(inMemory, intoMemory(run.payload));
  writeWhole(join(run.folder, 'payload'), run.payload);
  return { head: parseHead(head), dataKey };
}

interface OpeningRatios {
  /** GB/s. */
  readonly aead: number;
  readonly ofMemcpy: number;
  readonly ofIdeal: number;
}

/**
 * Memory to memory. What a bar compares is measured in turns, and the ratio is the median of the turns' ratios,
 * so that whatever the host's neighbours do falls on both sides. `strict` is the whole call that boot makes.
 */
async function measureOpening(
  run: Run,
  unlocked: UnlockedHead,
  yardstick: (kind: Yardstick['kind'], threads: number) => Promise<number>,
): Promise<OpeningRatios> {
  print('\nOpening, memory to memory');
  const source = memorySource(run.payload);
  const remote: PayloadSource = { sizeBytes: source.sizeBytes, read: source.read };
  const warm: OpenTarget = { kind: 'memory', buffer: run.target };
  const cold = (): OpenTarget => ({ kind: 'memory', buffer: new SharedArrayBuffer(run.sizeBytes) });
  const ahead = async (how: typeof openTagsOnly, target: OpenTarget, threads: number): Promise<number> => {
    const workers = startOpeningThreads(threads);
    await new Promise((resolve) => setTimeout(resolve, THREADS_START_MS));
    return seconds(() => how(unlocked, source, target, { workers }));
  };
  /** Until the last byte is open; ending the threads afterwards wipes their keys, and takes as long at any size. */
  const opened = async (target: OpenTarget, threads: number): Promise<number> => {
    const workers = startOpeningThreads(threads);
    await new Promise((resolve) => setTimeout(resolve, THREADS_START_MS));
    const start = performance.now();
    let end = start;
    const onProgress = (openedBytes: number): void => {
      if (openedBytes === run.sizeBytes) end = performance.now();
    };
    await openTagsOnly(unlocked, source, target, { workers, onProgress });
    return (end - start) / 1000;
  };
  const strictWhole = (from: PayloadSource, target: OpenTarget): Promise<number> =>
    seconds(() => openSealedModel(unlocked, from, target, { workers: THREADS }));

  const turns: Record<
    'copy' | 'aead' | 'aeadOne' | 'aeadWhole' | 'hash' | 'hashOne' | 'strict' | 'strictAhead' | 'strictFed',
    number
  >[] = [];
  for (let pass = 0; pass <= run.passes; pass++) {
    turns.push({
      copy: await yardstick('copy', THREADS),
      aead: await opened(warm, THREADS),
      aeadOne: await opened(warm, 1),
      aeadWhole: await seconds(() => openTagsOnly(unlocked, source, warm, { workers: THREADS })),
      hash: await yardstick('hash', THREADS),
      hashOne: await yardstick('hash', 1),
      strict: await strictWhole(source, warm),
      strictAhead: await ahead(openSealedModel, warm, THREADS),
      strictFed: await strictWhole(remote, warm),
    });
  }
  turns.shift(); // the first warms up
  if (Buffer.compare(new Uint8Array(run.target), new Uint8Array(run.plaintext)) !== 0) {
    throw new Error('what was opened is not what was sealed');
  }
  type Turn = (typeof turns)[number];
  const mid = (of: (turn: Turn) => number): number => middle(turns.map(of));
  const coldOf = {
    aead: await opened(cold(), THREADS),
    strict: await strictWhole(source, cold()),
  };
  report('aead, threads started beforehand', run, { warm: mid((turn) => turn.aead), cold: coldOf.aead });
  report('aead, one thread', run, { warm: mid((turn) => turn.aeadOne) });
  report('aead, the whole call with its threads', run, { warm: mid((turn) => turn.aeadWhole) });
  report('strict, the whole call', run, { warm: mid((turn) => turn.strict), cold: coldOf.strict });
  report('strict, threads started beforehand', run, { warm: mid((turn) => turn.strictAhead) });
  report('strict, fed by the main thread', run, { warm: mid((turn) => turn.strictFed) });

  // Seconds: 2/(1/decrypt + 1/SHA-256) of a thread's own rates, and of its rates while the other one runs too.
  const ofIdealAlone = mid((turn) => (turn.aeadOne + turn.hashOne) / THREADS / turn.strict);
  const ofIdeal = mid((turn) => (turn.aead + turn.hash) / turn.strict);
  print(
    `  strict of 2/(1/decrypt + 1/SHA-256): ${ofIdealAlone.toFixed(2)} of rates that one thread reaches alone,`,
  );
  print(`    ${ofIdeal.toFixed(2)} of rates that each reaches while both run`);
  return {
    aead: run.sizeBytes / 1e9 / mid((turn) => turn.aead),
    ofMemcpy: mid((turn) => turn.copy / turn.aead),
    ofIdeal,
  };
}

/** Warm passes write into pages that the file has already; the first pass gets fresh ones. */
const KEEP_PAGES = constants.O_RDWR | constants.O_CREAT;

const THREADS_START_MS = 300;

async function measureFiles(run: Run, unlocked: UnlockedHead): Promise<void> {
  print('\nOpening, file to file');
  await using source = await fileSource(join(run.folder, 'payload'));
  for (const [name, how] of [
    ['aead', openTagsOnly],
    ['strict', openSealedModel],
  ] as const) {
    const intoFile = async (): Promise<void> => {
      const fd = openSync(join(run.folder, 'opened'), KEEP_PAGES);
      try {
        await how(unlocked, source, { kind: 'files', fds: [fd] }, { workers: THREADS });
      } finally {
        closeSync(fd);
      }
    };
    const cold = await seconds(intoFile);
    report(`${name}, the whole call`, run, { cold, warm: await median(run.passes, intoFile) });
  }
}

/** Peak resident memory of a strict opening over its data; the same at any size, so two sizes are shown. */
function measureMemory({ sizeBytes }: Run): number {
  const program = join(import.meta.dirname, 'sealed-model-memory.ts');
  const over = (sizeMiB: number): number =>
    Number(execFileSync(process.execPath, ['--expose-gc', program, String(sizeMiB)]).toString());
  const sizeMiB = sizeBytes / MIB;
  const [whole, quarter] = [over(sizeMiB), over(sizeMiB / 4)];
  print(
    `\nMemory over the data while opening: ${whole} MiB at ${sizeMiB} MiB, ${quarter} MiB at ${sizeMiB / 4} MiB`,
  );
  return whole;
}

/** The best opening rate of the three, GB/s. */
async function measurePeers(run: Run): Promise<number> {
  print('\nPeers, on the same bytes');
  const whole = new Uint8Array(run.plaintext);
  const results: PeerResult[] = [];
  const age = await measureAge(run.folder, join(run.folder, 'plain'), run.sizeBytes);
  if (age === undefined) print('  age: skipped, it is not installed (Debian package "age")');
  else results.push(age);
  for (const frameBytes of [64 << 10, MIB]) results.push(await measureEncryptionSdk(whole, frameBytes));
  results.push(await measureTypage(new Uint8Array(whole.subarray(0, Math.min(run.sizeBytes, 128 * MIB)))));
  for (const { name, sizeBytes, sealSeconds, openSeconds } of results) {
    print(
      `  ${name.padEnd(44)} seal ${gbs(sizeBytes / sealSeconds / 1e9)}, open ${gbs(sizeBytes / openSeconds / 1e9)}`,
    );
  }
  return Math.max(...results.map(({ sizeBytes, openSeconds }) => sizeBytes / openSeconds / 1e9));
}

function verdict(what: string, found: number, bar: number): boolean {
  print(
    `  ${what.padEnd(44)} bar >= ${bar}, measured ${found.toFixed(2)}: ${found >= bar ? 'met' : 'NOT met'}`,
  );
  return found >= bar;
}

function verdictAtMost(what: string, found: number, bar: number): boolean {
  print(
    `  ${what.padEnd(44)} bar < ${bar}, measured ${found.toFixed(0)}: ${found < bar ? 'met' : 'NOT met'}`,
  );
  return found < bar;
}

function report(what: string, { sizeBytes }: Run, { cold, warm }: { cold?: number; warm: number }): void {
  const first = cold === undefined ? '' : `, cold ${gbs(sizeBytes / cold / 1e9)}`;
  print(`  ${what.padEnd(44)} warm ${gbs(sizeBytes / warm / 1e9)}${first}`);
}

async function seconds(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1000;
}

async function series(passes: number, work: () => Promise<number>): Promise<number[]> {
  const found: number[] = [];
  for (let pass = 0; pass <= passes; pass++) found.push(await work());
  return found.slice(1); // the first warms up
}

async function median(passes: number, work: () => Promise<unknown>): Promise<number> {
  return middle(await series(passes, () => seconds(work)));
}

function middle(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] as number;
}

function gbs(rate: number): string {
  return `${rate.toFixed(2).padStart(6)} GB/s`;
}

function touched(buffer: SharedArrayBuffer): SharedArrayBuffer {
  new Uint8Array(buffer).fill(1);
  return buffer;
}

function fillRandom(buffer: SharedArrayBuffer): void {
  for (let at = 0; at < buffer.byteLength; at += MIB) randomFillSync(new Uint8Array(buffer, at, MIB));
}

function writeWhole(path: string, buffer: SharedArrayBuffer): void {
  const fd = openSync(path, 'w');
  try {
    for (let at = 0; at < buffer.byteLength; ) {
      at += writeSync(fd, new Uint8Array(buffer, at, Math.min(64 * MIB, buffer.byteLength - at)));
    }
  } finally {
    closeSync(fd);
  }
}

/** Memory if there is room for all files at once; else the disk, whose speed is then part of the figures. */
function roomyFolder(sizeBytes: number): string {
  try {
    const { bavail, bsize } = statfsSync('/dev/shm');
    return bavail * bsize > 6 * sizeBytes ? '/dev/shm' : tmpdir();
  } catch {
    return tmpdir();
  }
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
