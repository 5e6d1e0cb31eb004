/** Certificates of clients of every form, also of forms that nobody should issue. */
import { generateKeyPairSync, type KeyObject, randomBytes, X509Certificate } from 'node:crypto';
import { type Asn1Input, TAG } from '../../shared/asn1.ts';
import { privateKeyPem } from '../../shared/x509/private-key-pem.ts';
import {
  bitString,
  certificatePem,
  commonName,
  endEntityExtensions,
  extension,
  ID,
  sequence,
  signCertificate,
} from '../../shared/x509/write.ts';

export const HOUR_MS = 60 * 60 * 1000;

export interface TestCa {
  readonly pem: string;
  readonly name: Asn1Input;
  readonly key: KeyObject;
}

export interface TestClient {
  readonly cert: string;
  readonly key: string;
  readonly certificate: X509Certificate;
}

export interface ClientOptions {
  /** The URIs of the subject alternative name; none: no such extension. */
  readonly uris?: readonly (string | Uint8Array)[];
  /** Other alternative names, ready. */
  readonly otherNames?: readonly Asn1Input[];
  readonly subject?: Asn1Input;
  readonly notBefore?: Date;
  readonly notAfter?: Date;
  /** In place of those of a TLS client. */
  readonly uses?: readonly Asn1Input[];
}

export function testCa(
  {
    name = `CA ${randomBytes(4).toString('hex')}`,
    notAfter = hours(24 * 30),
  }: { name?: string; notAfter?: Date } = {},
  issuer?: TestCa,
): TestCa {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
  const yes: Asn1Input = { tag: TAG.BOOLEAN, content: Uint8Array.of(0xff) };
  const subject = commonName(name);
  const der = signCertificate(
    {
      serial: randomBytes(16),
      issuer: issuer?.name ?? subject,
      subject,
      notBefore: hours(-1),
      notAfter,
      spki: publicKey.export({ type: 'spki', format: 'der' }),
      extensions: [
        extension(ID.basicConstraints, true, sequence(yes)),
        extension(ID.keyUsage, true, bitString(Uint8Array.of(0x06), 1)),
      ],
    },
    issuer?.key ?? privateKey,
  );
  return { pem: certificatePem(der), name: subject, key: privateKey };
}

export function testClient(ca: TestCa, options: ClientOptions = {}): TestClient {
  const { uris = [], otherNames = [], uses = endEntityExtensions('client') } = options;
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
  const names = [
    ...uris.map((uri): Asn1Input => ({ tagClass: 'context', tag: 6, content: Buffer.from(uri) })),
    ...otherNames,
  ];
  const der = signCertificate(
    {
      serial: randomBytes(16),
      issuer: ca.name,
      subject: options.subject ?? commonName('client'),
      notBefore: options.notBefore ?? hours(-0.1),
      notAfter: options.notAfter ?? hours(12),
      spki: publicKey.export({ type: 'spki', format: 'der' }),
      extensions: [
        ...uses,
        ...(names.length === 0 ? [] : [extension(ID.subjectAltName, false, sequence(...names))]),
      ],
    },
    ca.key,
  );
  const cert = certificatePem(der);
  return {
    cert,
    key: Buffer.from(privateKeyPem(privateKey)).toString(),
    certificate: new X509Certificate(cert),
  };
}

/** From now. */
export function hours(count: number): Date {
  return new Date(Math.floor((Date.now() + count * HOUR_MS) / 1000) * 1000);
}
