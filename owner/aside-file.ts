/**
 * A file that appears whole or not at all: written beside its final place under a hidden name that says who writes
 * it, flushed to the disk, then renamed. As `Aside`, for results of one file.
 */
import { type FileHandle, mkdir, open, rm } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { removeMadeFolders, syncFolder } from './aside.ts';
import { asideOf, type Leftover, removeLeftovers } from './leftovers.ts';
import { expectAbsent, renameNew } from './rename.ts';

export interface AsideFile {
  readonly path: string;
  readonly mode: number;
  readonly onLeftover?: ((leftover: Leftover) => void) | undefined;
}

/** Resolves to what `write` resolves to. Throws OWNER_WOULD_OVERWRITE, or what `write` throws; then nothing is left. */
export async function writeFileAside<T>(
  { path, mode, onLeftover }: AsideFile,
  write: (file: FileHandle) => Promise<T>,
): Promise<T> {
  const out = resolve(path);
  await expectAbsent(out);
  for (const leftover of await removeLeftovers(out)) onLeftover?.(leftover);
  const made = await mkdir(dirname(out), { recursive: true });
  const aside = asideOf(out);
  try {
    const file = await open(aside, 'wx+', mode);
    let result: T;
    try {
      result = await write(file);
      await file.sync();
    } finally {
      await file.close();
    }
    await renameNew(aside, out);
    await syncFolder(dirname(out));
    return result;
  } catch (error) {
    await rm(aside, { force: true });
    await removeMadeFolders(made, out);
    throw error;
  }
}
