/**
 * 5 GiB through the whole of it, as real processes: beyond every 32-bit length and many segments long. It takes 16 GB of
 * disk and some minutes, so it runs on request alone: STRONGROOM_FIVE_GIB=1 vitest run test/owner/five-gib.test.ts
 */
import { spawn } from 'node:child_process';
import { createCipheriv, createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createReadStream, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, describe, expect, it } from 'vitest';

const SIZE_BYTES = 5 * 2 ** 30;
const STRONGROOM = join(import.meta.dirname, '../../scripts/strongroom.ts');
const TIMEOUT_MS = 30 * 60_000;
const asked = process.env.STRONGROOM_FIVE_GIB === '1';

describe.skipIf(!asked)('5 GiB (STRONGROOM_FIVE_GIB=1 runs it)', () => {
  const folder = asked ? mkdtempSync(join(tmpdir(), 'strongroom-5gib-')) : '';
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  /** Resolves to SHA-256 of standard output, or to its text if it is short. */
  async function strongroom(line: string): Promise<{ sha256: string; shown: string }> {
    const startedMs = performance.now();
    const child = spawn(process.execPath, [STRONGROOM, ...line.split(' ')], { cwd: folder });
    const hash = createHash('sha256');
    let shown = '';
    const reading = (async () => {
      for await (const piece of child.stdout) {
        hash.update(piece);
        if (shown.length < 20_000) shown += piece.toString('latin1');
      }
    })();
    const errors = text(child.stderr);
    const [code] = await once(child, 'close');
    await reading;
    expect(code, await errors).toBe(0);
    process.stderr.write(`${line.split(' ')[0]} ${((performance.now() - startedMs) / 1000).toFixed(1)} s\n`);
    return { sha256: hash.digest('hex'), shown };
  }

  it(
    'come back as they went in, and every check passes',
    async () => {
      const expected = await writeModel(join(folder, 'model.bin'));
      writeFileSync(join(folder, 'data.key'), randomBytes(32), { mode: 0o600 });
      await strongroom('keygen -o keys');
      const who = '--name big --version 1 --format raw --key-file data.key --sign keys/signing.key.pem';
      await strongroom(`seal ${who} -o big.sealed model.bin`);
      rmSync(join(folder, 'model.bin'));
      await strongroom('verify big.sealed --signer keys/signing.pub.pem');
      await strongroom('sign big.sealed --key keys/signing.key.pem --oms big.sig');
      await strongroom('verify big.sealed --oms big.sig --signer keys/signing.pub.pem');
      const { shown } = await strongroom(
        'verify big.sealed --signer keys/signing.pub.pem --key-file data.key',
      );
      expect(shown).toContain('Every file has the size and SHA-256 that the manifest states');
      expect((await strongroom('open big.sealed -o - --key-file data.key')).sha256).toBe(expected);
      await strongroom('open big.sealed -o out --key-file data.key');
      const hash = createHash('sha256');
      for await (const piece of createReadStream(join(folder, 'out/model.bin'), { highWaterMark: 1 << 20 })) {
        hash.update(piece);
      }
      expect(hash.digest('hex')).toBe(expected);
    },
    TIMEOUT_MS,
  );
});

/** Bytes without a pattern, faster than a source of randomness gives them. Resolves to their SHA-256. */
async function writeModel(path: string): Promise<string> {
  const cipher = createCipheriv('aes-256-ctr', randomBytes(32), randomBytes(16));
  const zeros = Buffer.alloc(8 << 20);
  const hash = createHash('sha256');
  const file = await open(path, 'wx');
  for (let written = 0; written < SIZE_BYTES; written += zeros.length) {
    const piece = cipher.update(zeros);
    hash.update(piece);
    await file.writeFile(piece);
  }
  await file.close();
  return hash.digest('hex');
}
