import { createHash, createPrivateKey, createPublicKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openEnvelopedData, parseEnvelopedData } from '../../../shared/cms/read.ts';
import { codeOf } from '../../../shared/errors.ts';
import { describeWithVectors } from '../../vectors.ts';

interface Entry {
  file: string;
  expected: string;
  recipient_subjectKeyIdentifier?: string;
  iv?: string;
  encrypted_key_sha256?: string;
  ciphertext_len?: number;
  ciphertext_sha256?: string;
  plaintext_len?: number;
  plaintext_sha256?: string;
  recipient_key_pkcs8_der_base64?: string;
}

/** The reason for which each negative must be refused; a negative not named here only has to be refused. */
const REASONS: Readonly<Record<string, string>> = {
  'NEG-aes128-cbc-oid': 'CMS_CONTENT_ENCRYPTION_REFUSED',
  'NEG-ciphertext-empty': 'CMS_CONTENT_ENCRYPTION_REFUSED',
  'NEG-deep-indefinite': 'CMS_TOO_LARGE',
  'NEG-encrypted-key-short': 'CMS_KEY_ENCRYPTION_REFUSED',
  'NEG-inner-type-signeddata': 'CMS_TYPE_REFUSED',
  'NEG-iv-empty': 'CMS_CONTENT_ENCRYPTION_REFUSED',
  'NEG-missing-final-eoc': 'CMS_MALFORMED',
  'NEG-oaep-params-empty': 'CMS_KEY_ENCRYPTION_REFUSED',
  'NEG-recipient-version-0': 'CMS_VERSION_REFUSED',
  'NEG-trailing-bytes': 'CMS_MALFORMED',
  'NEG-two-recipients': 'CMS_RECIPIENT_REFUSED',
};

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

describeWithVectors('CiphertextForRecipient vectors', (folder) => {
  const cms = join(folder, 'cms');
  const entries = JSON.parse(readFileSync(join(cms, 'manifest.json'), 'utf8')) as Entry[];
  const bytesOf = (entry: Entry) => Uint8Array.from(readFileSync(join(cms, entry.file)));

  /** A negative may leave out whose key it is for: all of them are made of edgebit.ber. */
  const usual = entries.find((entry) => entry.file === 'edgebit.ber')?.recipient_key_pkcs8_der_base64;

  function recipientOf(entry: Entry) {
    const der = Buffer.from(entry.recipient_key_pkcs8_der_base64 ?? usual ?? '', 'base64');
    const privateKey = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
    return { privateKey, spki: createPublicKey(privateKey).export({ format: 'der', type: 'spki' }) };
  }

  describe('shows its fields', () => {
    it.each(entries.filter((entry) => !entry.expected.includes('reject') && entry.iv))('$file', (entry) => {
      const message = parseEnvelopedData(bytesOf(entry));
      expect(hex(message.recipientKeyId)).toBe(entry.recipient_subjectKeyIdentifier);
      expect(hex(message.iv)).toBe(entry.iv);
      expect(sha256(message.encryptedKey)).toBe(entry.encrypted_key_sha256);
      expect(message.ciphertext.length).toBe(entry.ciphertext_len);
      expect(sha256(message.ciphertext)).toBe(entry.ciphertext_sha256);
    });
  });

  describe('opens', () => {
    const opening = entries.filter(
      (entry) => entry.recipient_key_pkcs8_der_base64 && entry.expected !== 'reject',
    );
    const plaintextSha256 = opening.find((entry) => entry.file === 'edgebit.ber')?.plaintext_sha256;
    it.each(opening)('$file', (entry) => {
      const plaintext = openEnvelopedData(bytesOf(entry), recipientOf(entry));
      if (entry.plaintext_sha256 === undefined) {
        // Legal BER that the vectors leave open: another writing of edgebit.ber.
        expect(entry.expected).toMatch(/^optional/);
        expect(sha256(plaintext)).toBe(plaintextSha256);
      } else {
        expect(plaintext.length).toBe(entry.plaintext_len);
        expect(sha256(plaintext)).toBe(entry.plaintext_sha256);
      }
    });
  });

  describe('refuses', () => {
    it.each(entries.filter((entry) => entry.expected === 'reject'))('$file', (entry) => {
      let code: string | undefined = 'opened';
      try {
        openEnvelopedData(bytesOf(entry), recipientOf(entry));
      } catch (error) {
        code = codeOf(error);
      }
      const name = entry.file.replace(/^.*\/|\.ber$/g, '');
      expect(code).toBe(REASONS[name] ?? expect.stringMatching(/^CMS_/));
    });
  });
});
