/** Who may call, as the deployment document says it (docs/deployment.md section 4). */
import { type KeyObject, X509Certificate } from 'node:crypto';
import type { JsonValue } from '../json.ts';
import { isSubject } from '../x509/client-certificate.ts';
import { isDnsName, parseSpiffeId } from '../x509/spiffe.ts';
import { DeploymentError } from './errors.ts';
import { integer, list, malformed, members, publicKey, text } from './members.ts';

/** Clients show certificates. */
export interface ClientRules {
  /** The certificates, PEM, that a client's must lead to. */
  readonly ca: readonly string[];
  readonly allowed: readonly AllowedClient[];
  /** The longest time from the first to the last moment of a client's certificate. */
  readonly maxCertificateHours: number;
  /** Undefined if the document says that there is no deny list. */
  readonly denyListSigner: KeyObject | undefined;
}

export interface AllowedClient {
  /** A SPIFFE id; every SPIFFE id of a trust domain; the subject of a certificate without a URI. */
  readonly kind: 'spiffe' | 'trustDomain' | 'subject';
  readonly name: string;
  readonly limits: ClientLimits;
}

/** What one client may take; absent: as much as all together may. */
export interface ClientLimits {
  readonly requestsPerMinute?: number;
  /** Requests that are not over yet. */
  readonly concurrentRequests?: number;
  readonly connections?: number;
}

const CA_MAX = 8;
const ALLOWED_MAX = 512;
/** A day, and time to renew. */
const DEFAULT_CERTIFICATE_HOURS = 48;
const MAX_CERTIFICATE_HOURS = 397 * 24;
const LIMITS: Readonly<Record<keyof ClientLimits, number>> = {
  requestsPerMinute: 1_000_000,
  concurrentRequests: 4096,
  connections: 4096,
};

/** Throws DeploymentError DEPLOYMENT_MALFORMED. */
export function parseClients(value: JsonValue | undefined, perClient: ClientLimits): 'anyone' | ClientRules {
  if (value === 'anyone') return value;
  if (typeof value === 'string') throw malformed('clients', '"anyone" or an object', value);
  const clients = members(value, 'clients', {
    required: ['ca', 'allowed', 'denyList'],
    optional: ['maxCertificateHours'],
  });
  const allowed = list(clients.allowed, 'clients.allowed', ALLOWED_MAX).map((entry, index) =>
    parseAllowed(entry, `clients.allowed[${index}]`, perClient),
  );
  const names = allowed.map(({ kind, name }) => `${kind} ${name}`);
  if (new Set(names).size !== names.length) {
    throw new DeploymentError('DEPLOYMENT_MALFORMED', 'clients.allowed names the same client twice.');
  }
  return {
    ca: parseCa(clients.ca),
    allowed,
    maxCertificateHours:
      clients.maxCertificateHours === undefined
        ? DEFAULT_CERTIFICATE_HOURS
        : integer(clients.maxCertificateHours, 'clients.maxCertificateHours', 1, MAX_CERTIFICATE_HOURS),
    denyListSigner: parseDenyList(clients.denyList),
  };
}

/** `limits.perClient`, or the limits of one allowed client. */
export function parseClientLimits(value: JsonValue | undefined, at: string): ClientLimits {
  if (value === undefined) return {};
  const limits = members(value, at, { required: [], optional: Object.keys(LIMITS) });
  return Object.fromEntries(
    Object.entries(LIMITS).flatMap(([name, most]) =>
      limits[name] === undefined ? [] : [[name, integer(limits[name], `${at}.${name}`, 1, most)]],
    ),
  );
}

function parseAllowed(value: JsonValue, at: string, perClient: ClientLimits): AllowedClient {
  const entry = members(value, at, {
    required: [],
    optional: ['spiffe', 'trustDomain', 'subject', 'limits'],
  });
  const { limits: _, ...named } = entry;
  const [kind, ...others] = Object.keys(named) as AllowedClient['kind'][];
  if (kind === undefined || others.length > 0) {
    throw malformed(at, 'exactly one of spiffe, trustDomain and subject', Object.keys(named));
  }
  const name = text(entry[kind], `${at}.${kind}`);
  const { isName, expected } = NAMES[kind];
  if (!isName(name)) throw malformed(`${at}.${kind}`, expected, name);
  return { kind, name, limits: { ...perClient, ...parseClientLimits(entry.limits, `${at}.limits`) } };
}

const NAMES: Readonly<
  Record<AllowedClient['kind'], { isName: (text: string) => boolean; expected: string }>
> = {
  spiffe: {
    isName: (name) => (parseSpiffeId(name)?.path ?? '') !== '',
    expected: 'spiffe://TRUST-DOMAIN/PATH, in lower case but for the path, without wildcards',
  },
  trustDomain: { isName: isDnsName, expected: 'a trust domain in lower case, without spiffe://' },
  subject: {
    isName: isSubject,
    expected: 'a subject such as "O=Example, CN=app-1", of C, ST, L, O, OU, CN and DC and plain letters',
  },
};

const CERTIFICATE = /-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]+-----END CERTIFICATE-----\n?/g;

function parseCa(value: JsonValue | undefined): readonly string[] {
  const at = 'clients.ca';
  const pem = text(value, at);
  const certificates = pem.match(CERTIFICATE) ?? [];
  if (
    certificates.length === 0 ||
    certificates.length > CA_MAX ||
    pem.replace(CERTIFICATE, '').trim() !== ''
  ) {
    throw malformed(at, `1 to ${CA_MAX} certificates in PEM and nothing else`, pem);
  }
  for (const certificate of certificates) {
    if (!isRoot(certificate))
      throw malformed(at, 'certificates of CAs that are signed by themselves', certificate);
  }
  return certificates;
}

/** Node takes no other for an anchor: a chain that ends at a CA in between would be refused for every client. */
function isRoot(pem: string): boolean {
  try {
    const certificate = new X509Certificate(pem);
    return (
      certificate.ca && certificate.checkIssued(certificate) && certificate.verify(certificate.publicKey)
    );
  } catch {
    return false;
  }
}

function parseDenyList(value: JsonValue | undefined): KeyObject | undefined {
  if (value === 'none') return undefined;
  if (typeof value === 'string') throw malformed('clients.denyList', '"none" or an object', value);
  const { signer } = members(value, 'clients.denyList', { required: ['signer'], optional: [] });
  return publicKey(signer, 'clients.denyList.signer');
}
