import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { expectFile } from '../../scripts/input-file.ts';

const folder = mkdtempSync(join(tmpdir(), 'strongroom-input-'));
afterAll(() => rmSync(folder, { recursive: true }));
const file = join(folder, 'file');
writeFileSync(file, '12345');

describe('a file that a command is given', () => {
  it('is taken up to its bound', async () => {
    await expectFile(file, 5);
  });

  it('may be the FIFO that a shell makes of <(...)', async () => {
    execFileSync('mkfifo', [join(folder, 'fifo')]);
    await expectFile(join(folder, 'fifo'), 5);
  });

  it.each([
    ['longer than its bound', file, 4, /at most 4 bytes, found 5/],
    ['a folder', folder, 5, /found the folder/],
    ['a device, which may have no end', '/dev/zero', 5, /found a device or socket/],
  ])('is refused when it is %s', async (_what, path, maxBytes, message) => {
    await expect(expectFile(path, maxBytes)).rejects.toMatchObject({
      code: 'INPUT_UNREADABLE',
      message: expect.stringMatching(message),
    });
  });
});
