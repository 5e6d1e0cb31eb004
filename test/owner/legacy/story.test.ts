/** What owners do with legacy models: open, convert, re-encrypt, write; and what a failure leaves. */
import { spawn } from 'node:child_process';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  appendFileSync,
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { convertLegacy } from '../../../owner/legacy/convert.ts';
import { openLegacyFile } from '../../../owner/legacy/legacy-file.ts';
import { reEncryptEnvmodel } from '../../../owner/legacy/re-encrypt.ts';
import { sealEncmodel, sealEnvmodel } from '../../../owner/legacy/seal-legacy.ts';
import {
  type LegacyKey,
  openLegacyToFile,
  openLegacyToPipe,
  verifyLegacy,
  verifyLegacyFile,
} from '../../../owner/legacy/unlock.ts';
import { recogniseModelFile } from '../../../owner/model-file.ts';
import { parseHead } from '../../../shared/sealed-model/head.ts';
import { openSealedModel } from '../../../shared/sealed-model/open.ts';
import { fileSource } from '../../../shared/sealed-model/source.ts';
import { unlockHead } from '../../../shared/sealed-model/unlock.ts';
import { kmsStandIn } from '../kms-stand-in.ts';
import { encmodel, envmodel, sha256 } from './files.ts';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'strongroom-legacy-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const at = (name: string): string => join(folder, name);
const names = (): string[] => readdirSync(folder).sort();
const key = new Uint8Array(randomBytes(32));
const legacyKey: LegacyKey = { kind: 'data-key', dataKey: key };
/** Three pieces of ciphertext. */
const plaintext = randomBytes((2 << 20) + 12_345);

function written(content: Buffer = encmodel({ key, plaintext }), name = 'iris.enc'): string {
  writeFileSync(at(name), content);
  return at(name);
}

/** One byte of the ciphertext becomes another, as if somebody wrote to the file between the two passes. */
function flip(path: string, offset: number): void {
  const byte = readFileSync(path)[offset] as number;
  overwrite(path, Buffer.from([byte ^ 1]), offset);
}

function overwrite(path: string, bytes: Buffer, offset: number): void {
  const file = openSync(path, 'r+');
  writeSync(file, bytes, 0, bytes.length, offset);
  closeSync(file);
}

describe('recognising a model', () => {
  it('goes by the magic and not by the name', async () => {
    expect(await recogniseModelFile(written())).toBe('encmodel');
    expect(await recogniseModelFile(written(envmodel({ key, plaintext }), 'x.onnx'))).toBe('envmodel');
    const seal = { identity: { name: 'iris', version: 1, format: 'onnx' }, kmsKeys: [], dataKey: key };
    const out = at('iris.sealed');
    await convertLegacy({ legacy: at('iris.enc'), legacyKey, path: 'm', seal: { ...seal, out } });
    expect(await recogniseModelFile(out)).toBe('sealed-model');
    const unknown = { code: 'OWNER_MODEL_UNKNOWN' };
    await expect(recogniseModelFile(join(out, 'head'))).rejects.toMatchObject(unknown);
    await expect(recogniseModelFile(join(out, 'payload'))).rejects.toMatchObject(unknown);
    await expect(recogniseModelFile(folder)).rejects.toMatchObject(unknown);
    await expect(recogniseModelFile('/dev/null')).rejects.toMatchObject(unknown);
    writeFileSync(at('short'), 'ENC');
    await expect(recogniseModelFile(at('short'))).rejects.toMatchObject(unknown);
    await expect(recogniseModelFile(at('absent'))).rejects.toMatchObject({ code: 'ENOENT' });
  });
});

describe('opening to a file', () => {
  it('gives a file for its owner alone, and overwrites nothing', async () => {
    await openLegacyToFile(written(), legacyKey, at('deep/model.onnx'));
    expect(readFileSync(at('deep/model.onnx')).equals(plaintext)).toBe(true);
    expect(statSync(at('deep/model.onnx')).mode & 0o777).toBe(0o600);
    await expect(openLegacyToFile(at('iris.enc'), legacyKey, at('deep/model.onnx'))).rejects.toMatchObject({
      code: 'OWNER_WOULD_OVERWRITE',
    });
    expect(readdirSync(at('deep'))).toEqual(['model.onnx']);
  });

  it('writes no byte anywhere if the tag is wrong', async () => {
    const path = written();
    flip(path, statSync(path).size - 1);
    const seen = new Set<string>();
    const onProgress = (): void => {
      for (const name of names()) seen.add(name);
    };
    const opening = openLegacyToFile(path, legacyKey, at('deep/model.onnx'), { onProgress });
    await expect(opening).rejects.toMatchObject({ code: 'LEGACY_TAG_REFUSED' });
    expect([...seen]).toEqual(['iris.enc']);
    expect(names()).toEqual(['iris.enc']);
  });

  it.each([
    ['is altered', (path: string) => flip(path, 2 << 20)],
    ['is cut off', (path: string) => truncateSync(path, 2 << 20)],
    ['is replaced by zeros', (path: string) => overwrite(path, Buffer.alloc(1 << 20), 0)],
  ])('leaves nothing if the file %s after it was verified', async (_what, change) => {
    const path = written();
    let verified = 0;
    const onProgress = (done: number, total: number): void => {
      if (done === total && verified++ === 0) change(path);
    };
    const opening = openLegacyToFile(path, legacyKey, at('deep/model.onnx'), { onProgress });
    await expect(opening).rejects.toMatchObject({ code: 'LEGACY_CHANGED' });
    expect(names()).toEqual(['iris.enc']);
  });

  it('leaves nothing when it is interrupted, in either pass', async () => {
    for (const calls of [2, 5]) {
      const stop = new AbortController();
      let seen = 0;
      const onProgress = (): void => {
        if (++seen === calls) stop.abort();
      };
      const opening = openLegacyToFile(written(), legacyKey, at('model'), {
        signal: stop.signal,
        onProgress,
      });
      await expect(opening).rejects.toMatchObject({ code: 'SEALED_ABORTED' });
      expect(names()).toEqual(['iris.enc']);
    }
  });
});

describe('opening to a pipe', () => {
  it('gives the plaintext, and ends the pipe', async () => {
    for (const size of [0, 1, 1 << 20, plaintext.length]) {
      const pipe = new PassThrough();
      const read = buffer(pipe);
      const path = written(encmodel({ key, plaintext: plaintext.subarray(0, size) }));
      await openLegacyToPipe(path, legacyKey, pipe);
      expect((await read).equals(plaintext.subarray(0, size))).toBe(true);
    }
  });

  it('releases no byte of a file whose tag or digest is wrong', async () => {
    const wrongTag = encmodel({ key, plaintext });
    wrongTag[wrongTag.length - 1] = (wrongTag.at(-1) as number) ^ 1;
    const wrongDigest = encmodel({ key, plaintext, members: { plaintext_hash: 'a'.repeat(64) } });
    for (const content of [wrongTag, wrongDigest]) {
      const pipe = new PassThrough();
      await expect(openLegacyToPipe(written(content), legacyKey, pipe)).rejects.toThrow();
      expect(pipe.read()).toBeNull();
      expect(pipe.writableLength).toBe(0);
    }
  });

  it('releases nothing of what changed after it was verified', async () => {
    const path = written();
    const pipe = new PassThrough();
    const pieces: Buffer[] = [];
    pipe.on('data', (piece: Buffer) => pieces.push(piece));
    let verified = 0;
    const onProgress = (done: number, total: number): void => {
      if (done === total && verified++ === 0) flip(path, 2 << 20);
    };
    await expect(openLegacyToPipe(path, legacyKey, pipe, { onProgress })).rejects.toMatchObject({
      code: 'LEGACY_CHANGED',
    });
    const released = Buffer.concat(pieces);
    expect(released.length).toBeLessThan(2 << 20);
    expect(released.equals(plaintext.subarray(0, released.length))).toBe(true);
  });

  it('ends with its reader', async () => {
    const pipe = new PassThrough();
    pipe.once('data', () => pipe.destroy());
    await expect(openLegacyToPipe(written(), legacyKey, pipe)).rejects.toMatchObject({
      code: 'ERR_STREAM_PREMATURE_CLOSE',
    });
  });
});

describe('a verified message', () => {
  it('reads any range, over pieces and slabs', async () => {
    await using file = await openLegacyFile(written());
    const message = await verifyLegacyFile(file, legacyKey);
    const edges = [
      0,
      1,
      15,
      16,
      17,
      131_072,
      (1 << 20) - 1,
      1 << 20,
      (1 << 20) + 1,
      2 << 20,
      plaintext.length,
    ];
    for (const [index, start] of edges.entries()) {
      for (const end of edges.slice(index)) {
        const target = Buffer.alloc(end - start);
        await message.read(start, target);
        expect(target.equals(plaintext.subarray(start, end)), `${start} to ${end}`).toBe(true);
      }
    }
    for (const start of [-1, 1, plaintext.length]) {
      await expect(message.read(start, Buffer.alloc(plaintext.length))).rejects.toThrow(RangeError);
    }
  });

  it('leaves no ciphertext or plaintext in the target of a read that it refuses', async () => {
    await using file = await openLegacyFile(written());
    const message = await verifyLegacyFile(file, legacyKey);
    flip(at('iris.enc'), 1 << 19);
    const target = Buffer.alloc(1 << 20);
    await expect(message.read(0, target)).rejects.toMatchObject({ code: 'LEGACY_CHANGED' });
    expect(target.equals(Buffer.alloc(1 << 20))).toBe(true);
  });
});

describe('converting to a sealed model', () => {
  const identity = { name: 'iris', version: 3, format: 'onnx' };
  const recoveryKey = generateKeyPairSync('rsa', { modulusLength: 3072 }).publicKey;

  async function openSealed(out: string, dataKey: Uint8Array): Promise<Buffer> {
    const head = parseHead(readFileSync(join(out, 'head')));
    const opened = new SharedArrayBuffer(head.payloadSizeBytes);
    await using source = await fileSource(join(out, 'payload'));
    await openSealedModel(
      unlockHead(head, dataKey),
      source,
      { kind: 'memory', buffer: opened },
      { workers: 1 },
    );
    return Buffer.from(opened);
  }

  it('seals the very bytes, with no plaintext on the disk at any moment', async () => {
    const canary = Buffer.from('canary-'.repeat(300_000));
    const legacy = written(encmodel({ key, plaintext: canary, associatedData: 'iris:3' }));
    const dataKey = randomBytes(32);
    const phases = new Set<string>();
    const onProgress = (phase: string): void => {
      phases.add(phase);
      for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
        if (!entry.isFile()) continue;
        expect(readFileSync(join(entry.parentPath, entry.name)).includes('canary-')).toBe(false);
      }
    };
    const result = await convertLegacy({
      legacy,
      legacyKey: { ...legacyKey, associatedData: Buffer.from('iris:3') },
      path: 'model.onnx',
      seal: { identity, out: at('iris.sealed'), kmsKeys: [], dataKey, onProgress },
    });
    expect([...phases]).toEqual(['reading', 'sealing']);
    expect(result.manifest.files).toEqual([
      { path: 'model.onnx', sizeBytes: canary.length, sha256: sha256(canary) },
    ]);
    expect((await openSealed(at('iris.sealed'), dataKey)).equals(canary)).toBe(true);
    expect(names()).toEqual(['iris.enc', 'iris.sealed']);
  });

  it('takes an ENVMODEL from its KMS key to another, and leaves the recovery wrap', async () => {
    const from = kmsStandIn({ allowDecrypt: true });
    const to = kmsStandIn({ keyArn: from.keyArn.replace('1234abcd', '99999999') });
    const metadata = new Map([['model', 'größe']]);
    const input = { kind: 'pipe', pipe: Readable.from([Buffer.from(plaintext)]) } as const;
    await sealEnvmodel({ input, out: at('iris.env'), kmsKey: from, metadata });
    await convertLegacy({
      legacy: at('iris.env'),
      legacyKey: { kind: 'kms', kmsKey: from },
      path: 'model.onnx',
      seal: { identity, out: at('iris.sealed'), kmsKeys: [to], recoveryKey },
    });
    expect(from.calls).toEqual(['DescribeKey', 'Encrypt', 'Decrypt']);
    expect(to.calls).toEqual(['DescribeKey', 'Encrypt']);
    expect(names()).toEqual(['iris.env', 'iris.sealed', 'iris.sealed.recovery.json']);
  });

  it('leaves nothing if the legacy file is altered, changes meanwhile, or the work is stopped', async () => {
    const seal = { identity, out: at('iris.sealed'), kmsKeys: [], dataKey: key };
    const legacy = written();
    const convert = (
      onProgress: (phase: string, done: number) => void,
      signal = new AbortController().signal,
    ) => convertLegacy({ legacy, legacyKey, path: 'm', seal: { ...seal, signal, onProgress } });

    for (const phase of ['reading', 'sealing']) {
      const stop = new AbortController();
      const stopping = convert((now) => now === phase && stop.abort(), stop.signal);
      await expect(stopping).rejects.toMatchObject({ code: 'SEALED_ABORTED' });
      expect(names()).toEqual(['iris.enc']);
    }
    let flipped = 0;
    const changing = convert(
      (_, done) => done === plaintext.length && flipped++ === 0 && flip(legacy, 2 << 20),
    );
    await expect(changing).rejects.toMatchObject({ code: 'LEGACY_CHANGED' });
    expect(names()).toEqual(['iris.enc']);
    await expect(convert(() => {})).rejects.toMatchObject({ code: 'LEGACY_TAG_REFUSED' });
    expect(names()).toEqual(['iris.enc']);
  });

  it('refuses what cannot be sealed before it reads the legacy file', async () => {
    const legacy = written();
    const seal = { identity, out: at('iris.sealed'), kmsKeys: [], dataKey: key };
    const progress: string[] = [];
    const onProgress = (phase: string): void => void progress.push(phase);
    const wrong = [
      [{ ...seal, identity: { ...identity, name: 'a b' } }, 'm', 'SEALED_INPUT_INVALID'],
      [seal, '../m', 'SEALED_INPUT_INVALID'],
      [{ identity, out: seal.out, kmsKeys: [] }, 'm', 'OWNER_NO_SECOND_WRAP'],
    ] as const;
    for (const [how, path, code] of wrong) {
      const converting = convertLegacy({ legacy, legacyKey, path, seal: { ...how, onProgress } });
      await expect(converting).rejects.toMatchObject({ code });
    }
    expect(progress).toEqual([]);
  });
});

describe('re-encrypting an ENVMODEL', () => {
  const from = kmsStandIn({ allowDecrypt: true });
  const to = kmsStandIn({ allowDecrypt: true, keyArn: from.keyArn.replace('1234abcd', '99999999') });
  const metadata = new Map([
    ['zone', 'größe'],
    ['model', 'iris'],
  ]);

  beforeEach(async () => {
    writeFileSync(at('model'), plaintext);
    const input = { kind: 'file', path: at('model') } as const;
    await sealEnvmodel({ input, out: at('old.env'), kmsKey: from, metadata });
  });

  it('changes who wraps the key, and not one other byte', async () => {
    const result = await reEncryptEnvmodel({ legacy: at('old.env'), from, to, out: at('new.env') });
    expect(result).toMatchObject({ kmsKeyId: to.keyArn, plaintextSha256: sha256(plaintext) });
    await openLegacyToFile(at('new.env'), { kind: 'kms', kmsKey: to }, at('opened'));
    expect(readFileSync(at('opened')).equals(plaintext)).toBe(true);
    await expect(verifyLegacy(at('new.env'), { kind: 'kms', kmsKey: from })).rejects.toMatchObject({
      code: 'LEGACY_KEY_FOREIGN',
    });

    const [old, renewed] = [readFileSync(at('old.env')), readFileSync(at('new.env'))];
    const rest = (file: Buffer): string =>
      file
        .toString('latin1')
        .slice(12)
        .replace(/"(kms_key_id|encrypted_dek)": "[^"]*"/g, '');
    expect(rest(renewed)).toBe(rest(old));
    expect(rest(old)).toContain('"metadata": {"zone": "gr\\u00f6\\u00dfe", "model": "iris"}');
  });

  it('keeps spellings, order and members that it does not know', async () => {
    const dataKey = from.decrypt(await wrappedKey(), Object.fromEntries(metadata));
    const wrapped = await wrappedKey();
    const spelt = '{\n "zone":"größe" , "model" : "iris"}';
    const file = envmodel({ key: dataKey, plaintext, metadata: spelt, wrapped, members: { note: 'é' } });
    written(file, 'spelt.env');
    await reEncryptEnvmodel({ legacy: at('spelt.env'), from, to, out: at('new.env') });
    expect(readFileSync(at('new.env'))).toSatisfy((bytes: Buffer) => bytes.includes(spelt));
    expect(await verifyLegacy(at('new.env'), { kind: 'kms', kmsKey: to })).toMatchObject({
      otherMembers: ['note'],
    });
  });

  it('writes nothing if the model is altered, or either key is refused', async () => {
    const before = names();
    const deny = kmsStandIn({ denyEncrypt: true });
    const gone = kmsStandIn({ state: 'PendingDeletion' });
    const request = { legacy: at('old.env'), from, to, out: at('new.env') };
    await expect(reEncryptEnvmodel({ ...request, to: deny })).rejects.toMatchObject({
      code: 'OWNER_KMS_REFUSED',
    });
    await expect(reEncryptEnvmodel({ ...request, to: gone })).rejects.toMatchObject({
      code: 'OWNER_KEY_UNUSABLE',
    });
    await expect(reEncryptEnvmodel({ ...request, from: to })).rejects.toMatchObject({
      code: 'LEGACY_KEY_FOREIGN',
    });
    await expect(reEncryptEnvmodel({ ...request, legacy: written() })).rejects.toMatchObject({
      code: 'LEGACY_KEY_FOREIGN',
    });
    flip(at('old.env'), 2 << 20);
    await expect(reEncryptEnvmodel(request)).rejects.toMatchObject({ code: 'LEGACY_TAG_REFUSED' });
    expect(names()).toEqual([...before, 'iris.enc'].sort());
  });

  async function wrappedKey(): Promise<Uint8Array> {
    const { wrappedKey: wrapped, ...file } = (await openLegacyFile(at('old.env'))) as Extract<
      Awaited<ReturnType<typeof openLegacyFile>>,
      { format: 'envmodel' }
    >;
    await file[Symbol.asyncDispose]();
    return wrapped;
  }
});

describe('writing a legacy model', () => {
  for (const [how, pieceBytes, length] of [
    ['whole', 1 << 22, plaintext.length],
    ['in pieces', 70_001, plaintext.length],
    ['byte by byte', 1, 3000],
  ] as const) {
    it(`from a pipe ${how} gives back what went in`, async () => {
      const content = plaintext.subarray(0, length);
      const pieces = function* (): Iterable<Buffer> {
        for (let from = 0; from < length; from += pieceBytes)
          yield Buffer.from(content.subarray(from, from + pieceBytes));
      };
      const input = { kind: 'pipe', pipe: Readable.from(pieces()) } as const;
      await sealEncmodel({ input, out: at('new.enc'), dataKey: key });
      await openLegacyToFile(at('new.enc'), legacyKey, at('opened'));
      expect(readFileSync(at('opened')).equals(content)).toBe(true);
    });
  }

  it('leaves nothing from an empty pipe, a folder, a file that changes, a pipe that breaks or is stopped', async () => {
    const out = at('new.enc');
    const seal = (input: Parameters<typeof sealEncmodel>[0]['input'], more: object = {}) =>
      sealEncmodel({ input, out, dataKey: key, ...more });
    const unusable = { code: 'OWNER_INPUT_UNUSABLE' };
    await expect(seal({ kind: 'pipe', pipe: Readable.from([]) })).rejects.toMatchObject(unusable);
    await expect(seal({ kind: 'pipe', pipe: Readable.from(['text']) })).rejects.toMatchObject(unusable);
    written(plaintext, 'a');
    written(plaintext, 'b');
    await expect(seal({ kind: 'file', path: folder })).rejects.toMatchObject(unusable);
    const grow = { onProgress: () => appendFileSync(at('a'), 'x') };
    await expect(seal({ kind: 'file', path: at('a') }, grow)).rejects.toMatchObject(unusable);

    const stop = new AbortController();
    const silent = new PassThrough();
    silent.write(randomBytes(2000));
    const stopped = seal(
      { kind: 'pipe', pipe: silent },
      { signal: stop.signal, onProgress: () => stop.abort() },
    );
    await expect(stopped).rejects.toMatchObject({ code: 'SEALED_ABORTED' });
    const breaking = Readable.from(
      (async function* () {
        yield randomBytes(2000);
        throw new Error('the training job died');
      })(),
    );
    await expect(seal({ kind: 'pipe', pipe: breaking })).rejects.toThrow('training job died');
    expect(names()).toEqual(['a', 'b']);
  });

  it('that is killed leaves no model, and what it leaves is removed by the next', async () => {
    const program = `
      const { sealEncmodel } = await import(${JSON.stringify(join(import.meta.dirname, '../../../owner/legacy/seal-legacy.ts'))});
      const input = { kind: 'pipe', pipe: process.stdin };
      const onProgress = () => process.stdout.write('x');
      await sealEncmodel({ input, out: 'new.enc', dataKey: new Uint8Array(32), onProgress });`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', program], { cwd: folder });
    child.stdin.on('error', () => {});
    child.stdin.write(randomBytes(3 << 20));
    await once(child.stdout, 'data');
    child.kill('SIGKILL');
    await once(child, 'exit');
    const [left = '', ...more] = names();
    expect({ left, more }).toEqual({ left: expect.stringMatching(/^\.new\.enc\.partial-/), more: [] });
    expect(readFileSync(at(left)).includes('ENCMODEL')).toBe(false);

    const found: unknown[] = [];
    const input = { kind: 'pipe', pipe: Readable.from([Buffer.from('model')]) } as const;
    const onLeftover = (leftover: unknown): void => void found.push(leftover);
    await sealEncmodel({ input, out: at('new.enc'), dataKey: key, onLeftover });
    expect(found).toEqual([{ path: at(left), outcome: 'removed' }]);
    expect(existsSync(at('new.enc'))).toBe(true);
    expect(names()).toEqual(['new.enc']);
  });
});
