/** SPIFFE ids (SPIFFE-ID 2), each spelt in one way: lower case in the trust domain, no empty part, no query, no escape. */

export interface SpiffeId {
  readonly trustDomain: string;
  /** Empty, or `/` and parts. The id of a client has one; the id of a trust domain has none. */
  readonly path: string;
}

/** RFC 1035 2.3.4 and RFC 1123 2.1. A last part of digits would be taken for an address. */
const DNS =
  /^(?=.{1,253}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*(?![0-9]+$)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;
/** SPIFFE-ID 2.2: no empty part, and none that could be taken for "here" or "above". */
const SPIFFE = /^spiffe:\/\/([^/]+)((?:\/(?!\.{1,2}(?:\/|$))[A-Za-z0-9._-]+)*)$/;
/** SPIFFE-ID 2.3. */
const SPIFFE_MAX_BYTES = 2048;

/** Undefined for anything else. */
export function parseSpiffeId(text: string): SpiffeId | undefined {
  const [, trustDomain = '', path = ''] = text.length <= SPIFFE_MAX_BYTES ? (SPIFFE.exec(text) ?? []) : [];
  return isDnsName(trustDomain) ? { trustDomain, path } : undefined;
}

/** In lower case, without wildcards and without a closing dot. */
export function isDnsName(text: string): boolean {
  return DNS.test(text);
}
