/** A disk that is full: a small tmpfs, which takes root to mount. */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { resealFolder } from '../../../owner/key-life/reseal.ts';
import { rewrapModel } from '../../../owner/key-life/rewrap.ts';
import { byRecovery, newOwner, type Owner, partsOf, recovery, SIZES, signing } from './support.ts';

let owner: Owner;
let full = '';
let isMounted = false;
beforeAll(async () => {
  owner = await newOwner();
  full = join(owner.folder, 'full');
  mkdirSync(full);
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', full], { stdio: 'ignore' });
    isMounted = true;
  } catch {
    // no root, or a container without the right to mount
  }
});
afterAll(async () => {
  if (isMounted) execFileSync('umount', [full]);
  await owner.close();
});

/** Until not a byte more fits. */
function fill(): void {
  for (let index = 0; ; index++) {
    try {
      writeFileSync(join(full, `filler-${index}`), new Uint8Array(index === 0 ? 64 << 10 : 4096));
    } catch (error) {
      expect(error).toMatchObject({ code: 'ENOSPC' });
      return;
    }
  }
}

describe('with the disk full', () => {
  it('rewrap fails with ENOSPC and leaves key.json as it was, and nothing beside it', async (context) => {
    context.skip(!isMounted, 'mounting a tmpfs needs root');
    const key = await owner.newKey('iris');
    const sealed = await owner.seal('iris', [key], { note: false });
    const folder = join(full, 'iris.sealed');
    cpSync(sealed.folder, folder, { recursive: true });
    const before = partsOf(folder);
    fill();
    await expect(rewrapModel(owner.rewrap(folder, { kind: 'renew' }))).rejects.toMatchObject({
      code: 'ENOSPC',
    });
    expect(partsOf(folder)).toEqual(before);
    expect(readdirSync(folder).sort()).toEqual(['head', 'key.json', 'manifest.json', 'payload']);
    for (const name of readdirSync(full)) rmSync(join(full, name), { recursive: true });
  });

  it('reseal fails with ENOSPC in the middle and leaves nothing', async (context) => {
    context.skip(!isMounted, 'mounting a tmpfs needs root');
    const key = await owner.newKey('large');
    const { folder } = await owner.seal('large', [key], { bytes: new Uint8Array(400_000) });
    const before = partsOf(folder);
    await expect(
      resealFolder({
        folder,
        key: byRecovery,
        vouchedBy: { kind: 'signer', publicKey: signing.publicKey },
        out: join(full, 'new.sealed'),
        kmsKeys: [{ client: owner.as.sealer, keyArn: key }],
        recoveryKey: recovery.publicKey,
        signer: signing.privateKey,
        sizes: SIZES,
        now: () => new Date(),
      }),
    ).rejects.toMatchObject({ code: 'ENOSPC' });
    expect(readdirSync(full)).toEqual([]);
    expect(partsOf(folder)).toEqual(before);
  });
});
