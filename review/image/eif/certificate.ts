/** The signing certificate of an image: PEM text in the file, DER in PCR8. */
import { createHash, X509Certificate } from 'node:crypto';
import { EifError } from './errors.ts';

export interface SigningCertificate {
  readonly subject: string;
  readonly issuer: string;
  readonly notBefore: Date;
  readonly notAfter: Date;
  /** SHA-256 of the DER, hex. */
  readonly sha256: string;
  readonly der: Uint8Array;
  readonly publicKey: X509Certificate['publicKey'];
}

const ONE_BLOCK = /-----BEGIN CERTIFICATE-----\r?\n([A-Za-z0-9+/=\r\n]+)-----END CERTIFICATE-----/;

/**
 * Text around the block is ignored, as OpenSSL does; a second block is refused, because then it would depend on
 * the reader which certificate is measured. EifError EIF_SIGNATURE_FORM.
 */
export function readSigningCertificate(pem: Uint8Array): SigningCertificate {
  const text = Buffer.from(pem).toString('latin1');
  const [, base64] = ONE_BLOCK.exec(text) ?? [];
  if (base64 === undefined || text.split('-----BEGIN').length !== 2) {
    throw new EifError('EIF_SIGNATURE_FORM', 'Expected exactly one PEM block, a CERTIFICATE.');
  }
  const decoded = Buffer.from(base64, 'base64');
  // Node decodes what it can make sense of; other readers stop, or read on, at another place.
  if (decoded.toString('base64') !== base64.replace(/[\r\n]/g, '')) {
    throw new EifError('EIF_SIGNATURE_FORM', 'The signing certificate is not in base64 as it is written.');
  }
  const der = new Uint8Array(decoded);
  let certificate: X509Certificate;
  let publicKey: X509Certificate['publicKey'];
  try {
    certificate = new X509Certificate(der);
    publicKey = certificate.publicKey;
  } catch (cause) {
    throw new EifError(
      'EIF_SIGNATURE_FORM',
      'The signing certificate is not X.509, or of an unknown kind of key.',
      cause,
    );
  }
  // OpenSSL reads over bytes behind the certificate; PCR8 would not cover them.
  if (!certificate.raw.equals(der)) {
    throw new EifError('EIF_SIGNATURE_FORM', 'Something follows the signing certificate in its PEM block.');
  }
  return {
    subject: oneLine(certificate.subject),
    issuer: oneLine(certificate.issuer),
    notBefore: certificate.validFromDate,
    notAfter: certificate.validToDate,
    sha256: createHash('sha256').update(der).digest('hex'),
    der,
    publicKey,
  };
}

/** "CN=a\nO=b" -> "CN=a, O=b". A self-signed certificate may have no name at all. */
function oneLine(name: string | undefined): string {
  return (name ?? '').trim().split('\n').join(', ');
}
