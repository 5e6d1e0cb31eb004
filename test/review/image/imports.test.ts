// biome-ignore-all lint/suspicious/noTemplateCurlyInString: programs as text are the subject here
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadsOf } from '../../../review/image/imports.ts';

const loads = (source: string) => loadsOf(source, 'x.ts');
const modules = (source: string) => loads(source).modules;
const files = (source: string) => loads(source).files;

describe('what a file loads', () => {
  it.each([
    ["import 'a';", ['a']],
    ["import x from 'a'", ['a']],
    ["import x, { y as z } from './a.ts';", ['./a.ts']],
    ['import * as ns from "a";', ['a']],
    ["import data from './a.json' with { type: 'json' };", ['./a.json']],
    ["import { type T, value } from './a.ts';", ['./a.ts']],
    ["import { type T } from './a.ts';", ['./a.ts']],
    ["import type from './a.ts';", ['./a.ts']],
    ["import type, { x } from './a.ts';", ['./a.ts']],
    ["export { x } from 'a'; export * from 'b'; export * as c from 'c';", ['a', 'b', 'c']],
    ["const x = await import('./a.ts');", ['./a.ts']],
    ['const x = await import(`./a.ts`);', ['./a.ts']],
    ["run(...import('./a.ts'))", ['./a.ts']],
    ["const require = createRequire(import.meta.url); require('a'); require.resolve('b');", ['a', 'b']],
    ["import.meta.resolve('a')", ['a']],
    ["if (x) { /* y */ import('a') } // z", ['a']],
    ["const x = `${await import('a')}`", ['a']],
    ["const x = `a ${`b ${'}'} ${import('a')}`} c`", ['a']],
    ["const x = a / b / c; import('a')", ['a']],
    ["const x = /'[/']/.test(y); import('a')", ['a']],
  ])('%s', (source, expected) => expect(modules(source)).toEqual(expected));

  it.each([
    ["import type { T } from './a.ts';"],
    ["import type T from './a.ts';"],
    ["import type * as T from './a.ts';"],
    ["export type { T } from './a.ts';"],
    ["// import 'a'"],
    ["/* import 'a' */"],
    ['const x = "import \'a\'";'],
    ["const x = `import 'a' ${1} import('b')`;"],
    ["const x = /import 'a'/;"],
    ["object.import('a'); object.require('a');"],
    ['export const from = 1; export { x };\nconst y = "a";'],
    ["export default 'a'"],
    ["import.meta.url; const from = ['a'];"],
  ])('nothing: %s', (source) => expect(loads(source)).toEqual({ modules: [], files: [] }));

  it('files named through new URL, workers and child processes among them', () => {
    expect(files("new Worker(new URL('./worker.ts', import.meta.url), { x: f(1) })")).toEqual([
      './worker.ts',
    ]);
    expect(files("readFileSync(new URL('roots.pem', import.meta.url))")).toEqual(['roots.pem']);
    expect(files("new URL('https://example.com/'); new URL(path, base); new URL(x)")).toEqual([]);
  });

  it.each([
    ['import(name)'],
    ["import('a' + b)"],
    ['import(`./${x}.ts`)'],
    ['const require = createRequire(import.meta.url); require(name)'],
    ["createRequire(import.meta.url)('a')"],
    ['const load = createRequire(import.meta.url)'],
    ['new URL(name, import.meta.url)'],
    ['new URL(`./${x}.ts`, import.meta.url)'],
    ["import('./a\\u002ets')"],
    ["'does not end"],
    ['`does not end'],
    ['`does not ${end'],
  ])('refused, because nobody could follow it: %s', (source) => {
    expect(() => loads(source)).toThrow(expect.objectContaining({ code: 'IMAGE_IMPORT_UNCLEAR' }));
  });

  it('the refusal names file and line', () => {
    expect(() => loads('\n\nimport(x)')).toThrow('x.ts:3: import()');
  });
});

describe('beside V8', () => {
  it('agrees with its parser on the static imports of every file outside scripts', () => {
    const root = join(import.meta.dirname, '..', '..', '..');
    const sources = ['shared', 'enclave', 'link', 'parent', 'owner', 'client', 'review', 'simulator']
      .flatMap((folder) =>
        readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).map((name) =>
          join(folder, name),
        ),
      )
      .filter((path) => /(?<!\.d)\.ts$/.test(path) && !path.includes('node_modules'))
      .map((path) => ({ path, text: readFileSync(join(root, path), 'utf8') }));
    expect(sources.length).toBeGreaterThan(20);
    const requests = moduleRequests(sources.map(({ text }) => stripTypeScriptTypes(text)));
    for (const [index, { path, text }] of sources.entries()) {
      const dynamic = /\bimport\(|\brequire\b|import\.meta\.resolve/.test(text);
      const ours = loadsOf(text, path).modules;
      if (dynamic) expect(ours, path).toEqual(expect.arrayContaining(requests[index] as string[]));
      else expect([...ours].sort(), path).toEqual([...new Set(requests[index])].sort());
    }
  });
});

/** What V8 says that each module asks for, by a Node that was started for this alone. */
function moduleRequests(sources: readonly string[]): readonly string[][] {
  const script = `
    const { SourceTextModule } = require('node:vm');
    const sources = JSON.parse(require('node:fs').readFileSync(0, 'utf8'));
    const requests = sources.map((text) => new SourceTextModule(text).moduleRequests.map(({ specifier }) => specifier));
    process.stdout.write(JSON.stringify(requests));`;
  const { stdout } = spawnSync(
    process.execPath,
    ['--experimental-vm-modules', '--no-warnings', '-e', script],
    {
      input: JSON.stringify(sources),
      maxBuffer: 1 << 26,
    },
  );
  return JSON.parse(stdout.toString());
}
