/** A CA for tests, with certificates for servers and clients on this machine. */
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

const P256 = { name: 'ECDSA', namedCurve: 'P-256' } as const;
const SIGNATURE = { name: 'ECDSA', hash: 'SHA-256' } as const;
const SERVER = '1.3.6.1.5.5.7.3.1';
const CLIENT = '1.3.6.1.5.5.7.3.2';
const DAY_MS = 24 * 3600 * 1000;

export interface Issued {
  readonly certificate: string;
  readonly key: string;
}

interface IssueOptions {
  readonly use?: 'server' | 'client';
  readonly name?: string;
  readonly address?: string;
  readonly days?: number;
  /** How long before its end it began. */
  readonly lifeDays?: number;
}

export interface TestCa {
  readonly certificate: string;
  issue(options?: IssueOptions): Promise<Issued>;
}

export async function createTestCa(name = 'Test CA', days = 365): Promise<TestCa> {
  const keys = await webcrypto.subtle.generateKey(P256, false, ['sign', 'verify']);
  const ca = await X509CertificateGenerator.createSelfSigned({
    ...validity(days),
    serialNumber: serial(),
    name: `CN=${name}`,
    keys,
    signingAlgorithm: SIGNATURE,
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign, true),
    ],
  });
  return {
    certificate: `${ca.toString('pem')}\n`,
    issue: async ({ use = 'server', name = use, address = '127.0.0.1', days = 90, lifeDays } = {}) => {
      const own = await webcrypto.subtle.generateKey(P256, true, ['sign', 'verify']);
      const issued = await X509CertificateGenerator.create({
        ...validity(days, lifeDays),
        serialNumber: serial(),
        subject: `CN=${name}`,
        issuer: ca.subject,
        publicKey: own.publicKey,
        signingKey: keys.privateKey,
        signingAlgorithm: SIGNATURE,
        extensions: [
          new BasicConstraintsExtension(false, undefined, true),
          new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
          new ExtendedKeyUsageExtension([use === 'server' ? SERVER : CLIENT]),
          ...(use === 'server'
            ? [new SubjectAlternativeNameExtension([{ type: 'ip', value: address }])]
            : []),
        ],
      });
      return {
        certificate: `${issued.toString('pem')}\n`,
        key: KeyObject.from(own.privateKey).export({ format: 'pem', type: 'pkcs8' }) as string,
      };
    },
  };
}

/** Ends so many days from now; a few minutes more, so that a slow test counts no day less. */
function validity(days: number, lifeDays = days + 400): { notBefore: Date; notAfter: Date } {
  const endMs = Date.now() + days * DAY_MS + 3_600_000;
  return { notBefore: new Date(endMs - lifeDays * DAY_MS), notAfter: new Date(endMs) };
}

function serial(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] as number) & 0x7f) | 0x01;
  return bytes.toString('hex');
}
