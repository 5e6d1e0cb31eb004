import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Closure, imageClosure } from '../../../review/image/closure.ts';
import { packageFiles } from '../../../review/image/packages.ts';
import { type FixtureProject, fixtureProject, PLATFORM } from './fixture.ts';

describe('the closure of a fixture', () => {
  let project: FixtureProject;
  beforeEach(() => {
    project = fixtureProject();
  });
  afterEach(() => project.remove());

  const closure = (entries = ['enclave/main.ts'], platform: Closure['platform'] = PLATFORM) =>
    imageClosure({ projectFolder: project.folder, entries, platform });
  const refused = (code: string, message: string) =>
    expect.objectContaining({ code, message: expect.stringContaining(message) });

  it('holds what the entry reaches, file by file, and who asks for it', () => {
    expect(closure().files).toEqual([
      { path: 'enclave/boot.ts', because: 'enclave/main.ts' },
      { path: 'enclave/main.ts', because: undefined },
      { path: 'enclave/package.json', because: 'enclave/main.ts' },
      { path: 'enclave/roots.pem', because: 'enclave/boot.ts' },
      { path: 'enclave/worker.ts', because: 'enclave/boot.ts' },
      { path: 'shared/package.json', because: 'shared/pcr.ts' },
      { path: 'shared/pcr.ts', because: 'enclave/boot.ts' },
    ]);
  });

  it('holds the packages that are reached, each at the version that its importer gets', () => {
    expect(closure().packages).toEqual([
      { name: 'big', version: '1.2.3', path: 'node_modules/big', because: 'enclave/boot.ts' },
      {
        name: 'small',
        version: '1.0.1',
        path: 'node_modules/big/node_modules/small',
        because: 'node_modules/big',
      },
    ]);
  });

  it('holds the package of its platform and not that of another', () => {
    const names = (cpu: 'x64' | 'arm64') =>
      closure(undefined, { os: 'linux', cpu }).packages.map(({ name }) => name);
    expect(names('arm64')).toEqual(['big', 'big-linux-arm64', 'small']);
    expect(names('x64')).not.toContain('big-linux-arm64');
  });

  it('takes of a package what runs, with its licence', () => {
    const files = packageFiles(join(project.folder, 'node_modules/big'), 'big', PLATFORM);
    expect(files).toEqual(['LICENSE.md', 'index.js', 'lib/test/run.js', 'package.json']);
  });

  it('is empty-handed about a file that is missing: it refuses, and names who asks', () => {
    project.write('enclave/boot.ts', "import './gone.ts';\nexport const boot = 1;\n");
    expect(() => closure()).toThrow(
      refused('IMAGE_SOURCE_UNREADABLE', 'enclave/gone.ts, named in enclave/boot.ts'),
    );
  });

  it('refuses a package that is not installed', () => {
    project.write('enclave/boot.ts', "import 'gone';\n");
    expect(() => closure()).toThrow(refused('IMAGE_SOURCE_UNREADABLE', 'Package gone'));
  });

  it.each([
    ["import '../../outside.ts';", 'not a file of the project'],
    ["import '../node_modules/big/index.js';", 'not a file of the project'],
    ["import '/etc/passwd';", 'imported by relative path'],
    ["import '@strongroom/shared/pcr.ts';", 'imported by relative path'],
    ["import 'https://example.com/x.js';", 'imported by relative path'],
    ['await import(name);', 'one string literal'],
  ])('refuses %s', (source, message) => {
    project.write('enclave/boot.ts', source);
    expect(() => closure()).toThrow(refused('IMAGE_IMPORT_UNCLEAR', message));
  });
});

const ROOT = join(import.meta.dirname, '..', '..', '..');
const SIMULATION_ONLY = ['simulator/enclave.ts', 'simulator/nsm/frames.ts', 'simulator/nsm/socket-client.ts'];

/** Paths that no image holds, and why. */
const REFUSED: readonly (readonly [RegExp, string])[] = [
  [/^(parent|owner|client|review|scripts|test|docs|deploy)\//, 'belongs to another party'],
  [/^shared\/policy\//, 'the policy engine: enclaves do not judge policies'],
  [/^shared\/cms\/write\.ts$/, 'writes what only KMS writes'],
  [/^shared\/nsm\/device-side\.ts$/, 'plays the NSM'],
  [/^shared\/attestation\/.*(encode|write)/, 'writes what only an NSM writes'],
  [/^shared\/sealed-model\/(seal|manifest-sign|write)/, 'enclaves open models, owners seal them'],
  [/\.test\.ts$|(^|\/)(fixtures?|tests?)\//, 'a test'],
  [/tsconfig|biome|vitest|package-lock/, 'for development'],
];
const DEVELOPMENT_PACKAGES =
  /^(vitest|typescript|@biomejs|fast-check|knip|cbor2|@peculiar|reflect-metadata|@types|age-encryption|@aws-crypto\/client|cbor-extract|adm-zip|global-agent|undici)/;

describe.skipIf(!existsSync(join(ROOT, 'enclave/main.ts')))('the image of this project', () => {
  const closure = (entries: readonly string[]) =>
    imageClosure({ projectFolder: ROOT, entries, platform: { os: 'linux', cpu: process.arch as 'x64' } });

  it('holds this, and nothing that has no business in it', () => {
    const { files, packages } = closure(['enclave/main.ts']);
    const lines = [
      ...files.map(({ path, because }) => `  ${path}  (${because ?? 'the entry'})`),
      ...packages.map(({ path, version, because }) => `  ${path} ${version}  (${because})`),
    ];
    process.stdout.write(
      `\nThe image holds ${files.length} files and ${packages.length} packages:\n${lines.join('\n')}\n`,
    );
    for (const { path, because } of files) {
      expect(path.startsWith('simulator/'), `${path}, named in ${because}, is of the simulator`).toBe(false);
      for (const [pattern, why] of REFUSED)
        expect(pattern.test(path), `${path}, named in ${because}: ${why}`).toBe(false);
    }
    for (const { name, because } of packages) {
      expect(DEVELOPMENT_PACKAGES.test(name), `${name}, asked for by ${because}`).toBe(false);
    }
  });

  it('has in simulation the stand-in on top, and what connects it to its hypervisor', () => {
    const real = new Set(closure(['enclave/main.ts']).files.map(({ path }) => path));
    const simulated = closure(['enclave/main.ts', 'simulator/enclave.ts']);
    const added = simulated.files.map(({ path }) => path).filter((path) => !real.has(path));
    const standIn = (path: string) => SIMULATION_ONLY.includes(path) || path === 'simulator/package.json';
    const ofTheLink = (path: string) => /^link\//.test(path);
    expect(added.filter((path) => !standIn(path) && !ofTheLink(path))).toEqual([]);
  });

  it('takes no native binary of another platform and no type declaration from any package', () => {
    const { packages, platform } = closure(['enclave/main.ts']);
    for (const { path, name } of packages) {
      for (const file of packageFiles(join(ROOT, path), name, platform)) {
        expect(file).not.toMatch(/(win32|darwin|musl|freebsd|cuda|tensorrt)|\.(dll|dylib|exe|map|d\.ts)$/i);
      }
    }
  });
});
