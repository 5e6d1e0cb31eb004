/**
 * A result that appears whole or not at all: written into a hidden folder beside its final place, flushed to
 * the disk, then renamed. Disposing of it before `publish` removes every trace; even a killed process leaves
 * nothing under the final name, and what it leaves aside is ciphertext.
 */
import { type FileHandle, mkdir, open, rm, rmdir } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { asideOf, type Leftover, removeLeftovers } from './leftovers.ts';
import { expectAbsent, renameNew } from './rename.ts';
import { writeNewFile } from './secret-files.ts';

export class Aside {
  readonly #out: string;
  readonly #folder: string;
  /** Files beside the folder, by final path: where each waits until `publish`. */
  readonly #companions = new Map<string, string>();
  /** The outermost folder that had to be made to hold `out`. */
  #madeFolder: string | undefined;
  /** Companions under their final names, while the folder is not. */
  readonly #placed = new Set<string>();
  #published = false;

  private constructor(out: string) {
    this.#out = resolve(out);
    this.#folder = asideOf(this.#out);
  }

  /**
   * Removes what killed processes left for `out`, and tells of all that it finds. Throws OWNER_WOULD_OVERWRITE if
   * `out` or a companion exists already.
   */
  static async create(
    out: string,
    companions: readonly string[] = [],
    onLeftover: (leftover: Leftover) => void = () => {},
    mode = 0o777,
  ): Promise<Aside> {
    for (const path of [out, ...companions]) await expectAbsent(path);
    for (const path of [out, ...companions]) {
      for (const leftover of await removeLeftovers(resolve(path))) onLeftover(leftover);
    }
    const aside = new Aside(out);
    aside.#madeFolder = await mkdir(dirname(aside.#out), { recursive: true });
    await mkdir(aside.#folder, mode);
    return aside;
  }

  openFile(name: string, mode = 0o644): Promise<FileHandle> {
    return open(join(this.#folder, name), 'wx+', mode);
  }

  /** A folder inside, flushed by whoever made it once it is filled: `syncFolder` on what this resolves to. */
  async makeFolder(name: string, mode: number): Promise<string> {
    const path = join(this.#folder, name);
    await mkdir(path, { recursive: true, mode });
    return path;
  }

  async writeFile(name: string, content: Uint8Array): Promise<void> {
    await writeNewFile(join(this.#folder, name), content, 0o644);
  }

  /** A file for its owner's eyes alone, beside the folder and never in it. */
  async writeCompanion(path: string, content: Uint8Array): Promise<void> {
    const waiting = asideOf(resolve(path));
    this.#companions.set(resolve(path), waiting);
    await writeNewFile(waiting, content, 0o600);
  }

  /**
   * Companions first: a seal whose recovery file is missing must never look finished. Nothing is replaced: of two seals
   * to one name, the loser's recovery wrap must never stand beside the winner's folder.
   */
  async publish(): Promise<void> {
    await syncFolder(this.#folder);
    for (const path of [this.#out, ...this.#companions.keys()]) await expectAbsent(path);
    for (const [path, waiting] of this.#companions) {
      await renameNew(waiting, path);
      this.#placed.add(path);
    }
    await syncFolder(dirname(this.#out));
    await renameNew(this.#folder, this.#out);
    this.#published = true;
    await syncFolder(dirname(this.#out));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#published) return;
    await rm(this.#folder, { recursive: true, force: true });
    for (const path of [...this.#companions.values(), ...this.#placed]) await rm(path, { force: true });
    await removeMadeFolders(this.#madeFolder, this.#out);
  }
}

/** Undoes the `mkdir` for `out` that said it had made `made` first, as far as nobody else uses the folders. */
export async function removeMadeFolders(made: string | undefined, out: string): Promise<void> {
  const last = made ?? out;
  for (let folder = dirname(out); folder.length >= last.length; folder = dirname(folder)) {
    await rmdir(folder).catch(() => {}); // somebody else may have put something there
  }
}

export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
