/**
 * The application ramdisk of an image, in nitro-cli's layout (aws-nitro-enclaves-cli
 * enclave_build/src/yaml_generator.rs):
 *
 *     cmd                    the command, one argument a line
 *     env                    its environment, NAME=value a line
 *     rootfs/usr/bin/node    the pinned Node
 *     rootfs/app/…           the import closure, at the paths it has in the project
 *     rootfs/{dev,proc,run,sys,tmp,var}
 *
 * Modes are fixed, so that no umask reaches a measurement: 0555 for folders and executables, 0444 for other
 * files, 0755 for the six folders that init mounts upon. An executable is what its owner may execute in the
 * project: git and npm both carry that one bit.
 */
import { chmodSync, constants, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { copyFile } from 'node:fs/promises';
import { join, posix } from 'node:path';
import type { Closure } from './closure.ts';
import { checkedEntries, type FileEntry, type PlainEntry } from './entries.ts';
import { ImageError } from './errors.ts';
import { packageFiles } from './packages.ts';

export const NODE_IN_IMAGE = '/usr/bin/node';
export const APPLICATION_IN_IMAGE = '/app';
const ROOT = 'rootfs';

const READ_ONLY = 0o444;
const EXECUTABLE = 0o555;
const FOLDER = 0o555;
/** init mounts upon these, or lets the application do so. */
export const MOUNT_POINT = 0o755;
export const MOUNT_POINTS = ['dev', 'proc', 'run', 'sys', 'tmp', 'var'].map((name) => `rootfs/${name}`);
const OWNER_MAY_EXECUTE = 0o100;
const COPIES_AT_ONCE = 16;

export interface ImageCommand {
  /** Flags of Node, before the entry file. */
  readonly nodeFlags: readonly string[];
  /** The file that Node runs, from the project's folder: `enclave/main.ts`. */
  readonly entry: string;
  /** The whole environment of the command. */
  readonly environment: Readonly<Record<string, string>>;
}

/** What the ramdisk holds. Throws ImageError. */
export function rootFileSystem(closure: Closure, command: ImageCommand): readonly PlainEntry[] {
  const { projectFolder, platform } = closure;
  if (!closure.files.some(({ path }) => path === command.entry)) {
    throw new ImageError('IMAGE_SOURCE_UNREADABLE', `The command ${command.entry} is not in the closure.`);
  }
  const files: FileEntry[] = [
    ...startFiles(
      [NODE_IN_IMAGE, ...command.nodeFlags, `${APPLICATION_IN_IMAGE}/${command.entry}`],
      Object.entries(command.environment).map(([name, value]) => `${name}=${value}`),
    ),
    onDisk(
      `${ROOT}${NODE_IN_IMAGE}`,
      join(projectFolder, 'node_modules', `node-${platform.os}-${platform.cpu}`, 'bin', 'node'),
    ),
  ];
  const application = (path: string) =>
    onDisk(`${ROOT}${APPLICATION_IN_IMAGE}/${path}`, join(projectFolder, path));
  for (const { path } of closure.files) files.push(application(path));
  for (const { path, name } of closure.packages) {
    for (const file of packageFiles(join(projectFolder, path), name, platform)) {
      files.push(application(`${path}/${file}`));
    }
  }
  const folders = new Map(MOUNT_POINTS.map((path) => [path, MOUNT_POINT]));
  for (const { path } of files) {
    for (let folder = posix.dirname(path); folder !== '.'; folder = posix.dirname(folder)) {
      folders.set(folder, FOLDER);
    }
  }
  return checkedEntries([
    ...[...folders].map(([path, mode]) => ({ kind: 'folder' as const, path, mode })),
    ...files,
  ]);
}

/** Writes entries below `folder`, which must be empty, with their modes. */
export async function layOut(entries: readonly PlainEntry[], folder: string): Promise<void> {
  const folders = entries.filter((entry) => entry.kind === 'folder');
  const files = entries.filter((entry) => entry.kind === 'file');
  for (const { path } of folders) mkdirSync(join(folder, path), { mode: 0o755 });
  const waiting = files.values();
  const copyInTurn = async () => {
    for (const { path, mode, content } of waiting) {
      const target = join(folder, path);
      if (typeof content === 'string') await copyFile(content, target, constants.COPYFILE_FICLONE);
      else if (content instanceof Uint8Array) writeFileSync(target, content);
      else throw new TypeError('A part of another file is never laid out.');
      chmodSync(target, mode);
    }
  };
  await Promise.all(Array.from({ length: COPIES_AT_ONCE }, copyInTurn));
  for (const { path, mode } of folders.toReversed()) chmodSync(join(folder, path), mode);
}

function onDisk(path: string, content: string): FileEntry {
  const status = statSync(content, { throwIfNoEntry: false });
  if (status?.isFile() !== true) {
    throw new ImageError('IMAGE_SOURCE_UNREADABLE', `${content} is not a regular file.`);
  }
  const mode = (status.mode & OWNER_MAY_EXECUTE) === 0 ? READ_ONLY : EXECUTABLE;
  return { kind: 'file', path, mode, sizeBytes: status.size, content };
}

/** `cmd` and `env`, which init reads: one value a line. Throws ImageError for a value that does not fit on one. */
export function startFiles(command: readonly string[], environment: readonly string[]): readonly FileEntry[] {
  return [inMemory('cmd', lines(command)), inMemory('env', lines(environment))];
}

function inMemory(path: string, content: string): FileEntry {
  const bytes = Buffer.from(content);
  return { kind: 'file', path, mode: READ_ONLY, sizeBytes: bytes.length, content: bytes };
}

/** init splits these files at line ends, so a line end inside a value would be another value. */
function lines(values: readonly string[]): string {
  for (const value of values) {
    if (/[\n\r\0]/.test(value) || value === '') {
      throw new ImageError('IMAGE_FILE_REFUSED', `${JSON.stringify(value)} does not fit on one line.`);
    }
  }
  return values.map((value) => `${value}\n`).join('');
}
