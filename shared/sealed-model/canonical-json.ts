/**
 * JSON in its one canonical spelling (RFC 8785), for the values that our documents hold: objects, arrays,
 * well-formed strings, safe integers. ECMAScript's own string and number forms are the RFC's.
 */
export type CanonicalValue =
  | string
  | number
  | readonly CanonicalValue[]
  | { readonly [member: string]: CanonicalValue | undefined };

/** Members that are undefined are left out. Throws TypeError for a value that has no canonical form here. */
export function canonicalJson(value: CanonicalValue): string {
  if (typeof value === 'string') {
    if (!value.isWellFormed()) throw new TypeError('a lone surrogate has no UTF-8 form');
    return JSON.stringify(value);
  }
  if (typeof value === 'number') {
    if (!Number.isSafeInteger(value) || Object.is(value, -0)) throw new TypeError('only safe integers');
    return String(value);
  }
  if (isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  const members = Object.entries(value)
    .filter((entry): entry is [string, CanonicalValue] => entry[1] !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1)) // by UTF-16 code units, as RFC 8785 3.2.3 says
    .map(([name, member]) => `${canonicalJson(name)}:${canonicalJson(member)}`);
  return `{${members.join(',')}}`;
}

function isArray(value: CanonicalValue): value is readonly CanonicalValue[] {
  return Array.isArray(value);
}
