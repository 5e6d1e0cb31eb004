/** `npm run bench -- NAME [ARGS]` runs ./NAME.ts, which exports `bench`; without a name it says how. */
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

export interface Bench {
  readonly name: string;
  /** Prints each bar, what was measured, and whether it is met; may resolve to an exit code. */
  run(args: readonly string[]): Promise<number | undefined>;
}

const [name, ...args] = process.argv.slice(2);
const file = join(import.meta.dirname, `${name}.ts`);

if (name === undefined || !/^[a-z0-9-]+$/.test(name) || !existsSync(file)) {
  process.stderr.write(`Usage: npm run bench -- NAME [ARGS]\nNames: ${(await benchNames()).join(', ')}\n`);
  process.exitCode = 2;
} else {
  const { bench } = (await import(file)) as { bench: Bench };
  process.exitCode = (await bench.run(args)) ?? 0;
}

async function benchNames(): Promise<string[]> {
  const names: string[] = [];
  for (const entry of (await readdir(import.meta.dirname)).sort()) {
    const text = entry.endsWith('.ts') ? await readFile(join(import.meta.dirname, entry), 'utf8') : '';
    if (/^export const bench\b/m.test(text)) names.push(entry.slice(0, -'.ts'.length));
  }
  return names;
}
