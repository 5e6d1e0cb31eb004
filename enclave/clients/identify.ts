/**
 * Who a client is: from the certificate of this very connection, which OpenSSL has found to lead to the deployment's
 * CA, and which here must be of a client that the deployment allows, short-lived, and valid in enclave time.
 */
import { X509Certificate } from 'node:crypto';
import type { DetailedPeerCertificate, TLSSocket } from 'node:tls';
import type { AllowedClient, ClientRules } from '../../shared/deployment/clients.ts';
import { type ClientCertificate, readClientCertificate } from '../../shared/x509/client-certificate.ts';
import { X509Error } from '../../shared/x509/errors.ts';
import { parseSpiffeId } from '../../shared/x509/spiffe.ts';
import { ApiError } from '../serve/errors.ts';

export interface IdentifiedClient {
  readonly name: string;
  readonly allowed: AllowedClient;
  readonly certificate: ClientCertificate;
  /** The first moment at which a certificate of the chain is over. */
  readonly validUntil: Date;
}

const HOUR_MS = 60 * 60 * 1000;
/** Certificates in a chain. */
const CHAIN_MAX = 8;

/** Throws ApiError CALLER_*. `at` is enclave time: OpenSSL went by the system clock, which the host can set. */
export function identify(socket: TLSSocket, rules: ClientRules, at: Date): IdentifiedClient {
  const shown = socket.getPeerX509Certificate();
  if (shown === undefined) {
    throw new ApiError('CALLER_CERTIFICATE_REQUIRED', 'this enclave serves clients that show a certificate');
  }
  if (!socket.authorized) throw untrusted(socket.authorizationError);
  const certificate = readCertificate(shown.raw);
  const { notBefore, notAfter } = certificate;
  if (!(notAfter.getTime() - notBefore.getTime() <= rules.maxCertificateHours * HOUR_MS)) {
    const limit = `at most ${rules.maxCertificateHours} hours of validity`;
    throw new ApiError('CALLER_CERTIFICATE_UNUSABLE', `certificate: expected ${limit}`);
  }
  const validUntil = expectValidChain(socket, at);
  const name = certificate.spiffe ?? certificate.subject;
  const allowed = name === undefined ? undefined : findAllowed(rules.allowed, certificate);
  if (name === undefined || allowed === undefined) {
    throw new ApiError('CALLER_NOT_ALLOWED', 'the deployment of this enclave does not name this client');
  }
  return { name, allowed, certificate, validUntil };
}

/** Names that are spelt out go before trust domains, whatever their order: they may have limits of their own. */
function findAllowed(
  allowed: readonly AllowedClient[],
  { spiffe, subject }: ClientCertificate,
): AllowedClient | undefined {
  if (spiffe === undefined) return allowed.find(({ kind, name }) => kind === 'subject' && name === subject);
  const trustDomain = parseSpiffeId(spiffe)?.trustDomain;
  return (
    allowed.find(({ kind, name }) => kind === 'spiffe' && name === spiffe) ??
    allowed.find(({ kind, name }) => kind === 'trustDomain' && name === trustDomain)
  );
}

function readCertificate(der: Uint8Array): ClientCertificate {
  try {
    return readClientCertificate(der);
  } catch (cause) {
    if (cause instanceof X509Error) throw unusable();
    throw cause;
  }
}

/** Each certificate of the chain that OpenSSL found is valid now; resolves to the end of that. */
function expectValidChain(socket: TLSSocket, at: Date): Date {
  let validUntil: Date | undefined;
  let next: DetailedPeerCertificate | undefined = socket.getPeerCertificate(true);
  for (let count = 0; next?.raw !== undefined; count++) {
    if (count === CHAIN_MAX) throw unusable();
    const { validFromDate, validToDate } = new X509Certificate(next.raw);
    // Not "outside": an invalid date is not inside.
    if (!(validFromDate <= at && at <= validToDate)) throw expired();
    if (validUntil === undefined || validToDate < validUntil) validUntil = validToDate;
    next = next.issuerCertificate === next ? undefined : next.issuerCertificate;
  }
  if (validUntil === undefined) throw unusable();
  return validUntil;
}

export function expired(): ApiError {
  return new ApiError('CALLER_CERTIFICATE_EXPIRED', 'certificate: not valid at this time');
}

function unusable(): ApiError {
  return new ApiError('CALLER_CERTIFICATE_UNUSABLE', 'certificate: not of the form that clients have');
}

/** Codes of X509_verify_cert(3), as Node gives them. */
function untrusted(reason: unknown): ApiError {
  if (reason === 'CERT_HAS_EXPIRED' || reason === 'CERT_NOT_YET_VALID') return expired();
  if (reason === 'INVALID_PURPOSE') return unusable();
  return new ApiError('CALLER_CERTIFICATE_UNTRUSTED', 'certificate: it leads to no CA of the deployment');
}
