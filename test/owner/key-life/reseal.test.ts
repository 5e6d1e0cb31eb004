import { createHash, randomBytes } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { withDataKey } from '../../../owner/data-key.ts';
import { openedPlaintext } from '../../../owner/key-life/opened-plaintext.ts';
import { type Reseal, resealFolder } from '../../../owner/key-life/reseal.ts';
import { asideOf } from '../../../owner/leftovers.ts';
import { nextOf, recoveryFileOf } from '../../../owner/recovery.ts';
import { type SealResult, sealToFolder } from '../../../owner/seal-model.ts';
import { parseHead } from '../../../shared/sealed-model/head.ts';
import { verifyManifest } from '../../../shared/sealed-model/manifest.ts';
import { signManifest } from '../../../shared/sealed-model/manifest-sign.ts';
import { openSealedModel } from '../../../shared/sealed-model/open.ts';
import { fileSource } from '../../../shared/sealed-model/source.ts';
import { canTrace, refusing, start } from '../kills.ts';
import {
  byRecovery,
  commandLine,
  newOwner,
  type Owner,
  partsOf,
  recovery,
  SIZES,
  signing,
  stranger,
} from './support.ts';

let owner: Owner;
let key = '';
beforeAll(async () => {
  owner = await newOwner();
  key = await owner.newKey('iris');
});
afterAll(() => owner.close());

let old: SealResult;
const bytes = randomBytes(50_001);
beforeEach(async () => {
  for (const name of readdirSync(owner.folder))
    rmSync(join(owner.folder, name), { recursive: true, force: true });
  old = await owner.seal('iris', [key], { bytes });
});

const request = (more: Partial<Reseal> = {}): Reseal => ({
  folder: old.folder,
  key: byRecovery,
  vouchedBy: { kind: 'signer', publicKey: signing.publicKey },
  out: join(owner.folder, 'new.sealed'),
  kmsKeys: [{ client: owner.as.sealer, keyArn: key }],
  recoveryKey: recovery.publicKey,
  signer: signing.privateKey,
  sizes: SIZES,
  now: () => new Date(),
  ...more,
});

async function opened(folder: string): Promise<Buffer> {
  const head = parseHead(readFileSync(join(folder, 'head')));
  return withDataKey(folder, head, byRecovery, async (_dataKey, unlocked) => {
    const buffer = new SharedArrayBuffer(head.payloadSizeBytes);
    await using source = await fileSource(join(folder, 'payload'));
    await openSealedModel(unlocked, source, { kind: 'memory', buffer });
    return Buffer.from(new Uint8Array(buffer));
  });
}

const visible = (): string[] => readdirSync(owner.folder).sort();

describe('reseal', () => {
  it('gives the same weights under another data key, another content id and a new signature; the old stays', async () => {
    const before = partsOf(old.folder);
    const progress: number[] = [];
    const result = await resealFolder(
      request({ version: 4, onProgress: (doneBytes) => void progress.push(doneBytes) }),
    );
    expect(await opened(result.folder)).toEqual(bytes);
    expect(partsOf(old.folder)).toEqual(before);
    expect(result).toMatchObject({
      oldContentId: old.manifest.contentId,
      replaced: false,
      manifest: { name: 'iris', version: 4, format: 'onnx', files: old.manifest.files },
    });
    expect(result.manifest.contentId).not.toBe(old.manifest.contentId);
    const signed = verifyManifest(readFileSync(join(result.folder, 'manifest.json')), signing.publicKey);
    expect(signed.contentId).toBe(result.manifest.contentId);
    expect(progress.at(-1)).toBe(result.payloadSizeBytes);
    const dataKeys = await Promise.all(
      [old.folder, result.folder].map((folder) =>
        withDataKey(folder, parseHead(readFileSync(join(folder, 'head'))), byRecovery, async (dataKey) =>
          Buffer.from(dataKey).toString('hex'),
        ),
      ),
    );
    expect(new Set(dataKeys).size).toBe(2);
  });

  it.each([
    [0, 5], // an empty file before another
    [1024, 1024 * 8, 1023, 1025], // chunk and segment, minus and plus one
    [8 * 1024 - 1, 8 * 1024 + 1],
    [1],
  ])('keeps files of %i, %s bytes apart', async (...sizes) => {
    const files = join(owner.folder, 'files');
    mkdirSync(files);
    const contents = sizes.map((size) => randomBytes(size as number));
    for (const [index, content] of contents.entries())
      writeFileSync(join(files, `part-${index}.bin`), content);
    old = await sealToFolder({
      identity: { name: 'iris', version: 3, format: 'raw', versionLabel: 'spring' },
      input: { kind: 'paths', paths: [files] },
      out: join(owner.folder, 'parts.sealed'),
      kmsKeys: [],
      recoveryKey: recovery.publicKey,
      dataKey: randomBytes(32),
      signer: signing.privateKey,
      sizes: SIZES,
    });
    const result = await resealFolder(request());
    expect(result.manifest).toMatchObject({ versionLabel: 'spring', files: old.manifest.files });
    const image = await opened(result.folder);
    const head = parseHead(readFileSync(join(result.folder, 'head')));
    for (const [index, { offset, sizeBytes }] of head.files.entries()) {
      expect(image.subarray(offset, offset + sizeBytes)).toEqual(contents[index]);
    }
  });

  it('keeps the bytes where old and new are cut into chunks and segments of other sizes', async () => {
    for (const sizes of [
      { chunkLog2: 20, segmentLog2: 26, epochLog2: 36 },
      { chunkLog2: 8, segmentLog2: 8, epochLog2: 16 },
      { chunkLog2: 14, segmentLog2: 14, epochLog2: 16 },
    ]) {
      const out = join(owner.folder, `sizes-${sizes.chunkLog2}.sealed`);
      expect(await opened((await resealFolder(request({ sizes, out }))).folder)).toEqual(bytes);
    }
  });

  it('gives every read its own bytes, whatever their order and however many are under way', async () => {
    const head = parseHead(readFileSync(join(old.folder, 'head')));
    await withDataKey(old.folder, head, byRecovery, async (_dataKey, unlocked) => {
      await using plaintext = await openedPlaintext(old.folder, unlocked);
      const [input] = plaintext.inputs;
      const ranges = Array.from({ length: 60 }, (_, index) => {
        const at = (index * 7919 * 13) % 50_000;
        return [at, Math.min(50_001 - at, 1 + ((index * 4_001) % 20_000))] as const;
      });
      const read = await Promise.all(
        ranges.map(async ([at, length]) => {
          const target = new Uint8Array(length);
          await input?.read(at, target);
          return target;
        }),
      );
      for (const [index, [at, length]] of ranges.entries()) {
        expect(bytes.subarray(at, at + length).equals(read[index] as Uint8Array)).toBe(true);
      }
    });
  });

  it('works with a data key that the owner keeps, and refuses to seal under the same one again', async () => {
    const dataKey = randomBytes(32);
    old = await sealToFolder({
      identity: { name: 'iris', version: 3, format: 'onnx' },
      input: { kind: 'paths', paths: [join(owner.folder, 'iris.onnx')] },
      out: join(owner.folder, 'kept.sealed'),
      kmsKeys: [],
      dataKey,
      sizes: SIZES,
    });
    const kept = {
      key: { kind: 'kept', dataKey } as const,
      vouchedBy: { kind: 'content', contentId: old.manifest.contentId } as const,
      kmsKeys: [],
      recoveryKey: undefined,
      signer: undefined,
    };
    await expect(resealFolder(request({ ...kept, dataKey }))).rejects.toMatchObject({
      code: 'RESEAL_SAME_KEY',
    });
    await resealFolder(request({ ...kept, dataKey: randomBytes(32) }));
    expect(visible()).toContain('new.sealed');
  });

  it('takes away the recovery wrap of a seal that was killed just before its folder appeared, and no other', async () => {
    const { folder } = await resealFolder(request());
    const [, , start] = /-(\d+)-(\d+)-[0-9a-f]{12}$/.exec(asideOf(folder)) ?? [];
    renameSync(folder, asideOf(folder).replace(`-${start}-`, `-${Number(start) - 1}-`));
    await resealFolder(request());
    expect(await opened(folder)).toEqual(bytes);
    expect(visible().filter((name) => name.includes('partial'))).toEqual([]);

    rmSync(folder, { recursive: true }); // a wrap of a model that was moved away is its owner's
    await expect(resealFolder(request())).rejects.toMatchObject({ code: 'OWNER_WOULD_OVERWRITE' });
    expect(existsSync(recoveryFileOf(folder))).toBe(true);
  });

  describe('refuses', () => {
    afterEach(() => {
      expect(existsSync(join(owner.folder, 'new.sealed'))).toBe(false);
      expect(visible().filter((name) => name.includes('partial'))).toEqual([]);
    });

    it('a model that nobody trusted vouches for, however well its key fits', async () => {
      const other = randomBytes(16).toString('hex');
      await expect(
        resealFolder(request({ vouchedBy: { kind: 'content', contentId: other.repeat(2) } })),
      ).rejects.toMatchObject({ code: 'RESEAL_NOT_THE_MODEL' });
      writeFileSync(join(owner.folder, 'evil.onnx'), randomBytes(2000));
      await withDataKey(
        old.folder,
        parseHead(readFileSync(join(old.folder, 'head'))),
        byRecovery,
        async (dataKey) => {
          await sealToFolder({
            identity: { name: 'iris', version: 3, format: 'onnx' },
            input: { kind: 'paths', paths: [join(owner.folder, 'evil.onnx')] },
            out: join(owner.folder, 'forged.sealed'),
            kmsKeys: [],
            dataKey,
            sizes: SIZES,
          });
          const key = { kind: 'kept', dataKey } as const;
          const forged = join(owner.folder, 'forged.sealed');
          await expect(resealFolder(request({ folder: forged, key }))).rejects.toMatchObject({
            code: 'RESEAL_NOT_THE_MODEL',
          });
        },
      );
    });

    it.each([
      [
        'another recovery key',
        { key: { kind: 'recovery', privateKey: stranger.privateKey } as const },
        'OWNER_RECOVERY_REFUSED',
      ],
      ['no second wrap', { recoveryKey: undefined }, 'OWNER_NO_SECOND_WRAP'],
      ['no wrap by KMS', { kmsKeys: [] }, 'OWNER_NO_SECOND_WRAP'],
      ['a weak recovery key', { recoveryKey: signing.publicKey }, 'OWNER_KEY_UNUSABLE'],
    ])('%s', async (_what, more, code) => {
      await expect(resealFolder(request(more))).rejects.toMatchObject({ code });
    });

    it('a manifest whose digests are not those of the bytes, though its owner signed it', async () => {
      const { contentId, name, version, format, files } = old.manifest;
      const sha256 = 'ab'.repeat(32);
      const untrue = { contentId, name, version, format, files: files.map((file) => ({ ...file, sha256 })) };
      writeFileSync(join(old.folder, 'manifest.json'), signManifest(untrue, signing.privateKey));
      await expect(resealFolder(request())).rejects.toMatchObject({ code: 'RESEAL_DIFFERENT' });
    });

    it('a payload with one damaged byte, in its middle', async () => {
      const path = join(old.folder, 'payload');
      const payload = readFileSync(path);
      payload[payload.length >> 1] = (payload[payload.length >> 1] as number) ^ 1;
      writeFileSync(path, payload);
      await expect(resealFolder(request())).rejects.toMatchObject({ code: 'SEALED_CHUNK_REFUSED' });
    });

    it('a payload that ends early while it is read', async () => {
      writeFileSync(join(old.folder, 'payload'), readFileSync(join(old.folder, 'payload')).subarray(0, 4000));
      await expect(resealFolder(request())).rejects.toMatchObject({ code: 'SEALED_PAYLOAD_SIZE' });
    });

    it('to go on when it is stopped', async () => {
      const stop = new AbortController();
      const aborted = resealFolder(request({ signal: stop.signal, onProgress: () => stop.abort() }));
      await expect(aborted).rejects.toMatchObject({ code: 'SEALED_ABORTED' });
    });
  });
});

describe('in place', () => {
  it('the new model and its recovery wrap take the old one’s place, and nothing else is left', async () => {
    const result = await resealFolder(request({ out: 'replace' }));
    expect(result).toMatchObject({
      folder: old.folder,
      replaced: true,
      oldContentId: old.manifest.contentId,
    });
    expect(await opened(old.folder)).toEqual(bytes);
    expect(visible().filter((name) => name.includes('iris.sealed'))).toEqual([
      'iris.sealed',
      'iris.sealed.recovery.json',
    ]);
    expect(readdirSync(old.folder).sort()).toEqual(['head', 'key.json', 'manifest.json', 'payload']);
  });

  it('a replacement that was killed after the swap is whole, and is finished by the next', async () => {
    const oldRecovery = readFileSync(recoveryFileOf(old.folder));
    const oldFolder = join(owner.folder, 'copy');
    cpSync(old.folder, oldFolder, { recursive: true });
    await resealFolder(request({ out: 'replace' }));
    // As if it had been killed right after the swap: the old model under the hidden name, the new wrap not moved yet.
    renameSync(oldFolder, nextOf(old.folder));
    renameSync(recoveryFileOf(old.folder), recoveryFileOf(nextOf(old.folder)));
    writeFileSync(recoveryFileOf(old.folder), oldRecovery);
    expect(await opened(old.folder)).toEqual(bytes);
    await resealFolder(request({ out: 'replace' }));
    expect(await opened(old.folder)).toEqual(bytes);
    expect(visible().filter((name) => name.includes('iris.sealed'))).toEqual([
      'iris.sealed',
      'iris.sealed.recovery.json',
    ]);
  });

  it('what was sealed but not swapped is removed, wrap and all', async () => {
    await resealFolder(request({ out: nextOf(old.folder) }));
    expect(visible()).toContain(basename(recoveryFileOf(nextOf(old.folder))));
    await resealFolder(request({ out: 'replace' }));
    expect(await opened(old.folder)).toEqual(bytes);
    expect(visible().filter((name) => name.includes('iris.sealed'))).toEqual([
      'iris.sealed',
      'iris.sealed.recovery.json',
    ]);
  });

  const digest = (): string =>
    createHash('sha256')
      .update(JSON.stringify(partsOf(old.folder)))
      .digest('hex');

  it('is refused before anything is sealed where the folder holds more than a model', async () => {
    const before = digest();
    writeFileSync(join(old.folder, 'notes.txt'), 'mine');
    await expect(resealFolder(request({ out: 'replace' }))).rejects.toMatchObject({
      code: 'RESEAL_FOREIGN_FILES',
    });
    expect(digest()).toBe(before);
    expect(visible().filter((name) => name.startsWith('.'))).toEqual([]);
  });

  it.runIf(canTrace)(
    `is refused before anything is sealed where the file system swaps no names${canTrace ? '' : ' (skipped: needs strace)'}`,
    async () => {
      const before = digest();
      const { env, kms, keys } = commandLine(owner);
      const args = ['reseal', old.folder, '--replace', '--kms-key', key, ...kms];
      args.push('--recovery', keys.recovery, '--sign', keys.signing);
      const program = { args, cwd: owner.folder, env };
      expect(await start(program, refusing({ renameat2: 'EINVAL' })).ended).toMatchObject({
        code: 2,
        stderr: expect.stringContaining('RESEAL_CANNOT_EXCHANGE'),
      });
      expect(digest()).toBe(before);
      expect(visible().filter((name) => name.startsWith('.'))).toEqual([]);
    },
    60_000,
  );
});
