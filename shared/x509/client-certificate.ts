/**
 * Reads who a client is from its certificate (docs/deployment.md section 4). Whether the certificate leads to a CA and
 * is valid now is for others to say; this reads one form and refuses the rest, so that a certificate means one client
 * or none. It reads the DER itself: printed forms of names have been made to lie with separators and NUL bytes.
 */
import { createHash, X509Certificate } from 'node:crypto';
import { type Asn1, oidFromBytes, readDer, TAG } from '../asn1.ts';
import { CodecError } from '../codec/errors.ts';
import { X509Error } from './errors.ts';
import { parseSpiffeId } from './spiffe.ts';
import { ID } from './write.ts';

export interface ClientCertificate {
  /** Of a certificate that holds a URI, which is then the one that names it. */
  readonly spiffe: string | undefined;
  /** As `isSubject` takes it; undefined if it has another form, or if the certificate is named by its URI. */
  readonly subject: string | undefined;
  /** Hexadecimal, lower case, without leading zeros. */
  readonly serial: string;
  /** Of the whole certificate, hexadecimal. */
  readonly sha256: string;
  /** Both included. */
  readonly notBefore: Date;
  readonly notAfter: Date;
}

/** 8 KiB hold a SPIFFE id of the longest size, and RSA keys. */
const CERTIFICATE_MAX_BYTES = 8 * 1024;
/** RFC 5280 4.2.1.6, the tag of uniformResourceIdentifier in GeneralName. */
const URI = 6;

const ATTRIBUTES: Readonly<Record<string, string>> = {
  '2.5.4.3': 'CN',
  '2.5.4.6': 'C',
  '2.5.4.7': 'L',
  '2.5.4.8': 'ST',
  '2.5.4.10': 'O',
  '2.5.4.11': 'OU',
  '0.9.2342.19200300.100.1.25': 'DC',
};
const TEXTS: readonly number[] = [TAG.UTF8_STRING, TAG.PRINTABLE_STRING, TAG.IA5_STRING];
/** No separator and no escape can be in a value, so that two subjects are equal if their texts are. */
const ATTRIBUTE = /^(?:CN|C|L|ST|O|OU|DC)=(?! )[A-Za-z0-9 ._:/@-]{1,64}(?<! )$/;
const SUBJECT_ATTRIBUTES_MAX = 16;

/** Whether a text can be the subject of a certificate: `O=Example, CN=app-1`, in the certificate's own order. */
export function isSubject(text: string): boolean {
  const parts = text.split(', ');
  return parts.length <= SUBJECT_ATTRIBUTES_MAX && parts.every((part) => ATTRIBUTE.test(part));
}

/** Throws X509Error X509_CLIENT_UNUSABLE. */
export function readClientCertificate(der: Uint8Array): ClientCertificate {
  if (der.length > CERTIFICATE_MAX_BYTES)
    throw unusable(`at most ${CERTIFICATE_MAX_BYTES} bytes`, der.length);
  try {
    return read(der);
  } catch (cause) {
    if (!(cause instanceof CodecError)) throw cause;
    throw new X509Error(
      'X509_CLIENT_UNUSABLE',
      `The client's certificate is refused: ${cause.message}`,
      cause,
    );
  }
}

function read(der: Uint8Array): ClientCertificate {
  const { validFromDate, validToDate } = parsed(der);
  // RFC 5280 4.1: version, serial, algorithm, issuer, validity, subject, key, extensions.
  const [tbs] = readDer(der).children;
  const [version, serial, , , , subject] = tbs?.children ?? [];
  if (version?.tagClass !== 'context' || version.children[0]?.content[0] !== 2) throw unusable('version 3');
  const extensions = readExtensions(tbs?.children.at(-1));
  expectClientUse(extensions);
  const uris = alternativeNames(extensions.get(ID.subjectAltName)).filter(({ tag }) => tag === URI);
  if (uris.length > 1) throw unusable('one URI among the alternative names', uris.length);
  const [uri] = uris;
  return {
    spiffe: uri === undefined ? undefined : spiffeOf(uri),
    subject: uri === undefined ? subjectText(subject) : undefined,
    serial: Buffer.from(serial?.content ?? [])
      .toString('hex')
      .replace(/^0+/, ''),
    sha256: createHash('sha256').update(der).digest('hex'),
    notBefore: validFromDate,
    notAfter: validToDate,
  };
}

/** OpenSSL's view: two readers have to find a certificate in the same bytes. */
function parsed(der: Uint8Array): X509Certificate {
  try {
    return new X509Certificate(der);
  } catch {
    throw unusable('a certificate');
  }
}

/** Values by object identifier. RFC 5280 4.2: none may be there twice. */
function readExtensions(field: Asn1 | undefined): ReadonlyMap<string, Asn1> {
  const found = new Map<string, Asn1>();
  if (field?.tagClass !== 'context' || field.tag !== 3) throw unusable('extensions');
  for (const extension of field.children[0]?.children ?? []) {
    const id = oidFromBytes(extension.children[0]?.content ?? new Uint8Array(0));
    const value = extension.children.at(-1);
    if (value?.tag !== TAG.OCTET_STRING || found.has(id)) throw unusable('each extension once', id);
    found.set(id, readDer(value.content));
  }
  return found;
}

/** RFC 5280 4.2.1.9, 4.2.1.3, 4.2.1.12: no CA, may sign handshakes, and is said to be of a TLS client. */
function expectClientUse(extensions: ReadonlyMap<string, Asn1>): void {
  const [isCa] = extensions.get(ID.basicConstraints)?.children ?? [];
  if (isCa?.tag === TAG.BOOLEAN && isCa.content[0] !== 0) throw unusable('no CA');
  const usage = extensions.get(ID.keyUsage);
  // The first octet counts unused bits; then digitalSignature is the first bit, and keyCertSign the sixth.
  if (usage !== undefined && ((usage.content[1] ?? 0) & 0x84) !== 0x80)
    throw unusable('a key that signs handshakes');
  const purposes = extensions.get(ID.extendedKeyUsage)?.children.map(({ content }) => oidFromBytes(content));
  if (!purposes?.includes(ID.clientAuthentication)) throw unusable('the purpose of a TLS client');
}

function alternativeNames(value: Asn1 | undefined): readonly Asn1[] {
  return (value?.children ?? []).filter(({ tagClass }) => tagClass === 'context');
}

function spiffeOf({ content }: Asn1): string {
  const text = Buffer.from(content).toString('latin1');
  const path = parseSpiffeId(text)?.path ?? '';
  if (path === '') throw unusable('a SPIFFE id with a path as its URI');
  return text;
}

function subjectText(subject: Asn1 | undefined): string | undefined {
  const parts = (subject?.children ?? []).map(({ children }) => {
    const [type, value] = children.length === 1 ? (children[0]?.children ?? []) : [];
    if (type === undefined || value === undefined || !TEXTS.includes(value.tag)) return '';
    return `${ATTRIBUTES[oidFromBytes(type.content)] ?? ''}=${Buffer.from(value.content).toString('latin1')}`;
  });
  // A value that holds a separator would print like two.
  if (!parts.every((part) => ATTRIBUTE.test(part))) return undefined;
  const text = parts.join(', ');
  return isSubject(text) ? text : undefined;
}

function unusable(expected: string, found?: string | number): X509Error {
  const shown = found === undefined ? '' : `, found ${found}`;
  return new X509Error(
    'X509_CLIENT_UNUSABLE',
    `The client's certificate is refused: expected ${expected}${shown}.`,
  );
}
