import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { AWS_NITRO_ROOT_G1_SHA256, awsNitroAnchor } from '../../../shared/attestation/anchors.ts';
import { readCertificate } from '../../../shared/attestation/certificate.ts';
import { isDebugImage } from '../../../shared/attestation/expect.ts';
import { parseAttestationDocument } from '../../../shared/attestation/parse.ts';
import { verifyAttestationDocument } from '../../../shared/attestation/verify.ts';
import { describeWithVectors } from '../../vectors.ts';
import { buildDocument } from './build.ts';
import { codeFor } from './code.ts';

interface Entry {
  readonly file: string;
  readonly expected: 'valid' | 'invalid';
  readonly module_id: string;
  readonly timestamp: number;
  readonly payload_map: 'definite' | 'indefinite';
  readonly pcr_count: number;
  readonly pcrs_nonzero: Readonly<Record<string, string>>;
  readonly debug_mode: boolean;
  readonly public_key: Blob | null;
  readonly user_data: Blob | null;
  readonly nonce: Blob | null;
}
interface Blob {
  readonly len: number;
  readonly sha256: string;
}

const anchors = [awsNitroAnchor()];
const said = (blob: Blob | null): Blob | null => blob && { len: blob.len, sha256: blob.sha256 };
const summary = (bytes: Uint8Array | null): Blob | null =>
  bytes && { len: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') };

describeWithVectors('documents that AWS hardware signed', (folder) => {
  const place = join(folder, 'attestation');
  const manifest = JSON.parse(readFileSync(join(place, 'manifest.json'), 'utf8')) as Entry[];
  const read = (file: string) => new Uint8Array(readFileSync(join(place, file)));
  const valid = manifest.filter((entry) => entry.expected === 'valid');

  it('are many, of both forms, with and without debug mode', () => {
    expect(valid.length).toBeGreaterThanOrEqual(24);
    expect(new Set(valid.map((entry) => entry.payload_map)).size).toBe(2);
    expect(new Set(valid.map((entry) => entry.debug_mode)).size).toBe(2);
  });

  describe.each(valid.map((entry) => [entry.file, entry] as const))('%s', (file, entry) => {
    const document = parseAttestationDocument(read(file));
    const at = new Date(entry.timestamp);

    it('is genuine at its own time, with the fields that others read in it', () => {
      const { fields, trust } = verifyAttestationDocument(document, { anchors, at });
      expect(trust).toBe('aws-nitro');
      expect(fields.moduleId).toBe(entry.module_id);
      expect(fields.timestampMs).toBe(entry.timestamp);
      expect(fields.pcrs.size).toBe(entry.pcr_count);
      for (const [index, value] of fields.pcrs) {
        expect(Buffer.from(value).toString('hex')).toBe(entry.pcrs_nonzero[index] ?? '00'.repeat(48));
      }
      expect(isDebugImage(fields)).toBe(entry.debug_mode);
      expect(summary(fields.publicKey)).toEqual(said(entry.public_key));
      expect(summary(fields.userData)).toEqual(said(entry.user_data));
      expect(summary(fields.nonce)).toEqual(said(entry.nonce));
    });

    it('is refused before and after the life of each of its certificates', () => {
      const ders = [...document.untrusted.cabundle, document.untrusted.certificate];
      for (const { name, notBefore, notAfter } of ders.map((der) => readCertificate(der, 'certificate'))) {
        const before = new Date(notBefore.getTime() - 1);
        const after = new Date(notAfter.getTime() + 1);
        expect(
          codeFor(() => verifyAttestationDocument(document, { anchors, at: before })),
          name,
        ).toBe('ATTESTATION_NOT_YET_VALID');
        expect(
          codeFor(() => verifyAttestationDocument(document, { anchors, at: after })),
          name,
        ).toMatch(/^ATTESTATION_(EXPIRED|NOT_YET_VALID)$/);
      }
    });

    it('is refused where only a simulation is trusted', () => {
      const { anchor } = buildDocument();
      expect(codeFor(() => verifyAttestationDocument(document, { anchors: [anchor], at }))).toBe(
        'ATTESTATION_UNTRUSTED_ROOT',
      );
    });
  });

  it.each([
    ['NEG-veracruz-2022-11-09-badsig.cbor', 'ATTESTATION_SIGNATURE'],
    ['NEG-blocky-selfsigned.cbor', 'ATTESTATION_UNPROTECTED_HEADER'],
    ['NEG-base-2026-01-03-corrupt.cbor', 'CBOR_MALFORMED'],
  ])('%s is refused with %s', (file, code) => {
    expect(verdict(read(file))).toBe(code);
  });

  it.each([
    ['alg-es256.cbor', 'ATTESTATION_ALGORITHM'],
    ['alg-only-unprotected.cbor', 'ATTESTATION_ALGORITHM'],
    ['indefinite-reencoded-definite.cbor', 'ATTESTATION_SIGNATURE'],
    ['outer-array-indefinite.cbor', 'ATTESTATION_STRUCTURE'],
    ['payload-len-nonminimal.cbor', 'CBOR_NOT_MINIMAL'],
    ['payload-pcr0-bitflip.cbor', 'ATTESTATION_SIGNATURE'],
    ['signature-97-bytes.cbor', 'ATTESTATION_SIGNATURE_LENGTH'],
    ['signature-der.cbor', 'ATTESTATION_SIGNATURE_LENGTH'],
    ['signature-negated-s.cbor', undefined],
    ['signature-r-equals-n.cbor', 'ATTESTATION_SIGNATURE_RANGE'],
    ['tag98.cbor', 'ATTESTATION_TAG'],
    ['tagged18.cbor', undefined],
    ['trailing-byte.cbor', 'CBOR_TRAILING_BYTES'],
    ['unprotected-nonempty.cbor', 'ATTESTATION_UNPROTECTED_HEADER'],
  ])('derived/%s: %s', (file, code) => {
    expect(verdict(read(join('derived', file)))).toBe(code);
  });

  it('the embedded root is the published one', () => {
    const published = read('AWS_NitroEnclaves_Root-G1.der');
    expect(Buffer.from(awsNitroAnchor().certificate).equals(published)).toBe(true);
    expect(createHash('sha256').update(published).digest('hex')).toBe(AWS_NITRO_ROOT_G1_SHA256);
  });
});

/** The code with which a document is refused at its own time. */
function verdict(bytes: Uint8Array): string | undefined {
  return codeFor(() => {
    const document = parseAttestationDocument(bytes);
    verifyAttestationDocument(document, { anchors, at: new Date(document.untrusted.timestampMs) });
  });
}
