import { readdirSync, readFileSync, writeSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { MEMORY_FOLDER, MemoryFiles } from '../../owner/memory-files.ts';

const room = (freeBytes: number, memoryBytes = Number.POSITIVE_INFINITY) => ({
  measure: async () => ({ blockBytes: 4096, freeBytes, memoryBytes }),
});

describe('files in memory', () => {
  it('have no name, and are read-only once they are filled', async () => {
    const before = readdirSync(MEMORY_FOLDER);
    using files = await MemoryFiles.create([5, 0]);
    writeSync(files.fds[0] as number, 'model');
    files.makeReadOnly();
    expect(readFileSync(files.pathOf(0), 'utf8')).toBe('model');
    expect(readFileSync(files.pathOf(1), 'utf8')).toBe('');
    expect(() => writeSync(files.fds[0] as number, 'x')).toThrow('EBADF');
    expect(readdirSync(MEMORY_FOLDER)).toEqual(before);
  });

  it('are refused where they do not fit, in whole blocks, with the numbers', async () => {
    const fits = await MemoryFiles.create([1, 4097, 0], room(3 * 4096));
    fits[Symbol.dispose]();
    await expect(MemoryFiles.create([1, 4097, 0], room(3 * 4096 - 1))).rejects.toMatchObject({
      code: 'OWNER_NO_ROOM',
      message: 'The opened model needs 12288 bytes; /dev/shm has 12287 free, 1 too few.',
    });
    await expect(MemoryFiles.create([4096], room(4096, 4095))).rejects.toMatchObject({
      code: 'OWNER_NO_ROOM',
      message: expect.stringContaining('the memory of this machine has 4095 free'),
    });
  });

  it('are refused on a disk', async () => {
    await expect(MemoryFiles.create([1], { folder: '/proc' })).rejects.toMatchObject({
      code: 'OWNER_NOT_MEMORY',
    });
  });
});
