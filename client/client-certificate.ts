/**
 * The certificate that a caller shows an enclave which admits only some (docs/clients.md section 4). It is read anew for
 * every connection, so that a renewed one is used without anything being cut: what runs finishes under the old one.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { ClientError } from './errors.ts';

/** PEM: the certificate, with the CAs between it and the enclave's client CA after it if there are any, and its key. */
export interface ClientCertificate {
  readonly cert: string | Uint8Array;
  readonly key: string | Uint8Array;
}

export interface ClientCertificateFiles {
  readonly certFile: string;
  readonly keyFile: string;
}

export type ClientCertificateSource =
  | ClientCertificate
  | ClientCertificateFiles
  | (() => ClientCertificate | Promise<ClientCertificate>);

export interface UsableCertificate extends ClientCertificate {
  readonly notAfter: Date;
}

/** Throws ClientError `CLIENT_CERTIFICATE_UNUSABLE`, before any connection is opened. */
export async function loadClientCertificate(
  source: ClientCertificateSource,
  at: Date,
): Promise<UsableCertificate> {
  if (!('certFile' in source)) {
    return check(typeof source === 'function' ? await source() : source, at);
  }
  try {
    return check(await readFiles(source), at);
  } catch (error) {
    // A renewal may have replaced the two files between the two reads; then they fit the second time.
    if (error instanceof OtherKeyError) return check(await readFiles(source), at);
    throw error;
  }
}

async function readFiles({ certFile, keyFile }: ClientCertificateFiles): Promise<ClientCertificate> {
  try {
    const [cert, key] = await Promise.all([readFile(certFile), readFile(keyFile)]);
    return { cert, key };
  } catch (cause) {
    throw unusable(`it cannot be read: ${(cause as Error).message}`, cause);
  }
}

class OtherKeyError extends ClientError {}

function check({ cert, key }: ClientCertificate, at: Date): UsableCertificate {
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(cert);
  } catch (cause) {
    throw unusable('the certificate is not one in PEM', cause);
  }
  let fits: boolean;
  try {
    fits = certificate.checkPrivateKey(createPrivateKey(key as string));
  } catch (cause) {
    throw unusable('the key is not an unencrypted private key in PEM', cause);
  }
  if (!fits) {
    throw new OtherKeyError(
      'CLIENT_CERTIFICATE_UNUSABLE',
      'The client certificate cannot be used: the key is that of another certificate.',
    );
  }
  const [notBefore, notAfter] = [new Date(certificate.validFrom), new Date(certificate.validTo)];
  if (at < notBefore) throw unusable(`it is not valid before ${notBefore.toISOString()}`);
  if (at > notAfter) throw unusable(`it expired at ${notAfter.toISOString()}`);
  return { cert, key, notAfter };
}

function unusable(found: string, cause?: unknown): ClientError {
  return new ClientError(
    'CLIENT_CERTIFICATE_UNUSABLE',
    `The client certificate cannot be used: ${found}.`,
    cause,
  );
}
