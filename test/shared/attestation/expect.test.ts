import { describe, expect, it } from 'vitest';
import {
  AcceptedDocument,
  type AttestationExpectations,
  expectAttestation,
  isDebugImage,
  type PcrExpectations,
} from '../../../shared/attestation/expect.ts';
import { FUTURE_TOLERANCE_MS } from '../../../shared/attestation/limits.ts';
import { parseAttestationDocument } from '../../../shared/attestation/parse.ts';
import { type VerifiedDocument, verifyAttestationDocument } from '../../../shared/attestation/verify.ts';
import type { CborValue } from '../../../shared/cbor.ts';
import { buildDocument, type DocumentParts, NOW } from './build.ts';
import { codeFor } from './code.ts';

const verified = (change?: (parts: DocumentParts) => void): VerifiedDocument => {
  const { bytes, anchor } = buildDocument(change);
  return verifyAttestationDocument(parseAttestationDocument(bytes), { anchors: [anchor], at: NOW });
};
const pcrsOf = (parts: DocumentParts) => parts.payload.get('pcrs') as Map<CborValue, CborValue>;
const hex = (document: VerifiedDocument, index: number) =>
  Buffer.from(document.fields.pcrs.get(index) ?? []).toString('hex');

const document = verified();
const ANY: AttestationExpectations = {
  pcrs: { 0: 'any', 16: 'any' },
  nonce: 'any',
  maxAgeMs: 'any',
  at: NOW,
};
const expectCode = (expectations: Partial<AttestationExpectations>, of = document) =>
  codeFor(() => expectAttestation(of, { ...ANY, ...expectations }));
const pcrCode = (pcrs: unknown, of = document) => expectCode({ pcrs: pcrs as PcrExpectations }, of);
const OTHER = 'ab'.repeat(48);

describe('the wanted enclave', () => {
  it('is accepted', () => {
    const accepted = expectAttestation(document, {
      pcrs: { 0: hex(document, 0), 16: [OTHER, hex(document, 16)], 4: hex(document, 4).toUpperCase() },
      nonce: Uint8Array.of(4, 5, 6),
      maxAgeMs: 1000,
      at: NOW,
    });
    expect(accepted.trust).toBe('simulation');
    expect(accepted.fields).toBe(document.fields);
    expect(accepted.notAfter).toBe(document.notAfter);
  });

  it('is accepted without expectations only where each is spelled "any"', () => {
    expect(expectCode({})).toBeUndefined();
  });
});

describe('expectations that are no expectations are errors', () => {
  it.each<[string, unknown]>([
    ['none at all', {}],
    ['PCR0 missing', { 16: 'any' }],
    ['PCR16 missing', { 0: 'any' }],
    ['PCR0 undefined', { 0: undefined, 16: 'any' }],
    ['PCR0 inherited, not given', Object.create({ 0: 'any', 16: 'any' })],
    ['an empty list', { 0: [], 16: 'any' }],
    ['an empty text', { 0: '', 16: 'any' }],
    ['a value that is too short', { 0: 'ab'.repeat(47), 16: 'any' }],
    ['a value that is too long', { 0: 'ab'.repeat(49), 16: 'any' }],
    ['a value with 0x', { 0: `0x${'ab'.repeat(47)}`, 16: 'any' }],
    ['a value with a blank', { 0: ` ${'ab'.repeat(48)}`, 16: 'any' }],
    ['"any" inside a list', { 0: [OTHER, 'any'], 16: 'any' }],
    ['"ANY"', { 0: 'ANY', 16: 'any' }],
    ['all zeros', { 0: '00'.repeat(48), 16: 'any' }],
    ['all zeros inside a list', { 0: [OTHER, '00'.repeat(48)], 16: 'any' }],
    ['all zeros for another register', { 0: 'any', 16: 'any', 8: '00'.repeat(48) }],
    ['PCR32', { 0: 'any', 16: 'any', 32: 'any' }],
    ['PCR00', { 0: 'any', 16: 'any', '00': OTHER }],
    ['a register by name', { 0: 'any', 16: 'any', pcr1: OTHER }],
    ['bytes', { 0: new Uint8Array(48), 16: 'any' }],
    ['null', { 0: null, 16: 'any' }],
  ])('registers: %s', (_what, pcrs) => {
    expect(pcrCode(pcrs)).toBe('ATTESTATION_EXPECTATION_UNUSABLE');
  });

  it.each<[string, Partial<Record<keyof AttestationExpectations, unknown>>]>([
    ['an empty nonce', { nonce: new Uint8Array(0) }],
    ['a nonce in text', { nonce: '040506' }],
    ['no nonce', { nonce: undefined }],
    ['a negative age', { maxAgeMs: -1 }],
    ['an age that is no number', { maxAgeMs: Number.NaN }],
    ['an endless age', { maxAgeMs: Number.POSITIVE_INFINITY }],
    ['no age', { maxAgeMs: undefined }],
    ['no time', { at: new Date(Number.NaN) }],
    ['an empty public key', { publicKey: new Uint8Array(0) }],
  ])('%s', (_what, expectations) => {
    expect(expectCode(expectations as Partial<AttestationExpectations>)).toBe(
      'ATTESTATION_EXPECTATION_UNUSABLE',
    );
  });
});

describe('4.2 debug images', () => {
  const debug = verified((parts) => {
    for (const index of [0, 1, 2]) pcrsOf(parts).set(index, new Uint8Array(48));
  });

  it('are refused, whatever is expected', () => {
    expect(isDebugImage(debug.fields)).toBe(true);
    expect(pcrCode({ 0: 'any', 16: 'any' }, debug)).toBe('ATTESTATION_DEBUG_IMAGE');
    expect(pcrCode({ 0: OTHER, 16: 'any' }, debug)).toBe('ATTESTATION_DEBUG_IMAGE');
  });

  it.each([0, 1, 2])('are suspected where PCR%i alone is zero', (index) => {
    const odd = verified((parts) => void pcrsOf(parts).set(index, new Uint8Array(48)));
    expect(pcrCode({ 0: 'any', 16: 'any' }, odd)).toBe('ATTESTATION_DEBUG_IMAGE');
  });

  it.each([0, 1, 2])('cannot hide by leaving PCR%i out', (index) => {
    const odd = verified((parts) => void pcrsOf(parts).delete(index));
    expect(pcrCode({ 0: 'any', 16: 'any' }, odd)).toBe('ATTESTATION_PCR_MISSING');
  });

  it('are not meant by a zero register elsewhere', () => {
    expect(isDebugImage(document.fields)).toBe(false);
  });
});

describe('4.3 age', () => {
  const at = (ms: number) => new Date(NOW.getTime() + ms);

  it('is measured from the timestamp, ends included', () => {
    expect(expectCode({ maxAgeMs: 1000, at: at(1000) })).toBeUndefined();
    expect(expectCode({ maxAgeMs: 1000, at: at(1001) })).toBe('ATTESTATION_TOO_OLD');
    expect(expectCode({ maxAgeMs: 0, at: at(0) })).toBeUndefined();
  });

  it('may be negative by the tolerance for clocks and no more, also where any age will do', () => {
    expect(expectCode({ at: at(-FUTURE_TOLERANCE_MS) })).toBeUndefined();
    expect(expectCode({ at: at(-FUTURE_TOLERANCE_MS - 1) })).toBe('ATTESTATION_FROM_FUTURE');
    expect(expectCode({ maxAgeMs: 1000, at: at(-FUTURE_TOLERANCE_MS - 1) })).toBe('ATTESTATION_FROM_FUTURE');
  });
});

describe('4.4 nonce', () => {
  it('must be the very bytes', () => {
    expect(expectCode({ nonce: Uint8Array.of(4, 5, 6) })).toBeUndefined();
    expect(expectCode({ nonce: Uint8Array.of(4, 5, 7) })).toBe('ATTESTATION_NONCE_MISMATCH');
    expect(expectCode({ nonce: Uint8Array.of(4, 5) })).toBe('ATTESTATION_NONCE_MISMATCH');
    expect(expectCode({ nonce: Uint8Array.of(4, 5, 6, 0) })).toBe('ATTESTATION_NONCE_MISMATCH');
  });

  it.each([null, new Uint8Array(0)])('that the document lacks is refused (%j)', (nonce) => {
    const without = verified((parts) => void parts.payload.set('nonce', nonce));
    expect(expectCode({ nonce: Uint8Array.of(4, 5, 6) }, without)).toBe('ATTESTATION_NONCE_MISMATCH');
  });
});

describe('4.5 public key', () => {
  it('must be the very bytes where it is expected', () => {
    const withKey = verified((parts) => void parts.payload.set('public_key', Uint8Array.of(7, 8)));
    expect(expectCode({ publicKey: Uint8Array.of(7, 8) }, withKey)).toBeUndefined();
    expect(expectCode({ publicKey: Uint8Array.of(7, 9) }, withKey)).toBe('ATTESTATION_PUBLIC_KEY_MISMATCH');
    expect(expectCode({ publicKey: Uint8Array.of(7, 8) })).toBe('ATTESTATION_PUBLIC_KEY_MISMATCH');
  });
});

describe('4.6 registers', () => {
  it.each([0, 1, 2, 4, 16])('PCR%i of another value is refused', (index) => {
    expect(pcrCode({ 0: 'any', 16: 'any', [index]: OTHER })).toBe('ATTESTATION_PCR_MISMATCH');
    expect(pcrCode({ 0: 'any', 16: 'any', [index]: [OTHER, 'cd'.repeat(48)] })).toBe(
      'ATTESTATION_PCR_MISMATCH',
    );
    expect(pcrCode({ 0: 'any', 16: 'any', [index]: hex(document, index) })).toBeUndefined();
  });

  it('a zero register is not what was expected', () => {
    expect(pcrCode({ 0: 'any', 16: 'any', 8: OTHER })).toBe('ATTESTATION_PCR_MISMATCH');
  });

  it('a register that is missing is refused: it was not locked', () => {
    const unlocked = verified((parts) => void pcrsOf(parts).delete(16));
    expect(pcrCode({ 0: 'any', 16: hex(document, 16) }, unlocked)).toBe('ATTESTATION_PCR_MISSING');
    expect(pcrCode({ 0: 'any', 16: 'any' }, unlocked)).toBeUndefined();
    expect(pcrCode({ 0: 'any', 16: 'any', 17: OTHER })).toBe('ATTESTATION_PCR_MISSING');
  });

  it('one value fits one register: another register of that value does not count', () => {
    expect(pcrCode({ 0: hex(document, 16), 16: hex(document, 0) })).toBe('ATTESTATION_PCR_MISMATCH');
  });
});

describe('an AcceptedDocument comes from expectAttestation only', () => {
  it('also at run time', () => {
    const Forged = AcceptedDocument as unknown as new (...args: unknown[]) => AcceptedDocument;
    expect(() => new Forged(Symbol('accepted in this module'), document)).toThrow(TypeError);
    expect(AcceptedDocument.isGenuine(document)).toBe(false);
    expect(AcceptedDocument.isGenuine(expectAttestation(document, ANY))).toBe(true);
  });

  it('and only from documents that were verified', () => {
    const { bytes } = buildDocument();
    const parsed = parseAttestationDocument(bytes);
    const forged = {
      fields: parsed.untrusted,
      trust: 'aws-nitro',
      notAfter: NOW,
    } as unknown as VerifiedDocument;
    expect(expectCode({}, forged)).toBe('ATTESTATION_NOT_VERIFIED');
  });
});
