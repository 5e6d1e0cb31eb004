/** How fast an image file is measured, beside SHA-384 of the same file in the same run. */
import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileStream } from '../../review/image/eif/file-stream.ts';
import { measureEif } from '../../review/image/eif/measure-eif.ts';
import { writeEif } from '../../review/image/eif/write-eif.ts';
import type { Bench } from './main.ts';

const MIB = 1 << 20;
const ROUNDS = 3;
/**
 * Both PCR0 and PCR2 cover the application, so each byte costs two hashes: the bar for several processors asks for
 * a second one that is free, the load says whether it was.
 */
const RATIO_BAR = availableParallelism() > 1 ? 1.5 : 2.3;
const MEMORY_BAR_BYTES = 64 * MIB;

export const bench: Bench = {
  name: 'image',
  async run(args) {
    const sizeMib = Number(args[0] ?? '1024');
    if (!Number.isSafeInteger(sizeMib) || sizeMib < 64) {
      process.stderr.write('Usage: npm run bench -- image [MIB]    at least 64; default 1024\n');
      return 2;
    }
    const folder = await mkdtemp(join(tmpdir(), 'strongroom-bench-image-'));
    try {
      return await measureAll(join(folder, 'bench.eif'), sizeMib);
    } finally {
      await rm(folder, { recursive: true });
    }
  },
};

async function measureAll(file: string, sizeMib: number): Promise<number> {
  const slab = new Uint8Array(MIB).map((_, index) => index * 31 + (index >> 8));
  function* application() {
    for (let count = 0; count < sizeMib; count++) yield slab;
  }
  const small = () => [slab];
  const parts = { architecture: 'x86_64', kernel: small, commandLine: '', metadata: {} } as const;
  await writeEif({ ...parts, ramdisks: [small, application] }, file, { replace: false, at: new Date() });

  let plainMs = Number.POSITIVE_INFINITY;
  let imageMs = Number.POSITIVE_INFINITY;
  let peakBytes = 0;
  const before = process.memoryUsage().rss;
  for (let round = 0; round < ROUNDS; round++) {
    plainMs = Math.min(plainMs, await timed(() => plainSha384(file)));
    imageMs = Math.min(
      imageMs,
      await timed(() =>
        measureEif(fileStream(file), {
          at: new Date(),
          onProgress: () => {
            peakBytes = Math.max(peakBytes, process.memoryUsage.rss() - before);
          },
        }),
      ),
    );
  }
  const rate = (ms: number) => `${((sizeMib / ms) * 1000).toFixed(0)} MiB/s`;
  const ratio = imageMs / plainMs;
  const lines = [
    `image of ${sizeMib} MiB, best of ${ROUNDS}, ${availableParallelism()} processors, load ${(loadavg()[0] ?? 0).toFixed(1)}`,
    `plain SHA-384   ${rate(plainMs)}`,
    `image measure   ${rate(imageMs)}`,
    `ratio of times  ${ratio.toFixed(2)}    bar ${RATIO_BAR}    ${ratio <= RATIO_BAR ? 'met' : 'MISSED'}`,
    `memory on top   ${(peakBytes / MIB).toFixed(0)} MiB    bar ${MEMORY_BAR_BYTES / MIB} MiB    ${peakBytes <= MEMORY_BAR_BYTES ? 'met' : 'MISSED'}`,
  ];
  process.stdout.write(`${lines.join('\n')}\n`);
  return ratio <= RATIO_BAR && peakBytes <= MEMORY_BAR_BYTES ? 0 : 1;
}

async function plainSha384(file: string): Promise<void> {
  const hash = createHash('sha384');
  for await (const piece of fileStream(file)) hash.update(piece);
  hash.digest();
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}
