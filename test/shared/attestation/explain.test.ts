import { expect, it } from 'vitest';
import { CHECKS } from '../../../shared/attestation/checks.ts';
import type { AttestationExpectations } from '../../../shared/attestation/expect.ts';
import { explainAttestation } from '../../../shared/attestation/explain.ts';
import { codeOf } from '../../../shared/errors.ts';
import {
  buildDocument,
  type DocumentParts,
  encodeCertificate,
  keyPair,
  NOW,
  name,
  utcTime,
} from './build.ts';

const ANY: AttestationExpectations = {
  pcrs: { 0: 'any', 16: 'any' },
  nonce: 'any',
  maxAgeMs: 'any',
  at: NOW,
};
const explain = (change?: (parts: DocumentParts) => void, expectations: AttestationExpectations = ANY) => {
  const { bytes, anchor } = buildDocument(change);
  return explainAttestation(bytes, () => ({ anchors: [anchor], at: NOW }), expectations);
};

it('every check passes for the wanted document, in the order of the list', () => {
  const { checks, error, verified } = explain();
  expect(error).toBeUndefined();
  expect(verified?.trust).toBe('simulation');
  expect(checks.map(({ check, outcome }) => [check, outcome])).toEqual(
    CHECKS.map(({ id }) => [id, 'passed']),
  );
});

it('expectations that were not given are not asked', () => {
  const { bytes, anchor } = buildDocument();
  const { checks } = explainAttestation(bytes, () => ({ anchors: [anchor], at: NOW }));
  expect(checks.filter(({ outcome }) => outcome === 'not-asked').map(({ step }) => step)).toEqual(
    CHECKS.filter(({ step }) => step === 'expected').map(({ step }) => step),
  );
});

it.each<[string, (parts: DocumentParts) => void, string]>([
  [
    'size',
    (parts) => {
      parts.finished = () => new Uint8Array(20_000);
    },
    'ATTESTATION_TOO_LARGE',
  ],
  [
    'cbor',
    (parts) => {
      parts.finished = (bytes) => Uint8Array.of(...bytes, 0);
    },
    'CBOR_TRAILING_BYTES',
  ],
  [
    'cose',
    (parts) => {
      parts.finished = () => Uint8Array.of(0x80);
    },
    'ATTESTATION_STRUCTURE',
  ],
  [
    'algorithm',
    (parts) => {
      parts.protectedHeader = new Uint8Array(0);
    },
    'ATTESTATION_ALGORITHM',
  ],
  [
    'unprotected-header',
    (parts) => {
      parts.unprotectedHeader = Uint8Array.of(0xf6);
    },
    'ATTESTATION_UNPROTECTED_HEADER',
  ],
  [
    'signature-length',
    (parts) => {
      parts.signature = () => new Uint8Array(95);
    },
    'ATTESTATION_SIGNATURE_LENGTH',
  ],
  ['payload', (parts) => void parts.payload.delete('digest'), 'ATTESTATION_FIELD_MISSING'],
  ['enclave', (parts) => void parts.payload.set('module_id', 'i-0-tpm0'), 'ATTESTATION_NITRO_TPM'],
  ['fields', (parts) => void parts.payload.set('digest', 'SHA512'), 'ATTESTATION_DIGEST'],
  [
    'root',
    (parts) => void parts.payload.set('cabundle', [encodeCertificate(parts.chain[1])]),
    'ATTESTATION_UNTRUSTED_ROOT',
  ],
  [
    'certificates',
    (parts) => {
      parts.chain[4].finished = (der) => der.subarray(1);
    },
    'ATTESTATION_CERTIFICATE_MALFORMED',
  ],
  [
    'issuers',
    (parts) => {
      parts.chain[4].issuer = name('x');
    },
    'ATTESTATION_ISSUER',
  ],
  [
    'validity',
    (parts) => {
      parts.chain[4].notAfter = utcTime('260101000000Z');
    },
    'ATTESTATION_EXPIRED',
  ],
  [
    'authorities',
    (parts) => {
      parts.chain[2].extensions.shift();
    },
    'ATTESTATION_CERTIFICATE_AUTHORITY',
  ],
  [
    'key-usage',
    (parts) => {
      parts.chain[2].extensions.splice(1, 1);
    },
    'ATTESTATION_KEY_USAGE',
  ],
  ['timestamp', (parts) => void parts.payload.set('timestamp', 1), 'ATTESTATION_TIMESTAMP_OUTSIDE'],
  [
    'certificate-signatures',
    (parts) => {
      parts.chain[3].signedBy = keyPair().privateKey;
    },
    'ATTESTATION_CERTIFICATE_SIGNATURE',
  ],
  [
    'signature',
    (parts) => {
      parts.signedBy = keyPair().privateKey;
    },
    'ATTESTATION_SIGNATURE',
  ],
])(
  'a fault of %s fails that check: those before passed, those after were not reached',
  (check, change, code) => {
    const { checks, error } = explain(change);
    expect(codeOf(error)).toBe(code);
    const at = checks.findIndex((result) => result.check === check);
    expect(checks.map(({ outcome }) => outcome)).toEqual(
      checks.map((_, i) => (i < at ? 'passed' : i === at ? 'failed' : 'not-reached')),
    );
    expect(checks[at]?.detail).toBe(error?.message);
  },
);

it.each<[string, Partial<AttestationExpectations>]>([
  ['age', { at: new Date(NOW.getTime() + 2), maxAgeMs: 1 }],
  ['nonce', { nonce: Uint8Array.of(1) }],
  ['public-key', { publicKey: Uint8Array.of(1) }],
  ['pcrs', { pcrs: { 0: 'ab'.repeat(48), 16: 'any' } }],
])('an unmet expectation of %s fails that check', (check, expectations) => {
  const { checks, verified } = explain(undefined, { ...ANY, ...expectations });
  expect(verified).toBeDefined();
  expect(checks.find(({ outcome }) => outcome === 'failed')?.check).toBe(check);
});

it('never throws away an error that is not about the document', () => {
  const { bytes } = buildDocument();
  expect(() =>
    explainAttestation(bytes, () => {
      throw new RangeError('a bug');
    }),
  ).toThrow(RangeError);
});
