import { execFileSync } from 'node:child_process';
import { createPublicKey, generateKeyPairSync, randomBytes } from 'node:crypto';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { generateOwnerKeyPair } from '../../owner/keygen.ts';
import { openRecoveryWrap } from '../../owner/recovery.ts';
import { type SealToFolder, sealToFolder } from '../../owner/seal-model.ts';
import { signSealedFolder } from '../../owner/sign-model.ts';
import { encryptionContextOf, parseHead } from '../../shared/sealed-model/head.ts';
import { expectKeyFileOf, parseKeyFile } from '../../shared/sealed-model/key-file.ts';
import { expectHeadOf, verifyManifest } from '../../shared/sealed-model/manifest.ts';
import { openSealedModel } from '../../shared/sealed-model/open.ts';
import { fileSource } from '../../shared/sealed-model/source.ts';
import { unlockHead } from '../../shared/sealed-model/unlock.ts';
import { SMALL, sha256 } from '../shared/sealed-model/seals.ts';
import { KEY_ARN, kmsStandIn } from './kms-stand-in.ts';

const recovery = await generateOwnerKeyPair('recovery');
const signing = await generateOwnerKeyPair('signing');

let folder = '';
let out = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'strongroom-owner-'));
  out = join(folder, 'iris.sealed');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function file(name: string, content: Uint8Array): string {
  writeFileSync(join(folder, name), content);
  return join(folder, name);
}

function request(input: SealToFolder['input'] | string[], more: Partial<SealToFolder> = {}): SealToFolder {
  return {
    identity: { name: 'iris', version: 3, format: 'onnx' },
    input: Array.isArray(input) ? { kind: 'paths', paths: input } : input,
    out,
    kmsKeys: [kmsStandIn()],
    recoveryKey: recovery.publicKey,
    ...more,
  };
}

const pipeOf = (content: Uint8Array, pieceBytes: number): SealToFolder['input'] => {
  const pieces = Array.from(
    { length: Math.ceil(content.length / pieceBytes) },
    (_, at) => new Uint8Array(content.subarray(at * pieceBytes, (at + 1) * pieceBytes)),
  );
  return { kind: 'pipe', pipe: Readable.from(pieces), path: 'model.onnx' };
};

async function openWith(dataKey: Uint8Array): Promise<Record<string, Uint8Array>> {
  const head = parseHead(readFileSync(join(out, 'head')));
  using unlocked = unlockHead(head, dataKey);
  await using source = await fileSource(join(out, 'payload'));
  const buffer = new SharedArrayBuffer(head.payloadSizeBytes);
  await openSealedModel(unlocked, source, { kind: 'memory', buffer });
  return Object.fromEntries(
    head.files.map(({ path, offset, sizeBytes }) => [
      path,
      new Uint8Array(buffer).slice(offset, offset + sizeBytes),
    ]),
  );
}

/** Through the recovery wrap, as an owner would. */
function recover(): Uint8Array {
  const head = parseHead(readFileSync(join(out, 'head')));
  return openRecoveryWrap(readFileSync(`${out}.recovery.json`), head, recovery.privateKey);
}

const leftovers = (): string[] => readdirSync(folder).filter((name) => name.includes('iris.sealed'));

describe('sealing to a folder', () => {
  it('gives four files that belong together, and a recovery wrap beside them', async () => {
    const kms = kmsStandIn();
    const content = new Uint8Array(randomBytes(5000));
    const result = await sealToFolder(
      request([file('model.onnx', content)], { kmsKeys: [kms], signer: signing.privateKey }),
    );
    expect(readdirSync(out).sort()).toEqual(['head', 'key.json', 'manifest.json', 'payload']);
    expect(leftovers().sort()).toEqual(['iris.sealed', 'iris.sealed.recovery.json']);
    expect(statSync(`${out}.recovery.json`).mode & 0o777).toBe(0o600);

    const head = parseHead(readFileSync(join(out, 'head')));
    const manifest = verifyManifest(readFileSync(join(out, 'manifest.json')), signing.publicKey);
    expect(() => expectHeadOf(manifest, head)).not.toThrow();
    expect(manifest.contentId).toBe(result.manifest.contentId);
    expect(manifest.files).toEqual([{ path: 'model.onnx', sizeBytes: 5000, sha256: sha256(content) }]);

    const keyFile = parseKeyFile(readFileSync(join(out, 'key.json')));
    expectKeyFileOf(head, keyFile);
    const [wrap] = keyFile.wraps;
    expect(wrap?.keyArn).toBe(KEY_ARN);
    const released = kms.decrypt(wrap?.ciphertextBlob as Uint8Array, encryptionContextOf(head));
    expect(released).toEqual(recover());
    expect(await openWith(released)).toEqual({ 'model.onnx': content });
    expect(() =>
      kms.decrypt(wrap?.ciphertextBlob as Uint8Array, {
        ...encryptionContextOf(head),
        'strongroom-version': '4',
      }),
    ).toThrow();
  });

  it('keeps the paths of a folder', async () => {
    mkdirSync(join(folder, 'in/deep'), { recursive: true });
    const files = {
      'a.json': randomBytes(10),
      'deep/b.bin': randomBytes(3000),
      'deep/empty': randomBytes(0),
    };
    for (const [path, content] of Object.entries(files)) writeFileSync(join(folder, 'in', path), content);
    await sealToFolder(request([join(folder, 'in')], { sizes: SMALL }));
    const opened = await openWith(recover());
    expect(Object.keys(opened)).toEqual(Object.keys(files));
    for (const [path, content] of Object.entries(files)) {
      expect(Buffer.compare(opened[path] as Uint8Array, content), path).toBe(0);
    }
  });

  it('uses a data key that the owner keeps, and then needs neither KMS nor a recovery key', async () => {
    const dataKey = new Uint8Array(randomBytes(32));
    const { recoveryKey: _, ...rest } = request([file('m', randomBytes(10))], { kmsKeys: [], dataKey });
    await sealToFolder(rest);
    expect(readdirSync(out).sort()).toEqual(['head', 'manifest.json', 'payload']);
    expect(Object.keys(await openWith(dataKey))).toEqual(['m']);
    expect(leftovers()).toEqual(['iris.sealed']);
  });

  it('refuses to leave the data key with KMS alone, or with nobody', async () => {
    const { recoveryKey: _, ...kmsAlone } = request([file('m', randomBytes(10))]);
    await expect(sealToFolder(kmsAlone)).rejects.toMatchObject({ code: 'OWNER_NO_SECOND_WRAP' });
    await expect(sealToFolder({ ...kmsAlone, kmsKeys: [] })).rejects.toMatchObject({
      code: 'OWNER_NO_SECOND_WRAP',
    });
    const weak = generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey;
    await expect(sealToFolder({ ...kmsAlone, recoveryKey: weak })).rejects.toMatchObject({
      code: 'OWNER_KEY_UNUSABLE',
    });
    expect(leftovers()).toEqual([]);
  });
});

describe('sealing from a pipe', () => {
  for (const [how, pieceBytes, length] of [
    ['whole', 1 << 20, 5000],
    ['in pieces', 700, 5000],
    ['byte by byte', 1, 1300],
    ['of exactly some chunks', 512, 2048],
  ] as const) {
    it(`${how} gives back what went in`, async () => {
      const content = new Uint8Array(randomBytes(length));
      const result = await sealToFolder(request(pipeOf(content, pieceBytes), { sizes: SMALL }));
      expect(result.manifest.files[0]?.sha256).toBe(sha256(content));
      expect(await openWith(recover())).toEqual({ 'model.onnx': content });
    });
  }

  it('is refused without a byte in it: the training job failed', async () => {
    const nothing = request(pipeOf(new Uint8Array(0), 1), { sizes: SMALL });
    await expect(sealToFolder(nothing)).rejects.toMatchObject({ code: 'OWNER_INPUT_UNUSABLE' });
    expect(leftovers()).toEqual([]);
  });

  it('is not read before name, path, keys and signer are known to be usable', async () => {
    const pipe = new PassThrough();
    const usable = request({ kind: 'pipe', pipe, path: 'm' });
    const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
    const [kmsKey] = usable.kmsKeys;
    for (const [change, code] of [
      [{ identity: { ...usable.identity, name: 'n n' } }, 'SEALED_INPUT_INVALID'],
      [{ input: { kind: 'pipe', pipe, path: '../m' } }, 'SEALED_INPUT_INVALID'],
      [{ signer: rsa }, 'SEALED_SIGNER_UNSUPPORTED'],
      [{ kmsKeys: [kmsKey, kmsKey] }, 'OWNER_KEY_UNUSABLE'],
    ] as const) {
      await expect(sealToFolder({ ...usable, ...change } as SealToFolder)).rejects.toMatchObject({ code });
    }
    expect(leftovers()).toEqual([]);
  });

  it('puts no plaintext on the disk, not even while the pipe is open', async () => {
    const pipe = new PassThrough();
    const sealing = sealToFolder(request({ kind: 'pipe', pipe, path: 'm' }, { sizes: SMALL }));
    const canary = 'canary-'.repeat(400);
    pipe.write(canary);
    const [partial] = await until(() => {
      const found = leftovers().filter((name) => name.includes('.partial-'));
      const sizes = found.map((name) => statSync(join(folder, name, 'payload')).size);
      return (sizes[0] ?? 0) > 2000 ? found : undefined;
    });
    expect(readFileSync(join(folder, partial as string, 'payload')).includes('canary')).toBe(false);
    expect(existsSync(out)).toBe(false);
    pipe.end();
    await sealing;
    expect(readFileSync(join(out, 'payload')).includes('canary')).toBe(false);
    expect(Buffer.from((await openWith(recover())).m as Uint8Array).toString()).toBe(canary);
  });

  it('that is interrupted leaves nothing, though the pipe stays silent', async () => {
    const stop = new AbortController();
    const pipe = new PassThrough();
    pipe.write(randomBytes(2000));
    const sealing = sealToFolder(
      request({ kind: 'pipe', pipe, path: 'm' }, { sizes: SMALL, signal: stop.signal }),
    );
    await until(() => (leftovers().length > 0 ? true : undefined));
    stop.abort(new Error('interrupted'));
    await expect(sealing).rejects.toMatchObject({ code: 'SEALED_ABORTED' });
    expect(leftovers()).toEqual([]);
  });

  it('that breaks leaves nothing', async () => {
    const pipe = Readable.from(
      (async function* () {
        yield randomBytes(2000);
        throw new Error('the training job died');
      })(),
    );
    await expect(sealToFolder(request({ kind: 'pipe', pipe, path: 'm' }))).rejects.toThrow(
      'training job died',
    );
    expect(leftovers()).toEqual([]);
  });
});

describe('a seal that cannot be finished', () => {
  it('never overwrites a seal, a file, a link or a recovery wrap', async () => {
    const input = [file('m', randomBytes(10))];
    writeFileSync(`${out}.recovery.json`, 'mine');
    await expect(sealToFolder(request(input))).rejects.toMatchObject({ code: 'OWNER_WOULD_OVERWRITE' });
    expect(readFileSync(`${out}.recovery.json`, 'utf8')).toBe('mine');
    rmSync(`${out}.recovery.json`);
    for (const make of [
      () => writeFileSync(out, 'mine'),
      () => mkdirSync(out),
      () => execFileSync('ln', ['-s', 'x', out]),
    ]) {
      make();
      await expect(sealToFolder(request(input))).rejects.toMatchObject({ code: 'OWNER_WOULD_OVERWRITE' });
      rmSync(out, { recursive: true });
    }
    expect(leftovers()).toEqual([]);
  });

  it('asks KMS before it seals, and leaves nothing when KMS refuses', async () => {
    const input = [file('m', randomBytes(10))];
    for (const [kms, code] of [
      [kmsStandIn({ denyEncrypt: true }), 'OWNER_KMS_REFUSED'],
      [kmsStandIn({ state: 'PendingDeletion' }), 'OWNER_KEY_UNUSABLE'],
      [{ ...kmsStandIn(), keyArn: 'alias/mine' }, 'OWNER_KEY_UNUSABLE'],
    ] as const) {
      const progress: number[] = [];
      const onProgress = (_: string, done: number): void => void progress.push(done);
      await expect(sealToFolder(request(input, { kmsKeys: [kms], onProgress }))).rejects.toMatchObject({
        code,
      });
      expect(progress).toEqual([]);
      expect(leftovers()).toEqual([]);
    }
  });

  it('notices a file that changes meanwhile', async () => {
    const path = file('m', randomBytes(100_000));
    const grow = (): void => appendFileSync(path, 'x');
    await expect(sealToFolder(request([path], { sizes: SMALL, onProgress: grow }))).rejects.toMatchObject({
      code: 'OWNER_INPUT_UNUSABLE',
    });
    expect(leftovers()).toEqual([]);
  });

  it('refuses links, devices and mixed input', async () => {
    mkdirSync(join(folder, 'in'));
    execFileSync('ln', ['-s', '/etc/passwd', join(folder, 'in/link')]);
    const unusable = { code: 'OWNER_INPUT_UNUSABLE' };
    await expect(sealToFolder(request([join(folder, 'in')]))).rejects.toMatchObject(unusable);
    await expect(sealToFolder(request(['/dev/zero']))).rejects.toMatchObject(unusable);
    await expect(
      sealToFolder(request([join(folder, 'in'), file('m', randomBytes(1))])),
    ).rejects.toMatchObject(unusable);
    await expect(sealToFolder(request([join(folder, 'absent')]))).rejects.toMatchObject({ code: 'ENOENT' });
    expect(leftovers()).toEqual([]);
  });

  it('stops when it is interrupted, and leaves nothing', async () => {
    const stop = new AbortController();
    const input = [file('m', randomBytes(200_000))];
    const onProgress = (_: string, done: number): void => {
      if (done > 10_000) stop.abort(new Error('interrupted'));
    };
    await expect(
      sealToFolder(request(input, { sizes: SMALL, signal: stop.signal, onProgress })),
    ).rejects.toMatchObject({ code: 'SEALED_ABORTED' });
    expect(leftovers()).toEqual([]);
  });
});

describe('a full disk', () => {
  const disk = mkdtempSync(join(tmpdir(), 'strongroom-full-'));
  let mounted = false;
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', disk], { stdio: 'ignore' });
    mounted = true;
  } catch {
    // Not root: the test below says so.
  }
  afterAll(() => {
    if (mounted) execFileSync('umount', [disk]);
    rmSync(disk, { recursive: true });
  });

  it.skipIf(!mounted)('stops the seal and leaves nothing (needs root, for a small tmpfs)', async () => {
    const input = [file('m', randomBytes(3 << 20))];
    const small = join(disk, 'iris.sealed');
    await expect(sealToFolder(request(input, { out: small }))).rejects.toMatchObject({ code: 'ENOSPC' });
    expect(readdirSync(disk)).toEqual([]);
  });
});

describe('signing afterwards', () => {
  it('signs what was sealed, and only if the head beside it is that one', async () => {
    await sealToFolder(request([file('m', randomBytes(10))]));
    const manifestFile = join(out, 'manifest.json');
    expect(() => verifyManifest(readFileSync(manifestFile), signing.publicKey)).toThrow(
      expect.objectContaining({ code: 'SEALED_MANIFEST_UNSIGNED' }),
    );
    await signSealedFolder(out, signing.privateKey);
    const publicKey = createPublicKey(signing.privateKey);
    expect(verifyManifest(readFileSync(manifestFile), publicKey).name).toBe('iris');
    expect(readdirSync(out).sort()).toEqual(['head', 'key.json', 'manifest.json', 'payload']);

    const first = readFileSync(join(out, 'head'));
    rmSync(out, { recursive: true });
    rmSync(`${out}.recovery.json`);
    await sealToFolder(request([join(folder, 'm')]));
    writeFileSync(join(out, 'head'), first);
    await expect(signSealedFolder(out, signing.privateKey)).rejects.toMatchObject({
      code: 'SEALED_IDENTITY_MISMATCH',
    });
  });
});

async function until<T>(found: () => T | undefined): Promise<T> {
  for (let tries = 0; tries < 4000; tries++) {
    try {
      const value = found();
      if (value !== undefined) return value;
    } catch {
      // Not there yet.
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error('it did not happen');
}
