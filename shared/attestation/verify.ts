/**
 * Second question: is it genuine? (docs/attestation.md, section 3.) The chain from the root that the caller
 * trusts down to the certificate in the document is checked by rules 3.1 to 3.8, then the document's signature.
 * Cheap checks come first. Nothing is cached: every call verifies everything.
 */
import { Buffer } from 'node:buffer';
import { createPublicKey, type KeyObject, verify } from 'node:crypto';
import { encodeCbor } from '../cbor.ts';
import { type Trust, TrustAnchor } from './anchors.ts';
import { type Certificate, readCertificate } from './certificate.ts';
import type { NotePassed } from './checks.ts';
import { AttestationError } from './errors.ts';
import type { DocumentFields } from './fields.ts';
import { SIGNATURE_BYTES } from './limits.ts';
import { PROTECTED_HEADER, UnverifiedDocument } from './parse.ts';

const verifiedHere = Symbol('verified in this module');

/** A document that the holder of the named trust signed. It may still be another enclave than the wanted one. */
export class VerifiedDocument {
  readonly #verified = true;
  readonly fields: DocumentFields;
  readonly trust: Trust;
  /** When the first certificate of the chain expires. */
  readonly notAfter: Date;

  constructor(token: typeof verifiedHere, fields: DocumentFields, trust: Trust, notAfter: Date) {
    if (token !== verifiedHere) throw new TypeError('Use verifyAttestationDocument.');
    this.fields = fields;
    this.trust = trust;
    this.notAfter = notAfter;
    Object.freeze(this);
  }

  static isGenuine(value: unknown): value is VerifiedDocument {
    return typeof value === 'object' && value !== null && #verified in value && value.#verified;
  }
}

export interface VerificationOptions {
  /** Whom to trust. An empty list trusts nobody. */
  readonly anchors: readonly TrustAnchor[];
  /** The time at which all certificates must be valid. */
  readonly at: Date;
}

/** Throws AttestationError; the code names the rule that failed. */
export function verifyAttestationDocument(
  document: UnverifiedDocument,
  { anchors, at }: VerificationOptions,
  note?: NotePassed,
): VerifiedDocument {
  if (!UnverifiedDocument.isGenuine(document)) {
    throw new AttestationError(
      'ATTESTATION_NOT_VERIFIED',
      'expected a document from parseAttestationDocument',
    );
  }
  if (Number.isNaN(at.getTime())) {
    throw new AttestationError('ATTESTATION_TIME_UNUSABLE', 'the time to verify at is not a time');
  }
  const fields = document.untrusted;
  const anchor = findAnchor(fields, anchors);
  note?.('root', `${anchor.trust}, ${anchor.parsed.name}`);
  const chain = readChain(fields, anchor);
  note?.('certificates', chain.map(({ name }) => name).join(', '));
  checkIssuers(chain);
  note?.('issuers', `${chain.length - 1} links`);
  checkValidity(chain, at);
  const notAfter = earliestEnd(chain);
  note?.('validity', `at ${at.toISOString()}, all until ${notAfter.toISOString()}`);
  checkAuthorities(chain);
  note?.('authorities', `${chain.length - 1} authorities`);
  checkKeyUsage(chain);
  note?.('key-usage', 'keyCertSign for authorities, digitalSignature for the document');
  checkTimestamp(fields, chain);
  note?.('timestamp', new Date(fields.timestampMs).toISOString());
  const signingKey = checkCertificateSignatures(chain, anchor);
  note?.('certificate-signatures', `${chain.length - 1} signatures`);
  checkDocumentSignature(document, signingKey);
  note?.('signature', 'ES384');
  return new VerifiedDocument(verifiedHere, fields, anchor.trust, notAfter);
}

/** Root first, the document's own certificate last; never fewer than two. */
type Chain = readonly Certificate[];

/** 3.1: the bundle's root counts only as the name of an anchor; the anchor's own certificate is what is used. */
function findAnchor(fields: DocumentFields, anchors: readonly TrustAnchor[]): TrustAnchor {
  if (anchors.length === 0 || !anchors.every((anchor) => TrustAnchor.isGenuine(anchor))) {
    throw new AttestationError('ATTESTATION_NO_ANCHOR', 'expected at least one trust anchor');
  }
  const root = Buffer.from(fields.cabundle[0] as Uint8Array);
  const anchor = anchors.find(({ certificate }) => root.equals(certificate));
  if (anchor === undefined) {
    const trusted = anchors.map(({ trust, parsed }) => `${trust} (${parsed.name})`).join(', ');
    throw new AttestationError(
      'ATTESTATION_UNTRUSTED_ROOT',
      `the root of the chain is not one of: ${trusted}`,
    );
  }
  return anchor;
}

/** 3.2, AWS attestation_process.md 3.2.3: the bundle is in order, root first, and ends with the leaf's issuer. */
function readChain(fields: DocumentFields, anchor: TrustAnchor): Chain {
  const issuers = fields.cabundle.slice(1).map((der, i) => readCertificate(der, `cabundle[${i + 1}]`));
  return [anchor.parsed, ...issuers, readCertificate(fields.certificate, 'certificate')];
}

/** 3.3: encoded names, because AWS varies the order and type of attributes between levels. */
function checkIssuers(chain: Chain): void {
  for (const [issuer, subject] of links(chain)) {
    if (!Buffer.from(subject.issuer).equals(issuer.subject)) {
      throw new AttestationError('ATTESTATION_ISSUER', `${subject.name} was not issued by ${issuer.name}`);
    }
  }
}

/** 3.4, AWS attestation_process.md 3.2.3.1: all of them, the root included. RFC 5280 4.1.2.5: ends included. */
function checkValidity(chain: Chain, at: Date): void {
  for (const { name, notBefore, notAfter } of chain) {
    if (at < notBefore) {
      throw new AttestationError(
        'ATTESTATION_NOT_YET_VALID',
        `${name} is valid from ${notBefore.toISOString()}, the time is ${at.toISOString()}`,
      );
    }
    if (at > notAfter) {
      throw new AttestationError(
        'ATTESTATION_EXPIRED',
        `${name} was valid until ${notAfter.toISOString()}, the time is ${at.toISOString()}`,
      );
    }
  }
}

function earliestEnd(chain: Chain): Date {
  return new Date(Math.min(...chain.map(({ notAfter }) => notAfter.getTime())));
}

/** 3.5, AWS attestation_process.md 3.2.3.2, RFC 5280 4.2.1.9: critical basicConstraints everywhere. */
function checkAuthorities(chain: Chain): void {
  for (const [i, { name, basicConstraints }] of chain.entries()) {
    const isLast = i === chain.length - 1;
    if (basicConstraints?.critical !== true || basicConstraints.ca === isLast) {
      throw new AttestationError(
        'ATTESTATION_CERTIFICATE_AUTHORITY',
        `${name} ${isLast ? 'must be marked as no authority' : 'is not marked as an authority'}`,
      );
    }
    const authoritiesBelow = chain.length - 2 - i;
    if (basicConstraints.pathLength !== undefined && authoritiesBelow > basicConstraints.pathLength) {
      throw new AttestationError(
        'ATTESTATION_PATH_LENGTH',
        `${name} allows ${basicConstraints.pathLength} authorities below it, found ${authoritiesBelow}`,
      );
    }
  }
}

/** 3.6, AWS attestation_process.md 3.2.3.3. The leaf's keyUsage is not critical in any document of AWS. */
function checkKeyUsage(chain: Chain): void {
  for (const [i, { name, keyUsage }] of chain.entries()) {
    const isLast = i === chain.length - 1;
    const allowed = isLast
      ? keyUsage?.digitalSignature === true && !keyUsage.keyCertSign
      : keyUsage?.keyCertSign === true && keyUsage.critical;
    if (!allowed) {
      throw new AttestationError(
        'ATTESTATION_KEY_USAGE',
        `${name} must allow ${isLast ? 'digitalSignature and not keyCertSign' : 'keyCertSign, as critical'}`,
      );
    }
  }
}

/** 3.7: a valid chain says nothing about when the document was signed. */
function checkTimestamp({ timestampMs }: DocumentFields, chain: Chain): void {
  for (const { name, notBefore, notAfter } of chain) {
    if (timestampMs < notBefore.getTime() || timestampMs > notAfter.getTime()) {
      throw new AttestationError(
        'ATTESTATION_TIMESTAMP_OUTSIDE',
        `the document is dated ${new Date(timestampMs).toISOString()}, outside the life of ${name}`,
      );
    }
  }
}

/** 3.8: returns the key of the last certificate, which signed the document. */
function checkCertificateSignatures(chain: Chain, anchor: TrustAnchor): KeyObject {
  let issuerKey = anchor.publicKey;
  for (const [, subject] of links(chain)) {
    if (!verify('sha384', subject.tbs, issuerKey, subject.signature)) {
      throw new AttestationError(
        'ATTESTATION_CERTIFICATE_SIGNATURE',
        `the signature of ${subject.name} is not its issuer's`,
      );
    }
    issuerKey = importKey(subject);
  }
  return issuerKey;
}

function importKey({ name, spki }: Certificate): KeyObject {
  try {
    return createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' });
  } catch (cause) {
    throw new AttestationError(
      'ATTESTATION_CERTIFICATE_ALGORITHM',
      `the key of ${name} is not a point of P-384`,
      cause,
    );
  }
}

/** Order of the base point of P-384, FIPS 186-5 (SP 800-186, 3.2.1.4). */
const P384_ORDER = Buffer.from(
  'ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973',
  'hex',
);

/** 3.9, RFC 9052 4.4: Sig_structure over the payload as received. High s is fine: half of AWS's are. */
function checkDocumentSignature(document: UnverifiedDocument, key: KeyObject): void {
  const { payload, signature } = document;
  for (const half of [signature.subarray(0, SIGNATURE_BYTES / 2), signature.subarray(SIGNATURE_BYTES / 2)]) {
    if (half.every((byte) => byte === 0) || Buffer.compare(half, P384_ORDER) >= 0) {
      throw new AttestationError('ATTESTATION_SIGNATURE_RANGE', 'expected r and s from 1 to n - 1');
    }
  }
  const signed = encodeCbor(['Signature1', PROTECTED_HEADER, new Uint8Array(0), payload]);
  if (!verify('sha384', signed, { key, dsaEncoding: 'ieee-p1363' }, signature)) {
    throw new AttestationError('ATTESTATION_SIGNATURE', 'the signature is not of this document');
  }
}

/** Each certificate but the root, with its issuer. */
function links(chain: Chain): [issuer: Certificate, subject: Certificate][] {
  return chain.slice(1).map((subject, i) => [chain[i] as Certificate, subject]);
}
