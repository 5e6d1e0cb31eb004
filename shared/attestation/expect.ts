/**
 * Third question: is it what I wanted? (docs/attestation.md, section 4.) A genuine document proves that some
 * enclave exists; this compares it with the one that the caller wants. What is not expected must be spelled
 * "any": an expectation that is absent, empty or all zero is an error, never a pass.
 */
import { isZeroPcr, PCR_BYTES, PCR_COUNT } from '../pcr.ts';
import type { Trust } from './anchors.ts';
import type { NotePassed } from './checks.ts';
import { AttestationError } from './errors.ts';
import type { DocumentFields } from './fields.ts';
import { FUTURE_TOLERANCE_MS } from './limits.ts';
import { VerifiedDocument } from './verify.ts';

/** 96 hexadecimal digits, a list of such of which one must match, or "any". */
export type PcrExpectation = string | readonly string[];

/** PCR0 (image) and PCR16 (deployment) must be given, if only as "any". */
export interface PcrExpectations {
  readonly 0: PcrExpectation;
  readonly 16: PcrExpectation;
  readonly [index: number]: PcrExpectation;
}

export interface AttestationExpectations {
  readonly pcrs: PcrExpectations;
  readonly nonce: Uint8Array | 'any';
  /** How old the document's timestamp may be at `at`. */
  readonly maxAgeMs: number | 'any';
  readonly at: Date;
  /** The exact bytes of `public_key`; not compared if absent. */
  readonly publicKey?: Uint8Array;
}

const acceptedHere = Symbol('accepted in this module');

/** A genuine document of the enclave that was wanted. */
export class AcceptedDocument {
  readonly #accepted = true;
  readonly fields: DocumentFields;
  readonly trust: Trust;
  readonly notAfter: Date;

  constructor(token: typeof acceptedHere, { fields, trust, notAfter }: VerifiedDocument) {
    if (token !== acceptedHere) throw new TypeError('Use expectAttestation.');
    this.fields = fields;
    this.trust = trust;
    this.notAfter = notAfter;
    Object.freeze(this);
  }

  static isGenuine(value: unknown): value is AcceptedDocument {
    return typeof value === 'object' && value !== null && #accepted in value && value.#accepted;
  }
}

/** Throws AttestationError; the code names the expectation that was not met. */
export function expectAttestation(
  document: VerifiedDocument,
  expectations: AttestationExpectations,
  note?: NotePassed,
): AcceptedDocument {
  if (!VerifiedDocument.isGenuine(document)) {
    throw new AttestationError(
      'ATTESTATION_NOT_VERIFIED',
      'expected a document from verifyAttestationDocument',
    );
  }
  const expectedPcrs = readPcrExpectations(expectations.pcrs);
  const { fields } = document;
  refuseDebugImage(fields);
  note?.('not-debug', 'PCR0, PCR1 and PCR2 are measured');
  checkAge(fields, expectations);
  note?.('age', `dated ${new Date(fields.timestampMs).toISOString()}`);
  checkNonce(fields, expectations.nonce);
  note?.('nonce', expectations.nonce === 'any' ? 'any' : 'as expected');
  checkPublicKey(fields, expectations.publicKey);
  note?.('public-key', expectations.publicKey === undefined ? 'not compared' : 'as expected');
  for (const [index, allowed] of expectedPcrs) checkPcr(fields, index, allowed);
  note?.(
    'pcrs',
    [...expectedPcrs].map(([index, allowed]) => `PCR${index}${allowed === 'any' ? ' any' : ''}`).join(', '),
  );
  return new AcceptedDocument(acceptedHere, document);
}

/** True if the enclave runs in debug mode, in which PCR0, PCR1 and PCR2 are zero. One of them is enough here. */
export function isDebugImage({ pcrs }: DocumentFields): boolean {
  return [0, 1, 2].some((index) => {
    const register = pcrs.get(index);
    return register !== undefined && isZeroPcr(register);
  });
}

/** 4.1: what is expected is checked before the document, so that a typing error can never pass. */
function readPcrExpectations(pcrs: PcrExpectations): Map<number, 'any' | readonly string[]> {
  for (const index of [0, 16] as const) {
    if (!Object.hasOwn(pcrs, index)) unusable(`PCR${index} is not given; say "any" if it does not matter`);
  }
  const expected = new Map<number, 'any' | readonly string[]>();
  for (const [key, value] of Object.entries(pcrs)) {
    const index = Number(key);
    if (!/^(0|[1-9][0-9]?)$/.test(key) || index >= PCR_COUNT) unusable(`there is no PCR${key}`);
    expected.set(index, value === 'any' ? 'any' : readValues(index, value));
  }
  return expected;
}

function readValues(index: number, value: unknown): readonly string[] {
  const values = typeof value === 'string' ? [value] : value;
  if (!Array.isArray(values) || values.length === 0) unusable(`the list for PCR${index} is empty`);
  return values.map((text: unknown) => {
    if (typeof text !== 'string' || !/^[0-9a-fA-F]{96}$/.test(text)) {
      unusable(`PCR${index} must be ${PCR_BYTES * 2} hexadecimal digits or "any"`);
    }
    if (/^0+$/.test(text)) unusable(`PCR${index} of all zeros is what a debug image has`);
    return text.toLowerCase();
  });
}

/** 4.2: in no case; "any" does not mean this. */
function refuseDebugImage(fields: DocumentFields): void {
  for (const index of [0, 1, 2]) register(fields, index);
  if (isDebugImage(fields)) {
    throw new AttestationError('ATTESTATION_DEBUG_IMAGE', 'PCR0, PCR1 or PCR2 is all zero');
  }
}

/** 4.3: certificates live for hours and sign many documents; only the timestamp tells a document's age. */
function checkAge({ timestampMs }: DocumentFields, { maxAgeMs, at }: AttestationExpectations): void {
  const ageMs = at.getTime() - timestampMs;
  if (Number.isNaN(ageMs)) unusable('the time to compare with is not a time');
  if (maxAgeMs !== 'any' && !(Number.isFinite(maxAgeMs) && maxAgeMs >= 0)) {
    unusable('the highest age must be milliseconds or "any"');
  }
  if (ageMs < -FUTURE_TOLERANCE_MS) {
    throw new AttestationError('ATTESTATION_FROM_FUTURE', `the document is dated ${-ageMs} ms ahead`);
  }
  if (maxAgeMs !== 'any' && ageMs > maxAgeMs) {
    throw new AttestationError(
      'ATTESTATION_TOO_OLD',
      `expected a document of at most ${maxAgeMs} ms, found ${ageMs} ms`,
    );
  }
}

/** 4.4. */
function checkNonce({ nonce }: DocumentFields, expected: Uint8Array | 'any'): void {
  if (expected === 'any') return;
  if (!(expected instanceof Uint8Array) || expected.length === 0)
    unusable('the nonce must be bytes or "any"');
  if (nonce === null || !Buffer.from(expected).equals(nonce)) {
    throw new AttestationError(
      'ATTESTATION_NONCE_MISMATCH',
      nonce === null ? 'the document carries no nonce' : 'the document carries another nonce',
    );
  }
}

/** 4.5. */
function checkPublicKey({ publicKey }: DocumentFields, expected: Uint8Array | undefined): void {
  if (expected === undefined) return;
  if (!(expected instanceof Uint8Array) || expected.length === 0) unusable('the public key must be bytes');
  if (publicKey === null || !Buffer.from(expected).equals(publicKey)) {
    throw new AttestationError(
      'ATTESTATION_PUBLIC_KEY_MISMATCH',
      publicKey === null ? 'the document carries no public key' : 'the document carries another public key',
    );
  }
}

/** 4.6. */
function checkPcr(fields: DocumentFields, index: number, allowed: 'any' | readonly string[]): void {
  if (allowed === 'any') return;
  const found = Buffer.from(register(fields, index)).toString('hex');
  if (!allowed.includes(found)) {
    throw new AttestationError(
      'ATTESTATION_PCR_MISMATCH',
      `expected PCR${index} ${allowed.join(' or ')}, found ${found}`,
    );
  }
}

/** A document lists locked registers only. */
function register({ pcrs }: DocumentFields, index: number): Uint8Array {
  const value = pcrs.get(index);
  if (value === undefined) {
    throw new AttestationError('ATTESTATION_PCR_MISSING', `the document has no PCR${index}`);
  }
  return value;
}

function unusable(why: string): never {
  throw new AttestationError('ATTESTATION_EXPECTATION_UNUSABLE', `The expectation cannot be used: ${why}.`);
}
