/**
 * Writing X.509 v3 certificates (RFC 5280) that are signed with ECDSA. A primer: a certificate is a signed part
 * (TBSCertificate: serial, issuer, validity, subject, public key, extensions), the algorithm, and the signature.
 * Numbers in comments are sections of RFC 5280.
 */
import { type KeyObject, sign } from 'node:crypto';
import { type Asn1Input, oidToBytes, TAG, writeDer } from '../asn1.ts';

export interface CertificateFields {
  /** SERIAL_BYTES random bytes. */
  readonly serial: Uint8Array;
  readonly issuer: Asn1Input;
  readonly subject: Asn1Input;
  /** Validity, both ends included; certificates count whole seconds. */
  readonly notBefore: Date;
  readonly notAfter: Date;
  /** SubjectPublicKeyInfo in DER. */
  readonly spki: Uint8Array;
  readonly extensions: readonly Asn1Input[];
}

/** 4.1.2.2 allows 20 octets; 16 random ones are unique without a record of earlier ones. */
export const SERIAL_BYTES = 16;

/** 4.1.2.5: this very moment says that a certificate has no expiry. */
export const NO_EXPIRY = new Date(Date.UTC(9999, 11, 31, 23, 59, 59));

/** RFC 5758 3.2: no parameters. */
const SIGNATURES: Readonly<Record<string, { readonly hash: string; readonly id: string }>> = {
  prime256v1: { hash: 'sha256', id: '1.2.840.10045.4.3.2' },
  secp384r1: { hash: 'sha384', id: '1.2.840.10045.4.3.3' },
};

/** The certificate in DER. `issuerKey` is a private key on P-256 or P-384. */
export function signCertificate(fields: CertificateFields, issuerKey: KeyObject): Uint8Array {
  const { serial, issuer, subject, notBefore, notAfter, spki, extensions } = fields;
  if (serial.length !== SERIAL_BYTES) {
    throw new RangeError(`serial: expected ${SERIAL_BYTES} bytes, found ${serial.length}`);
  }
  const curve = issuerKey.asymmetricKeyDetails?.namedCurve ?? 'none';
  const signature = SIGNATURES[curve];
  if (signature === undefined) throw new RangeError(`expected a key on P-256 or P-384, found ${curve}`);
  const algorithm = sequence(oid(signature.id));
  const tbs = writeDer(
    sequence(
      { tagClass: 'context', tag: 0, children: [{ tag: TAG.INTEGER, content: Uint8Array.of(2) }] },
      { tag: TAG.INTEGER, content: positive(serial) },
      algorithm,
      issuer,
      sequence(time(notBefore), time(notAfter)),
      subject,
      { der: spki },
      { tagClass: 'context', tag: 3, children: [sequence(...extensions)] },
    ),
  );
  const bits = sign(signature.hash, tbs, { key: issuerKey, dsaEncoding: 'der' });
  return writeDer(sequence({ der: tbs }, algorithm, bitString(bits, 0)));
}

export function sequence(...children: Asn1Input[]): Asn1Input {
  return { tag: TAG.SEQUENCE, children };
}

/** A name of one attribute, the common name (4.1.2.4). */
export function commonName(text: string): Asn1Input {
  const value = { tag: TAG.UTF8_STRING, content: Buffer.from(text, 'utf8') };
  return sequence({ tag: TAG.SET, children: [sequence(oid('2.5.4.3'), value)] });
}

/** Object identifiers of extensions (4.2.1) and of extended key usages (4.2.1.12). */
export const ID = {
  subjectKeyIdentifier: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  nameConstraints: '2.5.29.30',
  authorityKeyIdentifier: '2.5.29.35',
  extendedKeyUsage: '2.5.29.37',
  serverAuthentication: '1.3.6.1.5.5.7.3.1',
  clientAuthentication: '1.3.6.1.5.5.7.3.2',
} as const;

/** 4.2.1.9, 4.2.1.3 and 4.2.1.12: not a CA; signs handshakes; of TLS servers, or of TLS clients, alone. */
export function endEntityExtensions(use: 'server' | 'client'): Asn1Input[] {
  return [
    extension(ID.basicConstraints, true, sequence()),
    extension(ID.keyUsage, true, bitString(Uint8Array.of(0x80), 7)),
    extension(ID.extendedKeyUsage, true, sequence(oid(ID[`${use}Authentication`]))),
  ];
}

export function extension(id: string, critical: boolean, value: Asn1Input): Asn1Input {
  const flag: Asn1Input[] = critical ? [{ tag: TAG.BOOLEAN, content: Uint8Array.of(0xff) }] : [];
  return sequence(oid(id), ...flag, { tag: TAG.OCTET_STRING, content: writeDer(value) });
}

export function certificatePem(der: Uint8Array): string {
  const base64 = Buffer.from(der.buffer, der.byteOffset, der.length).toString('base64');
  return `-----BEGIN CERTIFICATE-----\n${base64.replace(/.{64}(?=.)/g, '$&\n')}\n-----END CERTIFICATE-----\n`;
}

function oid(dotted: string): Asn1Input {
  return { tag: TAG.OID, content: oidToBytes(dotted) };
}

export function bitString(bits: Uint8Array, unusedBits: number): Asn1Input {
  const content = new Uint8Array(bits.length + 1);
  content[0] = unusedBits;
  content.set(bits, 1);
  return { tag: TAG.BIT_STRING, content };
}

/** An INTEGER of fixed length: positive and minimal because the first octet is 0x40 to 0x7f (X.690 8.3). */
function positive(serial: Uint8Array): Uint8Array {
  const content = Uint8Array.from(serial);
  content[0] = ((content[0] as number) & 0x3f) | 0x40;
  return content;
}

/** 4.1.2.5: UTCTime until 2049, GeneralizedTime from 2050. */
function time(at: Date): Asn1Input {
  const digits = at
    .toISOString()
    .replace(/\.\d{3}Z$/, 'Z')
    .replace(/[-:T]/g, '');
  return at.getUTCFullYear() < 2050
    ? { tag: TAG.UTC_TIME, content: Buffer.from(digits.slice(2), 'latin1') }
    : { tag: TAG.GENERALIZED_TIME, content: Buffer.from(digits, 'latin1') };
}
