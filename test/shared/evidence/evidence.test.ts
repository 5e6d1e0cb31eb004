import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type CborValue, encodeCbor } from '../../../shared/cbor.ts';
import { decodeEvidenceClaims, decodeEvidenceResponse } from '../../../shared/evidence/decode.ts';
import { encodeEvidenceClaims, encodeEvidenceResponse, parseNonce } from '../../../shared/evidence/encode.ts';
import { CLAIMS_MAX_BYTES, type LoadedModel, modelsDigest } from '../../../shared/evidence/evidence.ts';

const filled = (length: number, byte: number): Uint8Array => new Uint8Array(length).fill(byte);
const CLAIMS = {
  purpose: 'tls',
  exporter: filled(32, 1),
  spki: filled(32, 2),
  models: filled(48, 3),
  deployment: filled(48, 4),
};
const claimsMap = (changes: Record<string, CborValue | undefined> = {}): Uint8Array => {
  const members: Record<string, CborValue | undefined> = { v: 1, ...CLAIMS, ...changes };
  return encodeCbor(
    new Map<CborValue, CborValue>(
      Object.entries(members).flatMap(([key, value]) => (value === undefined ? [] : [[key, value]])),
    ),
  );
};
const IRIS: LoadedModel = {
  name: 'iris',
  version: 3,
  manifestSha256: 'a1'.repeat(32),
  contentId: 'b2'.repeat(32),
};
const WINE: LoadedModel = { ...IRIS, name: 'wine', version: 1 };

describe('claims', () => {
  test('what the enclave writes the client reads', () => {
    const bytes = encodeEvidenceClaims(CLAIMS);
    expect(bytes.length).toBeLessThan(CLAIMS_MAX_BYTES);
    expect(decodeEvidenceClaims(bytes)).toEqual(CLAIMS);
    expect(Buffer.from(bytes)).toEqual(Buffer.from(claimsMap()));
  });

  test.each([
    ['no user_data at all', null],
    ['an empty one', new Uint8Array(0)],
    ['more than 512 bytes', claimsMap({ purpose: 'x'.repeat(600) })],
    ['something that is not CBOR', Uint8Array.of(0xff)],
    ['bytes after the map', Buffer.concat([claimsMap(), Uint8Array.of(0)])],
    ['a list', encodeCbor([1])],
    ['another version', claimsMap({ v: 2 })],
    ['a version in text', claimsMap({ v: '1' })],
    ['no version', claimsMap({ v: undefined })],
    ['an unknown key', claimsMap({ extra: 1 })],
    ['a purpose that is no text', claimsMap({ purpose: 1 })],
    ['a long purpose', claimsMap({ purpose: 'x'.repeat(17) })],
    ['no purpose', claimsMap({ purpose: undefined })],
    ['no exporter', claimsMap({ exporter: undefined })],
    ['a short exporter', claimsMap({ exporter: filled(31, 1) })],
    ['a long exporter', claimsMap({ exporter: filled(33, 1) })],
    ['an exporter in text', claimsMap({ exporter: 'x'.repeat(32) })],
    ['a short spki', claimsMap({ spki: filled(31, 1) })],
    ['no spki', claimsMap({ spki: undefined })],
    ['a short models digest', claimsMap({ models: filled(32, 1) })],
    ['no models digest', claimsMap({ models: undefined })],
    ['a short deployment digest', claimsMap({ deployment: filled(32, 1) })],
    ['no deployment digest', claimsMap({ deployment: null })],
  ])('refuses %s', (_what, bytes) => {
    expect(() => decodeEvidenceClaims(bytes)).toThrow(expect.objectContaining({ code: 'EVIDENCE_CLAIMS' }));
  });

  test.each(['exporter', 'spki', 'models', 'deployment'] as const)(
    'are not written with a short %s',
    (name) => {
      expect(() => encodeEvidenceClaims({ ...CLAIMS, [name]: filled(31, 1) })).toThrow(
        expect.objectContaining({ code: 'EVIDENCE_CLAIMS' }),
      );
    },
  );

  test('never fit within 512 bytes with a purpose that does not', () => {
    expect(() => encodeEvidenceClaims({ ...CLAIMS, purpose: 'x'.repeat(512) })).toThrow(/at most 512/);
  });

  test('any bytes are either claims or refused with the code', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), (bytes) => {
        expect(() => decodeEvidenceClaims(bytes)).toThrow(
          expect.objectContaining({ code: 'EVIDENCE_CLAIMS' }),
        );
      }),
      { numRuns: 200 },
    );
  });
});

describe('the digest of the models', () => {
  test('does not depend on their order', () => {
    expect(modelsDigest([IRIS, WINE])).toEqual(modelsDigest([WINE, IRIS]));
  });

  test.each([
    ['name', { name: 'iris2' }],
    ['version', { version: 4 }],
    ['manifest', { manifestSha256: 'a2'.repeat(32) }],
    ['content id', { contentId: 'a2'.repeat(32) }],
  ])('covers the %s', (_what, change) => {
    expect(modelsDigest([{ ...IRIS, ...change }])).not.toEqual(modelsDigest([IRIS]));
  });

  test.each([
    ['no model', []],
    ['a model twice', [IRIS, { ...IRIS, version: 4 }]],
    ['more than sixteen', Array.from({ length: 17 }, (_, i) => ({ ...IRIS, name: `m${i}` }))],
    ['a name that could be a path', [{ ...IRIS, name: '../iris' }]],
    ['version 0', [{ ...IRIS, version: 0 }]],
    ['a version that is no integer', [{ ...IRIS, version: 1.5 }]],
    ['upper-case hex', [{ ...IRIS, contentId: 'B2'.repeat(32) }]],
    ['a short digest', [{ ...IRIS, manifestSha256: 'a1' }]],
  ])('is refused for %s', (_what, models) => {
    expect(() => modelsDigest(models)).toThrow(expect.objectContaining({ code: 'EVIDENCE_MODELS' }));
  });
});

describe('the answer', () => {
  const DOCUMENT = Uint8Array.from({ length: 100 }, (_, i) => i);
  const json = (value: unknown): Uint8Array => Buffer.from(JSON.stringify(value));
  const GOOD = { document: Buffer.from(DOCUMENT).toString('base64'), models: [IRIS] };

  test('what the enclave writes the client reads', () => {
    const { untrustedDocument, untrustedModels } = decodeEvidenceResponse(
      encodeEvidenceResponse(DOCUMENT, [WINE, IRIS]),
    );
    expect(new Uint8Array(untrustedDocument)).toEqual(DOCUMENT);
    expect(untrustedModels).toEqual([IRIS, WINE]);
  });

  test.each([
    ['nothing', new Uint8Array(0)],
    ['something that is not JSON', Buffer.from('<html>')],
    ['a list', json([])],
    ['a member twice', Buffer.from(`{"document":"AAAA","document":"AAAA","models":[]}`)],
    ['an unknown member', json({ ...GOOD, extra: 1 })],
    ['no document', json({ models: [IRIS] })],
    ['no models', json({ document: GOOD.document })],
    ['a document that is no string', json({ ...GOOD, document: 1 })],
    ['an empty document', json({ ...GOOD, document: '' })],
    ['base64 with a space', json({ ...GOOD, document: `AA AA` })],
    ['base64 without padding', json({ ...GOOD, document: 'AAA' })],
    ['base64 with loose bits', json({ ...GOOD, document: 'AAB=' })],
    ['base64url', json({ ...GOOD, document: '____' })],
    ['models that are no list', json({ ...GOOD, models: {} })],
    ['a model with an unknown member', json({ ...GOOD, models: [{ ...IRIS, extra: 1 }] })],
    ['a model without a member', json({ ...GOOD, models: [{ name: 'iris' }] })],
    ['a version in text', json({ ...GOOD, models: [{ ...IRIS, version: '3' }] })],
    ['more than 64 KiB', json({ ...GOOD, document: 'A'.repeat(64 * 1024) })],
  ])('is refused with %s', (_what, bytes) => {
    expect(() => decodeEvidenceResponse(bytes)).toThrow(
      expect.objectContaining({ code: 'EVIDENCE_RESPONSE' }),
    );
  });

  test.each([
    ['no model', []],
    ['models out of order', [WINE, IRIS]],
    ['a model twice', [IRIS, IRIS]],
    ['a malformed digest', [{ ...IRIS, contentId: 'zz' }]],
  ])('is refused with %s', (_what, models) => {
    expect(() => decodeEvidenceResponse(json({ ...GOOD, models }))).toThrow(
      expect.objectContaining({ code: 'EVIDENCE_MODELS' }),
    );
  });
});

describe('the nonce', () => {
  test('is 32 bytes in base64url', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (nonce) => {
        expect(new Uint8Array(parseNonce(Buffer.from(nonce).toString('base64url')))).toEqual(nonce);
      }),
      { numRuns: 50 },
    );
  });

  test.each([
    ['missing', null],
    ['empty', ''],
    ['too short', 'A'.repeat(42)],
    ['too long', 'A'.repeat(44)],
    ['padded', `${'A'.repeat(43)}=`],
    ['in plain base64', `${'A'.repeat(42)}+`],
    ['spelled with loose bits', `${'A'.repeat(42)}B`],
  ])('is refused when %s', (_what, text) => {
    expect(() => parseNonce(text)).toThrow(expect.objectContaining({ code: 'EVIDENCE_NONCE' }));
  });
});
