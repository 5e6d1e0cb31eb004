/**
 * The enclave's TLS identity: a P-256 key that is made here and never leaves, and a certificate that it signs
 * itself (RFC 5280). Nobody is asked to trust the certificate: callers compare the SHA-256 of its public key
 * with the one in the evidence (docs/evidence.md section 2). It therefore names nothing and never expires.
 */
import { createHash, generateKeyPairSync } from 'node:crypto';
import { privateKeyPem } from '../shared/x509/private-key-pem.ts';
import {
  certificatePem,
  commonName,
  endEntityExtensions,
  NO_EXPIRY,
  signCertificate,
} from '../shared/x509/write.ts';

export interface TlsIdentity {
  readonly certificatePem: string;
  /** The private key, PKCS #8 in PEM, in a buffer of its own. Whoever made the secure context wipes it. */
  readonly key: Uint8Array<ArrayBuffer>;
  /** SHA-256 of the certificate's SubjectPublicKeyInfo in DER. */
  readonly spkiSha256: Uint8Array;
}

/** `at` is the first moment of validity; `serial` is SERIAL_BYTES random bytes. */
export function createTlsIdentity(at: Date, serial: Uint8Array): TlsIdentity {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
  const spki = publicKey.export({ type: 'spki', format: 'der' });
  const name = commonName('Strongroom enclave');
  const certificate = signCertificate(
    {
      serial,
      issuer: name,
      subject: name,
      notBefore: at,
      notAfter: NO_EXPIRY,
      spki,
      extensions: endEntityExtensions('server'),
    },
    privateKey,
  );
  return {
    certificatePem: certificatePem(certificate),
    key: privateKeyPem(privateKey),
    spkiSha256: createHash('sha256').update(spki).digest(),
  };
}
