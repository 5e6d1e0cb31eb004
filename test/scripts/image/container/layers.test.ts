import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LayerTree } from '../../../../scripts/image/container/layers.ts';
import { tarMembers } from '../../../../scripts/image/container/tar.ts';
import { file, folder, type HandMadeMember, hardLink, link, pax, tarFile, whiteout } from './tar-file.ts';

let base = '';
let count = 0;
beforeAll(() => {
  base = mkdtempSync(join(tmpdir(), 'strongroom-layers-'));
});
afterAll(() => rmSync(base, { recursive: true, force: true }));

const MOUNTED = /^rootfs\/(dev|proc|run|sys|tmp|var)$/;

/** "d755 a", "f644 a/b 3" (size), "l a -> b", without what every image has. */
async function tree(...layers: readonly (readonly HandMadeMember[])[]): Promise<readonly string[]> {
  const result = new LayerTree();
  for (const layer of layers) {
    count += 1;
    const path = join(base, String(count));
    const bytes = tarFile(layer);
    writeFileSync(path, bytes);
    result.apply(await tarMembers({ path, offsetBytes: 0, sizeBytes: bytes.length }, 1000));
  }
  const entries = result.entries().filter(({ path }) => path !== 'rootfs' && !MOUNTED.test(path));
  return entries
    .map((entry) => {
      const path = entry.path.replace('rootfs/', '');
      if (entry.kind === 'link') return `l ${path} -> ${entry.target}`;
      const mode = entry.mode.toString(8);
      return entry.kind === 'folder' ? `d${mode} ${path}` : `f${mode} ${path} ${entry.sizeBytes}`;
    })
    .sort();
}

describe('layers', () => {
  it('lie upon one another: files are replaced, folders keep what is in them and get other modes', async () => {
    const lower = [folder('a'), file('a/b', 'lower'), file('a/c', 'c')];
    const upper = [folder('a', 0o700), file('a/b', 'upper layer', { mode: 0o755 })];
    expect(await tree(lower, upper)).toEqual(['d700 a', 'f644 a/c 1', 'f755 a/b 11']);
  });

  it('hide what is below with a whiteout, and nothing of their own', async () => {
    const lower = [folder('a'), file('a/b'), folder('a/c'), file('a/c/d')];
    expect(await tree(lower, [whiteout('a/.wh.b')])).toEqual(['d755 a', 'd755 a/c', 'f644 a/c/d 5']);
    expect(await tree(lower, [whiteout('a/.wh.c')])).toEqual(['d755 a', 'f644 a/b 3']);
    const again = [folder('a'), folder('a/c'), file('a/c/new', 'n'), whiteout('a/.wh.c')];
    expect(await tree(lower, again)).toEqual(['d755 a', 'd755 a/c', 'f644 a/b 3', 'f644 a/c/new 1']);
  });

  it('hide all that is below with an opaque whiteout, wherever it comes in its layer', async () => {
    const lower = [folder('a'), folder('a/b'), folder('a/b/c'), file('a/b/c/bar')];
    const parts = [folder('a'), folder('a/b'), folder('a/b/c'), file('a/b/c/foo', 'x')];
    const opaque = whiteout('a/.wh..wh..opq');
    const expected = ['d755 a', 'd755 a/b', 'd755 a/b/c', 'f644 a/b/c/foo 1'];
    expect(await tree(lower, [opaque, ...parts])).toEqual(expected);
    expect(await tree(lower, [...parts, opaque])).toEqual(expected);
    expect(await tree(lower, [whiteout('.wh..wh..opq')])).toEqual([]);
  });

  it('may hide what is not there', async () => {
    expect(await tree([file('a', 'x')], [whiteout('.wh.b'), whiteout('c/d/.wh.e')])).toEqual(['f644 a 1']);
  });

  it('put a file in the place of a folder, and a folder in the place of a link', async () => {
    expect(await tree([folder('a'), file('a/b')], [file('a', 'x')])).toEqual(['f644 a 1']);
    expect(await tree([link('a', 'b'), folder('b')], [folder('a'), file('a/x', 'x')])).toEqual([
      'd755 a',
      'd755 b',
      'f644 a/x 1',
    ]);
  });

  it('keep links as they are, wherever they point: nothing here follows one', async () => {
    const links = [link('a', '../../../etc/passwd'), link('b', '/x'), link('c', 'c')];
    expect(await tree(links)).toEqual(['l a -> ../../../etc/passwd', 'l b -> /x', 'l c -> c']);
  });

  it('make a file of each hard link, to a file of their own or of a layer below', async () => {
    const lower = [file('a', 'abc', { mode: 0o755 }), hardLink('b', 'a')];
    expect(await tree(lower, [folder('d'), hardLink('d/c', './b')])).toEqual([
      'd755 d',
      'f755 a 3',
      'f755 b 3',
      'f755 d/c 3',
    ]);
    // Another name of a file that is replaced keeps what it had.
    expect(await tree(lower, [file('a', 'x')])).toEqual(['f644 a 1', 'f755 b 3']);
  });

  it('may leave out folders on the way, and begin names with a point', async () => {
    expect(await tree([folder('.'), file('./a/b/c', 'x')])).toEqual(['d755 a', 'd755 a/b', 'f644 a/b/c 1']);
  });

  it('get the folders that init mounts upon, with fixed modes, and a root of a fixed mode', async () => {
    const result = new LayerTree();
    const bytes = tarFile([folder('.', 0o777), folder('tmp', 0o1777), file('tmp/x')]);
    writeFileSync(join(base, 'mounted'), bytes);
    result.apply(
      await tarMembers({ path: join(base, 'mounted'), offsetBytes: 0, sizeBytes: bytes.length }, 9),
    );
    const modes = result
      .entries()
      .map((entry) => (entry.kind === 'link' ? '' : `${entry.path} ${entry.mode.toString(8)}`));
    expect(modes.sort()).toEqual(
      [
        'rootfs 555',
        'rootfs/tmp/x 644',
        ...['dev', 'proc', 'run', 'sys', 'tmp', 'var'].map((name) => `rootfs/${name} 755`),
      ].sort(),
    );
  });
});

describe('a layer is refused', () => {
  const long = (name: string) => file('x', 'x', { before: [pax([['path', name]])] });
  const cases: readonly (readonly [string, readonly (readonly HandMadeMember[])[], string])[] = [
    ['with a name that leads up', [[file('../x')]], 'leads through ".."'],
    ['with a name that leads up from within', [[folder('a'), file('a/../../x')]], 'leads through ".."'],
    ['with an absolute name', [[file('/etc/passwd')]], 'absolute'],
    ['with an empty part', [[file('a//b')]], 'empty part'],
    ['with a point in the middle', [[file('a/./b')]], 'leads through "."'],
    [
      'through a link of its own',
      [[link('a', '/etc'), file('a/passwd')]],
      'leads through a, which is a link',
    ],
    [
      'through a link below',
      [[link('a', 'b'), folder('b')], [file('a/x')]],
      'leads through a, which is a link',
    ],
    ['through a file', [[file('a'), file('a/b')]], 'leads through a, which is a file'],
    ['with a whiteout through a link', [[link('a', 'b')], [whiteout('a/.wh.x')]], 'leads through a'],
    ['with a hard link through a link', [[link('a', '/etc'), hardLink('b', 'a/passwd')]], 'leads through a'],
    ['with a hard link that leads up', [[hardLink('b', '../../etc/passwd')]], 'leads through ".."'],
    ['with an absolute hard link', [[hardLink('b', '/etc/passwd')]], 'absolute'],
    ['with a hard link to nothing', [[hardLink('b', 'a')]], 'hard link to what is no file'],
    ['with a hard link to itself', [[hardLink('b', 'b')]], 'hard link to what is no file'],
    ['with a hard link to a folder', [[folder('a'), hardLink('b', 'a')]], 'hard link to what is no file'],
    ['with a hard link to a link', [[link('a', 'x'), hardLink('b', 'a')]], 'hard link to what is no file'],
    ['with a character device', [[{ name: 'dev/mem', flag: '3' }]], 'character-device'],
    ['with a block device', [[{ name: 'dev/sda', flag: '4' }]], 'block-device'],
    ['with a pipe', [[{ name: 'p', flag: '6' }]], 'fifo'],
    ['with a whiteout of the kernel’s kind', [[file('a')], [{ name: 'a', flag: '3' }]], 'character-device'],
    ['with a whiteout that has content', [[file('.wh.a', 'x')]], 'no empty file'],
    ['with a folder named as a whiteout', [[folder('.wh.a')]], 'no empty file'],
    ['with a whiteout of nothing', [[whiteout('.wh.')]], 'unknown kind'],
    ['with a whiteout of AUFS', [[whiteout('.wh..wh.plnk')]], 'unknown kind'],
    ['with a name twice', [[file('a', 'x'), file('a', 'y')]], 'twice'],
    ['with a name twice, written in two ways', [[file('a', 'x'), file('./a', 'y')]], 'twice'],
    ['with a folder twice', [[folder('a'), folder('a', 0o700)]], 'twice'],
    ['with a file of another user', [[file('a', 'x', { userId: 1000 })]], 'belongs to 1000:0'],
    ['with a file of another group', [[file('a', 'x', { groupId: 42 })]], 'belongs to 0:42'],
    ['with a set-uid program', [[file('su', 'x', { mode: 0o4755 })]], 'mode 4755'],
    ['with a set-gid folder', [[folder('a', 0o2755)]], 'mode 2755'],
    ['with a sticky file', [[file('a', 'x', { mode: 0o1755 })]], 'mode 1755'],
    ['with a file that has the name of a folder', [[file('a/')]], 'no name of its own'],
    ['with a file in the place of the root', [[file('.')]], 'no name of its own'],
    ['with a file in the place of a mount point', [[file('proc')]], 'init mounts upon it'],
    ['with a link in the place of a mount point', [[link('run', '/var/run')]], 'init mounts upon it'],
    ['with a control character', [[file('a\u001b[2J')]], 'control characters'],
    ['with a line end in a target', [[link('a', 'b\nc')]], 'control characters'],
    [
      'with a name that is not UTF-8',
      [[file('a', 'x', { header: (bytes) => bytes.writeUInt8(0xff, 0) })]],
      'not in UTF-8',
    ],
    ['with a name of 256 bytes', [[long('n'.repeat(256))]], 'too long'],
    ['with a path of 5000 bytes', [[long(`${'n/'.repeat(2500)}n`)]], 'too long'],
    ['with a link to nothing', [[link('a', '')]], 'link to nothing'],
  ];
  it.each(cases)('%s', async (_, layers, why) => {
    await expect(tree(...layers)).rejects.toMatchObject({
      code: 'CONTAINER_ENTRY',
      message: expect.stringContaining(why),
    });
  });
});
