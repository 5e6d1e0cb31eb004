import { type KeyObject, randomBytes } from 'node:crypto';
import {
  fstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ModelFile } from '../../enclave/host/host-service.ts';
import { CheckedModel, checkModel, openWeights } from '../../enclave/model.ts';
import { generateOwnerKeyPair } from '../../owner/keygen.ts';
import { sealToFolder } from '../../owner/seal-model.ts';
import { signSealedFolder } from '../../owner/sign-model.ts';
import type { ModelPin } from '../../shared/deployment/deployment.ts';
import { encryptionContextOf, HEAD_MAX_BYTES, type Head, parseHead } from '../../shared/sealed-model/head.ts';
import type { ModelIdentity } from '../../shared/sealed-model/identity.ts';
import { KEY_FILE_MAX_BYTES } from '../../shared/sealed-model/key-file.ts';
import { encodeKeyFile } from '../../shared/sealed-model/key-file-write.ts';
import { MANIFEST_MAX_BYTES } from '../../shared/sealed-model/manifest.ts';
import { fileSource, type PayloadSource } from '../../shared/sealed-model/source.ts';
import { setup } from '../parent/setup.ts';
import { SMALL } from '../shared/sealed-model/seals.ts';

const TMPFS = '/dev/shm';
const KEY_ARN = 'arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab';

interface Sealed {
  readonly folder: string;
  readonly files: Readonly<Record<ModelFile, Uint8Array>>;
  readonly head: Head;
  readonly contentId: string;
}

let folder: string;
let signing: { readonly privateKey: KeyObject; readonly publicKey: KeyObject };
let stranger: typeof signing;
const weights = randomBytes(5_000);
const dataKey = new Uint8Array(randomBytes(32));
let iris: Sealed;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'strongroom-model-'));
  [signing, stranger] = await Promise.all([generateOwnerKeyPair('signing'), generateOwnerKeyPair('signing')]);
  iris = await seal({});
});
afterAll(() => rmSync(folder, { recursive: true }));

interface Sealing {
  readonly identity?: Partial<ModelIdentity>;
  readonly signer?: KeyObject | undefined;
  readonly files?: Readonly<Record<string, Uint8Array>>;
}

async function seal({ identity, signer = signing.privateKey, files }: Sealing): Promise<Sealed> {
  const out = join(folder, `${randomBytes(6).toString('hex')}.sealed`);
  let input: Parameters<typeof sealToFolder>[0]['input'] = {
    kind: 'pipe',
    // A copy: what comes out of the pipe is wiped.
    pipe: Readable.from([Buffer.from(weights)]),
    path: 'model.onnx',
  };
  if (files !== undefined) {
    const from = mkdtempSync(join(folder, 'files-'));
    const paths = Object.keys(files).map((name) => join(from, name));
    for (const [name, content] of Object.entries(files)) writeFileSync(join(from, name), content);
    input = { kind: 'paths', paths };
  }
  await sealToFolder({
    identity: { name: 'iris', version: 3, format: 'onnx', ...identity },
    input,
    out,
    kmsKeys: [],
    dataKey,
    signer,
    sizes: SMALL,
  });
  return read(out);
}

/** The key file is the test's: sealing without a KMS writes none. */
function read(sealedFolder: string): Sealed {
  const bytes = (name: ModelFile): Uint8Array => readFileSync(join(sealedFolder, name));
  const head = parseHead(bytes('head'));
  const wraps = [{ kind: 'aws-kms', keyArn: KEY_ARN, ciphertextBlob: randomBytes(64) }] as const;
  return {
    folder: sealedFolder,
    files: {
      head: bytes('head'),
      'manifest.json': bytes('manifest.json'),
      'key.json': encodeKeyFile({ context: head.context, wraps }),
    },
    head,
    contentId: Buffer.from(head.contentId).toString('hex'),
  };
}

const pinned = (change: { minimumVersion?: number; signer?: KeyObject; name?: string } = {}): ModelPin => ({
  kind: 'signer',
  name: 'iris',
  minimumVersion: 3,
  signer: signing.publicKey,
  ...change,
});
const pinnedContent = (contentId: string): ModelPin => ({ kind: 'content', name: 'iris', contentId });

interface Asked {
  readonly name: string;
  readonly file: ModelFile;
  readonly maxBytes: number;
}

/** A parent that hands over these files under whatever name it is asked for. */
function hostOf(files: Readonly<Record<ModelFile, Uint8Array>>, asked: Asked[] = []) {
  return {
    fetchModelFile: async (name: string, file: ModelFile, maxBytes: number): Promise<Uint8Array> => {
      asked.push({ name, file, maxBytes });
      return files[file];
    },
  };
}

const check = (pin: ModelPin, change: Partial<Record<ModelFile, Uint8Array>> = {}): Promise<CheckedModel> =>
  checkModel(pin, hostOf({ ...iris.files, ...change }));

describe('a model that is as the deployment says', () => {
  it('is accepted by its signer, and says what the head says', async () => {
    const model = await check(pinned());
    expect(model).toMatchObject({ name: 'iris', version: 3, contentId: iris.contentId });
    expect(model.manifestSha256).toMatch(/^[0-9a-f]{64}$/);
    expect(model.keyFile.wraps.map(({ keyArn }) => keyArn)).toEqual([KEY_ARN]);
  });

  it('is accepted by its content id, and then no manifest is asked for', async () => {
    const asked: Asked[] = [];
    const model = await checkModel(pinnedContent(iris.contentId), hostOf(iris.files, asked));
    expect(model).toMatchObject({ name: 'iris', version: 3, manifestSha256: null });
    expect(asked.map(({ file }) => file)).toEqual(['head', 'key.json']);
  });

  it('is fetched once, file by file, each with its bound', async () => {
    const asked: Asked[] = [];
    await checkModel(pinned(), hostOf(iris.files, asked));
    expect(asked).toEqual([
      { name: 'iris', file: 'head', maxBytes: HEAD_MAX_BYTES },
      { name: 'iris', file: 'manifest.json', maxBytes: MANIFEST_MAX_BYTES },
      { name: 'iris', file: 'key.json', maxBytes: KEY_FILE_MAX_BYTES },
    ]);
  });

  it('is accepted in a newer version than the minimum', async () => {
    expect((await check(pinned({ minimumVersion: 1 }))).version).toBe(3);
  });

  it('has the encryption context of its head, whatever its key file says', async () => {
    const model = await check(pinned());
    expect(model.encryptionContext).toEqual(encryptionContextOf(iris.head));
    expect(model.encryptionContext).toMatchObject({ 'strongroom-model': 'iris', 'strongroom-version': '3' });
  });

  it('of format GGUF is one file for the text engine, whatever it is called', async () => {
    const text = await seal({ identity: { format: 'gguf' } });
    expect(await check(pinned(), text.files)).toMatchObject({
      format: 'gguf',
      files: { main: 0, external: [], tokenizer: [] },
    });
  });

  it('is made by checkModel alone', async () => {
    const { name, version, head, keyFile, manifestSha256, files, format } = await check(pinned());
    const fields = { name, version, head, keyFile, manifestSha256, files, format };
    expect(() => new CheckedModel(Symbol('checkModel') as never, fields)).toThrow(TypeError);
  });
});

describe('a model is refused', () => {
  it('signed by another', async () => {
    const other = await seal({ signer: stranger.privateKey });
    await expect(check(pinned(), other.files)).rejects.toMatchObject({ code: 'SEALED_MANIFEST_UNSIGNED' });
  });

  it('signed again by another, with head and payload as they were', async () => {
    const resigned = await seal({});
    await signSealedFolder(resigned.folder, stranger.privateKey);
    await expect(checkModel(pinned(), hostOf(read(resigned.folder).files))).rejects.toMatchObject({
      code: 'SEALED_MANIFEST_UNSIGNED',
    });
  });

  it('not signed at all', async () => {
    const manifest = JSON.parse(Buffer.from(iris.files['manifest.json']).toString());
    const unsigned = Buffer.from(JSON.stringify({ ...manifest, signatures: [] }));
    await expect(check(pinned(), { 'manifest.json': unsigned })).rejects.toMatchObject({
      code: 'SEALED_MANIFEST_UNSIGNED',
    });
  });

  it('with a signed statement in which one letter was changed', async () => {
    const manifest = JSON.parse(Buffer.from(iris.files['manifest.json']).toString());
    const statement = Buffer.from(manifest.payload, 'base64')
      .toString()
      .replace('"version":3', '"version":4');
    const payload = Buffer.from(statement).toString('base64');
    await expect(
      check(pinned(), { 'manifest.json': Buffer.from(JSON.stringify({ ...manifest, payload })) }),
    ).rejects.toMatchObject({ code: 'SEALED_MANIFEST_UNSIGNED' });
  });

  it('with a manifest that is none', async () => {
    await expect(check(pinned(), { 'manifest.json': Buffer.from('{}') })).rejects.toMatchObject({
      code: 'SEALED_MANIFEST_MALFORMED',
    });
  });

  it('with the head of another model of the same owner', async () => {
    const other = await seal({ identity: { version: 4 } });
    await expect(check(pinned(), { head: other.files.head })).rejects.toMatchObject({
      code: 'SEALED_IDENTITY_MISMATCH',
    });
  });

  it('with one bit of its head changed', async () => {
    const head = Uint8Array.from(iris.files.head);
    head[head.length - 1] = (head.at(-1) ?? 0) ^ 1;
    await expect(check(pinned(), { head })).rejects.toMatchObject({ code: 'SEALED_IDENTITY_MISMATCH' });
    await expect(check(pinnedContent(iris.contentId), { head })).rejects.toMatchObject({
      code: 'MODEL_NOT_EXPECTED',
    });
  });

  it('with a head that is none', async () => {
    await expect(check(pinned(), { head: randomBytes(400) })).rejects.toMatchObject({
      code: 'SEALED_HEAD_MALFORMED',
    });
  });

  it('under the name of another, though the right signer signed it', async () => {
    const roses = await seal({ identity: { name: 'roses' } });
    await expect(checkModel(pinned(), hostOf(roses.files))).rejects.toMatchObject({
      code: 'MODEL_NOT_EXPECTED',
      message: expect.stringContaining('roses'),
    });
  });

  it('under the name of another, though its content id is the pinned one', async () => {
    const roses = await seal({ identity: { name: 'roses' } });
    await expect(checkModel(pinnedContent(roses.contentId), hostOf(roses.files))).rejects.toMatchObject({
      code: 'MODEL_NOT_EXPECTED',
    });
  });

  it('older than the minimum, though the right signer signed it once', async () => {
    const asked: Asked[] = [];
    await expect(checkModel(pinned({ minimumVersion: 4 }), hostOf(iris.files, asked))).rejects.toMatchObject({
      code: 'MODEL_NOT_EXPECTED',
      message: expect.stringContaining('version 4'),
    });
  });

  it('with another content id than the pinned one, before its key file is asked for', async () => {
    const asked: Asked[] = [];
    const other = await seal({});
    expect(other.contentId).not.toBe(iris.contentId);
    await expect(checkModel(pinnedContent(iris.contentId), hostOf(other.files, asked))).rejects.toMatchObject(
      { code: 'MODEL_NOT_EXPECTED' },
    );
    expect(asked.map(({ file }) => file)).toEqual(['head']);
  });

  it('with the key file of another model', async () => {
    const other = await seal({});
    await expect(check(pinned(), { 'key.json': other.files['key.json'] })).rejects.toMatchObject({
      code: 'SEALED_KEY_FILE_FOREIGN',
    });
  });

  it('with a key file that is none', async () => {
    await expect(check(pinned(), { 'key.json': Buffer.from('[]') })).rejects.toMatchObject({
      code: 'SEALED_KEY_FILE_MALFORMED',
    });
  });

  it('of a format that no engine loads', async () => {
    const other = await seal({ identity: { format: 'safetensors' } });
    await expect(check(pinned(), other.files)).rejects.toMatchObject({ code: 'MODEL_UNSUPPORTED' });
  });

  it('of several files of which none, or more than one, is the ONNX file', async () => {
    const bytes = randomBytes(300);
    const none = await seal({ files: { 'a.bin': bytes, 'b.data': bytes } });
    await expect(check(pinned(), none.files)).rejects.toMatchObject({ code: 'MODEL_FILES_DISAGREE' });
    const two = await seal({ files: { 'a.onnx': bytes, 'b.onnx': bytes } });
    await expect(check(pinned(), two.files)).rejects.toMatchObject({ code: 'MODEL_FILES_DISAGREE' });
  });

  it('of several files where its format has one', async () => {
    const bytes = randomBytes(300);
    const parts = { 'm-00001-of-00002.gguf': bytes, 'm-00002-of-00002.gguf': bytes };
    const split = await seal({ identity: { format: 'gguf' }, files: parts });
    await expect(check(pinned(), split.files)).rejects.toMatchObject({
      code: 'MODEL_FILES_DISAGREE',
      message: expect.stringContaining('llama-gguf-split'),
    });
  });

  it('of more files than an engine is handed', async () => {
    const files = Object.fromEntries(Array.from({ length: 129 }, (_, n) => [`${n}.onnx`, Uint8Array.of(n)]));
    const many = await seal({ files });
    await expect(check(pinned(), many.files)).rejects.toMatchObject({ code: 'MODEL_UNSUPPORTED' });
  });
});

describe('a file larger than its bound', () => {
  it.each([
    ['head', HEAD_MAX_BYTES],
    ['manifest.json', MANIFEST_MAX_BYTES],
    ['key.json', KEY_FILE_MAX_BYTES],
  ] as const)('is refused before it is read: %s', async (file, maxBytes) => {
    await using at = await setup();
    const served = join(at.folder, 'models', 'iris.sealed');
    for (const name of ['head', 'manifest.json', 'key.json'] as const) {
      writeFileSync(join(served, name), iris.files[name]);
    }
    await expect(checkModel(pinned(), at.host)).resolves.toBeInstanceOf(CheckedModel);
    writeFileSync(join(served, file), new Uint8Array(maxBytes + 1));
    await expect(checkModel(pinned(), at.host)).rejects.toMatchObject({
      code: expect.stringMatching(/^LINK_ANSWER_(TOO_LARGE|REFUSED)$/),
    });
  });
});

describe('opening the weights', () => {
  const open = async (
    model: CheckedModel,
    key = dataKey,
    { memoryFolder = TMPFS, damage = (_at: number, _target: Uint8Array): void => {}, from = iris } = {},
  ) => {
    await using file = await fileSource(join(from.folder, 'payload'));
    const source: PayloadSource = {
      sizeBytes: file.sizeBytes,
      read: async (at, target) => {
        await file.read(at, target);
        damage(at, target);
      },
    };
    return await openWeights(model, key, { host: { payloadSource: () => source }, memoryFolder, workers: 2 });
  };
  /** Nameless files on the tmpfs that this process has open. */
  const memoryFiles = (): number =>
    readdirSync('/proc/self/fd').filter((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`).startsWith(TMPFS);
      } catch {
        return false;
      }
    }).length;

  it('gives the model’s bytes behind a read-only descriptor, and leaves the data key to its owner', async () => {
    using opened = await open(await check(pinned()));
    const bytes = Buffer.alloc(weights.length);
    readSync(opened.modelFd, bytes, 0, bytes.length, 0);
    expect(bytes.equals(weights)).toBe(true);
    expect(memoryFiles()).toBe(1);
    expect(dataKey.some((byte) => byte !== 0)).toBe(true);
  });

  it('gives each file of several behind a descriptor of its own, by the name that the ONNX file has for it', async () => {
    const files = {
      'a.data': randomBytes(700),
      'model.onnx': randomBytes(300),
      'z.data': randomBytes(5_000),
    };
    const several = await seal({ files });
    const model = await check(pinned(), several.files);
    {
      using opened = await open(model, dataKey, { from: several });
      expect(opened.external.map(({ location }) => location)).toEqual(['a.data', 'z.data']);
      const found = [opened.modelFd, ...opened.external.map(({ fd }) => fd)].map((fd) => {
        expect(fstatSync(fd)).toMatchObject({ nlink: 0 });
        expect(() => writeSync(fd, Buffer.from('x'), 0, 1, 0)).toThrow(/EBADF/);
        return readFileSync(`/proc/self/fd/${fd}`);
      });
      expect(found).toEqual([files['model.onnx'], files['a.data'], files['z.data']]);
      expect(memoryFiles()).toBe(3);
    }
    expect(memoryFiles()).toBe(0);
  });

  it('leaves none of several files behind when the last is damaged', async () => {
    const files = { 'model.onnx': randomBytes(300), 'z.data': randomBytes(5_000) };
    const several = await seal({ files });
    const last = several.head.files[1]?.offset ?? 0;
    const damage = (at: number, target: Uint8Array): void => {
      const index = last - at;
      if (index >= 0 && index < target.length) target[index] = (target[index] ?? 0) ^ 1;
    };
    const opening = open(await check(pinned(), several.files), dataKey, { from: several, damage });
    await expect(opening).rejects.toMatchObject({ code: 'SEALED_CHUNK_REFUSED' });
    expect(memoryFiles()).toBe(0);
  });

  it('refuses another data key before anything is fetched', async () => {
    let reads = 0;
    const opening = open(await check(pinned()), new Uint8Array(32).fill(1), { damage: () => void reads++ });
    await expect(opening).rejects.toMatchObject({ code: 'SEALED_KEY_MISMATCH' });
    expect(reads).toBe(0);
    expect(memoryFiles()).toBe(0);
  });

  it('refuses a payload with one bit changed, and leaves no memory behind', async () => {
    const damage = (at: number, target: Uint8Array): void => {
      if (at === 0) target[0] = (target[0] ?? 0) ^ 1;
    };
    await expect(open(await check(pinned()), dataKey, { damage })).rejects.toMatchObject({
      code: 'SEALED_CHUNK_REFUSED',
    });
    expect(memoryFiles()).toBe(0);
  });

  it('mends a chunk that arrives damaged once', async () => {
    let left = 1;
    const damage = (at: number, target: Uint8Array): void => {
      if (at === 0 && left-- > 0) target[0] = (target[0] ?? 0) ^ 1;
    };
    using opened = await open(await check(pinned()), dataKey, { damage });
    const bytes = Buffer.alloc(weights.length);
    readSync(opened.modelFd, bytes, 0, bytes.length, 0);
    expect(bytes.equals(weights)).toBe(true);
  });

  it('refuses to put weights on a disk', async () => {
    await expect(open(await check(pinned()), dataKey, { memoryFolder: '/' })).rejects.toMatchObject({
      code: 'BOOT_MEMORY_FOLDER',
    });
  });
});
