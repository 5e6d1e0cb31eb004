import { randomBytes } from 'node:crypto';
import { appendFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { generateOwnerKeyPair } from '../../../owner/keygen.ts';
import type { CheckId } from '../../../owner/verify/checks.ts';
import { drawSegments } from '../../../owner/verify/segments.ts';
import { type Verification, type VerifySealed, verifySealed } from '../../../owner/verify/verify-model.ts';
import { parseEnvelope, parseStatement } from '../../../shared/sealed-model/manifest.ts';
import { encodeUnsignedManifest } from '../../../shared/sealed-model/manifest-sign.ts';
import { kmsStandIn } from '../kms-stand-in.ts';
import { flip, recoveryPrivateKey, SealedFolders, signing } from '../sealed-folders.ts';

let folders: SealedFolders;
beforeAll(() => {
  folders = new SealedFolders();
});
afterAll(() => folders.remove());

/** Not random at all: the last candidate each time. */
const last = (below: number): number => below - 1;
const signer = signing.publicKey;

function verify(sealed: string, more: Partial<VerifySealed> = {}): Promise<Verification> {
  return verifySealed({ sealed, random: last, ...more });
}

function outcomeOf({ checks }: Verification, id: CheckId): string {
  return checks.find(({ check }) => check === id)?.outcome as string;
}

function failures({ checks }: Verification): CheckId[] {
  return checks.filter(({ outcome }) => outcome === 'failed').map(({ check }) => check);
}

function change(folder: string, part: string, how: (bytes: Buffer) => Uint8Array): void {
  writeFileSync(join(folder, part), how(readFileSync(join(folder, part))));
}

const FILES = { 'a.onnx': randomBytes(3000), 'b.bin': randomBytes(2500), empty: Buffer.alloc(0) };

describe('verifying without a key', () => {
  it('shows that the payload is what the signer vouched for, and claims no more', async () => {
    const found = await verify(await folders.seal(FILES), { signer });
    expect(found.error).toBeUndefined();
    for (const id of ['head', 'payload-size', 'manifest', 'same-model', 'signature', 'digests'] as const) {
      expect(outcomeOf(found, id)).toBe('passed');
    }
    for (const id of ['key', 'mac', 'tags', 'files', 'oms', 'content-id', 'key-file'] as const) {
      expect(outcomeOf(found, id)).toBe('not-asked');
    }
    expect(found.proven.join(' ')).toMatch(/signer vouched.*byte for byte/);
    expect(found.notProven.join(' ')).toMatch(/That it opens/);
  });

  it('decides nothing if nobody vouches for the model, whatever fits together', async () => {
    const sealed = await folders.seal(FILES);
    const found = await verify(sealed);
    expect(found.error).toMatchObject({ code: 'OWNER_NOBODY_VOUCHES', exitCode: 3 });
    expect(found.notProven.join(' ')).toMatch(/Who made it/);
    const contentId = found.model?.contentId as string;
    expect((await verify(sealed, { contentId })).error).toBeUndefined();
    const other = await verify(sealed, {
      contentId: contentId.replace(/^./, (c) => (c === '0' ? '1' : '0')),
    });
    expect(other.error).toMatchObject({ code: 'OWNER_CONTENT_FOREIGN', exitCode: 1 });
  });

  it('names every segment that was altered, and not only the first', async () => {
    const sealed = await folders.seal(FILES);
    change(sealed, 'payload', (bytes) => flip(flip(bytes, 1500), 4000));
    const found = await verify(sealed, { signer });
    expect(found.error).toMatchObject({ code: 'OWNER_PAYLOAD_ALTERED', exitCode: 1 });
    expect(found.error?.message).toMatch(/2 of \d segments .*: 1, 3\.$/);
    expect(outcomeOf(found, 'signature')).toBe('passed');
    expect(found.proven).toEqual([]);
  });

  it('looks at a sample, and says what it may have missed', async () => {
    const sealed = await folders.seal({ m: randomBytes(10 * 1024) });
    change(sealed, 'payload', (bytes) => flip(bytes, 100));
    const lucky = await verify(sealed, { signer, sample: () => 5 });
    expect(lucky.error).toBeUndefined();
    expect(lucky.proven.join(' ')).toContain('5 of 10 segments are the ciphertext');
    expect(lucky.notProven.join(' ')).toContain('one altered segment is missed with a chance of 50.0%');
    const caught = await verify(sealed, { signer, sample: () => 5, random: () => 0 });
    expect(failures(caught)).toEqual(['digests']);
    expect(failures(await verify(sealed, { signer, sample: () => 1000 }))).toEqual(['digests']);
  });

  it('draws each segment at most once, and as many as asked', () => {
    for (const random of [last, () => 0, (below: number) => Math.floor(below / 2)]) {
      for (const howMany of [0, 1, 7, 10, 20]) {
        const drawn = drawSegments(10, howMany, random);
        expect(new Set(drawn).size).toBe(Math.min(howMany, 10));
        expect(drawn).toEqual([...drawn].sort((a, b) => a - b));
        expect(drawn.every((segment) => segment >= 0 && segment < 10)).toBe(true);
      }
    }
  });
});

describe('verifying with a key', () => {
  it('opens the model to nowhere, and holds its files against the manifest', async () => {
    const sealed = await folders.seal(FILES);
    const found = await verify(sealed, { signer, key: { kind: 'recovery', privateKey: recoveryPrivateKey } });
    expect(found.error).toBeUndefined();
    expect(found.checks.filter(({ outcome }) => outcome !== 'passed').map(({ check }) => check)).toEqual([
      'key-file',
      'content-id',
      'oms',
      'oms-files',
    ]);
    expect(found.proven.join(' ')).toMatch(/Every chunk opens.*Every file has the size and SHA-256/);
  });

  it('takes the key that its owner keeps for a voucher, and a wrap that anybody can make for none', async () => {
    const kmsKey = kmsStandIn({ allowDecrypt: true });
    const sealed = await folders.seal(FILES, { kmsKeys: [kmsKey] });
    expect((await verify(sealed, { key: folders.kept })).error).toBeUndefined();
    for (const key of [
      { kind: 'recovery', privateKey: recoveryPrivateKey },
      { kind: 'kms', kmsKey },
    ] as const) {
      const found = await verify(sealed, { key });
      expect(found.error).toMatchObject({ code: 'OWNER_NOBODY_VOUCHES' });
      expect(outcomeOf(found, 'tags')).toBe('passed');
      expect(outcomeOf(found, 'key-file')).toBe('passed');
    }
  });

  it('samples strictly as well', async () => {
    const sealed = await folders.seal({ m: randomBytes(10 * 1024) });
    const found = await verify(sealed, { key: folders.kept, sample: () => 3 });
    expect(found.error).toBeUndefined();
    expect(outcomeOf(found, 'tags')).toBe('passed');
    expect(outcomeOf(found, 'files')).toBe('not-asked');
    expect(found.notProven.join(' ')).toContain('The other 7 segments');
  });

  it.each([1, 256, 1023, 1024, 1025, 4096, 5000])('accepts a model of %i bytes', async (size) => {
    const found = await verify(await folders.seal({ m: randomBytes(size) }), { key: folders.kept });
    expect(found.error).toBeUndefined();
  });

  it('accepts a model without a byte', async () => {
    expect((await verify(await folders.sealEmpty(), { key: folders.kept })).error).toBeUndefined();
  });
});

describe('each rule, broken', () => {
  const other = generateOwnerKeyPair('signing');
  const cases: readonly [
    string,
    readonly CheckId[],
    string,
    (folder: string) => void,
    (() => Promise<Partial<VerifySealed>>)?,
  ][] = [
    ['a head that is none', ['head'], 'SEALED_HEAD_MALFORMED', (f) => change(f, 'head', (b) => flip(b, 0))],
    ['no head', ['head'], 'OWNER_NOT_A_SEAL', (f) => rmSync(join(f, 'head'))],
    [
      'a longer payload',
      ['payload-size'],
      'SEALED_PAYLOAD_SIZE',
      (f) => appendFileSync(join(f, 'payload'), 'x'),
    ],
    [
      'a manifest that is none',
      ['manifest'],
      'SEALED_MANIFEST_MALFORMED',
      (f) => writeFileSync(join(f, 'manifest.json'), '{}'),
    ],
    ['no manifest', ['manifest'], 'OWNER_NOT_A_SEAL', (f) => rmSync(join(f, 'manifest.json'))],
    [
      'the manifest of another version',
      ['same-model', 'signature'],
      'SEALED_IDENTITY_MISMATCH',
      (f) => change(f, 'manifest.json', (b) => encodeUnsignedManifest({ ...fieldsOf(b), version: 9 })),
    ],
    [
      'a manifest that nobody signed',
      ['signature'],
      'SEALED_MANIFEST_UNSIGNED',
      (f) => change(f, 'manifest.json', (b) => encodeUnsignedManifest(fieldsOf(b))),
    ],
    [
      'another signer',
      ['signature'],
      'SEALED_MANIFEST_UNSIGNED',
      () => {},
      async () => ({ signer: (await other).publicKey }),
    ],
    [
      'a key.json that is none',
      ['key-file'],
      'SEALED_KEY_FILE_MALFORMED',
      (f) => writeFileSync(join(f, 'key.json'), '{}'),
    ],
    ['a recovery wrap that is gone', ['key'], 'OWNER_RECOVERY_REFUSED', (f) => rmSync(`${f}.recovery.json`)],
    [
      'another key',
      ['commitment'],
      'SEALED_KEY_MISMATCH',
      () => {},
      async () => ({ key: { kind: 'kept', dataKey: randomBytes(32) } }),
    ],
    [
      'an altered MAC',
      ['same-model', 'mac'],
      'SEALED_IDENTITY_MISMATCH',
      (f) => change(f, 'head', (b) => flip(b, 64 + b.readUInt32BE(20) + 33)),
    ],
    [
      'a digest that states a false file',
      ['files'],
      'OWNER_MANIFEST_FALSE',
      (f) => {
        change(f, 'manifest.json', (b) => {
          const fields = fieldsOf(b);
          const files = fields.files.map((file) => ({ ...file, sha256: '0'.repeat(64) }));
          return encodeUnsignedManifest({ ...fields, files });
        });
      },
      async () => ({ signer: undefined }),
    ],
    [
      'an altered chunk',
      ['digests', 'tags'],
      'OWNER_PAYLOAD_ALTERED',
      (f) => change(f, 'payload', (b) => flip(b, 2000)),
    ],
  ];
  it.each(cases)('%s is found', async (_what, expected, code, alter, more) => {
    const sealed = await folders.seal({ m: randomBytes(5000) });
    alter(sealed);
    const key = { kind: 'recovery', privateKey: recoveryPrivateKey } as const;
    const found = await verify(sealed, { signer, key, ...(await more?.()) });
    expect(failures(found)).toEqual(expected);
    expect(found.error?.code).toBe(code);
    expect(found.proven).toEqual([]);
  });

  it('a key that does not fit keeps nobody from checking the digests', async () => {
    const sealed = await folders.seal({ m: randomBytes(5000) });
    change(sealed, 'payload', (b) => flip(b, 2000));
    const found = await verify(sealed, { signer, key: { kind: 'kept', dataKey: randomBytes(32) } });
    expect(failures(found)).toEqual(['commitment', 'digests']);
    expect(outcomeOf(found, 'tags')).toBe('not-reached');
  });

  it('stops when it is told to', async () => {
    const sealed = await folders.seal({ m: randomBytes(5000) });
    const verifying = verify(sealed, { signer, signal: AbortSignal.abort() });
    await expect(verifying).rejects.toMatchObject({ code: 'SEALED_ABORTED' });
  });
});

function fieldsOf(manifest: Uint8Array) {
  return parseStatement(parseEnvelope(manifest).payload);
}
