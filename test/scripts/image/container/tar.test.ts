import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ContainerImageError } from '../../../../scripts/image/container/errors.ts';
import { tarMembers } from '../../../../scripts/image/container/tar.ts';
import {
  file,
  folder,
  type HandMadeMember,
  hardLink,
  link,
  pax,
  paxRecord,
  TAR_END,
  tarFile,
  tarMember,
} from './tar-file.ts';

let base = '';
let count = 0;
beforeAll(() => {
  base = mkdtempSync(join(tmpdir(), 'strongroom-tar-'));
});
afterAll(() => rmSync(base, { recursive: true, force: true }));

async function members(bytes: Uint8Array, maxMembers = 1000) {
  count += 1;
  const path = join(base, String(count));
  writeFileSync(path, bytes);
  return await tarMembers({ path, offsetBytes: 0, sizeBytes: bytes.length }, maxMembers);
}

describe('the members of a tar archive', () => {
  it('are read with names, kinds, modes, owners and the place of their content', async () => {
    const bytes = tarFile([
      folder('a', 0o750),
      file('a/b', 'hello', { userId: 3, groupId: 4 }),
      link('l', '../x'),
    ]);
    expect(await members(bytes)).toMatchObject([
      { name: 'a/', kind: 'folder', mode: 0o750 },
      { name: 'a/b', kind: 'file', userId: 3, groupId: 4, content: { offsetBytes: 1024, sizeBytes: 5 } },
      { name: 'l', kind: 'link', target: '../x', content: { sizeBytes: 0 } },
    ]);
  });

  it('may have long names, in both ways, and owners and sizes that are said beside', async () => {
    const long = `a/${'n'.repeat(150)}`;
    const gnu = (flag: string, name: string) =>
      tarMember({ name: '././@LongLink', flag, content: `${name}\0`, magic: 'ustar  \0' });
    const bytes = tarFile([
      file('short', 'x', {
        before: [
          pax([
            ['path', long],
            ['uid', '7'],
            ['mtime', '1.5'],
          ]),
        ],
      }),
      file('short', 'y', { before: [gnu('L', long)], magic: 'ustar  \0' }),
      { ...link('short', 'short'), before: [gnu('L', `${long}2`), gnu('K', long)], magic: 'ustar  \0' },
      file('sized', 'abc', { before: [pax([['size', '3']])] }),
    ]);
    expect(await members(bytes)).toMatchObject([
      { name: long, userId: 7 },
      { name: long, kind: 'file' },
      { name: `${long}2`, target: long },
      { name: 'sized', content: { sizeBytes: 3 } },
    ]);
  });

  it('are those of a part of a file, if that is what is read', async () => {
    const bytes = tarFile([file('a', 'content')]);
    const path = join(base, 'part');
    writeFileSync(path, Buffer.concat([Buffer.alloc(100, 1), bytes, Buffer.alloc(100, 1)]));
    const [member] = await tarMembers({ path, offsetBytes: 100, sizeBytes: bytes.length }, 10);
    expect(member?.content).toEqual({ path, offsetBytes: 612, sizeBytes: 7 });
  });

  it('are what GNU tar wrote, in each of its formats', async () => {
    const tree = join(base, 'tree');
    mkdirSync(join(tree, 'd'.repeat(120)), { recursive: true });
    writeFileSync(join(tree, 'd'.repeat(120), 'file'), 'content');
    symlinkSync('x'.repeat(140), join(tree, 'link'));
    for (const format of ['gnu', 'posix']) {
      const bytes = execFileSync('tar', ['-c', `--format=${format}`, '-C', tree, '--sort=name', '.']);
      const found = await members(bytes);
      expect(found.map(({ name }) => name)).toEqual([
        './',
        `./${'d'.repeat(120)}/`,
        `./${'d'.repeat(120)}/file`,
        './link',
      ]);
      expect(found.at(-1)?.target).toBe('x'.repeat(140));
    }
  });

  it('are what GNU tar packed, whatever the names, modes and sizes', async () => {
    const name = fc
      .string({ unit: 'binary', minLength: 1, maxLength: 60 })
      .filter((text) => !/[\0/\ufffd]/.test(text) && text !== '.' && text !== '..');
    const files = fc.uniqueArray(
      fc.record({ name, size: fc.nat({ max: 1500 }), mode: fc.integer({ min: 0, max: 0o777 }) }),
      { selector: (each) => each.name, maxLength: 30 },
    );
    for (const [round, sample] of fc.sample(files, { numRuns: 8, seed: 1 }).entries()) {
      const tree = join(base, `sample-${round}`);
      mkdirSync(tree);
      for (const each of sample) {
        writeFileSync(join(tree, each.name), Buffer.alloc(each.size, 1));
        chmodSync(join(tree, each.name), each.mode | 0o400);
      }
      for (const format of ['gnu', 'posix']) {
        const bytes = execFileSync('tar', ['-c', `--format=${format}`, '-C', tree, '.']);
        const found = (await members(bytes)).filter(({ kind }) => kind === 'file');
        const sorted = (list: readonly (readonly unknown[])[]) =>
          list.map((each) => JSON.stringify(each)).sort();
        expect(sorted(found.map((each) => [each.name, each.mode, each.content.sizeBytes]))).toEqual(
          sorted(sample.map((each) => [`./${each.name}`, each.mode | 0o400, each.size])),
        );
      }
    }
  });
});

describe('a tar archive is refused', () => {
  const good = tarMember(file('a', 'content'));
  const withHeader = (header: (bytes: Buffer) => void): Buffer => tarFile([file('a', 'content', { header })]);
  const paxOf = (
    records: readonly (readonly [string, string])[] | Uint8Array,
    member: HandMadeMember = file('a'),
  ) => tarFile([{ ...member, before: [pax(records)] }]);
  const cases: readonly (readonly [string, Uint8Array, string?])[] = [
    ['that goes on behind its end, where other readers stop', Buffer.concat([good, TAR_END, good, TAR_END])],
    ['that goes on behind one block of zeros', Buffer.concat([good, TAR_END.subarray(512), good, TAR_END])],
    ['with text behind its end', Buffer.concat([good, TAR_END, Buffer.from('x'.padEnd(512, '\0'))])],
    ['without an end', good],
    ['with half an end', Buffer.concat([good, TAR_END.subarray(512)])],
    ['of nothing', Buffer.alloc(0)],
    ['cut short in a header', good.subarray(0, 100)],
    ['cut short in a content', good.subarray(0, 515)],
    ['with a wrong checksum', Buffer.concat([Buffer.from('b'), tarFile([file('a')]).subarray(1)])],
    ['of an unknown format', tarFile([file('a', 'x', { magic: 'other\x0000' })])],
    ['with content of a folder', tarFile([{ ...folder('a'), content: 'x' }])],
    ['with content of a link', tarFile([{ ...link('a', 'b'), content: 'x' }])],
    ['with content of a hard link', tarFile([{ ...hardLink('a', 'b'), content: 'x' }])],
    ['with a size beside that gives content to a link', paxOf([['size', '512']], link('a', 'b'))],
    [
      'with a global header, which readers apply or not',
      tarFile([{ name: 'g', flag: 'g', content: paxRecord('path', 'x') }, file('a')]),
    ],
    ['with a sparse file', tarFile([file('a', 'x', { flag: 'S' })])],
    ['with a file of another volume', tarFile([file('a', 'x', { flag: 'M' })])],
    ['with a contiguous file', tarFile([file('a', 'x', { flag: '7' })])],
    ['with a size in binary', withHeader((bytes) => bytes.writeUInt8(0x80, 124))],
    ['with a size below zero', withHeader((bytes) => bytes.write('-0000000007\0', 124, 'latin1'))],
    ['with a size of other digits', withHeader((bytes) => bytes.write('0000000008 \0', 124, 'latin1'))],
    ['with a mode that is no number', withHeader((bytes) => bytes.write('zzzzzzz\0', 100, 'latin1'))],
    ['with an owner below zero', withHeader((bytes) => bytes.write('-000001\0', 108, 'latin1'))],
    ['with an owner beside that is no number', paxOf([['uid', 'root']])],
    [
      'with one record twice',
      paxOf([
        ['path', 'a'],
        ['path', 'b'],
      ]),
    ],
    ['with a NUL in a record', paxOf([['path', 'a\0b']])],
    ['with a size beside that is no number', paxOf([['size', '0x10']])],
    ['with a record longer than its header', paxOf(Buffer.from('99 path=a\n'))],
    ['with a record shorter than it says', paxOf(Buffer.from('5 path=a\n'))],
    ['with a record without length', paxOf(Buffer.from('path=a\n'))],
    [
      'with two extension headers of one kind',
      tarFile([file('a', 'x', { before: [pax([['path', 'b']]), pax([['path', 'c']])] })]),
    ],
    [
      'with both kinds of long name',
      tarFile([
        file('a', 'x', {
          before: [pax([['path', 'b']]), tarMember({ name: 'L', flag: 'L', content: 'c\0' })],
        }),
      ]),
    ],
    [
      'with a long name that ends early',
      tarFile([file('a', 'x', { before: [tarMember({ name: 'L', flag: 'L', content: 'b\0c\0' })] })]),
    ],
    ['that ends with an extension header', Buffer.concat([pax([['path', 'b']]), TAR_END])],
    ['with an extension header of a megabyte', paxOf([['path', 'x'.repeat(1 << 20)]])],
    [
      'with extended attributes, which make a file another',
      paxOf([['SCHILY.xattr.security.capability', 'x']]),
      'CONTAINER_ENTRY',
    ],
    ['with a sparse file of pax', paxOf([['GNU.sparse.major', '1']]), 'CONTAINER_ENTRY'],
    ['with a file of eight gigabytes', paxOf([['size', '8589934592']]), 'CONTAINER_LIMIT'],
  ];
  const named = cases.map(([name, bytes, code = 'CONTAINER_TAR']) => [name, bytes, code] as const);
  it.each(named)('%s', async (_, bytes, code) => {
    await expect(members(bytes)).rejects.toMatchObject({ code, exitCode: 2 });
  });

  it('with more members than are allowed', async () => {
    const bytes = tarFile(Array.from({ length: 6 }, (_, at) => file(String(at))));
    await expect(members(bytes, 5)).rejects.toMatchObject({ code: 'CONTAINER_LIMIT' });
    expect(await members(bytes, 6)).toHaveLength(6);
  });

  it('that is shorter than the file was said to be', async () => {
    const path = join(base, 'short');
    writeFileSync(path, tarFile([file('a')]));
    await expect(tarMembers({ path, offsetBytes: 0, sizeBytes: 1 << 20 }, 10)).rejects.toMatchObject({
      code: 'CONTAINER_TAR',
    });
  });

  it('with nothing but a ContainerImageError, whatever it holds', async () => {
    const whole = tarFile([
      folder('a'),
      file('a/b', 'content', { before: [pax([['path', 'a/c']])] }),
      link('l', 'a'),
    ]);
    await fc.assert(
      fc.asyncProperty(fc.nat({ max: whole.length - 1 }), fc.nat({ max: 255 }), async (at, value) => {
        const changed = Buffer.from(whole);
        changed.writeUInt8(value, at);
        await members(changed).catch((error: unknown) => expect(error).toBeInstanceOf(ContainerImageError));
      }),
      { numRuns: 300 },
    );
  });
});
