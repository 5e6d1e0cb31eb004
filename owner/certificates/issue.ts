/**
 * A private CA for the delivery of sealed models, and the certificates that it signs: servers and clients of TLS 1.3
 * (docs/certificates.md). The CA signs end entities alone (path length 0), for the names that it was made for.
 */
import {
  createHash,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  X509Certificate,
} from 'node:crypto';
import { type Asn1Input, TAG } from '../../shared/asn1.ts';
import { privateKeyPem } from '../../shared/x509/private-key-pem.ts';
import {
  bitString,
  type CertificateFields,
  certificatePem,
  commonName,
  endEntityExtensions,
  extension,
  ID,
  SERIAL_BYTES,
  sequence,
  signCertificate,
} from '../../shared/x509/write.ts';
import { expectPermitted, nameConstraints, type Permitted, readPermitted } from './constraints.ts';
import { CertificateError } from './errors.ts';
import { generalName, type Name } from './names.ts';
import { extensionValue, partsOf } from './parts.ts';

export type Curve = 'P-256' | 'P-384';

/** A certificate and its private key in PEM; the caller wipes the key. */
export interface Pair {
  readonly certificate: X509Certificate;
  readonly certificatePem: string;
  readonly keyPem: Uint8Array<ArrayBuffer>;
}

/** A certificate with the private key that belongs to it. */
export interface Holder {
  readonly certificate: X509Certificate;
  readonly key: KeyObject;
}

export interface Life {
  readonly at: Date;
  /** Also parts of a day. */
  readonly days: number;
}

const DAY_MS = 24 * 60 * 60 * 1000;
/** A certificate is used minutes after it was made, on machines whose clocks differ. */
const BACKDATING_MS = 10 * 60 * 1000;

/** Throws RangeError without a permitted name: a CA for everything is not made here. */
export function createCa(
  options: Life & {
    readonly name?: string | undefined;
    readonly permitted: readonly Permitted[];
    readonly curve: Curve;
  },
): Pair {
  const { permitted, curve } = options;
  if (permitted.length === 0) throw new RangeError('expected at least one permitted name');
  const keys = newKeys(curve);
  const keyId = keyIdOf(keys.spki);
  // Two CAs of one name would be told apart by their keys alone.
  const name = commonName(options.name ?? `Strongroom CA ${Buffer.from(keyId).toString('hex', 0, 4)}`);
  const extensions = [...authorityExtensions(keyId), nameConstraints(permitted)];
  return pairOf(
    { ...window(options), issuer: name, subject: name, spki: keys.spki, extensions },
    keys.key,
    keys.key,
  );
}

/** Throws CERT_NOT_PERMITTED, CERT_OUTLIVES_CA, or CERT_UNUSABLE for what is not a CA. */
export function issueCertificate(
  ca: Holder,
  options: Life & {
    readonly use: 'server' | 'client';
    readonly names: readonly [Name, ...Name[]];
    readonly curve: Curve;
  },
): Pair {
  const { use, names, curve } = options;
  const permitted = permittedBy(ca.certificate);
  for (const name of names) expectPermitted(permitted, name);
  const keys = newKeys(curve);
  return issue(ca, options, {
    subject: commonName(use === 'server' ? 'Strongroom server' : pseudonym(names[0])),
    keys,
    extensions: [
      ...endEntityExtensions(use),
      extension(ID.subjectAltName, false, sequence(...names.map(generalName))),
    ],
  });
}

/**
 * The same names and use for a new life. `keepKey` keeps the key, which a CA does always: what it has signed stays
 * valid. Throws CERT_FOREIGN, CERT_OUTLIVES_CA or CERT_UNUSABLE.
 */
export function renewCertificate(
  ca: Holder,
  old: Holder,
  options: Life & { readonly keepKey: boolean },
): Pair {
  const { certificate } = old;
  permittedBy(ca.certificate);
  if (!certificate.checkIssued(ca.certificate) || !certificate.verify(ca.certificate.publicKey)) {
    throw new CertificateError(
      'CERT_FOREIGN',
      `"${certificate.subject}" was not signed by "${ca.certificate.subject}".`,
    );
  }
  const parts = partsOf(certificate);
  const subject = { der: parts.subject };
  const kept = (...ids: string[]) =>
    ids.flatMap((id): Asn1Input[] => {
      const found = parts.extensions.get(id);
      return found === undefined ? [] : [{ der: found.raw }];
    });
  if (certificate.ca) {
    const extensions = [...authorityExtensions(keyIdOf(spkiOf(old.key))), ...kept(ID.nameConstraints)];
    return pairOf(
      { ...window(options), issuer: subject, subject, spki: spkiOf(old.key), extensions },
      old.key,
      old.key,
    );
  }
  const curve = old.key.asymmetricKeyDetails?.namedCurve === 'secp384r1' ? 'P-384' : 'P-256';
  const keys = options.keepKey ? { key: old.key, spki: spkiOf(old.key) } : newKeys(curve);
  const extensions = kept(ID.basicConstraints, ID.keyUsage, ID.extendedKeyUsage, ID.subjectAltName);
  return issue(ca, options, { subject, keys, extensions });
}

/** What this CA may vouch for. Throws CERT_UNUSABLE if it is no CA of ours. */
export function permittedBy(certificate: X509Certificate): Permitted[] {
  const constraints = certificate.ca ? extensionValue(partsOf(certificate), ID.nameConstraints) : undefined;
  if (constraints !== undefined) return readPermitted(constraints);
  throw new CertificateError(
    'CERT_UNUSABLE',
    `Expected a CA with name constraints, found "${certificate.subject}".`,
  );
}

interface Keys {
  readonly key: KeyObject;
  /** SubjectPublicKeyInfo in DER. */
  readonly spki: Uint8Array;
}

function issue(
  ca: Holder,
  life: Life,
  leaf: { readonly subject: Asn1Input; readonly keys: Keys; readonly extensions: readonly Asn1Input[] },
): Pair {
  const { keys, subject } = leaf;
  const validity = window(life);
  if (validity.notAfter > ca.certificate.validToDate) {
    const [found, limit] = [validity.notAfter, ca.certificate.validToDate].map((end) => end.toISOString());
    throw new CertificateError('CERT_OUTLIVES_CA', `It would end at ${found}; its CA ends at ${limit}.`);
  }
  const issuer = { der: partsOf(ca.certificate).subject };
  const extensions = [
    ...leaf.extensions,
    subjectKey(keyIdOf(keys.spki)),
    authorityKey(keyIdOf(spkiOf(ca.key))),
  ];
  return pairOf({ ...validity, issuer, subject, spki: keys.spki, extensions }, keys.key, ca.key);
}

function pairOf(fields: Omit<CertificateFields, 'serial'>, key: KeyObject, issuerKey: KeyObject): Pair {
  const der = signCertificate({ ...fields, serial: randomBytes(SERIAL_BYTES) }, issuerKey);
  const pem = certificatePem(der);
  return { certificate: new X509Certificate(pem), certificatePem: pem, keyPem: privateKeyPem(key) };
}

/** Certificates count whole seconds. */
function window({ at, days }: Life): Pick<CertificateFields, 'notBefore' | 'notAfter'> {
  const startMs = Math.floor(at.getTime() / 1000) * 1000;
  return {
    notBefore: new Date(startMs - BACKDATING_MS),
    notAfter: new Date(startMs + Math.round((days * DAY_MS) / 1000) * 1000),
  };
}

/** The days that a certificate of ours was issued for. */
export function daysOfLife({ validFromDate, validToDate }: X509Certificate): number {
  return (validToDate.getTime() - validFromDate.getTime() - BACKDATING_MS) / DAY_MS;
}

function newKeys(curve: Curve): Keys {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: curve });
  return { key: privateKey, spki: spkiOf(privateKey) };
}

function spkiOf(key: KeyObject): Uint8Array {
  return createPublicKey(key).export({ type: 'spki', format: 'der' });
}

/** RFC 7093 2, method 4: the first 160 bits of the SHA-256 of the SubjectPublicKeyInfo. */
function keyIdOf(spki: Uint8Array): Uint8Array {
  return createHash('sha256').update(spki).digest().subarray(0, 20);
}

/** RFC 5280 4.2.1.9 and 4.2.1.3: a CA of end entities alone, which signs certificates and lists of revoked ones. */
function authorityExtensions(keyId: Uint8Array): Asn1Input[] {
  const yes: Asn1Input = { tag: TAG.BOOLEAN, content: Uint8Array.of(0xff) };
  const pathLength: Asn1Input = { tag: TAG.INTEGER, content: Uint8Array.of(0) };
  return [
    extension(ID.basicConstraints, true, sequence(yes, pathLength)),
    extension(ID.keyUsage, true, bitString(Uint8Array.of(0x06), 1)),
    subjectKey(keyId),
  ];
}

/** RFC 5280 4.2.1.2 */
function subjectKey(keyId: Uint8Array): Asn1Input {
  return extension(ID.subjectKeyIdentifier, false, { tag: TAG.OCTET_STRING, content: keyId });
}

/** RFC 5280 4.2.1.1 */
function authorityKey(keyId: Uint8Array): Asn1Input {
  const value = sequence({ tagClass: 'context', tag: 0, content: keyId });
  return extension(ID.authorityKeyIdentifier, false, value);
}

/** The same at each renewal, so that a server's log and rules know a client again, and learn nothing more. */
function pseudonym(name: Name): string {
  return createHash('sha256').update(name.text).digest('hex').slice(0, 32);
}
