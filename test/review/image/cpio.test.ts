import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { cpioArchive } from '../../../review/image/cpio.ts';
import {
  checkedEntries,
  type FileEntry,
  folderEntries,
  type ImageEntry,
} from '../../../review/image/entries.ts';

const hasCpio = spawnSync('cpio', ['--version']).status === 0;

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'strongroom-cpio-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

async function archive(entries: readonly ImageEntry[]): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of cpioArchive(entries)) pieces.push(Buffer.from(piece));
  return Buffer.concat(pieces);
}

function file(path: string, text = 'x', mode = 0o444): FileEntry {
  const content = Buffer.from(text);
  return { kind: 'file', path, mode, sizeBytes: content.length, content };
}

describe('the archive', () => {
  it('has the bytes of the kernel documentation', async () => {
    const bytes = await archive([{ kind: 'folder', path: 'd', mode: 0o755 }, file('d/f', 'hello', 0o644)]);
    const fields = (inode: string, mode: string, links: string, size: string, name: string) =>
      `070701${inode}${mode}${'0'.repeat(16)}${links}${'0'.repeat(8)}${size}${'0'.repeat(32)}${name}${'0'.repeat(8)}`;
    expect(bytes.toString('latin1')).toBe(
      `${fields('00000001', '000041ed', '00000002', '00000000', '00000002')}d\0` +
        `${fields('00000002', '000081a4', '00000001', '00000005', '00000004')}d/f\0\0\0hello\0\0\0` +
        `${fields('00000000', '00000000', '00000001', '00000000', '0000000b')}TRAILER!!!\0\0\0\0`,
    );
  });

  it('does not depend on the order in which a folder lists its files, on times, or on the place', async () => {
    const make = (name: string, order: readonly string[]) => {
      const place = join(folder, name);
      mkdirSync(place);
      for (const path of order) writeFileSync(join(place, path), path);
      for (const path of order) chmodSync(join(place, path), 0o444);
      utimesSync(join(place, 'a'), order.length, name.length);
      return folderEntries(place);
    };
    const one = await archive(make('one', ['a', 'b', 'Z', 'a.b']));
    expect(await archive(make('two', ['Z', 'a.b', 'b', 'a']))).toEqual(one);
  });

  it('changes with a name, a mode, a byte, an added empty folder', async () => {
    const base = await archive([file('a'), file('b')]);
    for (const changed of [
      [file('a'), file('c')],
      [file('a'), file('b', 'x', 0o445)],
      [file('a'), file('b', 'y')],
      [file('a'), file('b'), { kind: 'folder', path: 'c', mode: 0o755 }] as const,
    ]) {
      expect((await archive(changed)).equals(base)).toBe(false);
    }
  });

  it('holds no more than a piece of a large file in memory', async () => {
    const sizeBytes = 40 << 20;
    writeFileSync(join(folder, 'large'), Buffer.alloc(sizeBytes, 7));
    let total = 0;
    const buffers = new Set<ArrayBufferLike>();
    for await (const piece of cpioArchive(folderEntries(folder))) {
      total += piece.length;
      if (piece.length > 1000) buffers.add(piece.buffer);
    }
    expect(total).toBe(112 + 4 + sizeBytes + 124);
    expect(buffers.size).toBe(1);
  });

  it.skipIf(!hasCpio)(
    'is what GNU cpio lists and unpacks (skipped where cpio is not installed)',
    async () => {
      const input = await archive([
        { kind: 'folder', path: 'rootfs', mode: 0o555 },
        file('rootfs/run me', '#!/bin/sh\n', 0o555),
        file('cmd', 'odd', 0o444),
      ]);
      const listing = execFileSync('cpio', ['-itv', '--quiet'], { input }).toString();
      expect(listing.split('\n').map((line) => line.replace(/ +/g, ' '))).toEqual([
        expect.stringMatching(/^-r--r--r-- 1 root root 3 Jan 1 1970 cmd$/),
        expect.stringMatching(/^dr-xr-xr-x 2 root root 0 Jan 1 1970 rootfs$/),
        expect.stringMatching(/^-r-xr-xr-x 1 root root 10 Jan 1 1970 rootfs\/run me$/),
        '',
      ]);
      execFileSync('cpio', ['-id', '--quiet', '--no-absolute-filenames'], { input, cwd: folder });
      expect(readFileSync(join(folder, 'cmd'), 'utf8')).toBe('odd');
    },
  );
});

describe('an image refuses', () => {
  const refused = expect.objectContaining({ code: 'IMAGE_FILE_REFUSED' });

  it('a link', () => {
    symlinkSync('/etc/passwd', join(folder, 'link'));
    expect(() => folderEntries(folder)).toThrow(refused);
  });

  it('a socket, a pipe, a device', () => {
    execFileSync('mkfifo', [join(folder, 'pipe')]);
    expect(() => folderEntries(folder)).toThrow(refused);
  });

  it.each(['../x', 'a//b', '/x', '', '.', 'x\n', 'x\0', 'é', ' x'])('the name %j', (path) => {
    expect(() => checkedEntries([{ kind: 'folder', path: 'a', mode: 0o755 }, file(path)])).toThrow(refused);
  });

  it('the same path twice', () => {
    expect(() => checkedEntries([file('a'), file('a')])).toThrow(refused);
  });

  it('a file in a folder that is not there', () => {
    expect(() => checkedEntries([file('a/b')])).toThrow(refused);
  });

  it('a file that grew or shrank since it was listed', async () => {
    for (const sizeBytes of [3, 5]) {
      writeFileSync(join(folder, 'f'), 'four');
      const entry = { ...file('f'), sizeBytes, content: join(folder, 'f') };
      await expect(archive([entry])).rejects.toMatchObject({ code: 'IMAGE_CHANGED_WHILE_READ' });
    }
  });
});
