import { describe, expect, it } from 'vitest';
import { expectKeyFileOf, parseKeyFile } from '../../../shared/sealed-model/key-file.ts';
import { encodeKeyFile } from '../../../shared/sealed-model/key-file-write.ts';
import { bytesOf, sealBytes } from './seals.ts';

const ARN = 'arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab';
const good = {
  context: new Uint8Array(32).fill(7),
  wraps: [{ kind: 'aws-kms' as const, keyArn: ARN, ciphertextBlob: bytesOf(180), label: 'primary' }],
};
const text = Buffer.from(encodeKeyFile(good)).toString();
const refused = expect.objectContaining({ code: 'SEALED_KEY_FILE_MALFORMED' });

describe('key.json', () => {
  it('says what was written', () => {
    expect(parseKeyFile(Buffer.from(text))).toEqual(good);
    const second = { ...good.wraps[0], keyArn: ARN.replace('eu-central-1', 'us-east-1') };
    const two = { ...good, wraps: [...good.wraps, second] } as typeof good;
    expect(parseKeyFile(encodeKeyFile(two)).wraps).toHaveLength(2);
  });

  it('is refused when anything in it is not as it must be', () => {
    const edits: Record<string, (from: string) => string> = {
      'another format': (from) => from.replace('-v1', '-v2'),
      'a short context': (from) => from.replace(/"context":"[^"]+"/, '"context":"AAAA"'),
      'no wraps': (from) => from.replace(/"wraps":\[.*\]/, '"wraps":[]'),
      'too many wraps': (from) =>
        from.replace(/"wraps":\[(.*)\]/, (_, wrap) => `"wraps":[${Array(17).fill(wrap)}]`),
      'one key twice': (from) => from.replace(/"wraps":\[(.*)\]/, '"wraps":[$1,$1]'),
      'another kind': (from) => from.replace('aws-kms', 'plain'),
      'an alias': (from) => from.replace('key/1234', 'alias/1234'),
      'an ARN of another service': (from) => from.replace(':kms:', ':s3:'),
      'an empty blob': (from) => from.replace(/"ciphertextBlob":"[^"]+"/, '"ciphertextBlob":""'),
      'a blob too long for KMS': (from) =>
        from.replace(
          /"ciphertextBlob":"[^"]+"/,
          `"ciphertextBlob":"${Buffer.alloc(6145).toString('base64')}"`,
        ),
      'a blob in base64url': (from) => from.replace(/"ciphertextBlob":"[^"]+"/, '"ciphertextBlob":"-_-_"'),
      'a blob with stray bits': (from) => from.replace(/"ciphertextBlob":"[^"]+"/, '"ciphertextBlob":"AB=="'),
      'a label that is no text': (from) => from.replace('"primary"', '1'),
      'an unknown member': (from) => from.replace('"format"', '"extra":1,"format"'),
      'an encryption context of its own': (from) => from.replace('"kind"', '"encryptionContext":{},"kind"'),
      'a member twice': (from) => from.replace('"format"', '"context":"","format"'),
      'not JSON': (from) => from.slice(0, -3),
    };
    for (const [what, edit] of Object.entries(edits)) {
      expect(edit(text), what).not.toBe(text);
      expect(() => parseKeyFile(Buffer.from(edit(text))), what).toThrow(refused);
    }
    expect(() => parseKeyFile(Buffer.from(`${text}${' '.repeat(65_536)}`))).toThrow(refused);
  });

  it('of another seal is told before KMS is asked', async () => {
    const seal = await sealBytes(bytesOf(10));
    expect(() => expectKeyFileOf(seal.head, { ...good, context: seal.head.context })).not.toThrow();
    expect(() => expectKeyFileOf(seal.head, good)).toThrow(
      expect.objectContaining({ code: 'SEALED_KEY_FILE_FOREIGN' }),
    );
  });
});
