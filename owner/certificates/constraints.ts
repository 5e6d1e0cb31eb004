/**
 * What a CA of ours may vouch for: the name constraints of RFC 5280 4.2.1.10, read by every TLS library. They bind
 * only names of the forms that they mention, so each form that nothing is permitted of is closed: DNS names and
 * addresses by excluding all of them, URIs (of which a library can exclude no such thing as all) by permitting only a
 * host that cannot exist (RFC 6761 6.4).
 */
import type { Asn1, Asn1Input } from '../../shared/asn1.ts';
import { extension, ID, sequence } from '../../shared/x509/write.ts';
import { CertificateError } from './errors.ts';
import { addressBytes, contextText, GENERAL_NAME, isDnsName, type Name, trustDomainOf } from './names.ts';

export type Permitted =
  /** The name and everything below it. */
  | { readonly kind: 'dns'; readonly text: string }
  /** Address and mask, 8 or 32 bytes. */
  | { readonly kind: 'address'; readonly text: string; readonly bytes: Uint8Array }
  | { readonly kind: 'spiffe'; readonly text: string; readonly trustDomain: string };

const NO_HOST = 'invalid';

/** `example.org`, `10.0.0.0/8`, `192.0.2.7`, `spiffe://example.org`. Throws CERT_NAME_UNUSABLE. */
export function permittedName(text: string): Permitted {
  const trustDomain = trustDomainOf(text);
  if (trustDomain !== undefined) return { kind: 'spiffe', text, trustDomain };
  const [address = '', prefix, ...rest] = text.split('/');
  const bytes = addressBytes(address);
  if (bytes !== undefined && rest.length === 0) {
    const bits =
      prefix === undefined ? bytes.length * 8 : /^(0|[1-9][0-9]{0,2})$/.test(prefix) ? Number(prefix) : -1;
    const mask = maskOf(bytes.length, bits);
    if (mask?.every((octet, i) => ((bytes[i] as number) & ~octet) === 0)) {
      return { kind: 'address', text, bytes: Uint8Array.from([...bytes, ...mask]) };
    }
  }
  if (isDnsName(text)) return { kind: 'dns', text };
  throw new CertificateError(
    'CERT_NAME_UNUSABLE',
    `Expected a domain, an address or range without bits beyond its prefix, or spiffe://TRUST-DOMAIN, found ${JSON.stringify(text)}.`,
  );
}

export function nameConstraints(permitted: readonly Permitted[]): Asn1Input {
  const none = (kind: Permitted['kind']) => !permitted.some((each) => each.kind === kind);
  const allowed = [
    ...permitted.map(subtree),
    ...(none('spiffe') ? [contextText(GENERAL_NAME.uri, NO_HOST)] : []),
  ];
  const excluded = [
    ...(none('dns') ? [contextText(GENERAL_NAME.dns, '')] : []),
    ...(none('address') ? [addresses(new Uint8Array(8)), addresses(new Uint8Array(32))] : []),
  ];
  const list = (tag: number, names: readonly Asn1Input[]): Asn1Input[] =>
    names.length === 0 ? [] : [{ tagClass: 'context', tag, children: names.map((name) => sequence(name)) }];
  return extension(ID.nameConstraints, true, sequence(...list(0, allowed), ...list(1, excluded)));
}

/** The permitted part of what `nameConstraints` wrote; CERT_UNUSABLE for anything else. */
export function readPermitted(value: Asn1): Permitted[] {
  const [permitted] = value.children.filter(({ tagClass, tag }) => tagClass === 'context' && tag === 0);
  return (permitted?.children ?? []).flatMap(({ children: [name] }): Permitted[] => {
    if (name?.tagClass !== 'context') throw unusable();
    const text = Buffer.from(name.content).toString('latin1');
    if (name.tag === GENERAL_NAME.uri) return text === NO_HOST ? [] : [permittedName(`spiffe://${text}`)];
    if (name.tag === GENERAL_NAME.dns) return [permittedName(text)];
    if (name.tag === GENERAL_NAME.address) return [permittedName(rangeText(name.content))];
    throw unusable();
  });
}

/** Throws CERT_NOT_PERMITTED. */
export function expectPermitted(permitted: readonly Permitted[], name: Name): void {
  if (permitted.some((each) => permits(each, name))) return;
  const list = permitted.map(({ text }) => text).join(', ');
  throw new CertificateError('CERT_NOT_PERMITTED', `${name.text} is none of what the CA permits: ${list}.`);
}

function permits(permitted: Permitted, name: Name): boolean {
  if (permitted.kind === 'dns' && name.kind === 'dns') {
    return name.text === permitted.text || name.text.endsWith(`.${permitted.text}`);
  }
  if (permitted.kind === 'spiffe' && name.kind === 'spiffe')
    return name.trustDomain === permitted.trustDomain;
  if (permitted.kind !== 'address' || name.kind !== 'address') return false;
  const length = name.bytes.length;
  const [address, mask] = [permitted.bytes.subarray(0, length), permitted.bytes.subarray(length)];
  return (
    mask.length === length &&
    name.bytes.every((octet, i) => (octet & (mask[i] as number)) === (address[i] as number))
  );
}

function subtree(permitted: Permitted): Asn1Input {
  if (permitted.kind === 'address') return addresses(permitted.bytes);
  return permitted.kind === 'dns'
    ? contextText(GENERAL_NAME.dns, permitted.text)
    : contextText(GENERAL_NAME.uri, permitted.trustDomain);
}

function addresses(bytes: Uint8Array): Asn1Input {
  return { tagClass: 'context', tag: GENERAL_NAME.address, content: bytes };
}

function maskOf(length: number, bits: number): Uint8Array | undefined {
  if (bits < 0 || bits > length * 8) return undefined;
  return Uint8Array.from({ length }, (_, i) => 0xff & (0xff00 >> Math.max(0, Math.min(8, bits - i * 8))));
}

function rangeText(bytes: Uint8Array): string {
  const half = bytes.length / 2;
  if (half !== 4 && half !== 16) throw unusable();
  const bits = bytes
    .subarray(half)
    .reduce((sum, octet) => sum + (octet.toString(2).match(/1/g)?.length ?? 0), 0);
  const groups = Array.from({ length: 8 }, (_, i) =>
    (((bytes[i * 2] ?? 0) << 8) | (bytes[i * 2 + 1] ?? 0)).toString(16),
  );
  const address =
    half === 4 ? bytes.subarray(0, half).join('.') : new URL(`http://[${groups.join(':')}]`).hostname;
  return `${address.replace(/[[\]]/g, '')}${bits === half * 8 ? '' : `/${bits}`}`;
}

function unusable(): CertificateError {
  return new CertificateError(
    'CERT_UNUSABLE',
    'The CA has name constraints that this command did not write.',
  );
}
