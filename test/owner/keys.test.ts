import { spawnSync } from 'node:child_process';
import { createPrivateKey, createPublicKey, randomBytes } from 'node:crypto';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { generateOwnerKeyPair, writeOwnerKeys } from '../../owner/keygen.ts';
import { openRecoveryWrap, wrapForRecovery } from '../../owner/recovery.ts';
import { readDataKeyFile, readPrivateKey, readPublicKey } from '../../owner/secret-files.ts';

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'strongroom-keys-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('keygen', () => {
  it('writes secret keys for their owner alone, and overwrites none', async () => {
    const keys = join(folder, 'keys');
    const written = await writeOwnerKeys(keys, ['signing', 'recovery']);
    for (const { privateFile, publicFile } of written) {
      expect(statSync(privateFile).mode & 0o777).toBe(0o600);
      const derived = createPublicKey(createPrivateKey(readFileSync(privateFile)));
      expect(derived.equals(createPublicKey(readFileSync(publicFile)))).toBe(true);
    }
    const before = readFileSync(join(keys, 'signing.key.pem'));
    await expect(writeOwnerKeys(keys, ['signing'])).rejects.toMatchObject({ code: 'OWNER_WOULD_OVERWRITE' });
    expect(readFileSync(join(keys, 'signing.key.pem'))).toEqual(before);
    expect((await readPrivateKey(join(keys, 'signing.key.pem'))).asymmetricKeyDetails?.namedCurve).toBe(
      'prime256v1',
    );
    expect((await readPublicKey(join(keys, 'recovery.pub.pem'))).asymmetricKeyDetails?.modulusLength).toBe(
      3072,
    );
  });

  it('writes both pairs or, where one of them exists, none', async () => {
    const keys = join(folder, 'half');
    await writeOwnerKeys(keys, ['recovery']);
    await expect(writeOwnerKeys(keys, ['signing', 'recovery'])).rejects.toMatchObject({
      code: 'OWNER_WOULD_OVERWRITE',
    });
    expect(readdirSync(keys).sort()).toEqual(['recovery.key.pem', 'recovery.pub.pem']);
  });

  it('leaves no half of a key, and no half of the keys, where the disk is full', async () => {
    const keys = join(folder, 'full');
    // A limit on a file's size (1 KiB) ends a write as a full disk does: the signing key fits, the recovery key does not.
    const shell = 'ulimit -f 1; exec "$0" "$1" keygen -o "$2"';
    const main = join(import.meta.dirname, '../../scripts/strongroom.ts');
    const { status, stderr } = spawnSync('bash', ['-c', shell, process.execPath, main, keys]);
    expect({ status, told: String(stderr) }).toEqual({
      status: 2,
      told: expect.stringContaining('OUTPUT_UNWRITABLE'),
    });
    expect(readdirSync(keys)).toEqual([]);
  });

  it('keys are refused where they are exposed, of another kind, or private where public is meant', async () => {
    const keys = join(folder, 'keys');
    const dataKey = join(folder, 'data.key');
    writeFileSync(dataKey, randomBytes(32), { mode: 0o600 });
    expect(await readDataKeyFile(dataKey)).toHaveLength(32);
    for (const mode of [0o640, 0o604, 0o620, 0o601]) {
      chmodSync(dataKey, mode);
      await expect(readDataKeyFile(dataKey)).rejects.toMatchObject({ code: 'OWNER_KEY_EXPOSED' });
    }
    writeFileSync(dataKey, randomBytes(33));
    chmodSync(dataKey, 0o600);
    const unusable = { code: 'OWNER_KEY_UNUSABLE' };
    await expect(readDataKeyFile(dataKey)).rejects.toMatchObject(unusable);
    await expect(readPrivateKey(dataKey)).rejects.toMatchObject(unusable);
    await expect(readPublicKey(join(keys, 'signing.key.pem'))).rejects.toMatchObject(unusable);
  });
});

describe('the recovery wrap', () => {
  const context = new Uint8Array(randomBytes(32));
  const model = { identity: { name: 'iris', version: 3, format: 'onnx' }, context };

  it('opens with its private key for its model, and in no other way', async () => {
    const [mine, other] = [await generateOwnerKeyPair('recovery'), await generateOwnerKeyPair('recovery')];
    const dataKey = new Uint8Array(randomBytes(32));
    const wrap = wrapForRecovery(dataKey, model, mine.publicKey);
    const opened = openRecoveryWrap(wrap, model, mine.privateKey);
    expect(opened).toEqual(dataKey);
    expect(opened.buffer.byteLength).toBe(32);

    const refused = expect.objectContaining({ code: 'OWNER_RECOVERY_REFUSED' });
    expect(() => openRecoveryWrap(wrap, model, other.privateKey)).toThrow(refused);
    const elsewhere = { context: new Uint8Array(randomBytes(32)) };
    expect(() => openRecoveryWrap(wrap, elsewhere, mine.privateKey)).toThrow(refused);
    // The context in the file is only a hint: the OAEP label is what binds.
    const relabelled = JSON.parse(Buffer.from(wrap).toString());
    relabelled.context = Buffer.from(elsewhere.context).toString('base64');
    expect(() =>
      openRecoveryWrap(Buffer.from(JSON.stringify(relabelled)), elsewhere, mine.privateKey),
    ).toThrow(refused);
    expect(() => openRecoveryWrap(Buffer.from('{}'), model, mine.privateKey)).toThrow(refused);
  });
});
