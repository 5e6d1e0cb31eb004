/**
 * The five kinds of certificate of a Nitro attestation chain, shaped as AWS's are: names, attribute order,
 * path lengths, key usages, identifiers, life times. Only the names differ: the partition `aws` is
 * `simulation` here and the organisation says so, so that nobody takes one of these for the real thing.
 * Shapes: docs/attestation.md, read off documents that AWS hardware signed.
 */
import 'reflect-metadata';
import { createHash, KeyObject, webcrypto } from 'node:crypto';
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  CRLDistributionPointsExtension,
  type Extension,
  KeyUsageFlags,
  KeyUsagesExtension,
  Name,
  SubjectKeyIdentifierExtension,
  X509CertificateGenerator,
} from '@peculiar/x509';

export const PARTITION = 'simulation';

const P384 = { name: 'ECDSA', namedCurve: 'P-384' } as const;
const CA_USAGES = KeyUsageFlags.digitalSignature | KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign;

export interface IssuedCertificate {
  readonly der: Uint8Array;
  /** Undefined for the root. */
  readonly issuer: IssuedCertificate | undefined;
  readonly subject: Name;
  readonly keys: webcrypto.CryptoKeyPair;
  /** SHA-1 of the public key's bits, as RFC 5280 4.2.1.2 method 1 has it. */
  readonly keyId: string;
  readonly notBefore: Date;
  readonly notAfter: Date;
}

interface Template {
  readonly subject: Name;
  readonly serialNumber: string;
  readonly notBefore: Date;
  readonly notAfter: Date;
  /** Undefined makes the certificate self-signed. */
  readonly issuer: IssuedCertificate | undefined;
  readonly extensions: (keyId: string) => readonly Extension[];
}

export async function issueCertificate(template: Template): Promise<IssuedCertificate> {
  const keys = await webcrypto.subtle.generateKey(P384, true, ['sign', 'verify']);
  const keyId = keyIdentifier(keys.publicKey);
  const certificate = await X509CertificateGenerator.create(
    {
      serialNumber: template.serialNumber,
      subject: template.subject,
      issuer: template.issuer?.subject ?? template.subject,
      notBefore: template.notBefore,
      notAfter: template.notAfter,
      publicKey: keys.publicKey,
      signingKey: template.issuer?.keys.privateKey ?? keys.privateKey,
      signingAlgorithm: { name: 'ECDSA', hash: 'SHA-384' },
      extensions: [...template.extensions(keyId)],
    },
    webcrypto as NonNullable<Parameters<typeof X509CertificateGenerator.create>[1]>,
  );
  const { subject, issuer, notBefore, notAfter } = template;
  return { der: new Uint8Array(certificate.rawData), subject, issuer, keys, keyId, notBefore, notAfter };
}

export function rootExtensions(keyId: string): readonly Extension[] {
  return [
    new BasicConstraintsExtension(true, undefined, true),
    new SubjectKeyIdentifierExtension(keyId),
    new KeyUsagesExtension(CA_USAGES, true),
  ];
}

/** Of the region's and the zone's certificate. */
export function intermediateExtensions(issuer: IssuedCertificate, pathLength: number, crlUrl: string) {
  return (keyId: string): readonly Extension[] => [
    new BasicConstraintsExtension(true, pathLength, true),
    new AuthorityKeyIdentifierExtension(issuer.keyId),
    new SubjectKeyIdentifierExtension(keyId),
    new KeyUsagesExtension(CA_USAGES, true),
    new CRLDistributionPointsExtension([crlUrl]),
  ];
}

export function instanceExtensions(issuer: IssuedCertificate) {
  return (keyId: string): readonly Extension[] => [
    new BasicConstraintsExtension(true, 0, true),
    new KeyUsagesExtension(KeyUsageFlags.keyCertSign, true),
    new SubjectKeyIdentifierExtension(keyId),
    new AuthorityKeyIdentifierExtension(issuer.keyId),
  ];
}

/** The leaf has neither key identifier, and its key usage is not critical. */
export function leafExtensions(): readonly Extension[] {
  return [
    new BasicConstraintsExtension(false, undefined, true),
    new KeyUsagesExtension(KeyUsageFlags.digitalSignature | KeyUsageFlags.nonRepudiation, false),
  ];
}

const COUNTRY = { C: [{ printableString: 'US' }] };
const ORGANISATION = { O: [{ utf8String: 'Strongroom simulation' }] };
const UNIT = { OU: [{ utf8String: 'Not AWS' }] };

/** Names of the root and of the region. */
export function rootName(commonName: string): Name {
  return new Name([COUNTRY, ORGANISATION, UNIT, { CN: [{ utf8String: commonName }] }]);
}

/** AWS lists the zone's attributes the other way round, and abbreviates the state. */
export function zoneName(commonName: string): Name {
  return new Name([
    { CN: [{ utf8String: commonName }] },
    UNIT,
    ORGANISATION,
    COUNTRY,
    { ST: [{ utf8String: 'WA' }] },
    { L: [{ utf8String: 'Seattle' }] },
  ]);
}

/** Names of the instance and of the leaf. */
export function instanceName(commonName: string): Name {
  return new Name([
    COUNTRY,
    { ST: [{ utf8String: 'Washington' }] },
    { L: [{ utf8String: 'Seattle' }] },
    ORGANISATION,
    UNIT,
    { CN: [{ utf8String: commonName }] },
  ]);
}

function keyIdentifier(publicKey: webcrypto.CryptoKey): string {
  const spki = KeyObject.from(publicKey).export({ format: 'der', type: 'spki' });
  const POINT_BYTES = 97;
  return createHash('sha1').update(spki.subarray(-POINT_BYTES)).digest('hex');
}
