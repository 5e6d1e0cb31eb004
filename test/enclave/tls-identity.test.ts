import { execFileSync, spawnSync } from 'node:child_process';
import { createHash, createPrivateKey, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import tls from 'node:tls';
import { expect, test } from 'vitest';
import { createTlsIdentity } from '../../enclave/tls-identity.ts';

const opensslIsAbsent = spawnSync('openssl', ['version']).status !== 0;
const AT = new Date('2026-03-04T05:06:07.890Z');
const serialOf = (first: number): Uint8Array =>
  Uint8Array.from({ length: 16 }, (_, i) => (i === 0 ? first : i));

test('the certificate is a self-signed P-256 leaf that says what it is and never expires', () => {
  const identity = createTlsIdentity(AT, serialOf(0xff));
  const certificate = new X509Certificate(identity.certificatePem);
  expect(certificate.verify(certificate.publicKey)).toBe(true);
  expect(certificate.issuer).toBe(certificate.subject);
  expect(certificate.ca).toBe(false);
  expect(certificate.subject).toBe('CN=Strongroom enclave');
  expect(certificate.publicKey.asymmetricKeyDetails?.namedCurve).toBe('prime256v1');
  expect(certificate.keyUsage).toEqual(['1.3.6.1.5.5.7.3.1']);
  expect(certificate.validFromDate.toISOString()).toBe('2026-03-04T05:06:07.000Z');
  expect(certificate.validToDate.toISOString()).toBe('9999-12-31T23:59:59.000Z');
});

test('the digest is that of the public key in the certificate, and the key is its private half', () => {
  const identity = createTlsIdentity(AT, serialOf(1));
  const certificate = new X509Certificate(identity.certificatePem);
  const spki = certificate.publicKey.export({ type: 'spki', format: 'der' });
  expect(Buffer.from(identity.spkiSha256)).toEqual(createHash('sha256').update(spki).digest());
  expect(certificate.checkPrivateKey(createPrivateKey(Buffer.from(identity.key)))).toBe(true);
});

test('the key is in a buffer of its own, so that wiping it wipes all of it', () => {
  const { key } = createTlsIdentity(AT, serialOf(1));
  expect(key.byteOffset).toBe(0);
  expect(key.buffer.byteLength).toBe(key.byteLength);
  const text = Buffer.from(key).toString('latin1');
  expect(text).toBe(createPrivateKey(text).export({ type: 'pkcs8', format: 'pem' }));
});

test.each([0x00, 0x01, 0x7f, 0x80, 0xff])('serial %i becomes a positive number of full length', (first) => {
  const { serialNumber } = new X509Certificate(createTlsIdentity(AT, serialOf(first)).certificatePem);
  expect(serialNumber).toHaveLength(32);
  expect(Number.parseInt(serialNumber.slice(0, 2), 16)).toBeLessThan(0x80);
  expect(serialNumber.slice(2)).toBe('0102030405060708090A0B0C0D0E0F');
});

test('a serial of another length is refused', () => {
  expect(() => createTlsIdentity(AT, new Uint8Array(15))).toThrow('expected 16 bytes, found 15');
});

test('from 2050 the first moment is a GeneralizedTime', () => {
  const { certificatePem } = createTlsIdentity(new Date('2050-01-01T00:00:00Z'), serialOf(1));
  expect(new X509Certificate(certificatePem).validFromDate.toISOString()).toBe('2050-01-01T00:00:00.000Z');
});

test('every identity has a key of its own', () => {
  expect(createTlsIdentity(AT, serialOf(1)).spkiSha256).not.toEqual(
    createTlsIdentity(AT, serialOf(1)).spkiSha256,
  );
});

test.skipIf(opensslIsAbsent)('openssl reads the certificate and the signature', () => {
  const { certificatePem } = createTlsIdentity(AT, serialOf(1));
  const text = execFileSync('openssl', ['x509', '-noout', '-text'], { input: certificatePem }).toString();
  expect(text).toMatch(/Version: 3/);
  expect(text).toMatch(/Signature Algorithm: ecdsa-with-SHA256/);
  expect(text).toMatch(/X509v3 Basic Constraints: critical\s+CA:FALSE/);
  expect(text).toMatch(/X509v3 Key Usage: critical\s+Digital Signature\n/);
  expect(text).toMatch(/X509v3 Extended Key Usage: critical\s+TLS Web Server Authentication/);
});

test('a TLS 1.3 handshake works after the key is wiped', async () => {
  const identity = createTlsIdentity(AT, serialOf(1));
  const secureContext = tls.createSecureContext({
    key: Buffer.from(identity.key.buffer),
    cert: identity.certificatePem,
    minVersion: 'TLSv1.3',
  });
  identity.key.fill(0);
  const plain = createServer((socket) => {
    new tls.TLSSocket(socket, { isServer: true, secureContext }).end('hello').on('error', () => {});
  });
  plain.listen(0, '127.0.0.1');
  await once(plain, 'listening');
  const client = tls.connect({
    port: (plain.address() as AddressInfo).port,
    host: '127.0.0.1',
    ca: identity.certificatePem,
    checkServerIdentity: () => undefined,
    minVersion: 'TLSv1.3',
  });
  await once(client, 'secureConnect');
  expect(client.authorized).toBe(true);
  expect(client.getProtocol()).toBe('TLSv1.3');
  expect(client.getPeerX509Certificate()?.toString()).toBe(identity.certificatePem);
  client.destroy();
  plain.close();
});
