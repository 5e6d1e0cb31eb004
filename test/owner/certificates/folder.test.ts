import { X509Certificate } from 'node:crypto';
import { lstatSync, readFileSync, statSync } from 'node:fs';
import {
  chmod,
  cp,
  mkdir,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { createFolder, readFolder, replaceInFolder } from '../../../owner/certificates/folder.ts';
import { renewCertificate } from '../../../owner/certificates/issue.ts';
import { loadTls } from '../../../parent/load-tls.ts';
import { DAY_MS, workshop } from './support.ts';

const DOMAIN = 'models.example.org';

async function setup() {
  const at = await workshop();
  const ca = await at.ca('ca', [DOMAIN]);
  const { folder, pair } = await at.server(ca, 'registry', [DOMAIN]);
  const renewed = async () =>
    renewCertificate(ca, await readFolder(folder), { at: new Date(), days: 90, keepKey: false });
  return { at, ca, folder, pair, renewed, [Symbol.asyncDispose]: () => at[Symbol.asyncDispose]() };
}

describe('a certificate’s folder', () => {
  it('shows its key to nobody else', async () => {
    await using world = await setup();
    expect(statSync(world.folder).mode & 0o777).toBe(0o700);
    expect(statSync(join(world.folder, 'key.pem')).mode & 0o777).toBe(0o600);
    await chmod(join(world.folder, 'key.pem'), 0o640);
    await expect(readFolder(world.folder)).rejects.toMatchObject({ code: 'OWNER_KEY_EXPOSED' });
  });

  it('overwrites nothing, and leaves nothing when it cannot be made', async () => {
    await using world = await setup();
    const before = readFileSync(join(world.folder, 'key.pem'));
    await expect(createFolder(world.folder, world.pair)).rejects.toMatchObject({
      code: 'OWNER_WOULD_OVERWRITE',
    });
    expect(readFileSync(join(world.folder, 'key.pem'))).toEqual(before);
    const file = join(world.at.folder, 'file');
    await writeFile(file, 'x');
    await expect(createFolder(join(file, 'below'), world.pair)).rejects.toThrow();
    expect((await readdir(world.at.folder)).toSorted()).toEqual(['ca', 'file', 'registry']);
  });

  it('keeps the same pair behind both names when it is moved or copied', async () => {
    await using world = await setup();
    const moved = join(world.at.folder, 'moved');
    await rename(world.folder, moved);
    const copied = join(world.at.folder, 'copied');
    await cp(moved, copied, { recursive: true, verbatimSymlinks: true });
    for (const folder of [moved, copied]) {
      expect((await readFolder(folder)).certificate.raw).toEqual(world.pair.certificate.raw);
      const files = { certificate: join(folder, 'certificate.pem'), key: join(folder, 'key.pem') };
      expect(loadTls(files).certificate?.raw).toEqual(world.pair.certificate.raw);
    }
  });

  it.each([
    ['a folder of other files', async (folder: string) => rm(join(folder, 'current'))],
    [
      'a link that leads elsewhere',
      async (folder: string) => {
        await rm(join(folder, 'current'));
        await symlink('/etc', join(folder, 'current'));
      },
    ],
    ['no certificate', async (folder: string) => writeFile(join(folder, 'certificate.pem'), 'none')],
    [
      'far too much',
      async (folder: string) => writeFile(join(folder, 'certificate.pem'), 'x'.repeat(70_000)),
    ],
  ])('is refused: %s', async (_what, spoil) => {
    await using world = await setup();
    await spoil(world.folder);
    await expect(readFolder(world.folder)).rejects.toMatchObject({ code: 'CERT_UNUSABLE' });
  });

  it('is refused with another certificate’s key', async () => {
    await using world = await setup();
    const other = await world.at.server(world.ca, 'other', [DOMAIN]);
    await writeFile(join(world.folder, 'key.pem'), await readFile(join(other.folder, 'key.pem')));
    await expect(readFolder(world.folder)).rejects.toMatchObject({ code: 'CERT_UNUSABLE' });
  });
});

describe('renewing in a folder', () => {
  it('replaces both files at one moment, by one link', async () => {
    await using world = await setup();
    const inode = () => lstatSync(join(world.folder, 'certificate.pem')).ino;
    const [linkBefore, inodeBefore] = [await readlink(join(world.folder, 'current')), inode()];
    const pair = await world.renewed();
    await replaceInFolder(world.folder, pair, Date.now());
    expect(inode()).toBe(inodeBefore);
    expect(await readlink(join(world.folder, 'current'))).not.toBe(linkBefore);
    expect((await readFolder(world.folder)).certificate.raw).toEqual(pair.certificate.raw);
    expect(await readdir(world.folder)).toHaveLength(4);
  });

  it('that was killed before that moment changed nothing, and a later one cleans up', async () => {
    await using world = await setup();
    // What a killed renewal can have got to: a new pair, whole or not, and a link that nobody has moved into place.
    const half = join(world.folder, `.${'a'.repeat(32)}`);
    await mkdir(half);
    await writeFile(join(half, 'key.pem'), 'half a key', { mode: 0o600 });
    await symlink(`.${'a'.repeat(32)}`, join(world.folder, '.current-0123456789ab'));
    expect((await readFolder(world.folder)).certificate.raw).toEqual(world.pair.certificate.raw);

    await replaceInFolder(world.folder, await world.renewed(), Date.now());
    expect(await readdir(world.folder)).toContain(`.${'a'.repeat(32)}`);
    await utimes(half, 1, 1);
    await replaceInFolder(world.folder, await world.renewed(), Date.now() + DAY_MS);
    expect((await readdir(world.folder)).toSorted()).toEqual([
      (await readlink(join(world.folder, 'current'))) as string,
      'certificate.pem',
      'current',
      'key.pem',
    ]);
  });

  it('that fails leaves the old pair, and nothing of the new one', async () => {
    await using world = await setup();
    const before = (await readdir(world.folder)).toSorted();
    const certificatePem = {
      toString: () => {
        throw new Error('no room');
      },
    } as unknown as string;
    await expect(
      replaceInFolder(world.folder, { ...(await world.renewed()), certificatePem }, Date.now()),
    ).rejects.toThrow();
    expect((await readdir(world.folder)).toSorted()).toEqual(before);
    expect((await readFolder(world.folder)).certificate.raw).toEqual(world.pair.certificate.raw);
  });

  it('shows every reader one pair, however the reading falls', async () => {
    await using world = await setup();
    let renewing = true;
    const seen = new Set<string>();
    const reading = (async () => {
      while (renewing) {
        // Through the link once, as two reads of one moment.
        const version = join(world.folder, await readlink(join(world.folder, 'current')));
        const texts = await Promise.all(
          ['certificate.pem', 'key.pem'].map((name) => readFile(join(version, name))),
        ).catch(() => undefined);
        if (texts === undefined) continue; // removed meanwhile: the next look finds the next pair
        const [certificate, key] = texts as [Buffer, Buffer];
        const { createPrivateKey } = await import('node:crypto');
        const read = new X509Certificate(certificate);
        expect(read.checkPrivateKey(createPrivateKey(key))).toBe(true);
        seen.add(read.serialNumber);
      }
    })();
    for (let count = 0; count < 20; count += 1) {
      await replaceInFolder(world.folder, await world.renewed(), Date.now());
    }
    renewing = false;
    await reading;
    expect(seen.size).toBeGreaterThan(0);
  });
});
