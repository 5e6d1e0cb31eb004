/**
 * What certificates name, as GeneralName of RFC 5280 4.2.1.6: DNS names and IP addresses of servers, SPIFFE ids
 * (SPIFFE-ID 2, X.509-SVID 2) of clients. Spelt in one way each: lower case, no wildcards, no closing dot.
 */
import { isIPv4, isIPv6 } from 'node:net';
import type { Asn1Input } from '../../shared/asn1.ts';
import { isDnsName, parseSpiffeId } from '../../shared/x509/spiffe.ts';
import { CertificateError } from './errors.ts';

export { isDnsName };

export type Name =
  | { readonly kind: 'dns'; readonly text: string }
  /** 4 or 16 bytes. */
  | { readonly kind: 'address'; readonly text: string; readonly bytes: Uint8Array }
  | { readonly kind: 'spiffe'; readonly text: string; readonly trustDomain: string };

/** Context tags of GeneralName. */
const DNS_NAME = 2;
const URI = 6;
const IP_ADDRESS = 7;

/** Throws CERT_NAME_UNUSABLE. */
export function serverName(text: string): Name {
  const bytes = addressBytes(text);
  if (bytes !== undefined) return { kind: 'address', text, bytes };
  if (isDnsName(text)) return { kind: 'dns', text };
  throw unusable('a DNS name in lower case or an IP address', text);
}

/** Throws CERT_NAME_UNUSABLE. */
export function spiffeId(text: string): Name & { readonly kind: 'spiffe' } {
  const { trustDomain, path } = parseSpiffeId(text) ?? {};
  if (trustDomain !== undefined && path !== '') return { kind: 'spiffe', text, trustDomain };
  throw unusable('spiffe://TRUST-DOMAIN/PATH', text);
}

/** The trust domain of `spiffe://TRUST-DOMAIN` without a path; undefined if the text is something else. */
export function trustDomainOf(text: string): string | undefined {
  const { trustDomain, path } = parseSpiffeId(text) ?? {};
  return path === '' ? trustDomain : undefined;
}

/** In network order; undefined if the text is no address. */
export function addressBytes(text: string): Uint8Array | undefined {
  if (isIPv4(text)) return Uint8Array.from(text.split('.'), Number);
  if (!isIPv6(text) || text.includes('%')) return undefined;
  // The URL parser writes every spelling in one way, in groups of hexadecimal digits with at most one gap.
  const [before = '', after] = new URL(`http://[${text}]`).hostname.slice(1, -1).split('::');
  const groups = (part: string) =>
    part === '' ? [] : part.split(':').map((digits) => Number.parseInt(digits, 16));
  const head = groups(before);
  const tail = groups(after ?? '');
  const all = [...head, ...new Array<number>(8 - head.length - tail.length).fill(0), ...tail];
  return Uint8Array.from(all.flatMap((group) => [group >> 8, group & 0xff]));
}

export function generalName(name: Name): Asn1Input {
  switch (name.kind) {
    case 'dns':
      return contextText(DNS_NAME, name.text);
    case 'spiffe':
      return contextText(URI, name.text);
    case 'address':
      return { tagClass: 'context', tag: IP_ADDRESS, content: name.bytes };
  }
}

export function contextText(tag: typeof DNS_NAME | typeof URI, text: string): Asn1Input {
  return { tagClass: 'context', tag, content: Buffer.from(text, 'latin1') };
}

export const GENERAL_NAME = { dns: DNS_NAME, uri: URI, address: IP_ADDRESS } as const;

function unusable(expected: string, found: string): CertificateError {
  return new CertificateError('CERT_NAME_UNUSABLE', `Expected ${expected}, found ${JSON.stringify(found)}.`);
}
