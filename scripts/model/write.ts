/**
 * Writes a language model with random weights, to try commands with: `node scripts/model/write.ts tiny-llama FILE`.
 * The name is that of a shape of random-llama.ts; the same name gives the same bytes each time.
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import { BENCH_LLAMA, encodeRandomLlama, TINY_LLAMA } from './random-llama.ts';

const [name, file, ...others] = process.argv.slice(2);
const shape = [TINY_LLAMA, BENCH_LLAMA].find((known) => known.name === name);
if (shape === undefined || file === undefined || others.length > 0) {
  process.stderr.write('Usage: node scripts/model/write.ts tiny-llama|bench-llama FILE\n');
  process.exit(2);
}
const descriptor = openSync(file, 'wx');
for (const piece of encodeRandomLlama(shape)) writeSync(descriptor, piece);
closeSync(descriptor);
