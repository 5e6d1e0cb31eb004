/**
 * What the two ramdisks of an image hold, in nitro-cli's layout (docs/image.md section 1): the first boots, the
 * second is the application. Modes are fixed, so that no umask reaches a measurement.
 */
import { readdirSync } from 'node:fs';
import { posix } from 'node:path';
import { imageClosure } from '../../review/image/closure.ts';
import { EifError } from '../../review/image/eif/errors.ts';
import type { Architecture } from '../../review/image/eif/format.ts';
import {
  checkedEntries,
  type FileEntry,
  folderEntries,
  type ImageEntry,
} from '../../review/image/entries.ts';
import type { ImagePlatform } from '../../review/image/packages.ts';
import { rootFileSystem } from '../../review/image/root-filesystem.ts';
import { IMAGE_COMMAND, IMAGE_ENTRY } from '../../simulator/image.ts';

const FOLDER = 0o555;
const READ_ONLY = 0o444;
const EXECUTABLE = 0o555;
const OWNER_MAY_EXECUTE = 0o100;
const MOUNT_POINT = 0o755;
const MOUNT_POINTS = ['dev', 'proc', 'run', 'sys', 'tmp', 'var'].map((name) => `rootfs/${name}`);

/** nitro-cli's first ramdisk: init, and the driver that init loads before anything else. */
export function bootstrapRamdisk(init: FileOnDisk, nsmModule: FileOnDisk): readonly ImageEntry[] {
  const program = (path: string, { path: content, sizeBytes }: FileOnDisk): ImageEntry => {
    return { kind: 'file', path, mode: 0o755, sizeBytes, content };
  };
  return [{ kind: 'folder', path: 'dev', mode: 0o755 }, program('init', init), program('nsm.ko', nsmModule)];
}

export interface FileOnDisk {
  readonly path: string;
  readonly sizeBytes: number;
}

/** The enclave of a checkout, with the libraries that its Node needs. Throws ImageError. */
export function applicationRamdisk(
  projectFolder: string,
  architecture: Architecture,
  libraries: readonly FileEntry[],
): readonly ImageEntry[] {
  const closure = imageClosure({ projectFolder, entries: [IMAGE_ENTRY], platform: platformOf(architecture) });
  return withFiles(rootFileSystem(closure, IMAGE_COMMAND), libraries);
}

export function platformOf(architecture: Architecture): ImagePlatform {
  return { os: 'linux', cpu: architecture === 'x86_64' ? 'x64' : 'arm64' };
}

/**
 * A folder that holds `cmd`, `env` and `rootfs`, as they stand but for modes. Throws EifError EIF_INPUT, or
 * ImageError for what an image never holds.
 */
export function folderRamdisk(folder: string): readonly ImageEntry[] {
  const names = readdirSync(folder).sort();
  if (names.join() !== 'cmd,env,rootfs') {
    throw new EifError('EIF_INPUT', `${folder} must hold cmd, env and rootfs; it holds ${names.join(', ')}.`);
  }
  const entries = folderEntries(folder).map((entry): ImageEntry => {
    if (entry.kind === 'folder') {
      return { ...entry, mode: MOUNT_POINTS.includes(entry.path) ? MOUNT_POINT : FOLDER };
    }
    return { ...entry, mode: (entry.mode & OWNER_MAY_EXECUTE) === 0 ? READ_ONLY : EXECUTABLE };
  });
  const missing = MOUNT_POINTS.filter((path) => !entries.some((entry) => entry.path === path));
  return checkedEntries([
    ...entries,
    ...missing.map((path) => ({ kind: 'folder' as const, path, mode: MOUNT_POINT })),
  ]);
}

function withFiles(entries: readonly ImageEntry[], files: readonly FileEntry[]): readonly ImageEntry[] {
  const paths = new Set(entries.map(({ path }) => path));
  const folders: ImageEntry[] = [];
  for (const { path } of files) {
    for (let folder = posix.dirname(path); !paths.has(folder); folder = posix.dirname(folder)) {
      paths.add(folder);
      folders.push({ kind: 'folder', path: folder, mode: FOLDER });
    }
  }
  return checkedEntries([...entries, ...folders, ...files]);
}
