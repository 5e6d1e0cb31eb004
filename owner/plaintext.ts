/** The plaintext to seal: files and folders as they lie on disk, each under the path that it gets in the model. */
import { type FileHandle, open, readdir, realpath, stat } from 'node:fs/promises';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { comparePaths } from '../shared/sealed-model/identity.ts';
import type { PayloadSource } from '../shared/sealed-model/source.ts';
import { OwnerError } from './errors.ts';

export interface Plaintext {
  /** In the order of a head. */
  readonly files: readonly { readonly path: string; readonly sizeBytes: number }[];
  readonly inputs: readonly PayloadSource[];
  /** Throws OWNER_INPUT_UNUSABLE if a file is not what it was when the sealing began. */
  expectUnchanged(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** One folder (its files keep their relative paths) or some files (each keeps its own name). */
export async function plaintextOf(paths: readonly string[]): Promise<Plaintext> {
  const found = await listFiles(paths);
  found.sort((a, b) => comparePaths(a.path, b.path));
  const opened: { path: string; file: FileHandle; sizeBytes: number; modifiedMs: number }[] = [];
  const close = async (): Promise<void> => {
    await Promise.all(opened.map(({ file }) => file.close()));
  };
  try {
    for (const { path, from } of found) {
      const file = await open(from, 'r');
      const { size, mtimeMs } = await file.stat();
      opened.push({ path, file, sizeBytes: size, modifiedMs: mtimeMs });
    }
  } catch (error) {
    await close();
    throw error;
  }
  return {
    files: opened.map(({ path, sizeBytes }) => ({ path, sizeBytes })),
    inputs: opened.map(({ path, file, sizeBytes }) => inputOf(path, file, sizeBytes)),
    async expectUnchanged() {
      for (const { path, file, sizeBytes, modifiedMs } of opened) {
        const { size, mtimeMs } = await file.stat();
        if (size !== sizeBytes || mtimeMs !== modifiedMs) throw changed(path);
      }
    },
    [Symbol.asyncDispose]: close,
  };
}

/** A result inside the folder that is being sealed would become part of it. Throws OWNER_INPUT_UNUSABLE. */
export async function expectOutside(out: string, paths: readonly string[]): Promise<void> {
  for (const path of paths) {
    if (!(await stat(path)).isDirectory()) continue;
    const folder = await realpath(path);
    const parent = dirname(resolve(out));
    const place = relative(folder, await realpath(parent).catch(() => parent));
    if (place !== '..' && !place.startsWith('../')) {
      throw unusable(`the output ${out} would lie inside ${path}, the folder to seal; choose one outside`);
    }
  }
}

async function listFiles(paths: readonly string[]): Promise<{ path: string; from: string }[]> {
  const found: { path: string; from: string }[] = [];
  for (const from of paths) {
    const kind = await stat(from);
    if (kind.isFile()) found.push({ path: basename(from), from });
    else if (kind.isDirectory() && paths.length === 1) return listFolder(from);
    else if (kind.isDirectory()) throw unusable(`${from} is a folder; a folder is sealed alone`);
    else throw unusable(`${from} is not a regular file; a pipe is sealed with "-" and --as FILE`);
  }
  return found;
}

async function listFolder(folder: string): Promise<{ path: string; from: string }[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => {
      const from = join(entry.parentPath, entry.name);
      // A link could lead out of the folder that the owner looked at.
      if (!entry.isFile())
        throw unusable(
          `${from} is ${entry.isSymbolicLink() ? 'a symbolic link; seal a copy made with "cp -rL"' : 'not a regular file'}`,
        );
      return { path: relative(folder, from), from };
    });
}

function inputOf(path: string, file: FileHandle, sizeBytes: number): PayloadSource {
  return {
    sizeBytes,
    async read(offsetBytes, target) {
      for (let done = 0; done < target.length; ) {
        const { bytesRead } = await file.read(target, done, target.length - done, offsetBytes + done);
        if (bytesRead === 0) throw changed(path);
        done += bytesRead;
      }
    },
  };
}

function changed(path: string): OwnerError {
  return unusable(`${path} changed while it was sealed`);
}

function unusable(why: string): OwnerError {
  return new OwnerError('OWNER_INPUT_UNUSABLE', `The input cannot be sealed: ${why}.`);
}
