/**
 * The tree is the trust map: who may import whom, who may touch the host's settings, native code and the
 * clock. Types count as well: a party that needs another's types depends on it.
 */
import { existsSync } from 'node:fs';
import { join, posix } from 'node:path';
import { describe, expect, it } from 'vitest';
import { imageClosure } from '../review/image/closure.ts';
import { ROOT, type Source, sourcesOf, specifiersOf } from './sources.ts';

/** What the files of a folder may import, as beginnings of paths. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  shared: ['shared/'],
  link: ['link/', 'shared/'],
  enclave: ['enclave/', 'link/', 'shared/'],
  parent: ['parent/', 'link/', 'shared/'],
  owner: ['owner/', 'shared/'],
  client: ['client/', 'shared/'],
  review: ['review/', 'shared/'],
  simulator: ['simulator/', 'enclave/', 'parent/', 'link/', 'shared/', 'review/image/'],
  scripts: ['scripts/', 'simulator/', 'parent/', 'owner/', 'client/', 'review/', 'link/', 'shared/'],
};

/** The only files that call native code or Node's internals, and those they may load for it. */
const NATIVE = /^(link\/vsock-socket|enclave\/nsm\/device|enclave\/native\/[\w-]+|owner\/rename)\.ts$/;
const HOST_SETTINGS = 'enclave/start-guard.ts';

const sources = Object.keys(MAY_IMPORT).flatMap(sourcesOf);
const words = ({ tokens }: Source) => tokens.filter(({ kind }) => kind !== 'string').map(({ text }) => text);

describe('imports point one way', () => {
  it.each(Object.entries(MAY_IMPORT))('files of %s/ import from %j', (folder, allowed) => {
    const wrong = sources
      .filter(({ path }) => path.startsWith(`${folder}/`))
      .flatMap((source) =>
        specifiersOf(source)
          .filter((specifier) => specifier.startsWith('.'))
          .map((specifier) => posix.join(posix.dirname(source.path), specifier))
          .filter((target) => !allowed.some((start) => target.startsWith(start)))
          .map((target) => `${source.path} imports ${target}`),
      );
    expect(wrong).toEqual([]);
  });
});

describe('native code', () => {
  it('is called from named files alone', () => {
    const wrong = sources
      .filter((source) => specifiersOf(source).includes('koffi') && !NATIVE.test(source.path))
      .map(({ path }) => path);
    expect(wrong).toEqual([]);
  });

  it("is reached through Node's internals by the vsock alone, and loaded by file name as llama.cpp alone", () => {
    const users = (call: RegExp) =>
      sources.filter((source) => call.test(words(source).join(''))).map(({ path }) => path);
    expect(users(/\bprocess\.binding\b/).filter((path) => path !== 'link/vsock-socket.ts')).toEqual([]);
    expect(users(/\bprocess\.dlopen\b/)).toEqual(['enclave/engine/llama/binding.ts']);
  });
});

describe('shared/', () => {
  it('has no clock of its own: times are arguments', () => {
    const wrong = sources
      .filter(({ path }) => path.startsWith('shared/'))
      .filter((source) => /\bDate\.now\b|\bnewDate\(\)|\bperformance\.now\b/.test(words(source).join('')))
      .map(({ path }) => path);
    expect(wrong).toEqual([]);
  });
});

describe.skipIf(!existsSync(join(ROOT, 'enclave/main.ts')))('the image', () => {
  const entries = ['enclave/main.ts', 'simulator/enclave.ts'];
  const platform = { os: 'linux', cpu: process.arch as 'x64' } as const;
  const { files } = imageClosure({ projectFolder: ROOT, entries, platform });
  const inImage = sources.filter(({ path }) => files.some((file) => file.path === path));

  it('reads settings that the host controls in the start-up guard alone', () => {
    const readsSettings = (source: Source) =>
      /\bprocess\??\.(env|argv|argv0|execArgv|title)\b/.test(words(source).join('')) ||
      /import\{[^}]*\b(env|argv|argv0|execArgv)\b[^}]*\}from/.test(words(source).join(''));
    const wrong = inImage.filter(readsSettings).map(({ path }) => path);
    expect(wrong.filter((path) => path !== HOST_SETTINGS)).toEqual([]);
    expect(wrong).toContain(HOST_SETTINGS);
  });

  it('has the source of every TypeScript file that it holds looked at here', () => {
    expect(inImage.map(({ path }) => path).sort()).toEqual(
      files.map(({ path }) => path).filter((path) => path.endsWith('.ts')),
    );
  });
});
