/** Differential: what the writer writes, OpenSSL opens; what OpenSSL writes in this form, the reader opens. */
import { execFileSync } from 'node:child_process';
import { createPublicKey, generateKeyPairSync, randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readBer } from '../../../shared/asn1.ts';
import { openEnvelopedData } from '../../../shared/cms/read.ts';
import { sealEnvelopedData } from '../../../shared/cms/write.ts';
import { BER_FORMS, editable, inBer } from './ber-forms.ts';

function opensslVersion(): string | undefined {
  try {
    return execFileSync('openssl', ['version'], { encoding: 'utf8' });
  } catch {
    return undefined;
  }
}

describe.skipIf(opensslVersion() === undefined)(
  'OpenSSL agrees (skipped where openssl is not installed)',
  () => {
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const spki = createPublicKey(privateKey).export({ format: 'der', type: 'spki' });
    let folder = '';

    beforeAll(() => {
      folder = mkdtempSync(join(tmpdir(), 'strongroom-cms-'));
      writeFileSync(join(folder, 'key.pem'), privateKey.export({ format: 'pem', type: 'pkcs8' }), {
        mode: 0o600,
      });
    });
    afterAll(() => rmSync(folder, { recursive: true, force: true }));

    const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' });

    for (const shape of ['constructed', 'primitive'] as const) {
      for (const size of [0, 1, 16, 32, 154, 2400]) {
        it(`opens ${size} bytes in the ${shape} shape`, () => {
          const plaintext = randomBytes(size);
          writeFileSync(
            join(folder, 'message.ber'),
            sealEnvelopedData(plaintext, spki, { shape, pieceBytes: 500 }),
          );
          openssl(...'cms -decrypt -inform DER -in message.ber -inkey key.pem -out opened'.split(' '));
          expect(readFileSync(join(folder, 'opened')).equals(plaintext)).toBe(true);
        });
      }
    }

    // OpenSSL 3.0 opens long lengths everywhere but inside the OAEP parameters.
    const forms = BER_FORMS.filter(([name]) => name !== 'every length in four octets');
    it.each(forms)('opens, as the reader does, BER with %s', (_, form) => {
      const plaintext = randomBytes(100);
      const tree = editable(readBer(sealEnvelopedData(plaintext, spki, { pieceBytes: 24 })));
      const message = inBer(tree, form);
      writeFileSync(join(folder, 'message.ber'), message);
      openssl(...'cms -decrypt -inform DER -in message.ber -inkey key.pem -out opened'.split(' '));
      expect(readFileSync(join(folder, 'opened')).equals(plaintext)).toBe(true);
      expect(Buffer.from(openEnvelopedData(message, { privateKey, spki })).equals(plaintext)).toBe(true);
    });

    it('and its own message opens here, but for the recipient id, which OpenSSL takes from the certificate', () => {
      // A certificate whose subjectKeyIdentifier is SHA-256 of the SPKI, as KMS addresses an attested key.
      const id = execFileSync('openssl', ['dgst', '-sha256', '-r'], { input: spki, encoding: 'utf8' }).slice(
        0,
        64,
      );
      writeFileSync(
        join(folder, 'cert.cnf'),
        `[req]\ndistinguished_name=dn\nx509_extensions=ext\nprompt=no\n[dn]\nCN=recipient\n[ext]\nsubjectKeyIdentifier=${id}\n`,
      );
      openssl('req', '-x509', '-key', 'key.pem', '-config', 'cert.cnf', '-days', '1', '-out', 'cert.pem');
      const plaintext = randomBytes(100);
      writeFileSync(join(folder, 'plain'), plaintext);
      openssl(
        ...[
          'cms',
          '-encrypt',
          '-binary',
          '-in',
          'plain',
          '-outform',
          'DER',
          '-out',
          'message.der',
          '-aes-256-cbc',
        ],
        ...['-keyid', '-recip', 'cert.pem', '-keyopt', 'rsa_padding_mode:oaep'],
        ...['-keyopt', 'rsa_oaep_md:sha256', '-keyopt', 'rsa_mgf1_md:sha256'],
      );
      const opened = openEnvelopedData(readFileSync(join(folder, 'message.der')), { privateKey, spki });
      expect(Buffer.from(opened).equals(plaintext)).toBe(true);
    });
  },
);
