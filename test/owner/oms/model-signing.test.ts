import { createPublicKey, generateKeyPairSync, type KeyObject, randomBytes } from 'node:crypto';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { signOmsStatement, verifiedOmsStatement } from '../../../owner/oms/bundle.ts';
import { expectResources, filesOf, resourcesOf } from '../../../owner/oms/files.ts';
import { signOms, verifyOmsBundle } from '../../../owner/oms/sealed.ts';
import { encodeOmsStatement, type OmsResource, parseOmsStatement } from '../../../owner/oms/statement.ts';
import { signSealedFolder } from '../../../owner/sign-model.ts';
import { type Verification, verifySealed } from '../../../owner/verify/verify-model.ts';
import { describeWithPython } from '../legacy/python.ts';
import { flip, SealedFolders, signing } from '../sealed-folders.ts';
import { PUBLISHED } from './published.ts';

let folders: SealedFolders;
beforeAll(() => {
  folders = new SealedFolders();
});
afterAll(() => folders.remove());

const CURVES = ['P-256', 'P-384', 'P-521'] as const;
const keys = Object.fromEntries(
  CURVES.map((namedCurve) => [namedCurve, generateKeyPairSync('ec', { namedCurve })]),
) as Record<(typeof CURVES)[number], { privateKey: KeyObject; publicKey: KeyObject }>;
const { privateKey, publicKey } = keys['P-256'];
const pem = (key: KeyObject): string =>
  key.export({ type: key.type === 'private' ? 'pkcs8' : 'spki', format: 'pem' }).toString();

let bundles = 0;
async function sign(
  sealed: string,
  signer: KeyObject = privateKey,
  method: 'files' | 'shards' = 'shards',
): Promise<Buffer> {
  const out = folders.path(`bundle-${bundles++}.sig`);
  await signOms({ sealed, signer, method, out });
  return readFileSync(out);
}

function verify(sealed: string, oms: Uint8Array, signer: KeyObject = publicKey): Promise<Verification> {
  return verifySealed({ sealed, oms, signer, random: () => 0 });
}

describe('a bundle that the reference implementation published', () => {
  const key = createPublicKey(PUBLISHED.publicKey);

  it('is verified: hint, signature by P-384, statement and files', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'strongroom-oms-'));
    try {
      for (const [path, content] of Object.entries(PUBLISHED.files))
        writeFileSync(join(folder, path), content);
      const manifest = verifyOmsBundle(Buffer.from(PUBLISHED.bundle), key);
      const found: OmsResource[] = [];
      for (const file of await filesOf(folder, manifest.ignorePaths)) {
        found.push(...(await resourcesOf(folder, file, manifest.serialization)));
      }
      expect(() => expectResources(manifest, found)).not.toThrow();
      expect(() => expectResources(manifest, found.slice(1))).toThrow('was signed and is not there');
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('is refused under another key, and altered', () => {
    const other = keys['P-384'].publicKey;
    expect(() => verifyOmsBundle(Buffer.from(PUBLISHED.bundle), other)).toThrow(
      'says that it is signed by key',
    );
    const withoutHint = PUBLISHED.bundle.replace(/"hint":"[0-9a-f]*"/, '"hint":""');
    expect(() => verifiedOmsStatement(Buffer.from(withoutHint), other)).toThrow('not by the expected key');
    expect(() => verifiedOmsStatement(Buffer.from(withoutHint), key)).not.toThrow();
    const altered = PUBLISHED.bundle.replace('"payload":"ewog', '"payload":"ewoh');
    expect(() => verifiedOmsStatement(Buffer.from(altered), key)).toThrow('not by the expected key');
  });
});

describe('signing a sealed model', () => {
  it.each(CURVES)('is verified with a key on %s', async (curve) => {
    const sealed = await folders.seal({ m: randomBytes(5000) });
    const found = await verify(sealed, await sign(sealed, keys[curve].privateKey), keys[curve].publicKey);
    expect(found.error).toBeUndefined();
    expect(found.proven.join(' ')).toContain('signer of the bundle vouched for this head and payload');
  });

  it('takes the digests of the payload’s shards from the digest table', async () => {
    const sealed = await folders.seal({ m: randomBytes(12 * 1024) });
    const { resources, serialization } = verifyOmsBundle(await sign(sealed), publicKey);
    expect(serialization).toEqual({ method: 'shards', shardBytes: 1024 });
    const head = readFileSync(join(sealed, 'head'));
    for (let segment = 0; segment < 12; segment++) {
      const digest = head.subarray(head.length - (12 - segment) * 32, head.length - (11 - segment) * 32);
      const name = `payload:${segment * 1024}:${(segment + 1) * 1024}`;
      expect(resources.find((resource) => resource.name === name)?.sha256).toBe(digest.toString('hex'));
    }
    // By code points, as the specification says: 10240 stands before 2048.
    expect(resources.map(({ name }) => name)).toEqual(resources.map(({ name }) => name).sort());
  });

  it('outlives what may change: another signature, another key.json', async () => {
    const sealed = await folders.seal({ m: randomBytes(3000) });
    const bundle = await sign(sealed);
    await signSealedFolder(sealed, signing.privateKey);
    writeFileSync(join(sealed, 'key.json'), '{}');
    const found = await verify(sealed, bundle);
    expect(found.checks.filter(({ outcome }) => outcome === 'failed').map(({ check }) => check)).toEqual([
      'key-file',
    ]);
  });

  it('refuses to vouch for a payload that is not the head’s, and for strangers', async () => {
    const sealed = await folders.seal({ m: randomBytes(3000) });
    const payload = readFileSync(join(sealed, 'payload'));
    writeFileSync(join(sealed, 'payload'), flip(payload, 2000));
    await expect(sign(sealed)).rejects.toMatchObject({ code: 'OWNER_PAYLOAD_ALTERED' });
    writeFileSync(join(sealed, 'payload'), payload);
    writeFileSync(join(sealed, 'notes.txt'), '');
    await expect(sign(sealed)).rejects.toMatchObject({ code: 'OMS_FILES_DIFFER' });
    rmSync(join(sealed, 'notes.txt'));
    const inside = signOms({ sealed, signer: privateKey, method: 'shards', out: join(sealed, 'm.sig') });
    await expect(inside).rejects.toMatchObject({ code: 'OWNER_INPUT_UNUSABLE' });
    expect(readdirSync(sealed).sort()).toEqual(['head', 'manifest.json', 'payload']);
  });

  it('refuses keys that the standard does not know, and overwrites nothing', async () => {
    const sealed = await folders.seal({ m: randomBytes(100) });
    for (const other of [
      generateKeyPairSync('ed25519'),
      generateKeyPairSync('ec', { namedCurve: 'secp256k1' }),
    ]) {
      await expect(sign(sealed, other.privateKey)).rejects.toMatchObject({ code: 'OMS_KEY_UNUSABLE' });
    }
    const out = folders.path('there.sig');
    writeFileSync(out, 'x');
    const signed = signOms({ sealed, signer: privateKey, method: 'shards', out });
    await expect(signed).rejects.toMatchObject({ code: 'OWNER_WOULD_OVERWRITE' });
  });
});

describe('what a bundle does not let pass', () => {
  const cases: readonly [string, string, (folder: string) => void][] = [
    ['an altered payload', 'OWNER_PAYLOAD_ALTERED', (f) => change(f, 'payload', 10)],
    ['an altered last byte of the payload', 'OWNER_PAYLOAD_ALTERED', (f) => change(f, 'payload', 4999)],
    ['an altered head', 'SEALED_IDENTITY_MISMATCH', (f) => change(f, 'head', 400)],
    ['a file that nobody signed', 'OMS_FILES_DIFFER', (f) => writeFileSync(join(f, 'extra'), '')],
    ['a symbolic link', 'OMS_FILES_DIFFER', (f) => symlinkSync('/etc/passwd', join(f, 'link'))],
  ];
  it.each(['shards', 'files'] as const)('%s', async (method) => {
    for (const [what, code, alter] of cases) {
      const sealed = await folders.seal({ m: randomBytes(5000) });
      const bundle = await sign(sealed, privateKey, method);
      expect((await verify(sealed, bundle)).error).toBeUndefined();
      alter(sealed);
      if (code === 'OMS_FILES_DIFFER' && method === 'shards' && what.startsWith('a file')) {
        writeFileSync(join(sealed, 'extra'), 'x'); // an empty file has no shards, and so nothing to sign
      }
      expect((await verify(sealed, bundle)).error?.code, what).toBe(code);
    }
  });

  it('a bundle that leaves head or payload out, or is of another model', async () => {
    const sealed = await folders.seal({ m: randomBytes(3000) });
    const other = await sign(await folders.seal({ m: randomBytes(3000) }));
    expect((await verify(sealed, other)).error?.code).toBe('OMS_FILES_DIFFER');
    const manifest = verifyOmsBundle(await sign(sealed), publicKey);
    for (const path of ['head', 'payload']) {
      const statement = encodeOmsStatement('x', {
        ...manifest,
        ignorePaths: [...manifest.ignorePaths, path],
        resources: manifest.resources.filter(({ name }) => !name.startsWith(`${path}:`)),
      });
      const found = await verify(sealed, signOmsStatement(statement, privateKey));
      expect(found.error?.code).toBe('OMS_FILES_DIFFER');
    }
  });

  const malformed: readonly [string, string, (text: string) => string][] = [
    ['another media type', 'OMS_MALFORMED', (text) => text.replace('bundle.v0.3+json', 'bundle.v0.9+json')],
    [
      'another payload type',
      'OMS_MALFORMED',
      (text) => text.replace('application/vnd.in-toto+json', 'text/plain'),
    ],
    ['no signature', 'OMS_MALFORMED', (text) => text.replace(/"signatures":\[.*?\]/, '"signatures":[]')],
    ['a certificate', 'OMS_UNSUPPORTED', (text) => text.replace('"publicKey"', '"x509CertificateChain"')],
    [
      'a member twice',
      'OMS_MALFORMED',
      (text) => text.replace('{"mediaType"', '{"mediaType":"","mediaType"'),
    ],
    ['no JSON', 'OMS_MALFORMED', (text) => text.slice(0, -9)],
  ];
  it.each(malformed)('%s', async (_what, code, alter) => {
    const sealed = await folders.seal({ m: randomBytes(100) });
    const text = (await sign(sealed)).toString();
    expect((await verify(sealed, Buffer.from(alter(text)))).error?.code).toBe(code);
  });

  it.each([
    ['another predicate', 'OMS_MALFORMED', { predicateType: 'https://model_signing/Digests/v0.1' }],
    ['another statement', 'OMS_MALFORMED', { _type: 'https://in-toto.io/Statement/v0.1' }],
    ['two subjects', 'OMS_MALFORMED', { subject: [{}, {}] }],
    [
      'a false root digest',
      'OMS_MALFORMED',
      { subject: [{ name: 'x', digest: { sha256: '0'.repeat(64) } }] },
    ],
    ['no resources', 'OMS_MALFORMED', { predicate: { resources: [], serialization: SERIALIZATION() } }],
    [
      'another hash',
      'OMS_UNSUPPORTED',
      { predicate: { resources: [], serialization: SERIALIZATION('blake3') } },
    ],
    [
      'another method',
      'OMS_UNSUPPORTED',
      { predicate: { resources: [], serialization: SERIALIZATION('sha256', 'tree') } },
    ],
  ])('a statement with %s', (_what, code, members) => {
    const manifest = { serialization: { method: 'files' }, ignorePaths: [], resources: [] } as const;
    const resources = [{ name: 'head', sha256: '1'.repeat(64) }];
    const statement = JSON.parse(Buffer.from(encodeOmsStatement('x', { ...manifest, resources })).toString());
    const parse = () => parseOmsStatement(Buffer.from(JSON.stringify({ ...statement, ...members })));
    expect(parse).toThrow(expect.objectContaining({ code }));
  });
});

describeWithPython(
  'Model Signing, against an independent implementation',
  { script: '../oms/model_signing.py', module: 'cryptography', debian: 'python3-cryptography' },
  (ask) => {
    it.each(['shards', 'files'] as const)('verifies there what is signed here (%s)', async (method) => {
      const files = { a: randomBytes(12 * 1024), b: randomBytes(1), empty: Buffer.alloc(0) };
      const sealed = await folders.seal(files);
      const requests = [];
      for (const curve of CURVES) {
        const bundle = (await sign(sealed, keys[curve].privateKey, method)).toString();
        requests.push({ do: 'verify', key: pem(keys[curve].publicKey), bundle, root: sealed });
      }
      expect(ask(requests).map(({ verified }) => verified)).toEqual(['yes', 'yes', 'yes']);
      writeFileSync(join(sealed, 'payload'), flip(readFileSync(join(sealed, 'payload')), 11_000));
      expect(ask(requests)).toEqual(CURVES.map(() => ({ refused: 'files' })));
    });

    it.each([
      { method: 'files' },
      { method: 'shards', shard_size: 1024 },
      { method: 'shards', shard_size: 700 },
      { method: 'shards', shard_size: 1_000_000_000 },
    ])('verifies here what is signed there (%o)', async (serialization) => {
      const sealed = await folders.seal({ a: randomBytes(12 * 1024), b: randomBytes(5) });
      for (const ignore of [['key.json', 'manifest.json'], []]) {
        const requests = CURVES.map((curve) => ({
          do: 'sign',
          key: pem(keys[curve].privateKey),
          serialization,
          ignore,
          root: sealed,
        }));
        for (const [index, { bundle }] of ask(requests).entries()) {
          const signer = keys[CURVES[index] as (typeof CURVES)[number]].publicKey;
          const found = await verify(sealed, Buffer.from(bundle as string), signer);
          expect(found.error).toBeUndefined();
        }
      }
    });

    it('both verify a folder with folders in it and names beyond ASCII', async () => {
      const root = folders.path('names');
      const names = ['z', 'a/b:c', 'ä', '模型', '😀', 'a/.git'];
      for (const name of names) {
        mkdirSync(join(root, name, '..'), { recursive: true });
        writeFileSync(join(root, name), randomBytes(50));
      }
      const request = {
        do: 'sign',
        key: pem(privateKey),
        serialization: { method: 'files' },
        ignore: ['z'],
        root,
      };
      const [answer] = ask([request]);
      const manifest = verifyOmsBundle(Buffer.from(answer?.bundle as string), publicKey);
      const found: OmsResource[] = [];
      for (const file of await filesOf(root, manifest.ignorePaths)) {
        found.push(...(await resourcesOf(root, file, manifest.serialization)));
      }
      expectResources(manifest, found);
      const own = signOmsStatement(
        encodeOmsStatement('names', { ...manifest, resources: found }),
        privateKey,
      );
      const [back] = ask([{ do: 'verify', key: pem(publicKey), bundle: Buffer.from(own).toString(), root }]);
      expect(JSON.parse(back?.resources as string)).toHaveLength(names.length - 1);
    });
  },
);

function change(folder: string, part: string, offset: number): void {
  writeFileSync(join(folder, part), flip(readFileSync(join(folder, part)), offset));
}

function SERIALIZATION(hashType = 'sha256', method = 'files') {
  return { hash_type: hashType, method, allow_symlinks: false };
}
