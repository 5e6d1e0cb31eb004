/**
 * Files in memory that have no name: O_TMPFILE on a tmpfs. The kernel frees them with the last process that has them
 * open, whatever way it ends, so a killed command leaves nothing behind.
 */
import { closeSync, constants, fchmodSync, ftruncateSync, openSync } from 'node:fs';
import { readFile, statfs } from 'node:fs/promises';
import { OwnerError } from './errors.ts';
import { expectRoom, roomFor } from './room.ts';

/** open(2): O_TMPFILE, which includes O_DIRECTORY; Node does not name it. The same on x86_64 and aarch64. */
const O_TMPFILE = 0o20000000 | constants.O_DIRECTORY;
/** statfs(2): TMPFS_MAGIC. */
const TMPFS_MAGIC = 0x01021994;

export const MEMORY_FOLDER = '/dev/shm';

/** Free room of a tmpfs and of the machine's memory, in bytes. Throws OWNER_NOT_MEMORY. */
export type MeasureRoom = (folder: string) => Promise<{
  readonly blockBytes: number;
  readonly freeBytes: number;
  readonly memoryBytes: number;
}>;

export const measureRoom: MeasureRoom = async (folder) => {
  const { type, bsize, bavail } = await statfs(folder);
  if (type !== TMPFS_MAGIC) {
    throw new OwnerError('OWNER_NOT_MEMORY', `${folder} is not on a tmpfs, so weights would lie on a disk.`);
  }
  const available = /^MemAvailable:\s+(\d+) kB$/m.exec(await readFile('/proc/meminfo', 'latin1'))?.[1];
  return { blockBytes: bsize, freeBytes: bavail * bsize, memoryBytes: Number(available ?? 0) * 1024 };
};

export class MemoryFiles implements Disposable {
  readonly #fds: number[];

  private constructor(fds: number[]) {
    this.#fds = fds;
  }

  /** One file for each size, writable until `seal`. Throws OWNER_NOT_MEMORY, OWNER_NO_ROOM. */
  static async create(
    sizes: readonly number[],
    {
      folder = MEMORY_FOLDER,
      measure = measureRoom,
    }: { readonly folder?: string; readonly measure?: MeasureRoom } = {},
  ): Promise<MemoryFiles> {
    const { blockBytes, freeBytes, memoryBytes } = await measure(folder);
    const neededBytes = roomFor(sizes, blockBytes);
    expectRoom(folder, neededBytes, freeBytes);
    expectRoom('the memory of this machine', neededBytes, memoryBytes);
    const files = new MemoryFiles([]);
    try {
      for (const sizeBytes of sizes) {
        const fd = openSync(folder, constants.O_RDWR | O_TMPFILE, 0o600);
        files.#fds.push(fd);
        ftruncateSync(fd, sizeBytes);
      }
      return files;
    } catch (error) {
      files[Symbol.dispose]();
      throw error;
    }
  }

  get fds(): readonly number[] {
    return this.#fds;
  }

  /** Ends writing: from here on there are read-only descriptors alone, of files with mode 400. */
  makeReadOnly(): void {
    for (const [index, fd] of this.#fds.entries()) {
      fchmodSync(fd, 0o400);
      this.#fds[index] = openSync(`/proc/self/fd/${fd}`, constants.O_RDONLY);
      closeSync(fd);
    }
  }

  /**
   * Where any process of the same user finds file `index` for as long as this process lives. A descriptor that is
   * inherited would not reach commands that start others and close what they do not know.
   */
  pathOf(index: number): string {
    return `/proc/${process.pid}/fd/${this.#fds[index]}`;
  }

  [Symbol.dispose](): void {
    for (const fd of this.#fds.splice(0)) closeSync(fd);
  }
}
