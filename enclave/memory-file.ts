/**
 * Files that live in memory alone: the destination of opened weights (docs/flow.md, step 7).
 *
 * O_TMPFILE on a tmpfs gives a file without a name: nothing to leave behind, nothing to open by path. Writing
 * ends with mode 0444 and a fresh read-only descriptor, which is all that an engine is ever handed.
 */
import { closeSync, constants, fchmodSync, ftruncateSync, openSync, statfsSync } from 'node:fs';
import { BootError } from './errors.ts';

/** open(2): O_TMPFILE, which includes O_DIRECTORY; Node does not name it. The same on x86_64 and aarch64. */
const O_TMPFILE = 0o20000000 | constants.O_DIRECTORY;
/** statfs(2): TMPFS_MAGIC. */
const TMPFS_MAGIC = 0x01021994;

export class MemoryFile implements Disposable {
  readonly fd: number;
  #open = true;

  private constructor(fd: number) {
    this.fd = fd;
  }

  /** Writable files of these sizes, readable by nobody else. Throws BootError `BOOT_MEMORY_FOLDER`. */
  static createAll(folder: string, sizesBytes: readonly number[]): readonly MemoryFile[] {
    const { type, bavail, bsize } = statfsSync(folder);
    if (type !== TMPFS_MAGIC) {
      throw new BootError(
        'BOOT_MEMORY_FOLDER',
        `Expected a tmpfs for the opened weights, found another file system.`,
      );
    }
    const neededBytes = sizesBytes.reduce((sum, size) => sum + size, 0);
    if (bavail * bsize < neededBytes) {
      throw new BootError(
        'BOOT_MEMORY_FOLDER',
        `The model needs ${neededBytes} bytes, the tmpfs has ${bavail * bsize} left.`,
      );
    }
    using created = new DisposableStack();
    const files = sizesBytes.map((sizeBytes) => {
      const file = created.use(new MemoryFile(openSync(folder, constants.O_RDWR | O_TMPFILE, 0o600)));
      ftruncateSync(file.fd, sizeBytes);
      return file;
    });
    created.move();
    return files;
  }

  /** Ends writing: the same file behind a read-only descriptor. This one is closed. */
  intoReadOnly(): MemoryFile {
    fchmodSync(this.fd, 0o444);
    const readOnly = new MemoryFile(openSync(`/proc/self/fd/${this.fd}`, constants.O_RDONLY));
    this.close();
    return readOnly;
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    closeSync(this.fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
