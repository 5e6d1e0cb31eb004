/** What must not open: hostile headers, altered bytes, other keys, more than the cipher can hold. */

import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, truncateSync } from 'node:fs';
import { Readable } from 'node:stream';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { writeFileAside } from '../../../owner/aside-file.ts';
import { LegacyError } from '../../../owner/legacy/errors.ts';
import { inspectLegacy } from '../../../owner/legacy/legacy-file.ts';
import { VerifiedMessage, verifyMessage } from '../../../owner/legacy/message.ts';
import { writeMessage } from '../../../owner/legacy/message-write.ts';
import { sealEncmodel, sealEnvmodel } from '../../../owner/legacy/seal-legacy.ts';
import { type LegacyKey, verifyLegacy } from '../../../owner/legacy/unlock.ts';
import { kmsStandIn } from '../kms-stand-in.ts';
import { encmodel, envmodel, Files, framed } from './files.ts';

const files = new Files();
afterAll(() => files.remove());

const key = new Uint8Array(randomBytes(32));
const dataKey: LegacyKey = { kind: 'data-key', dataKey: key };
const plaintext = randomBytes(100);
const base = { key, plaintext };
const verify = (content: Uint8Array | string, with_: LegacyKey = dataKey) =>
  verifyLegacy(files.write(content, 'tried'), with_);

describe('the structure of a legacy model', () => {
  const tail = randomBytes(12 + 100 + 16);
  it.each([
    ['nothing', Buffer.alloc(0)],
    ['half a magic', Buffer.from('ENCM')],
    ['a magic alone', Buffer.from('ENCMODEL')],
    ['half a length', Buffer.from('ENVMODEL\0\0')],
    ['another magic', framed('ENCMODEM', '{}', tail)],
    ['a length beyond the file', Buffer.concat([Buffer.from('ENCMODEL'), Buffer.from([0, 0, 9, 9]), tail])],
    ['a length of 4 GiB', Buffer.concat([Buffer.from('ENCMODEL'), Buffer.alloc(4, 0xff), tail])],
    ['more than 1 MiB of JSON', framed('ENVMODEL', ' '.repeat((1 << 20) + 1), tail)],
    ['no JSON', framed('ENCMODEL', '', tail)],
    ['JSON that is no object', framed('ENCMODEL', '[]', tail)],
    ['a byte order mark', framed('ENCMODEL', '\ufeff{}', tail)],
    ['JSON that is not UTF-8', framed('ENCMODEL', Buffer.from([0x7b, 0xff, 0x7d]), tail)],
    ['a hundred thousand levels', framed('ENVMODEL', '{"metadata":'.repeat(80_000), tail)],
    ['an empty object', framed('ENCMODEL', '{}', tail)],
    ['no tag', encmodel(base).subarray(0, -16)],
    ['one byte less', encmodel(base).subarray(0, -1)],
    ['one byte more', Buffer.concat([encmodel(base), Buffer.alloc(1)])],
    ['a member twice', framed('ENVMODEL', envmodelJson().replace('{', '{"nonce":"AAAA",'), tail)],
  ])('%s is refused as malformed', async (_what, content) => {
    await expect(verify(content)).rejects.toMatchObject({ code: 'LEGACY_MALFORMED' });
  });

  const digest = 'a'.repeat(64);
  it.each([
    ['version', [2, '2', null, true, 1.5, '1.0.0', undefined]],
    ['algorithm', ['AES-128-GCM', 'AES-256-CBC', '', 1, undefined]],
    ['plaintext_size', [99, 101, -1, 100.5, '100', null, undefined]],
    ['plaintext_hash', ['', digest.slice(1), `${digest}a`, 'g'.repeat(64), 1, undefined]],
    ['has_aad', [0, 'false', null, undefined]],
  ])('an ENCMODEL with a wrong %s is refused', async (name, wrong) => {
    for (const value of wrong) {
      const refused = verify(encmodel({ ...base, members: { [name]: value } }));
      await expect(refused, String(value)).rejects.toMatchObject({ code: 'LEGACY_MALFORMED' });
    }
  });

  it.each([
    ['version', [2, '2', null, undefined]],
    ['kms_key_id', ['', 'a b', 'ä', 'a\n', 'k'.repeat(2049), 1, undefined]],
    ['encrypted_dek', ['', '!', 'AAA', 'A'.repeat(8196), 7, undefined]],
    ['nonce', ['', 'AAAA', 'A'.repeat(20), 'AAAAAAAAAAAAAAA=', null, undefined]],
    ['metadata', [null, [], 'text', 1, undefined]],
    ['plaintext_hash', ['', 'a'.repeat(63), undefined]],
  ])('an ENVMODEL with a wrong %s is refused', async (name, wrong) => {
    for (const value of wrong) {
      const refused = verify(envmodel({ ...base, members: { [name]: value } }));
      await expect(refused, String(value)).rejects.toMatchObject({ code: 'LEGACY_MALFORMED' });
    }
  });

  it('version and algorithm may be spelt as old writers did, and further members are shown', async () => {
    const members = { version: '1.0', algorithm: 'aes256-gcm', created: '2024-01-01' };
    expect(await verify(encmodel({ ...base, members }))).toMatchObject({ otherMembers: ['created'] });
    expect(
      await verify(encmodel({ ...base, members: { version: '1', algorithm: 'AES-256-GCM' } })),
    ).toBeTruthy();
  });

  it('a folder and a pipe are refused, not waited for', async () => {
    mkdirSync(files.path('folder'));
    execFileSync('mkfifo', [files.path('fifo')]);
    for (const name of ['folder', 'fifo']) {
      await expect(inspectLegacy(files.path(name))).rejects.toMatchObject({ code: 'LEGACY_MALFORMED' });
    }
    await expect(inspectLegacy(files.path('absent'))).rejects.toMatchObject({ code: 'ENOENT' });
  });
});

describe('an altered legacy model', () => {
  const aad: LegacyKey = { ...dataKey, associatedData: Buffer.from('iris:3') };
  const originals = [
    ['ENCMODEL', encmodel({ ...base, associatedData: 'iris:3' }), aad],
    ['ENVMODEL', envmodel({ ...base, metadata: '{"model": "iris", "n": "1"}' }), dataKey],
  ] as const;

  it.each(originals)(
    'is refused when any byte of nonce, ciphertext or tag is: %s',
    async (_name, file, with_) => {
      const start = 12 + file.readUInt32BE(8);
      for (let at = start; at < file.length; at++) {
        const altered = Buffer.from(file);
        altered[at] = (altered[at] as number) ^ 0x01;
        await expect(verify(altered, with_), `byte ${at}`).rejects.toMatchObject({
          code: 'LEGACY_TAG_REFUSED',
        });
      }
    },
  );

  it.each(originals)(
    'opens to nothing else, whichever byte of its head is altered: %s',
    async (_name, file, with_) => {
      const end = 12 + file.readUInt32BE(8);
      for (let at = 0; at < end; at++) {
        const altered = Buffer.from(file);
        altered[at] = (altered[at] as number) ^ 0x01;
        // What is not authenticated may change; then the very same plaintext comes out.
        const opened = await files.open(files.write(altered), with_).catch((error: unknown) => error);
        if (opened instanceof Buffer) expect(opened.equals(plaintext), `byte ${at}`).toBe(true);
        else expect(opened, `byte ${at}`).toBeInstanceOf(LegacyError);
      }
    },
  );

  it.each(originals)('is refused wherever it is cut off: %s', async (_name, file, with_) => {
    for (let end = 0; end < file.length; end++) {
      await expect(verify(file.subarray(0, end), with_), `${end} bytes`).rejects.toBeInstanceOf(LegacyError);
    }
  });

  it.each([
    ['another value', '{"name": "rose", "n": "1"}'],
    ['another name', '{"nama": "iris", "n": "1"}'],
    ['one member more', '{"name": "iris", "n": "1", "x": ""}'],
    ['one member less', '{"name": "iris"}'],
    ['another order', '{"n": "1", "name": "iris"}'],
    ['another type', '{"name": "iris", "n": 1}'],
    ['nothing', '{}'],
  ])('is refused with metadata of %s', async (_what, metadata) => {
    const altered = envmodel({ ...base, metadata, associatedData: '{"name": "iris", "n": "1"}' });
    await expect(verify(altered)).rejects.toMatchObject({ code: 'LEGACY_TAG_REFUSED' });
  });

  it('is refused under another key', async () => {
    for (const [, file, with_] of originals) {
      await expect(verify(file, { ...with_, dataKey: randomBytes(32) })).rejects.toMatchObject({
        code: 'LEGACY_TAG_REFUSED',
      });
      await expect(verify(file, { ...with_, dataKey: randomBytes(16) })).rejects.toMatchObject({
        code: 'LEGACY_KEY_FOREIGN',
      });
    }
  });

  it('is refused if its plaintext is not the one whose digest it states, though the tag is right', async () => {
    const members = { plaintext_hash: 'b'.repeat(64) };
    for (const file of [encmodel({ ...base, members }), envmodel({ ...base, members })]) {
      await expect(verify(file)).rejects.toMatchObject({ code: 'LEGACY_DIGEST_REFUSED' });
    }
  });

  it('throws nothing but LegacyError, whatever stands in the head', async () => {
    const anyHead = fc.oneof(
      fc.uint8Array({ maxLength: 64 }).map((bytes) => Buffer.from(bytes)),
      fc.json().map((text) => Buffer.from(text)),
      fc
        .dictionary(fc.constantFrom('version', 'nonce', 'metadata', 'kms_key_id'), fc.jsonValue())
        .map((value) => Buffer.from(JSON.stringify(value))),
    );
    await fc.assert(
      fc.asyncProperty(fc.constantFrom('ENCMODEL', 'ENVMODEL'), anyHead, async (magic, head) => {
        await expect(verify(framed(magic, head, randomBytes(40)))).rejects.toBeInstanceOf(LegacyError);
      }),
      { numRuns: 150 },
    );
  });
});

describe('keys of the wrong kind', () => {
  const kms = kmsStandIn({ allowDecrypt: true });
  const withKms: LegacyKey = { kind: 'kms', kmsKey: kms };

  it('KMS is not asked about an ENCMODEL', async () => {
    await expect(verify(encmodel(base), withKms)).rejects.toMatchObject({ code: 'LEGACY_KEY_FOREIGN' });
    expect(kms.calls).toEqual([]);
  });

  it('KMS is not asked when the file names another key than the one given, and never with the one it names', async () => {
    const foreign = [
      'arn:aws:kms:eu-central-1:666666666666:key/1234abcd-12ab-34cd-56ef-1234567890ab',
      'arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab',
      '99999999-12ab-34cd-56ef-1234567890ab',
    ];
    for (const kmsKeyId of foreign) {
      const refused = verify(envmodel({ ...base, kmsKeyId }), withKms);
      await expect(refused).rejects.toMatchObject({ code: 'LEGACY_KEY_FOREIGN' });
    }
    expect(kms.calls).toEqual([]);
  });

  it('a data key that KMS did not wrap, or under another context, is KMS’s to refuse', async () => {
    for (const kmsKeyId of ['alias/models', kms.keyArn, kms.keyArn.split('/').at(-1) as string]) {
      const refused = verify(envmodel({ ...base, kmsKeyId }), withKms);
      await expect(refused).rejects.toMatchObject({ code: 'OWNER_KMS_REFUSED' });
    }
  });

  it('associated data is refused with an ENVMODEL, which has its own', async () => {
    await expect(
      verify(envmodel(base), { ...dataKey, associatedData: Buffer.from('x') }),
    ).rejects.toMatchObject({
      code: 'LEGACY_AAD_MISMATCH',
    });
  });

  it.each([
    ['a number', new Map([['n', 1n]]), '"n" is a number'],
    ['a float', new Map([['n', 1]]), '"n" is a number'],
    ['null', new Map([['n', null]]), '"n" is null'],
    ['a boolean', new Map([['n', true]]), '"n" is a boolean'],
    ['a list', new Map([['n', []]]), '"n" is a list'],
    ['an object', new Map([['n', new Map()]]), '"n" is an object'],
    ['a lone surrogate', new Map([['n', '\ud800']]), '"n" has a lone surrogate'],
    ['__proto__', new Map([['__proto__', 'x']]), '"__proto__"'],
    ['8193 characters', new Map([['n', 'x'.repeat(8192)]]), '8193 characters'],
  ])('metadata with %s is not written, and KMS not asked', async (_what, metadata, says) => {
    const out = files.path();
    const input = { kind: 'file', path: files.write('model') } as const;
    await expect(sealEnvmodel({ input, out, kmsKey: kms, metadata })).rejects.toMatchObject({
      code: 'LEGACY_CONTEXT_IMPOSSIBLE',
      message: expect.stringContaining(says),
    });
  });
});

describe('what the cipher cannot hold', () => {
  const LIMIT = 2 ** 36 - 32;

  it('is refused by its size, before a byte of it is read', async () => {
    const header = { plaintext_hash: 'a'.repeat(64), has_aad: false, version: 1, algorithm: 'AES-256-GCM' };
    const head = framed(
      'ENCMODEL',
      JSON.stringify({ ...header, plaintext_size: LIMIT + 1 }),
      randomBytes(12),
    );
    const path = files.write(head);
    truncateSync(path, head.length + LIMIT + 1 + 16);
    await expect(inspectLegacy(path)).rejects.toMatchObject({ code: 'LEGACY_TOO_LARGE' });

    for (const size of [1e20, LIMIT + 1]) {
      const claimed = framed(
        'ENCMODEL',
        JSON.stringify({ ...header, plaintext_size: size }),
        randomBytes(28),
      );
      await expect(verify(claimed)).rejects.toMatchObject({ code: 'LEGACY_TOO_LARGE' });
    }

    const envelope = framed('ENVMODEL', envmodelJson());
    const other = files.write(envelope);
    truncateSync(other, envelope.length + LIMIT + 1 + 16);
    await expect(inspectLegacy(other)).rejects.toMatchObject({ code: 'LEGACY_TOO_LARGE' });
    truncateSync(other, envelope.length + LIMIT + 16);
    expect(await inspectLegacy(other)).toMatchObject({ plaintextSizeBytes: LIMIT });
  });

  it('is not written, from a file or a pipe', async () => {
    const path = files.write('');
    truncateSync(path, LIMIT + 1);
    const out = files.path();
    await expect(sealEncmodel({ input: { kind: 'file', path }, out, dataKey: key })).rejects.toMatchObject({
      code: 'LEGACY_TOO_LARGE',
    });
    const keys = { dataKey: key, nonce: randomBytes(12), associatedData: new Uint8Array(0) };
    const written = writeFileAside({ path: out, mode: 0o600 }, (file) =>
      writeMessage(file, 0, Readable.from([randomBytes(60), randomBytes(41)]), keys, {}, 100),
    );
    await expect(written).rejects.toMatchObject({ code: 'LEGACY_TOO_LARGE' });
  });
});

it('nobody but verifyMessage makes a verified message', () => {
  const make = VerifiedMessage as unknown as new (...args: unknown[]) => unknown;
  expect(() => new make(Symbol('only verifyMessage'), {}, {}, [])).toThrow(TypeError);
  expect(verifyMessage).toBeTypeOf('function');
});

function envmodelJson(): string {
  const whole = envmodel(base);
  return whole.subarray(12, 12 + whole.readUInt32BE(8)).toString();
}
