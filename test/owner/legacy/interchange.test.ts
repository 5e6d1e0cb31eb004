/** Files that Python made, read here, and the other way round. */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { Readable } from 'node:stream';
import { afterAll, expect, it } from 'vitest';
import { inspectLegacy } from '../../../owner/legacy/legacy-file.ts';
import { pythonObject } from '../../../owner/legacy/python-loads.ts';
import { sealEncmodel, sealEnvmodel } from '../../../owner/legacy/seal-legacy.ts';
import { type LegacyKey, verifyLegacy } from '../../../owner/legacy/unlock.ts';
import { kmsStandIn } from '../kms-stand-in.ts';
import { Files, sha256 } from './files.ts';
import { describeWithPython } from './python.ts';

const files = new Files();
afterAll(() => files.remove());

const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');
const bytesOf = (text: string | undefined): Buffer => Buffer.from(text ?? '', 'base64');
const dataKeyOf = (dataKey: Uint8Array, associatedData?: Uint8Array): LegacyKey => ({
  kind: 'data-key',
  dataKey,
  associatedData,
});

/** Blocks, slabs and pieces, each less one, exact, and one more. */
const SIZES = [
  0, 1, 15, 16, 17, 131_071, 131_072, 131_073, 1_048_575, 1_048_576, 1_048_577, 2_097_152, 2_500_001,
];

/** What was metadata somewhere, as JSON: KMS takes the first four. */
const METADATA = [
  '{"model": "iris", "version": "3"}',
  '{}',
  '{"Größe": "naïve café", "日本": "モデル", "emoji": "😀", "line": "a\\u2028b\\n\\u007f"}',
  '{"b": "2", "a": "1", "10": "x", "9": "y", "": ""}',
  '{"layers": [1, 2.0, {"deep": {"er": [[], {}, null, true]}}], "z": 1, "a": false}',
  '{"loss": 0.1, "lr": 1e-05, "big": 1e16, "steps": 123456789012345678901234567890, "zero": -0.0, "f": 1.0}',
  '{"nan": NaN, "inf": Infinity, "minus": -Infinity}',
  '{"twice": "first", "other": 1, "twice": "last"}',
];

describeWithPython(
  'interchange with Python',
  { script: 'models.py', module: 'cryptography', debian: 'python3 python3-cryptography' },
  (ask) => {
    it('opens every ENCMODEL that Python wrote, and only with its associated data', async () => {
      const cases = SIZES.flatMap((size, index) => {
        const aad = [undefined, Buffer.from('iris:3'), Buffer.from('größe:模')][index % 3];
        return [{ key: randomBytes(32), plaintext: randomBytes(size), aad }];
      });
      const made = ask(
        cases.map(({ key, plaintext, aad }) => ({
          what: 'encmodel-write',
          key: base64(key),
          plaintext: base64(plaintext),
          aad: aad === undefined ? null : base64(aad),
        })),
      );
      for (const [index, { key, plaintext, aad }] of cases.entries()) {
        const path = files.write(bytesOf(made[index]?.file));
        expect((await files.open(path, dataKeyOf(key, aad))).equals(plaintext)).toBe(true);
        const wrong = aad === undefined ? Buffer.from('iris:3') : undefined;
        await expect(verifyLegacy(path, dataKeyOf(key, wrong))).rejects.toMatchObject({
          code: 'LEGACY_AAD_MISMATCH',
        });
        if (aad === undefined) continue;
        await expect(verifyLegacy(path, dataKeyOf(key, Buffer.from('iris:4')))).rejects.toMatchObject({
          code: 'LEGACY_TAG_REFUSED',
        });
      }
    });

    it('writes ENCMODELs, from files and pipes, that Python opens', async () => {
      const requests: object[] = [];
      const plaintexts: Buffer[] = [];
      for (const [index, size] of SIZES.filter((bytes) => bytes > 0).entries()) {
        const [dataKey, plaintext, out] = [randomBytes(32), randomBytes(size), files.path()];
        const associatedData = index % 2 === 0 ? Buffer.from('iris:3') : undefined;
        const input =
          index % 3 === 0
            ? ({ kind: 'pipe', pipe: Readable.from([Buffer.from(plaintext)]) } as const)
            : ({ kind: 'file', path: files.write(plaintext) } as const);
        await sealEncmodel({ input, out, dataKey, ...(associatedData && { associatedData }) });
        const aad = associatedData === undefined ? null : base64(associatedData);
        requests.push({ what: 'encmodel-read', key: base64(dataKey), file: base64(readFileSync(out)), aad });
        plaintexts.push(plaintext);
      }
      const read = ask(requests);
      expect(read.map((answer) => answer.error)).toEqual(read.map(() => undefined));
      expect(read.map(({ plaintext }) => sha256(bytesOf(plaintext)))).toEqual(plaintexts.map(sha256));
    });

    it('opens every ENVMODEL that Python wrote, whatever its metadata and however it was spelt', async () => {
      const spellings: { how?: object; aadHow?: object }[] = [
        {},
        { how: { indent: 2 } },
        { how: { separators: [',', ':'] } },
        { how: { indent: 2 }, aadHow: { sort_keys: true } },
        { aadHow: { separators: [',', ':'], sort_keys: true } },
        { aadHow: { ensure_ascii: false } },
        { how: { ensure_ascii: false } },
      ];
      const cases = METADATA.flatMap((metadata) => spellings.map((how) => ({ metadata, ...how })));
      const made = cases.map((one) => ({ ...one, key: randomBytes(32), plaintext: randomBytes(1000) }));
      const answers = ask(
        made.map(({ key, plaintext, ...one }) => ({
          ...one,
          what: 'envmodel-write',
          key: base64(key),
          plaintext: base64(plaintext),
          wrapped: base64(randomBytes(100)),
          kmsKeyId: 'alias/models',
        })),
      );
      for (const [index, { key, plaintext, metadata }] of made.entries()) {
        const path = files.write(bytesOf(answers[index]?.file));
        expect((await files.open(path, dataKeyOf(key))).equals(plaintext), metadata).toBe(true);
      }
    });

    it('opens an ENVMODEL whose metadata Python wrote with one name twice', async () => {
      const [key, plaintext] = [randomBytes(32), randomBytes(100)];
      const request = { what: 'envmodel-write', numberedTwice: true, metadata: '{"a": "b"}', kmsKeyId: 'k' };
      const more = { key: base64(key), plaintext: base64(plaintext), wrapped: base64(randomBytes(9)) };
      const [made] = ask([{ ...request, ...more }]);
      const path = files.write(bytesOf(made?.file));
      expect(readFileSync(path, 'latin1')).toContain('{"1": "one", "1": "another", "a": "b"}');
      expect((await files.open(path, dataKeyOf(key))).equals(plaintext)).toBe(true);
    });

    it('asks KMS with the metadata as context, and refuses by name what KMS could not have accepted', async () => {
      const kms = kmsStandIn({ allowDecrypt: true });
      const [key, plaintext] = [randomBytes(32), randomBytes(5000)];
      for (const [index, metadata] of METADATA.entries()) {
        const possible = index < 4;
        const context = possible ? JSON.parse(metadata) : {};
        const send = kms.client.send as (command: unknown) => Promise<{ CiphertextBlob: Uint8Array }>;
        const { EncryptCommand } = await import('@aws-sdk/client-kms');
        const input = { KeyId: kms.keyArn, Plaintext: key, EncryptionContext: context };
        const { CiphertextBlob } = await send(new EncryptCommand(input));
        const [made] = ask([
          {
            what: 'envmodel-write',
            key: base64(key),
            plaintext: base64(plaintext),
            wrapped: base64(CiphertextBlob),
            kmsKeyId: kms.keyArn,
            metadata,
          },
        ]);
        const path = files.write(bytesOf(made?.file));
        const before = kms.calls.length;
        if (possible) {
          expect((await files.open(path, { kind: 'kms', kmsKey: kms })).equals(plaintext)).toBe(true);
          expect(kms.calls.slice(before)).toEqual(['Decrypt']);
          continue;
        }
        const fault = [
          '"layers" is a list',
          '"loss" is a number',
          '"nan" is a number',
          '"other" is a number',
        ];
        expect((await inspectLegacy(path)).metadataFault).toContain(fault[index - 4]);
        await expect(verifyLegacy(path, { kind: 'kms', kmsKey: kms })).rejects.toMatchObject({
          code: 'LEGACY_CONTEXT_IMPOSSIBLE',
          message: expect.stringContaining(fault[index - 4] as string),
        });
        expect(kms.calls).toHaveLength(before);
      }
    });

    it('writes ENVMODELs that Python opens, with the metadata in the order given', async () => {
      const kms = kmsStandIn();
      const requests: object[] = [];
      const expected: { plaintext: string; metadata: string }[] = [];
      for (const [index, size] of SIZES.filter((bytes) => bytes > 0).entries()) {
        const plaintext = randomBytes(size);
        const text = METADATA[index % 4] as string;
        const metadata = pythonObject(text).members;
        const out = files.path();
        const input = { kind: 'file', path: files.write(plaintext) } as const;
        await sealEnvmodel({ input, out, kmsKey: kms, metadata });
        const file = readFileSync(out);
        const envelope = JSON.parse(file.subarray(12, 12 + file.readUInt32BE(8)).toString());
        const key = kms.decrypt(bytesOf(envelope.encrypted_dek), JSON.parse(text));
        requests.push({ what: 'envmodel-read', key: base64(key), file: base64(file) });
        expected.push({ plaintext: sha256(plaintext), metadata: text });
      }
      const read = ask(requests);
      expect(
        read.map(({ plaintext, metadata = '' }) => ({ plaintext: sha256(bytesOf(plaintext)), metadata })),
      ).toEqual(expected.map((one) => ({ ...one, metadata: ascii(one.metadata) })));
    });
  },
);

/** METADATA is spelt as Python spells it, less the escapes. */
function ascii(text: string): string {
  return text.replace(/[^ -~]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
