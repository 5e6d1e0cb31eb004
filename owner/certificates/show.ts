/** What certificates say, how long they last, and whether they lead to a CA. */
import { X509Certificate } from 'node:crypto';
import { constants, open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type ExpiryStep, expiryOf, timeLeft } from '../../shared/expiry.ts';
import { CertificateError } from './errors.ts';
import { permittedBy } from './issue.ts';

export interface ShownCertificate {
  readonly file: string;
  readonly subject: string;
  readonly issuer: string;
  readonly kind: 'ca' | 'server' | 'client' | 'server and client' | 'other';
  /** Subject alternative names as Node spells them: `DNS:a, IP Address:10.0.0.1, URI:spiffe://…`. */
  readonly names: readonly string[];
  /** What a CA of ours may vouch for. */
  readonly permitted: readonly string[] | undefined;
  readonly key: string;
  readonly notBefore: string;
  readonly notAfter: string;
  readonly days: number;
  /** For people. */
  readonly left: string;
  readonly state: 'valid' | 'renewal-due' | 'renewal-urgent' | 'expired' | 'not-yet-valid';
  readonly sha256: string;
  /** Subjects of what signed it, one after the other, as far as the certificates at hand lead. */
  readonly chain: readonly string[];
  /** `ca` and `not-ca`: whether the chain leads to one of the CAs that were given; `unknown` if none was. */
  readonly leadsTo: 'ca' | 'not-ca' | 'unknown';
}

const FILE_MAX_BYTES = 1024 * 1024;
const CERTIFICATES_MAX = 100;
const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;
const USES = { '1.3.6.1.5.5.7.3.1': 'server', '1.3.6.1.5.5.7.3.2': 'client' } as const;
const STATES = { soon: 'renewal-due', urgent: 'renewal-urgent', over: 'expired' } as const;

/** The certificates of a PEM file, or of a folder that `strongroom cert` wrote. Throws CERT_UNUSABLE. */
export async function readCertificates(path: string): Promise<X509Certificate[]> {
  const file = (await stat(path)).isDirectory() ? join(path, 'certificate.pem') : path;
  const handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const found = await handle.stat();
    if (!found.isFile() || found.size > FILE_MAX_BYTES) throw new Error('no regular file, or too long');
    const blocks = (await handle.readFile('latin1')).match(CERTIFICATE) ?? [];
    if (blocks.length === 0 || blocks.length > CERTIFICATES_MAX)
      throw new Error(`${blocks.length} certificates`);
    return blocks.map((pem) => new X509Certificate(pem));
  } catch (cause) {
    const found = cause instanceof Error ? cause.message : String(cause);
    throw new CertificateError(
      'CERT_UNUSABLE',
      `${file}: expected certificates in PEM, found: ${found}.`,
      cause,
    );
  } finally {
    await handle.close();
  }
}

/** `beside` are the other certificates of the same file, `cas` those that somebody trusts. */
export function showCertificate(
  certificate: X509Certificate,
  context: {
    readonly file: string;
    readonly beside: readonly X509Certificate[];
    readonly cas: readonly X509Certificate[];
    readonly at: Date;
  },
): ShownCertificate {
  const { file, beside, cas, at } = context;
  const { validFromDate, validToDate } = certificate;
  const { days, step } = expiryOf({ from: validFromDate, until: validToDate }, at.getTime());
  const chain = chainOf(certificate, [...cas, ...beside]);
  const top = chain.at(-1) ?? certificate;
  const trusted = cas.some((ca) => ca.fingerprint256 === top.fingerprint256);
  return {
    file,
    subject: oneLine(certificate.subject),
    issuer: oneLine(certificate.issuer),
    kind: kindOf(certificate),
    names: certificate.subjectAltName?.split(', ').map(oneLine) ?? [],
    permitted: permittedTexts(certificate),
    key: keyOf(certificate),
    notBefore: validFromDate.toISOString(),
    notAfter: validToDate.toISOString(),
    days,
    left: timeLeft(validToDate, at),
    state: stateOf(step, validFromDate, at),
    sha256: certificate.fingerprint256.replaceAll(':', '').toLowerCase(),
    chain: chain.map(({ subject }) => oneLine(subject)),
    leadsTo: cas.length === 0 ? 'unknown' : trusted ? 'ca' : 'not-ca',
  };
}

/** Whether somebody should do something about it. */
export function isFinding({ state, leadsTo }: ShownCertificate): boolean {
  return state !== 'valid' || leadsTo === 'not-ca';
}

function stateOf(step: ExpiryStep | undefined, from: Date, at: Date): ShownCertificate['state'] {
  if (step !== undefined) return STATES[step];
  return from > at ? 'not-yet-valid' : 'valid';
}

function chainOf(certificate: X509Certificate, others: readonly X509Certificate[]): X509Certificate[] {
  const chain: X509Certificate[] = [];
  for (let at = certificate; chain.length <= others.length; ) {
    const issuer = others.find((other) => other.ca && at.checkIssued(other) && at.verify(other.publicKey));
    if (issuer === undefined || issuer.fingerprint256 === at.fingerprint256) break;
    chain.push(issuer);
    at = issuer;
  }
  return chain;
}

function kindOf({ ca, keyUsage }: X509Certificate): ShownCertificate['kind'] {
  if (ca) return 'ca';
  // Node calls the extended key usages so.
  const uses = ((keyUsage ?? []) as string[]).flatMap((id) => USES[id as keyof typeof USES] ?? []).toSorted();
  if (uses.length === 2) return 'server and client';
  return uses[0] ?? 'other';
}

function permittedTexts(certificate: X509Certificate): string[] | undefined {
  try {
    return permittedBy(certificate).map(({ text }) => text);
  } catch {
    return undefined; // a CA of somebody else's
  }
}

function keyOf({ publicKey }: X509Certificate): string {
  const { namedCurve, modulusLength } = publicKey.asymmetricKeyDetails ?? {};
  if (namedCurve === 'prime256v1') return 'P-256';
  if (namedCurve === 'secp384r1') return 'P-384';
  return modulusLength === undefined ? (publicKey.asymmetricKeyType ?? 'unknown') : `RSA-${modulusLength}`;
}

/** Node gives one attribute a line; whatever else a foreign certificate puts there stays off the terminal. */
function oneLine(name: string | undefined): string {
  return (name ?? '').replaceAll('\n', ', ').replace(/[^\x20-\x7e]/g, '?');
}
