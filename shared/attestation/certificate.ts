/**
 * The certificates of an attestation chain. This reads the one profile that AWS issues (docs/attestation.md,
 * section 5): X.509 v3 in DER, P-384 keys, ECDSA with SHA-384, basicConstraints and keyUsage, nothing else
 * critical. It judges a certificate's form; whether it may be where it is, is judged in verify.ts.
 */
import { Buffer } from 'node:buffer';
import { type Asn1, oidFromBytes, readDer, TAG } from '../asn1.ts';
import { CodecError } from '../codec/errors.ts';
import { AttestationError, type AttestationErrorCode } from './errors.ts';
import { CERTIFICATE_MAX_BYTES } from './limits.ts';

export interface Certificate {
  /** Common name for messages, reduced to harmless characters. Never compared. */
  readonly name: string;
  /** The signed part, as received. */
  readonly tbs: Uint8Array;
  /** Encoded names, as received. AWS varies order and type of attributes: names are equal if their bytes are. */
  readonly issuer: Uint8Array;
  readonly subject: Uint8Array;
  readonly notBefore: Date;
  readonly notAfter: Date;
  /** SubjectPublicKeyInfo in DER: P-384, uncompressed. */
  readonly spki: Uint8Array;
  readonly basicConstraints: BasicConstraints | undefined;
  readonly keyUsage: KeyUsage | undefined;
  /** ECDSA-Sig-Value in DER. */
  readonly signature: Uint8Array;
}

export interface BasicConstraints {
  readonly critical: boolean;
  readonly ca: boolean;
  readonly pathLength: number | undefined;
}

export interface KeyUsage {
  readonly critical: boolean;
  readonly digitalSignature: boolean;
  readonly keyCertSign: boolean;
}

/** ecdsa-with-SHA384 without parameters, RFC 5758 3.2. */
const ECDSA_WITH_SHA384 = Buffer.from('300a06082a8648ce3d040303', 'hex');
/** id-ecPublicKey, secp384r1, BIT STRING of an uncompressed point (04), RFC 5480 2. */
const P384_SPKI_PREFIX = Buffer.from('3076301006072a8648ce3d020106052b8104002203620004', 'hex');
const P384_SPKI_BYTES = 120;
/** RFC 5280 4.1.2.2 says 20; half of AWS's instance certificates use all 20 and a sign octet before them. */
const SERIAL_MAX_BYTES = 21;

const BASIC_CONSTRAINTS = '2.5.29.19';
const KEY_USAGE = '2.5.29.15';
const COMMON_NAME = Buffer.from('550403', 'hex');

/** Throws AttestationError ATTESTATION_CERTIFICATE_*. `which` names the certificate in messages. */
export function readCertificate(der: Uint8Array, which: string): Certificate {
  const reader = new CertificateReader(which);
  try {
    return reader.certificate(readDer(der, { maxBytes: CERTIFICATE_MAX_BYTES, maxDepth: 12 }));
  } catch (error) {
    if (!(error instanceof CodecError)) throw error;
    return reader.fail('ATTESTATION_CERTIFICATE_MALFORMED', error.message, error);
  }
}

class CertificateReader {
  readonly #which: string;

  constructor(which: string) {
    this.#which = which;
  }

  fail(code: AttestationErrorCode, what: string, cause?: unknown): never {
    throw new AttestationError(code, `${this.#which}: ${what}`, cause);
  }

  /** RFC 5280 4.1. Unique identifiers, which nobody issues, are refused with the count of fields. */
  certificate(value: Asn1): Certificate {
    const [tbs, algorithm, signature] = this.#sequence(value, 3, 'Certificate') as [Asn1, Asn1, Asn1];
    const fields = this.#sequence(tbs, 8, 'TBSCertificate') as TbsFields;
    const [version, serial, tbsAlgorithm, issuer, validity, subject, spki, extensions] = fields;
    this.#version(version);
    this.#serial(serial);
    for (const found of [tbsAlgorithm, algorithm]) {
      if (!ECDSA_WITH_SHA384.equals(found.raw)) {
        this.fail('ATTESTATION_CERTIFICATE_ALGORITHM', 'expected ecdsa-with-SHA384 without parameters');
      }
    }
    if (spki.raw.length !== P384_SPKI_BYTES || !P384_SPKI_PREFIX.equals(spki.raw.subarray(0, 24))) {
      this.fail('ATTESTATION_CERTIFICATE_ALGORITHM', 'expected an uncompressed P-384 key');
    }
    const [notBefore, notAfter] = this.#sequence(validity, 2, 'Validity').map((time) => this.#time(time));
    this.#name(issuer);
    const commonName = this.#name(subject);
    return {
      get name() {
        return harmless(commonName);
      },
      tbs: tbs.raw,
      issuer: issuer.raw,
      subject: subject.raw,
      notBefore: notBefore as Date,
      notAfter: notAfter as Date,
      spki: spki.raw,
      ...this.#extensions(extensions),
      signature: this.#bits(signature, 'signature'),
    };
  }

  #version(value: Asn1): void {
    const [number] = value.children;
    const v3 = isContext(value, 0) && value.children.length === 1 && number?.tag === TAG.INTEGER;
    if (!v3 || number.content.length !== 1 || number.content[0] !== 2) this.#malformed('expected version 3');
  }

  #serial(value: Asn1): void {
    const [first = 0] = value.content;
    if (!isUniversal(value, TAG.INTEGER) || first >= 0x80 || value.content.length > SERIAL_MAX_BYTES) {
      this.#malformed(`expected a positive serial number of at most ${SERIAL_MAX_BYTES} bytes`);
    }
  }

  /** RFC 5280 4.1.2.5: UTCTime through 2049, GeneralizedTime from 2050, both to the second and in Z. */
  #time(value: Asn1): Date {
    const text = Buffer.from(value.content).toString('latin1');
    const utc = isUniversal(value, TAG.UTC_TIME) && /^\d{12}Z$/.test(text);
    const generalized = isUniversal(value, TAG.GENERALIZED_TIME) && /^\d{14}Z$/.test(text);
    if (!utc && !generalized) this.#malformed('expected a time of the form YYMMDDHHMMSSZ or YYYYMMDDHHMMSSZ');
    const century = Number(text.slice(0, 2)) < 50 ? '20' : '19';
    const full = utc ? century + text : text;
    const [year, month, day, hour, minute, second] = [0, 4, 6, 8, 10, 12].map((at) =>
      Number(full.slice(at, at === 0 ? 4 : at + 2)),
    ) as [number, number, number, number, number, number];
    const time = new Date(Date.UTC(year, month - 1, day, hour, minute, second));
    // Date rolls over what a calendar does not have: February 30th becomes March.
    const real =
      time.getUTCMonth() === month - 1 &&
      time.getUTCDate() === day &&
      time.getUTCHours() === hour &&
      time.getUTCMinutes() === minute &&
      time.getUTCSeconds() === second;
    if (!real || (generalized && year < 2050)) this.#malformed(`${text} is not a time of its form`);
    return time;
  }

  /** Name ::= SEQUENCE OF SET OF SEQUENCE { type, value }. Returns the common name for messages. */
  #name(value: Asn1): Asn1 | undefined {
    let common: Asn1 | undefined;
    for (const relative of this.#sequence(value, undefined, 'Name')) {
      if (!isUniversal(relative, TAG.SET) || relative.children.length === 0) this.#malformed('odd name');
      for (const attribute of relative.children) {
        const [type, text] = this.#sequence(attribute, 2, 'AttributeTypeAndValue') as [Asn1, Asn1];
        if (!isUniversal(type, TAG.OID)) this.#malformed('odd name');
        if (COMMON_NAME.equals(type.content)) common = text;
      }
    }
    if (value.children.length === 0) this.#malformed('expected a name');
    return common;
  }

  #extensions(value: Asn1): Pick<Certificate, 'basicConstraints' | 'keyUsage'> {
    if (!isContext(value, 3) || value.children.length !== 1) this.#malformed('expected extensions');
    const seen = new Set<string>();
    let basicConstraints: BasicConstraints | undefined;
    let keyUsage: KeyUsage | undefined;
    for (const extension of this.#sequence(value.children[0] as Asn1, undefined, 'Extensions')) {
      const { oid, critical, content } = this.#extension(extension);
      if (seen.has(oid)) this.fail('ATTESTATION_CERTIFICATE_EXTENSION', `extension ${oid} occurs twice`);
      seen.add(oid);
      if (oid === BASIC_CONSTRAINTS) basicConstraints = this.#basicConstraints(critical, content);
      else if (oid === KEY_USAGE) keyUsage = this.#keyUsage(critical, content);
      else if (critical) {
        this.fail('ATTESTATION_CERTIFICATE_EXTENSION', `critical extension ${oid} is not understood`);
      }
    }
    return { basicConstraints, keyUsage };
  }

  /** Extension ::= SEQUENCE { OID, BOOLEAN DEFAULT FALSE, OCTET STRING }; DER leaves a default out. */
  #extension(value: Asn1): { oid: string; critical: boolean; content: Uint8Array } {
    const parts = this.#sequence(value, undefined, 'Extension');
    const [oid, flag, content = flag] = parts;
    const critical = parts.length === 3;
    const wellFormed =
      (critical || parts.length === 2) &&
      isUniversal(oid, TAG.OID) &&
      isUniversal(content, TAG.OCTET_STRING) &&
      (!critical || isTrue(flag));
    if (!wellFormed) this.#malformed('odd extension');
    return { oid: oidFromBytes((oid as Asn1).content), critical, content: (content as Asn1).content };
  }

  #basicConstraints(critical: boolean, content: Uint8Array): BasicConstraints {
    const parts = this.#sequence(readDer(content), undefined, 'BasicConstraints');
    const ca = parts.length > 0;
    const pathLength = parts[1];
    const pathLengthOk =
      pathLength === undefined ||
      (isUniversal(pathLength, TAG.INTEGER) &&
        pathLength.content.length === 1 &&
        (pathLength.content[0] as number) < 0x80);
    if (parts.length > 2 || (ca && !isTrue(parts[0])) || !pathLengthOk)
      this.#malformed('odd basicConstraints');
    return { critical, ca, pathLength: pathLength?.content[0] };
  }

  #keyUsage(critical: boolean, content: Uint8Array): KeyUsage {
    const [bits = 0] = this.#bitString(readDer(content), 'keyUsage').subarray(1);
    return { critical, digitalSignature: (bits & 0x80) !== 0, keyCertSign: (bits & 0x04) !== 0 };
  }

  #bits(value: Asn1, what: string): Uint8Array {
    const content = this.#bitString(value, what);
    if (content[0] !== 0) this.#malformed(`expected ${what} in whole octets`);
    return content.subarray(1);
  }

  #bitString(value: Asn1, what: string): Uint8Array {
    if (!isUniversal(value, TAG.BIT_STRING)) this.#malformed(`expected ${what} to be a BIT STRING`);
    return value.content;
  }

  #sequence(value: Asn1, length: number | undefined, what: string): readonly Asn1[] {
    if (!isUniversal(value, TAG.SEQUENCE)) this.#malformed(`expected ${what} to be a SEQUENCE`);
    if (length !== undefined && value.children.length !== length) {
      this.#malformed(`expected ${length} parts in ${what}, found ${value.children.length}`);
    }
    return value.children;
  }

  #malformed(what: string): never {
    this.fail('ATTESTATION_CERTIFICATE_MALFORMED', what);
  }
}

type TbsFields = [Asn1, Asn1, Asn1, Asn1, Asn1, Asn1, Asn1, Asn1];

function isUniversal(value: Asn1 | undefined, tag: number): boolean {
  return value?.tagClass === 'universal' && value.tag === tag;
}

function isContext(value: Asn1, tag: number): boolean {
  return value.tagClass === 'context' && value.tag === tag && value.constructed;
}

function isTrue(value: Asn1 | undefined): boolean {
  return isUniversal(value, TAG.BOOLEAN) && value?.content[0] === 0xff;
}

/** Names come from whoever wrote the document, and messages end up on terminals and in logs. */
function harmless(commonName: Asn1 | undefined): string {
  return Buffer.from(commonName?.content ?? [])
    .toString('latin1')
    .replaceAll(/[^A-Za-z0-9 ._-]/g, '?')
    .slice(0, 64);
}
