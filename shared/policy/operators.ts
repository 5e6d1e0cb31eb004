/**
 * Condition operators (IAM user guide, "Condition operators"): a family of comparison, perhaps negated, with the
 * prefix `ForAllValues:` or `ForAnyValue:` and the suffix `IfExists`. Spelling is exact: a lenient reader would take
 * `stringequals` for the real thing where a strict one sees no condition.
 */
import { isIP, SocketAddress } from 'node:net';
import { asciiLower, keepCompiled, type PatternPart, partsMatch } from './glob.ts';

export type Comparison =
  | 'string-equals'
  | 'string-equals-ignore-case'
  | 'string-like'
  | 'numeric'
  | 'date'
  | 'bool'
  | 'binary'
  | 'ip'
  | 'arn'
  | 'null';

export interface Operator {
  /** As written, whole. */
  readonly name: string;
  readonly comparison: Comparison;
  readonly negated: boolean;
  /** For numeric and date; equality for the others. */
  readonly order: Order;
  readonly ifExists: boolean;
  readonly set: 'all' | 'any' | undefined;
}

type Order = '=' | '<' | '<=' | '>' | '>=';
type Base = readonly [comparison: Comparison, negated: boolean, order: Order];

const BASES: ReadonlyMap<string, Base> = new Map<string, Base>([
  ['StringEquals', ['string-equals', false, '=']],
  ['StringNotEquals', ['string-equals', true, '=']],
  ['StringEqualsIgnoreCase', ['string-equals-ignore-case', false, '=']],
  ['StringNotEqualsIgnoreCase', ['string-equals-ignore-case', true, '=']],
  ['StringLike', ['string-like', false, '=']],
  ['StringNotLike', ['string-like', true, '=']],
  ['Bool', ['bool', false, '=']],
  ['BinaryEquals', ['binary', false, '=']],
  ['IpAddress', ['ip', false, '=']],
  ['NotIpAddress', ['ip', true, '=']],
  ['ArnEquals', ['arn', false, '=']],
  ['ArnLike', ['arn', false, '=']],
  ['ArnNotEquals', ['arn', true, '=']],
  ['ArnNotLike', ['arn', true, '=']],
  ['Null', ['null', false, '=']],
  ...(['Numeric', 'Date'] as const).flatMap((family): [string, Base][] => {
    const comparison = family === 'Numeric' ? 'numeric' : 'date';
    return [
      [`${family}Equals`, [comparison, false, '=']],
      [`${family}NotEquals`, [comparison, true, '=']],
      [`${family}LessThan`, [comparison, false, '<']],
      [`${family}LessThanEquals`, [comparison, false, '<=']],
      [`${family}GreaterThan`, [comparison, false, '>']],
      [`${family}GreaterThanEquals`, [comparison, false, '>=']],
    ];
  }),
]);

/** Undefined for anything that is not exactly an operator of IAM. `Null` takes no prefix and no suffix. */
export function parseOperator(name: string): Operator | undefined {
  const [, prefix, rest = ''] = /^(?:(ForAllValues|ForAnyValue):)?(.*)$/s.exec(name) ?? [];
  const ifExists = rest.endsWith('IfExists');
  const base = BASES.get(ifExists ? rest.slice(0, -'IfExists'.length) : rest);
  if (base === undefined) return undefined;
  const [comparison, negated, order] = base;
  if (comparison === 'null' && (ifExists || prefix !== undefined)) return undefined;
  const set = prefix === 'ForAllValues' ? 'all' : prefix === 'ForAnyValue' ? 'any' : undefined;
  return { name, comparison, negated, order, ifExists, set };
}

/** Policy variables work in strings and ARNs; in the other families their text is just a wrong value. */
export function takesVariables(comparison: Comparison): boolean {
  return comparison.startsWith('string') || comparison === 'arn';
}

/**
 * Whether one value of the request matches one value of the policy, before negation. A value that is not of the
 * operator's type matches nothing, so the negated operator holds for it.
 */
export function valueMatches(operator: Operator, expected: readonly PatternPart[], found: string): boolean {
  const [first] = expected;
  const text =
    expected.length === 1 && first !== undefined ? first.text : expected.map((part) => part.text).join('');
  switch (operator.comparison) {
    case 'string-equals':
      return found === text;
    case 'string-equals-ignore-case':
      return asciiLower(found) === asciiLower(text);
    case 'string-like':
      return partsMatch(expected, found);
    case 'arn':
      return arnMatches(expected, found);
    case 'numeric':
      return compare(operator.order, parseNumber(found), parseNumber(text));
    case 'date':
      return compare(operator.order, parseDate(found), parseDate(text));
    case 'bool':
      return isBoolean(text) && asciiLower(found) === asciiLower(text);
    case 'binary':
      return /^[A-Za-z0-9+/]*={0,2}$/.test(text) && Buffer.from(text, 'base64').equals(Buffer.from(found));
    case 'ip':
      return ipMatches(text, found);
    case 'null':
      return false;
  }
}

export function isBoolean(text: string): boolean {
  return /^(true|false)$/i.test(text);
}

/** All four ARN operators compare the six parts one by one, with wildcards (IAM user guide, "ARN operators"). */
function arnMatches(expected: readonly PatternPart[], found: string): boolean {
  const pattern = piecesOf(expected);
  const parts = split6(found);
  if (parts.length !== 6 || parts[0] !== 'arn') return false;
  if (pattern.length === 1 && expected.every((part) => !part.literal)) {
    return expected.map((part) => part.text).join('') === '*';
  }
  if (pattern.length !== 6) return false;
  return pattern.every((piece, index) => partsMatch(piece, parts[index] ?? ''));
}

const PIECES = new WeakMap<readonly PatternPart[], readonly PatternPart[][]>();

function piecesOf(parts: readonly PatternPart[]): readonly PatternPart[][] {
  return PIECES.get(parts) ?? splitParts(parts);
}

/** For values of a policy that are compared many times. */
export function keepPrepared(comparison: Comparison, text: string): readonly PatternPart[] {
  const parts = keepCompiled([{ text, literal: false }]);
  if (comparison === 'arn') PIECES.set(parts, splitParts(parts).map(keepCompiled));
  return parts;
}

/** Splits at the first five colons; the sixth part keeps its own. */
function split6(arn: string): string[] {
  const pieces: string[] = [];
  let from = 0;
  for (let colon = arn.indexOf(':'); colon >= 0 && pieces.length < 5; colon = arn.indexOf(':', from)) {
    pieces.push(arn.slice(from, colon));
    from = colon + 1;
  }
  return [...pieces, arn.slice(from)];
}

function splitParts(parts: readonly PatternPart[]): PatternPart[][] {
  const pieces: PatternPart[][] = [[]];
  for (const part of parts) {
    let rest = part.text;
    while (pieces.length < 6) {
      const colon = rest.indexOf(':');
      if (colon < 0) break;
      pieces.at(-1)?.push({ text: rest.slice(0, colon), literal: part.literal });
      pieces.push([]);
      rest = rest.slice(colon + 1);
    }
    pieces.at(-1)?.push({ text: rest, literal: part.literal });
  }
  return pieces;
}

function compare(order: Order, found: number, expected: number): boolean {
  switch (order) {
    case '=':
      return found === expected;
    case '<':
      return found < expected;
    case '<=':
      return found <= expected;
    case '>':
      return found > expected;
    case '>=':
      return found >= expected;
  }
}

export function parseNumber(text: string): number {
  return /^[+-]?\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
}

const DATE = /^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d))?$/;

/** Milliseconds. ISO 8601 (W3C profile) or seconds since 1970, as IAM accepts both. */
export function parseDate(text: string): number {
  if (/^\d{1,12}$/.test(text)) return Number(text) * 1000;
  return DATE.test(text) ? Date.parse(text) : Number.NaN;
}

/** Address or CIDR block against an address; IPv4 and IPv6 never match each other. */
function ipMatches(block: string, found: string): boolean {
  const [address = '', prefixText, ...more] = block.split('/');
  const family = isIP(address);
  if (family === 0 || isIP(found) !== family || more.length > 0) return false;
  const bits = family === 4 ? 32 : 128;
  if (prefixText !== undefined && !/^\d{1,3}$/.test(prefixText)) return false;
  const prefix = prefixText === undefined ? bits : Number(prefixText);
  if (prefix > bits) return false;
  const shift = BigInt(bits - prefix);
  return addressNumber(address, family) >> shift === addressNumber(found, family) >> shift;
}

function addressNumber(address: string, family: number): bigint {
  if (family === 4) return address.split('.').reduce((sum, byte) => sum * 256n + BigInt(byte), 0n);
  const canonical = new SocketAddress({ address, family: 'ipv6' }).address.split('%')[0] ?? '';
  // An embedded IPv4 tail (::ffff:1.2.3.4) becomes two groups.
  const tail = /^(.*:)(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(canonical);
  const group = (high = '0', low = '0') => (Number(high) * 256 + Number(low)).toString(16);
  const groups = tail ? `${tail[1]}${group(tail[2], tail[3])}:${group(tail[4], tail[5])}` : canonical;
  const [head = '', rest] = groups.split('::');
  const left = head === '' ? [] : head.split(':');
  const right = rest === undefined || rest === '' ? [] : rest.split(':');
  const zeros = new Array<string>(8 - left.length - right.length).fill('0');
  return [...left, ...zeros, ...right].reduce((sum, part) => sum * 65536n + BigInt(`0x${part}`), 0n);
}
