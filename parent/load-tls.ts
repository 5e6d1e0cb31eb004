/** The certificates of an end of TLS, from files, under the one profile. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { closeSync, fstatSync, constants as open, openSync, readSync } from 'node:fs';
import { createSecureContext, rootCertificates, type SecureContext } from 'node:tls';
import { TLS_PROFILE } from '../shared/tls-profile.ts';
import { ParentError } from './errors.ts';

/** PEM files. */
export interface TlsFiles {
  /** Whose certificates are accepted, and nobody else's; the public roots that Node ships if absent. */
  readonly ca?: string;
  /** This end's certificate and what leads to its root, leaf first. */
  readonly certificate?: string;
  /** The certificate's private key. */
  readonly key?: string;
}

export interface LoadedTls {
  readonly context: SecureContext;
  /** This end's own certificate. */
  readonly certificate: X509Certificate | undefined;
  /** The configured `ca`; none if the public roots are in its place. */
  readonly authorities: readonly X509Certificate[];
}

const FILE_MAX_BYTES = 1024 * 1024;
const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

/**
 * Reads the files and checks that they can be used together. Neither the environment (NODE_EXTRA_CA_CERTS) nor
 * the machine's own store adds a root. Throws ParentError PARENT_TLS_FILES_UNUSABLE.
 */
export function loadTls(files: TlsFiles): LoadedTls {
  const configured = files.ca === undefined ? undefined : readCertificates(files.ca);
  const ca = configured ?? [...rootCertificates];
  const authorities = configured?.map((pem) => new X509Certificate(pem)) ?? [];
  if (files.certificate === undefined || files.key === undefined) {
    return { context: createSecureContext({ ...TLS_PROFILE, ca }), certificate: undefined, authorities };
  }
  const chain = readCertificates(files.certificate);
  const certificate = new X509Certificate(String(chain[0]));
  const key = readFile(files.key);
  try {
    if (!certificate.checkPrivateKey(createPrivateKey(key))) {
      throw new Error('it does not belong to the certificate');
    }
    const context = createSecureContext({ ...TLS_PROFILE, ca, cert: chain.join('\n'), key });
    return { context, certificate, authorities };
  } catch (cause) {
    throw unusable(files.key, 'the unencrypted PEM private key of the certificate', cause);
  } finally {
    key.fill(0);
  }
}

function readCertificates(path: string): string[] {
  const found = readFile(path).toString('latin1').match(CERTIFICATE) ?? [];
  try {
    if (found.length === 0) throw new Error('no certificate');
    for (const pem of found) new X509Certificate(pem);
  } catch (cause) {
    throw unusable(path, 'PEM certificates', cause);
  }
  return found;
}

/** Synchronous, so that a configuration is accepted or refused as a whole; bounded, and never a FIFO or device. */
function readFile(path: string): Buffer {
  let fd: number | undefined;
  try {
    fd = openSync(path, open.O_RDONLY | open.O_NONBLOCK);
    const found = fstatSync(fd);
    if (!found.isFile() || found.size > FILE_MAX_BYTES) throw new Error('no regular file, or too long');
    const bytes = Buffer.alloc(found.size);
    return bytes.subarray(0, readSync(fd, bytes, 0, bytes.length, 0));
  } catch (cause) {
    throw unusable(path, `a regular file of at most ${FILE_MAX_BYTES} bytes`, cause);
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

function unusable(path: string, expected: string, cause: unknown): ParentError {
  const found = cause instanceof Error ? cause.message : String(cause);
  return new ParentError(
    'PARENT_TLS_FILES_UNUSABLE',
    `${path}: expected ${expected}, found: ${found}.`,
    cause,
  );
}
