import {
  closeSync,
  constants,
  fstatSync,
  openSync,
  readFileSync,
  readSync,
  statfsSync,
  writeSync,
} from 'node:fs';
import { describe, expect, it } from 'vitest';
import { MemoryFile } from '../../enclave/memory-file.ts';

const TMPFS = '/dev/shm';

describe('a memory file', () => {
  it('has no name, is written once, and is handed on read-only', () => {
    using file = MemoryFile.create(TMPFS, 5);
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
    using readOnly = MemoryFile.create(TMPFS, 3).intoReadOnly();
    const again = openSync(`/proc/self/fd/${readOnly.fd}`, constants.O_RDONLY);
    expect(readFileSync(again)).toEqual(Buffer.alloc(3));
    closeSync(again);
  });

  it('is refused on a file system that is not memory', () => {
    expect(statfsSync('/').type).not.toBe(0x01021994);
    expect(() => MemoryFile.create('/', 1)).toThrow(expect.objectContaining({ code: 'BOOT_MEMORY_FOLDER' }));
  });

  it('is refused when the memory has no room for the model', () => {
    expect(() => MemoryFile.create(TMPFS, Number.MAX_SAFE_INTEGER)).toThrow(
      expect.objectContaining({ code: 'BOOT_MEMORY_FOLDER' }),
    );
  });
});
