/** A private CA and the server certificate of `kms.REGION.amazonaws.com`, made anew for each simulation. */
import 'reflect-metadata';
import { KeyObject, randomBytes, webcrypto } from 'node:crypto';
import {
  BasicConstraintsExtension,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  X509CertificateGenerator,
} from '@peculiar/x509';

export interface ServerTls {
  /** What a client has to trust, and all that it has to. */
  readonly caCertificatePem: string;
  /** Server certificate, then the CA's. */
  readonly chainPem: string;
  readonly keyPem: string;
}

const P256 = { name: 'ECDSA', namedCurve: 'P-256' } as const;
const SIGNATURE = { name: 'ECDSA', hash: 'SHA-256' } as const;
const DAY_MS = 24 * 3600 * 1000;
const SERVER_AUTHENTICATION = '1.3.6.1.5.5.7.3.1';

export function kmsHost(region: string): string {
  return `kms.${region}.amazonaws.com`;
}

export async function createServerTls(region: string, at: Date): Promise<ServerTls> {
  const host = kmsHost(region);
  const issuer = 'O=Strongroom simulation, CN=Simulated KMS CA';
  const validity = {
    notBefore: new Date(at.getTime() - DAY_MS),
    notAfter: new Date(at.getTime() + 30 * DAY_MS),
  };
  const caKeys = await webcrypto.subtle.generateKey(P256, false, ['sign', 'verify']);
  const serverKeys = await webcrypto.subtle.generateKey(P256, true, ['sign', 'verify']);
  const ca = await X509CertificateGenerator.createSelfSigned({
    ...validity,
    serialNumber: serial(),
    name: issuer,
    keys: caKeys,
    signingAlgorithm: SIGNATURE,
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign, true),
    ],
  });
  const server = await X509CertificateGenerator.create({
    ...validity,
    serialNumber: serial(),
    subject: `CN=${host}`,
    issuer,
    publicKey: serverKeys.publicKey,
    signingKey: caKeys.privateKey,
    signingAlgorithm: SIGNATURE,
    extensions: [
      new BasicConstraintsExtension(false, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      new ExtendedKeyUsageExtension([SERVER_AUTHENTICATION]),
      new SubjectAlternativeNameExtension([{ type: 'dns', value: host }]),
    ],
  });
  const caCertificatePem = `${ca.toString('pem')}\n`;
  return {
    caCertificatePem,
    chainPem: `${server.toString('pem')}\n${caCertificatePem}`,
    keyPem: KeyObject.from(serverKeys.privateKey).export({ format: 'pem', type: 'pkcs8' }) as string,
  };
}

/** 16 bytes, positive in DER. */
function serial(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] as number) & 0x7f) | 0x01;
  return bytes.toString('hex');
}
