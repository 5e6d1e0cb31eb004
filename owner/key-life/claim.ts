/**
 * key.json is replaced at once or not at all, and by one writer at a time: the new content waits beside it under a
 * hidden name that says who writes, goes to the disk, and takes the old one's place in one rename. Two writers who had
 * both read the old content would otherwise undo each other's work without a word.
 */
import { type FileHandle, lstat, open, rename, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { syncFolder } from '../aside.ts';
import { OwnerError } from '../errors.ts';
import { asideOf, type Leftover, removeLeftovers } from '../leftovers.ts';
import { readSealedPartIfThere } from '../sealed-folder.ts';
import { DataKeyError } from './errors.ts';
import type { KeyFileWriter } from './sealed-place.ts';

const USUAL_MODE = 0o644;

export class KeyFileClaim implements KeyFileWriter {
  readonly #folder: string;
  readonly #aside: string;
  readonly #file: FileHandle;

  private constructor(folder: string, aside: string, file: FileHandle) {
    this.#folder = folder;
    this.#aside = aside;
    this.#file = file;
  }

  /**
   * Read key.json after this: until the claim is disposed of, no other owner's command changes it. Removes what killed
   * writers left. Throws REWRAP_BUSY, OWNER_NOT_A_SEAL.
   */
  static async make(
    sealedFolder: string,
    onLeftover: (leftover: Leftover) => void = () => {},
  ): Promise<KeyFileClaim> {
    const folder = resolve(sealedFolder);
    const path = join(folder, 'key.json');
    const aside = asideOf(path);
    const claim = new KeyFileClaim(folder, aside, await open(aside, 'wx', await modeOf(path)));
    try {
      const others = (await removeLeftovers(path)).filter((leftover) => leftover.path !== aside);
      if (others.some(({ outcome }) => outcome === 'running')) {
        throw new DataKeyError('REWRAP_BUSY', `Another command is working on ${sealedFolder}.`);
      }
      others.forEach(onLeftover);
      return claim;
    } catch (error) {
      await claim[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Undefined if there is none. Throws OWNER_NOT_A_SEAL. */
  read(): Promise<Uint8Array | undefined> {
    return readSealedPartIfThere(this.#folder, 'key.json');
  }

  /** Once. */
  async replace(content: Uint8Array): Promise<void> {
    await this.#file.writeFile(content);
    await this.#file.sync();
    await rename(this.#aside, join(this.#folder, 'key.json'));
    await syncFolder(this.#folder);
  }

  /** Without `replace` before it, key.json is as it was. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
    await rm(this.#aside, { force: true });
  }
}

/** A link in its place would be replaced and not followed. */
async function modeOf(path: string): Promise<number> {
  const status = await lstat(path).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENOENT') return undefined;
    if (cause.code === 'ENOTDIR')
      throw new OwnerError('OWNER_NOT_A_SEAL', `There is no folder for ${path}.`, cause);
    throw cause;
  });
  if (status === undefined) return USUAL_MODE;
  if (!status.isFile()) throw new OwnerError('OWNER_NOT_A_SEAL', `${path} is not a regular file.`);
  return status.mode & 0o777;
}
