import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { cpioArchive } from '../../../review/image/cpio.ts';
import { DEBIAN_PACKAGES_FOLDER } from '../../../scripts/image/debian-lock.ts';
import { checkoutRamdisk, folderRamdisk } from '../../../scripts/image/ramdisks.ts';
import { main } from '../../../scripts/strongroom.ts';
import { removeTree } from '../../../simulator/run-folder.ts';

const ROOT = join(import.meta.dirname, '..', '..', '..');
const PACKAGES = join(ROOT, DEBIAN_PACKAGES_FOLDER);
const ARCHITECTURE = process.arch === 'x64' ? 'x86_64' : 'aarch64';

let base = '';
beforeAll(() => {
  base = mkdtempSync(join(tmpdir(), 'strongroom-image-root-'));
});
afterAll(() => removeTree(base));

async function run(...args: string[]) {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const exit = await main(['image', 'root', ...args], {
    stdin: new PassThrough(),
    stdout,
    stderr,
    signal: new AbortController().signal,
  });
  return { exit, output: String(stdout.read() ?? '') + String(stderr.read() ?? '') };
}

async function digest(entries: Parameters<typeof cpioArchive>[0]): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of cpioArchive(entries)) hash.update(piece);
  return hash.digest('hex');
}

describe('image root', () => {
  it('says what it needs, and touches no folder that holds something', async () => {
    expect(await run()).toMatchObject({ exit: 2 });
    expect(await run('-o', join(base, 'x'), '--arch', 'mips')).toMatchObject({ exit: 2 });
    const full = join(base, 'full');
    mkdirSync(full);
    writeFileSync(join(full, 'precious'), '');
    expect((await run('-o', full)).exit).toBe(2);
    expect(readdirSync(full)).toEqual(['precious']);
  });

  it('writes nothing without the packages of the lock file', async () => {
    const { exit, output } = await run('-o', join(base, 'none'), '--packages', base);
    expect({ exit, named: output.includes('DEBIAN_PACKAGE_MISSING') }).toEqual({ exit: 2, named: true });
    expect(existsSync(join(base, 'none'))).toBe(false);
  });

  it.skipIf(!existsSync(PACKAGES))(
    'lays out what image build measures, under any umask (needs node scripts/debian-packages.ts download)',
    async () => {
      const expected = await digest(checkoutRamdisk(ROOT, PACKAGES, ARCHITECTURE));
      for (const umask of [0o000, 0o077]) {
        const before = process.umask(umask);
        const out = join(base, `umask-${umask}`, 'root');
        try {
          expect(await run('-o', out)).toMatchObject({ exit: 0 });
        } finally {
          process.umask(before);
        }
        expect(readdirSync(out).sort()).toEqual(['cmd', 'env', 'rootfs']);
        expect(await digest(folderRamdisk(out))).toBe(expected);
      }
    },
    120_000,
  );
});
