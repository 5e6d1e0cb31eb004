import { createDecipheriv, randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  SEALED_MODEL_VECTORS,
  type VectorCase,
  writeSealedModelVectors,
} from '../../../scripts/sealed-model-vectors/generate.ts';
import { codeOf } from '../../../shared/errors.ts';
import { chunkAssociatedData, chunkNonce, SALT_BYTES } from '../../../shared/sealed-model/format.ts';
import { parseHead } from '../../../shared/sealed-model/head.ts';
import { withKeySchedule } from '../../../shared/sealed-model/keys.ts';
import { openSealedModel } from '../../../shared/sealed-model/open.ts';
import { openTagsOnly } from '../../../shared/sealed-model/open-tags-only.ts';
import { memorySource } from '../../../shared/sealed-model/source.ts';
import { unlockHead } from '../../../shared/sealed-model/unlock.ts';
import { bytesOf, remote, sealFiles, sha256, shared } from './seals.ts';

interface Vector extends VectorCase {
  readonly name: string;
  readonly head: Uint8Array;
  readonly payload: Uint8Array;
}

function readVector(folder: string, name: string): Vector {
  const read = (file: string): Uint8Array => readFileSync(join(folder, name, file));
  const fields = JSON.parse(Buffer.from(read('case.json')).toString()) as VectorCase;
  return { name, ...fields, head: read('head'), payload: read('payload') };
}

const vectors = readdirSync(SEALED_MODEL_VECTORS).map((name) => readVector(SEALED_MODEL_VECTORS, name));
const vector = (name: string): Vector => vectors.find((found) => found.name === name) as Vector;
const keyOf = ({ dataKey }: Vector): Uint8Array => new Uint8Array(Buffer.from(dataKey, 'hex'));

async function open(found: Vector, how: typeof openSealedModel = openSealedModel): Promise<Uint8Array> {
  using unlocked = unlockHead(parseHead(found.head), keyOf(found));
  const buffer = new SharedArrayBuffer(unlocked.head.payloadSizeBytes);
  const target = { kind: 'memory', buffer } as const;
  try {
    await how(unlocked, memorySource(shared(found.payload)), target, { workers: 1 });
  } catch (error) {
    // Whatever the reason for a refusal: nothing of the plaintext stays behind.
    expect(new Uint8Array(buffer).every((byte) => byte === 0)).toBe(true);
    throw error;
  }
  return new Uint8Array(buffer);
}

describe('the vectors of the sealed model', () => {
  for (const found of vectors.filter(({ opens }) => opens !== undefined)) {
    it(`opens ${found.name}: ${found.says}`, async () => {
      expect(sha256(await open(found))).toBe(found.opens);
      expect(Buffer.from(parseHead(found.head).contentId).toString('hex')).toBe(found.contentId);
    });
  }

  for (const found of vectors.filter(({ refused }) => refused !== undefined)) {
    it(`refuses ${found.name}: ${found.says}`, async () => {
      const error = await open(found).then(
        () => undefined,
        (reason: unknown) => reason,
      );
      expect(codeOf(error)).toBe(found.refused);
    });
  }

  it('cover both outcomes', () => {
    expect(vectors.filter(({ opens }) => opens !== undefined).length).toBeGreaterThan(10);
    expect(vectors.filter(({ refused }) => refused !== undefined).length).toBeGreaterThan(40);
  });
});

describe('the vectors are what the plain second implementation writes', () => {
  let folder = '';
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'strongroom-vectors-'));
    writeSealedModelVectors(folder);
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it('byte for byte', () => {
    expect(readdirSync(folder).sort()).toEqual(vectors.map(({ name }) => name).sort());
    for (const found of vectors) expect(readVector(folder, found.name)).toEqual(found);
  });

  it('and the sealer writes the same bytes', async () => {
    for (const name of ['size-0', 'size-1', 'size-256', 'size-4097', 'two-files']) {
      const found = vector(name);
      const head = parseHead(found.head);
      const image = await open(found);
      const files = Object.fromEntries(
        head.files.map(({ path, offset, sizeBytes }) => [path, image.subarray(offset, offset + sizeBytes)]),
      );
      const sealed = await sealFiles(files, {
        identity: head.identity,
        dataKey: keyOf(found),
        salt: head.parts.salt,
      });
      expect(head.parts.salt.length).toBe(SALT_BYTES);
      expect(Buffer.compare(sealed.sealed.head, found.head), name).toBe(0);
      expect(Buffer.compare(new Uint8Array(sealed.payload), found.payload), name).toBe(0);
    }
  });
});

describe('forgeries by someone who knows the key', () => {
  it('the two-key ciphertext is real: AES-256-GCM accepts it under both payload keys', () => {
    for (const name of ['two-keys-first', 'two-keys-second']) {
      const found = vector(name);
      const { context, geometry, parts } = parseHead(found.head);
      const key = new Uint8Array(32);
      withKeySchedule(keyOf(found), parts.salt, context, (keys) => keys.payloadKeys(key));
      const decipher = createDecipheriv('aes-256-gcm', key, chunkNonce(geometry, 0));
      decipher.setAAD(chunkAssociatedData(context, geometry, 0)).setAuthTag(parts.tags);
      decipher.update(found.payload);
      expect(() => decipher.final()).not.toThrow();
    }
  });

  it('the same-tag ciphertext is real: the tags alone accept it, the strict opening does not', async () => {
    const opened = await open(vector('same-tag'), openTagsOnly);
    expect(sha256(opened)).not.toBe(vector('two-files').opens);
    await expect(open(vector('same-tag'))).rejects.toMatchObject({ code: 'SEALED_SEGMENT_REFUSED' });
  });
});

describe('a head in which any byte was changed', () => {
  it('is refused, whatever the byte', () => {
    const { head, ...found } = vector('two-files');
    for (let at = 0; at < head.length; at++) {
      const changed = new Uint8Array(head);
      changed[at] = (changed[at] as number) ^ (1 << (at % 8));
      expect(() => unlockHead(parseHead(changed), keyOf({ head, ...found })), `byte ${at}`).toThrow(
        expect.objectContaining({ code: expect.stringMatching(/^SEALED_/) }),
      );
    }
  });

  it('is refused when cut anywhere', () => {
    const { head } = vector('two-files');
    for (let length = 0; length < head.length; length++) {
      expect(() => parseHead(head.subarray(0, length)), `${length} bytes`).toThrow(
        expect.objectContaining({ code: 'SEALED_HEAD_MALFORMED' }),
      );
    }
  });

  it('is refused when larger than any head, without being read', () => {
    const huge = new Uint8Array((32 << 20) + 1);
    expect(() => parseHead(huge)).toThrow(expect.objectContaining({ code: 'SEALED_HEAD_MALFORMED' }));
  });
});

describe('swapping whole parts of two good seals', () => {
  it('head of one with payload of the other is refused, also under one data key and of one size', async () => {
    const dataKey = new Uint8Array(randomBytes(32));
    const [a, b] = [
      await sealFiles({ m: bytesOf(900) }, { dataKey }),
      await sealFiles({ m: bytesOf(900) }, { dataKey }),
    ];
    using unlocked = unlockHead(a.head, dataKey);
    const target = { kind: 'memory', buffer: new SharedArrayBuffer(900) } as const;
    await expect(openSealedModel(unlocked, remote(b.payload), target)).rejects.toMatchObject({
      code: 'SEALED_CHUNK_REFUSED',
    });
  });

  it('the data key of one opens no head of the other', async () => {
    const [a, b] = [await sealFiles({ m: bytesOf(9) }), await sealFiles({ m: bytesOf(9) })];
    expect(() => unlockHead(a.head, b.dataKey)).toThrow(
      expect.objectContaining({ code: 'SEALED_KEY_MISMATCH' }),
    );
    expect(() => unlockHead(a.head, a.dataKey.subarray(1))).toThrow(
      expect.objectContaining({ code: 'SEALED_KEY_MISMATCH' }),
    );
  });
});
