/** Each place declares its own packages: what a party depends on is read off its package.json. */
import { readFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ROOT, sourcesOf, specifiersOf } from './sources.ts';

const FOLDERS = ['shared', 'link', 'enclave', 'parent', 'owner', 'client', 'review', 'simulator', 'scripts'];
const sources = FOLDERS.flatMap(sourcesOf);

describe('packages', () => {
  it('that a folder imports are declared in its own package.json', () => {
    const root = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
    const wrong = sources.flatMap((source) => {
      const folder = source.path.split('/')[0] as string;
      const manifest = JSON.parse(readFileSync(join(ROOT, folder, 'package.json'), 'utf8'));
      const dependencies = { ...manifest.dependencies, ...manifest.optionalDependencies };
      // Benchmarks compare with packages that no product file needs.
      const declared = source.path.startsWith('scripts/bench/')
        ? { ...dependencies, ...root.devDependencies }
        : dependencies;
      return specifiersOf(source)
        .filter((specifier) => !specifier.startsWith('.') && !isBuiltin(specifier))
        .map((specifier) => (/^(@[^/]+\/)?[^/]+/.exec(specifier) ?? [''])[0])
        .filter((name) => !Object.hasOwn(declared, name))
        .map((name) => `${source.path} imports ${name}`);
    });
    expect(wrong).toEqual([]);
  });
});
