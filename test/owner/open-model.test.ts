import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openToFolder, openToPipe } from '../../owner/open-model.ts';
import { kmsStandIn } from './kms-stand-in.ts';
import { flip, recoveryPrivateKey, SealedFolders, signing } from './sealed-folders.ts';

let folders: SealedFolders;
beforeAll(() => {
  folders = new SealedFolders();
});
afterAll(() => folders.remove());

function collector(): { pipe: Writable; content: () => Buffer } {
  const pieces: Buffer[] = [];
  const pipe = new Writable({
    write(piece: Buffer, _encoding, done) {
      pieces.push(Buffer.from(piece));
      done();
    },
  });
  return { pipe, content: () => Buffer.concat(pieces) };
}

/** Chunks are 256 bytes, segments 1024. */
const SIZES = [1, 255, 256, 257, 512, 1023, 1024, 1025, 2048, 5000];

describe('opening what was sealed', () => {
  it.each(SIZES)('gives %i bytes back, to a folder and to a pipe', async (size) => {
    const content = randomBytes(size);
    const sealed = await folders.seal({ 'model.onnx': content });
    const out = folders.path(`out-${size}`);
    const { files } = await openToFolder({ sealed, key: folders.kept, signer: signing.publicKey, out });
    expect(files.map(({ path }) => path)).toEqual(['model.onnx']);
    expect(readFileSync(join(out, 'model.onnx')).equals(content)).toBe(true);

    const { pipe, content: piped } = collector();
    await openToPipe({ sealed, key: folders.kept, file: undefined, pipe });
    expect(piped().equals(content)).toBe(true);
  });

  it('gives the memory of each segment back once the pipe has taken it', async () => {
    const sealed = await folders.seal({ 'model.onnx': randomBytes(5000) });
    const taken: Buffer[] = [];
    const pipe = new Writable({
      write(piece: Buffer, _encoding, done) {
        expect(taken.filter(({ length }) => length > 0)).toEqual([]);
        expect(piece.length).toBeGreaterThan(0);
        taken.push(piece);
        done();
      },
    });
    await openToPipe({ sealed, key: folders.kept, file: undefined, pipe });
    expect(taken.map(({ length }) => length)).toEqual([0, 0, 0, 0, 0]);
  });

  it('opens a model without a byte, though none is ever sealed', async () => {
    const sealed = await folders.sealEmpty();
    const out = folders.path('out-empty');
    await openToFolder({ sealed, key: folders.kept, out });
    expect(readFileSync(join(out, 'model.onnx'))).toHaveLength(0);
    const { pipe, content } = collector();
    await openToPipe({ sealed, key: folders.kept, file: undefined, pipe });
    expect(content()).toHaveLength(0);
  });

  it('keeps folders and empty files, for its owner’s eyes alone', async () => {
    const files = {
      'a/b/weights.bin': randomBytes(3000),
      'a/config.json': randomBytes(2),
      empty: Buffer.alloc(0),
      'model.onnx': randomBytes(700),
    };
    const sealed = await folders.seal(files);
    const out = folders.path('deep/er/out');
    await openToFolder({ sealed, key: { kind: 'recovery', privateKey: recoveryPrivateKey }, out });
    for (const [path, content] of Object.entries(files)) {
      expect(readFileSync(join(out, path)).equals(content)).toBe(true);
      expect(statSync(join(out, path)).mode & 0o777).toBe(0o600);
    }
    for (const path of ['.', 'a', 'a/b']) expect(statSync(join(out, path)).mode & 0o777).toBe(0o700);

    const { pipe, content } = collector();
    await openToPipe({ sealed, key: folders.kept, file: 'a/b/weights.bin', pipe });
    expect(content().equals(files['a/b/weights.bin'])).toBe(true);
    for (const file of [undefined, 'weights.bin', '../iris', '']) {
      const nothing = collector();
      const opening = openToPipe({ sealed, key: folders.kept, file, pipe: nothing.pipe });
      await expect(opening).rejects.toMatchObject({ code: 'OWNER_NO_SUCH_FILE' });
      expect(nothing.content()).toHaveLength(0);
    }
  });

  it('opens by KMS where the policy lets its owner, and only by a key that wraps it', async () => {
    const kmsKey = kmsStandIn({ allowDecrypt: true });
    const content = randomBytes(600);
    const sealed = await folders.seal({ m: content }, { kmsKeys: [kmsKey] });
    const out = folders.path('out-kms');
    await openToFolder({ sealed, key: { kind: 'kms', kmsKey }, out });
    expect(readFileSync(join(out, 'm')).equals(content)).toBe(true);

    const other = { ...kmsKey, keyArn: 'arn:aws:kms:eu-central-1:111122223333:key/other' };
    const byOther = openToFolder({ sealed, key: { kind: 'kms', kmsKey: other }, out: folders.path('o') });
    await expect(byOther).rejects.toMatchObject({ code: 'OWNER_WRAP_ABSENT' });
    const unwrapped = await folders.seal({ m: content });
    const without = openToFolder({ sealed: unwrapped, key: { kind: 'kms', kmsKey }, out: folders.path('o') });
    await expect(without).rejects.toMatchObject({ code: 'OWNER_NOT_A_SEAL' });
  });
});

describe('what is not released', () => {
  const cases: readonly [string, string, (folder: string) => void][] = [
    ['an altered chunk', 'SEALED_CHUNK_REFUSED', (f) => change(f, 'payload', (b) => flip(b, 2500))],
    ['the altered last byte', 'SEALED_CHUNK_REFUSED', (f) => change(f, 'payload', (b) => flip(b, 4999))],
    ['a truncated payload', 'SEALED_PAYLOAD_SIZE', (f) => truncateSync(join(f, 'payload'), 4999)],
    ['a longer payload', 'SEALED_PAYLOAD_SIZE', (f) => appendFileSync(join(f, 'payload'), 'x')],
    ['an altered tag table', 'SEALED_HEAD_FORGED', (f) => change(f, 'head', (b) => flip(b, b.length - 200))],
    ['an altered commitment', 'SEALED_KEY_MISMATCH', (f) => change(f, 'head', (b) => flip(b, headerEnd(b)))],
    ['an unreadable head', 'SEALED_HEAD_MALFORMED', (f) => change(f, 'head', (b) => flip(b, 0))],
    ['no payload', 'ENOENT', (f) => rmSync(join(f, 'payload'))],
  ];
  it.each(cases)('%s: no folder appears, and no byte of its segment', async (_what, code, alter) => {
    const content = randomBytes(5000);
    const sealed = await folders.seal({ 'model.onnx': content });
    alter(sealed);
    const out = folders.path('refused');
    await expect(openToFolder({ sealed, key: folders.kept, out })).rejects.toMatchObject({ code });
    const { pipe, content: piped } = collector();
    const opening = openToPipe({ sealed, key: folders.kept, file: undefined, pipe });
    await expect(opening).rejects.toMatchObject({ code });
    expect([0, 2048, 4096]).toContain(piped().length);
    expect(piped().equals(content.subarray(0, piped().length))).toBe(true);
    expect(readdirSync(folders.folder).filter((name) => name.includes('refused'))).toEqual([]);
  });

  it('a model under another key, of another signer, or by a foreign recovery wrap', async () => {
    const sealed = await folders.seal({ m: randomBytes(10) });
    const out = folders.path('foreign');
    const open = (more: Partial<Parameters<typeof openToFolder>[0]>) =>
      openToFolder({ sealed, key: folders.kept, out, ...more });
    await expect(open({ key: { kind: 'kept', dataKey: randomBytes(32) } })).rejects.toMatchObject({
      code: 'SEALED_KEY_MISMATCH',
    });
    const { generateOwnerKeyPair } = await import('../../owner/keygen.ts');
    const { publicKey } = await generateOwnerKeyPair('signing');
    await expect(open({ signer: publicKey })).rejects.toMatchObject({ code: 'SEALED_MANIFEST_UNSIGNED' });
    const { privateKey } = await generateOwnerKeyPair('recovery');
    await expect(open({ key: { kind: 'recovery', privateKey } })).rejects.toMatchObject({
      code: 'OWNER_RECOVERY_REFUSED',
    });
    const other = await folders.seal({ m: randomBytes(10) });
    const file = `${other}.recovery.json`;
    await expect(
      open({ key: { kind: 'recovery', privateKey: recoveryPrivateKey, file } }),
    ).rejects.toMatchObject({ code: 'OWNER_RECOVERY_REFUSED' });
    expect(existsSync(out)).toBe(false);
  });
});

describe('an opening that cannot be finished', () => {
  it('overwrites nothing, and asks nobody for the key first', async () => {
    const kmsKey = kmsStandIn({ allowDecrypt: true });
    const sealed = await folders.seal({ m: randomBytes(10) }, { kmsKeys: [kmsKey] });
    const out = folders.path('there');
    mkdirSync(out);
    const opening = openToFolder({ sealed, key: { kind: 'kms', kmsKey }, out });
    await expect(opening).rejects.toMatchObject({ code: 'OWNER_WOULD_OVERWRITE' });
    expect(kmsKey.calls).not.toContain('Decrypt');
  });

  it('leaves nothing when it is stopped', async () => {
    const sealed = await folders.seal({ m: randomBytes(100_000) });
    const abort = new AbortController();
    const opening = openToFolder({
      sealed,
      key: folders.kept,
      out: folders.path('stopped'),
      signal: abort.signal,
      onProgress: () => abort.abort(),
    });
    await expect(opening).rejects.toMatchObject({ code: 'SEALED_ABORTED' });
    expect(readdirSync(folders.folder).filter((name) => name.includes('stopped'))).toEqual([]);
  });

  it('removes the plaintext that a killed run left, and says so', async () => {
    const sealed = await folders.seal({ m: randomBytes(10) });
    const out = folders.path('again');
    // The name of a process that is gone: pid 4194304 is beyond the kernel's largest.
    const { asideOf } = await import('../../owner/leftovers.ts');
    const leftover = asideOf(out).replace(`-${process.pid}-`, '-4194304-');
    mkdirSync(leftover);
    writeFileSync(join(leftover, 'm'), 'plaintext');
    const told: unknown[] = [];
    await openToFolder({ sealed, key: folders.kept, out, onLeftover: (found) => told.push(found) });
    expect(told).toEqual([{ path: leftover, outcome: 'removed' }]);
    expect(existsSync(leftover)).toBe(false);
  });
});

describe('a place without room', () => {
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

  it.skipIf(!mounted)('is told beforehand, with the numbers (needs root, for a small tmpfs)', async () => {
    const sealed = await folders.seal({ m: randomBytes(2 << 20) });
    const opening = openToFolder({ sealed, key: folders.kept, out: join(disk, 'new/out') });
    await expect(opening).rejects.toMatchObject({
      code: 'OWNER_NO_ROOM',
      message: expect.stringMatching(/needs 2097152 bytes; .* has 1048576 free, 1048576 too few/),
    });
    expect(readdirSync(disk)).toEqual([]);
  });

  it.skipIf(!mounted)(
    'that fills up meanwhile ends the opening, and nothing is left (needs root)',
    async () => {
      const sealed = await folders.seal({ m: randomBytes(600_000) });
      const out = join(disk, 'out');
      // Told of a leftover, somebody else takes the room: between the measuring and the writing.
      mkdirSync(join(disk, '.out.partial-00000000-1-1-000000000000'));
      const fill = (): void => writeFileSync(join(disk, 'filler'), Buffer.alloc(900_000));
      const opening = openToFolder({ sealed, key: folders.kept, out, onLeftover: fill });
      await expect(opening).rejects.toMatchObject({
        code: 'SEALED_TARGET_UNUSABLE',
        message: expect.stringContaining('ENOSPC'),
      });
      expect(readdirSync(disk).sort()).toEqual(['.out.partial-00000000-1-1-000000000000', 'filler']);
    },
  );
});

function change(folder: string, part: string, how: (bytes: Buffer) => Buffer): void {
  writeFileSync(join(folder, part), how(readFileSync(join(folder, part))));
}

/** Where the commitment begins: after the prelude (64) and the core header. */
function headerEnd(head: Buffer): number {
  return 64 + head.readUInt32BE(20);
}
