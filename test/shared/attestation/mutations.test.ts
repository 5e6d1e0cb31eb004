/** Real documents, changed in every way that a courier could change them. One signature covers too little: the rest is here. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { awsNitroAnchor } from '../../../shared/attestation/anchors.ts';
import { parseAttestationDocument } from '../../../shared/attestation/parse.ts';
import { verifyAttestationDocument } from '../../../shared/attestation/verify.ts';
import { type CborValue, decodeCbor, encodeCbor } from '../../../shared/cbor.ts';
import { describeWithVectors } from '../../vectors.ts';
import { codeFor } from './code.ts';

const anchors = [awsNitroAnchor()];
const HEAD_BYTES = 10;
const SIGNATURE_AND_ITS_HEAD_BYTES = 98;

describeWithVectors('a real document that was changed on its way', (folder) => {
  describe.each(['blocky-2024-09-07-maxfields.cbor', 'dstack-2025-12-25-indefinite-a.cbor'])('%s', (file) => {
    const real = new Uint8Array(readFileSync(join(folder, 'attestation', file)));
    const at = new Date(parseAttestationDocument(real).untrusted.timestampMs);
    const verdict = (bytes: Uint8Array) =>
      codeFor(() => verifyAttestationDocument(parseAttestationDocument(bytes), { anchors, at }));

    it('is genuine as it stands', () => {
      expect(verdict(real)).toBeUndefined();
    });

    it('is refused cut anywhere', () => {
      for (let length = 0; length < real.length; length++) {
        expect(verdict(real.subarray(0, length)), `${length} bytes`).toBe('CBOR_MALFORMED');
      }
    });

    it('is refused with any other byte in its head: that has one spelling', () => {
      for (let at = 0; at < HEAD_BYTES; at++) {
        for (let value = 0; value < 256; value++) {
          if (value === real[at]) continue;
          expect(verdict(with1(real, at, value)), `${value} at ${at}`).toMatch(/^(ATTESTATION|CBOR)_/);
        }
      }
    });

    it('is refused with a changed bit in the payload or the signature', () => {
      const end = real.length - SIGNATURE_AND_ITS_HEAD_BYTES;
      const places = [
        ...Array.from({ length: 260 }, (_, i) => HEAD_BYTES + i * Math.floor((end - HEAD_BYTES) / 260)),
        ...Array.from({ length: SIGNATURE_AND_ITS_HEAD_BYTES }, (_, i) => end + i),
      ];
      for (const place of places) {
        const changed = with1(real, place, (real[place] as number) ^ (1 << (place % 8)));
        expect(verdict(changed), `bit at ${place}`).toMatch(/^(ATTESTATION|CBOR)_/);
      }
    });

    it('is refused with a byte put in or left out', () => {
      for (let place = 0; place < real.length; place += 41) {
        const longer = Buffer.concat([real.subarray(0, place), Buffer.of(0xff), real.subarray(place)]);
        const shorter = Buffer.concat([real.subarray(0, place), real.subarray(place + 1)]);
        for (const bytes of [longer, shorter]) expect(verdict(bytes)).toMatch(/^(ATTESTATION|CBOR)_/);
      }
    });

    type Change = (fields: Map<CborValue, CborValue>, bundle: CborValue[]) => void;
    const leafOf = (fields: Map<CborValue, CborValue>) => fields.get('certificate') as CborValue;
    it.each<[string, string, Change]>([
      ['bundle in reverse', 'ATTESTATION_UNTRUSTED_ROOT', (_, bundle) => void bundle.reverse()],
      ['bundle without its root', 'ATTESTATION_UNTRUSTED_ROOT', (_, bundle) => void bundle.shift()],
      ['bundle of the leaf alone', 'ATTESTATION_UNTRUSTED_ROOT', (f, b) => void b.splice(0, 4, leafOf(f))],
      ['bundle of the root alone', 'ATTESTATION_ISSUER', (_, bundle) => void bundle.splice(1)],
      ['bundle without the region', 'ATTESTATION_ISSUER', (_, bundle) => void bundle.splice(1, 1)],
      ['bundle without the instance', 'ATTESTATION_ISSUER', (_, bundle) => void bundle.pop()],
      // A root issues itself, so that the chain holds; the payload is still not what was signed.
      ['root twice', 'ATTESTATION_SIGNATURE', (_, b) => void b.unshift(b[0] as CborValue)],
      ['instance twice', 'ATTESTATION_ISSUER', (_, b) => void b.push(b[3] as CborValue)],
      ['leaf in the bundle as well', 'ATTESTATION_ISSUER', (f, b) => void b.push(leafOf(f))],
      [
        'zone and region swapped',
        'ATTESTATION_ISSUER',
        (_, b) => void b.splice(1, 2, b[2] as CborValue, b[1] as CborValue),
      ],
      ['nine certificates', 'ATTESTATION_CERTIFICATE_FIELDS', (_, b) => void b.push(...b, b[0] as CborValue)],
      ['an empty bundle', 'ATTESTATION_CERTIFICATE_FIELDS', (_, bundle) => void bundle.splice(0)],
      [
        'instance as leaf',
        'ATTESTATION_CERTIFICATE_AUTHORITY',
        (f, b) => void f.set('certificate', b.pop() as CborValue),
      ],
      ['another digest', 'ATTESTATION_DIGEST', (fields) => void fields.set('digest', 'SHA512')],
      [
        'NitroTPM registers',
        'ATTESTATION_NITRO_TPM',
        (f) => void f.set('nitrotpm_pcrs', f.get('pcrs') as CborValue),
      ],
      [
        'module of a NitroTPM',
        'ATTESTATION_NITRO_TPM',
        (f) => void f.set('module_id', 'i-0123456789abcdef0-tpm0123456789abcdef'),
      ],
      [
        'timestamp in seconds',
        'ATTESTATION_TIMESTAMP_OUTSIDE',
        (f) => void f.set('timestamp', Math.floor(at.getTime() / 1000)),
      ],
      ['another nonce', 'ATTESTATION_SIGNATURE', (fields) => void fields.set('nonce', new Uint8Array(32))],
      [
        'one register more',
        'ATTESTATION_SIGNATURE',
        (f) => void (f.get('pcrs') as Map<CborValue, CborValue>).set(31, new Uint8Array(48)),
      ],
    ])('is refused with %s: %s', (_, code, change) => {
      const [header, unprotected, payload, signature] = decodeCbor(real) as CborValue[];
      const fields = decodeCbor(payload as Uint8Array) as Map<CborValue, CborValue>;
      change(fields, fields.get('cabundle') as CborValue[]);
      const changed = [header, unprotected, encodeCbor(fields), signature] as CborValue[];
      expect(verdict(encodeCbor(changed))).toBe(code);
    });

    it('is genuine under tag 18, and under no other and not twice', () => {
      expect(verdict(Buffer.concat([Buffer.of(0xd2), real]))).toBeUndefined();
      for (const tag of ['d1', 'd2d2', 'd812', 'd83d', 'd90012', 'd9d9f7']) {
        expect(verdict(Buffer.concat([Buffer.from(tag, 'hex'), real])), tag).toMatch(
          /^(ATTESTATION_TAG|CBOR_REFUSED)$/,
        );
      }
    });
  });
});

function with1(bytes: Uint8Array, at: number, value: number): Uint8Array {
  const changed = Uint8Array.from(bytes);
  changed[at] = value;
  return changed;
}
