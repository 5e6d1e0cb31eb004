/**
 * What the two ramdisks of an image hold, in nitro-cli's layout (docs/image.md section 1): the first boots, the
 * second is the application. Modes are fixed, so that no umask reaches a measurement.
 */
import { readdirSync } from 'node:fs';
import { join, posix } from 'node:path';
import { imageClosure } from '../../review/image/closure.ts';
import { EifError } from '../../review/image/eif/errors.ts';
import type { Architecture } from '../../review/image/eif/format.ts';
import {
  checkedEntries,
  type FileEntry,
  folderEntries,
  type ImageEntry,
  type PlainEntry,
} from '../../review/image/entries.ts';
import type { ImagePlatform } from '../../review/image/packages.ts';
import { MOUNT_POINT, MOUNT_POINTS, rootFileSystem } from '../../review/image/root-filesystem.ts';
import { IMAGE_COMMAND, IMAGE_ENTRY } from '../../simulator/image.ts';
import { debianFiles } from './debian-files.ts';
import { DEBIAN_LOCK_FILE, readDebianLock } from './debian-lock.ts';

const FOLDER = 0o555;
const READ_ONLY = 0o444;
const EXECUTABLE = 0o555;
const OWNER_MAY_EXECUTE = 0o100;

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

/** The application of a checkout, with the C library of its lock file. Throws ImageError, EifError (DEBIAN_*). */
export function checkoutRamdisk(
  projectFolder: string,
  packagesFolder: string,
  architecture: Architecture,
): readonly PlainEntry[] {
  const lock = readDebianLock(join(projectFolder, DEBIAN_LOCK_FILE));
  const libraries = debianFiles(lock, packagesFolder, platformOf(architecture));
  return applicationRamdisk(projectFolder, architecture, libraries);
}

/** The enclave of a checkout, with the libraries that its Node needs. Throws ImageError. */
export function applicationRamdisk(
  projectFolder: string,
  architecture: Architecture,
  libraries: readonly FileEntry[],
): readonly PlainEntry[] {
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

function withFiles(entries: readonly PlainEntry[], files: readonly FileEntry[]): readonly PlainEntry[] {
  const paths = new Set(entries.map(({ path }) => path));
  const folders: PlainEntry[] = [];
  for (const { path } of files) {
    for (let folder = posix.dirname(path); !paths.has(folder); folder = posix.dirname(folder)) {
      paths.add(folder);
      folders.push({ kind: 'folder', path: folder, mode: FOLDER });
    }
  }
  return checkedEntries([...entries, ...folders, ...files]);
}
