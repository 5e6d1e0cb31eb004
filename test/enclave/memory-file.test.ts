import {
  closeSync,
  constants,
  fstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  statfsSync,
  writeSync,
} from 'node:fs';
import { describe, expect, it } from 'vitest';
import { MemoryFile } from '../../enclave/memory-file.ts';

const TMPFS = '/dev/shm';

function create(folder: string, sizeBytes: number): MemoryFile {
  const [file] = MemoryFile.createAll(folder, [sizeBytes]);
  if (file === undefined) throw new Error('expected one file');
  return file;
}

describe('a memory file', () => {
  it('has no name, is written once, and is handed on read-only', () => {
    using file = create(TMPFS, 5);
    expect(fstatSync(file.fd)).toMatchObject({ nlink: 0, size: 5 });
    expect(fstatSync(file.fd).mode & 0o777).toBe(0o600);
    writeSync(file.fd, Buffer.from('hello'), 0, 5, 0);
    using readOnly = file.intoReadOnly();
    expect(fstatSync(readOnly.fd).mode & 0o777).toBe(0o444);
    expect(() => writeSync(readOnly.fd, Buffer.from('x'), 0, 1, 0)).toThrow(/EBADF/);
    const bytes = Buffer.alloc(5);
    readSync(readOnly.fd, bytes, 0, 5, 0);
    expect(bytes.toString()).toBe('hello');
    expect(() => fstatSync(file.fd)).toThrow();
  });

  it('can be opened again by an engine of another uid for reading, by its descriptor', () => {
    using readOnly = create(TMPFS, 3).intoReadOnly();
    const again = openSync(`/proc/self/fd/${readOnly.fd}`, constants.O_RDONLY);
    expect(readFileSync(again)).toEqual(Buffer.alloc(3));
    closeSync(again);
  });

  it('is refused on a file system that is not memory', () => {
    expect(statfsSync('/').type).not.toBe(0x01021994);
    expect(() => create('/', 1)).toThrow(expect.objectContaining({ code: 'BOOT_MEMORY_FOLDER' }));
  });

  it('is refused when the memory has no room for the model', () => {
    expect(() => create(TMPFS, Number.MAX_SAFE_INTEGER)).toThrow(
      expect.objectContaining({ code: 'BOOT_MEMORY_FOLDER' }),
    );
  });

  it('is refused where all files of a model have no room together, and none is left open', () => {
    const { bavail, bsize } = statfsSync(TMPFS);
    const before = readdirSync('/proc/self/fd').length;
    const most = Math.floor(bavail * bsize * 0.75);
    expect(() => MemoryFile.createAll(TMPFS, [most, most])).toThrow(
      expect.objectContaining({ code: 'BOOT_MEMORY_FOLDER' }),
    );
    expect(readdirSync('/proc/self/fd')).toHaveLength(before);
  });
});
