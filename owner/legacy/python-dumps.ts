/**
 * Python's `json.dumps`, byte for byte: an ENVMODEL's associated data is what Python wrote, so a blank or a digit
 * of a float in another place means that the file does not open. (Python: Lib/json/encoder.py; float.__repr__.)
 */
import type { PythonValue } from './python-loads.ts';

export interface DumpsOptions {
  /** Python's `separators=(',', ':')`. */
  readonly compact?: boolean;
  readonly sortKeys?: boolean;
  /** True unless given, as in Python. */
  readonly ensureAscii?: boolean;
}

/** The text of `json.dumps(value)`. It has lone surrogates only if `ensureAscii` is false and the value has them. */
export function pythonDumps(value: PythonValue, options: DumpsOptions = {}): string {
  if (value === null || typeof value === 'boolean' || typeof value === 'bigint') return String(value);
  if (typeof value === 'number') return pythonFloat(value);
  if (typeof value === 'string') return pythonString(value, options.ensureAscii ?? true);
  const [comma, colon] = options.compact === true ? [',', ':'] : [', ', ': '];
  if (Array.isArray(value)) return `[${value.map((item) => pythonDumps(item, options)).join(comma)}]`;
  const members = [...value];
  if (options.sortKeys === true) members.sort(([a], [b]) => compareCodePoints(a, b));
  return `{${members.map(([name, member]) => pythonDumps(name, options) + colon + pythonDumps(member, options)).join(comma)}}`;
}

/** `float.__repr__`: the shortest digits that read back the same, without an exponent from 1e-4 up to 1e16. */
function pythonFloat(value: number): string {
  if (Number.isNaN(value)) return 'NaN';
  if (!Number.isFinite(value)) return value > 0 ? 'Infinity' : '-Infinity';
  const [mantissa = '', power = '0'] = Math.abs(value).toExponential().split('e');
  const sign = value < 0 || Object.is(value, -0) ? '-' : '';
  const exponent = Number(power);
  if (exponent < -4 || exponent >= 16) {
    const digits = String(Math.abs(exponent)).padStart(2, '0');
    return `${sign}${mantissa}e${exponent < 0 ? '-' : '+'}${digits}`;
  }
  const digits = mantissa.replace('.', '');
  if (exponent < 0) return `${sign}0.${'0'.repeat(-exponent - 1)}${digits}`;
  const whole = digits.slice(0, exponent + 1).padEnd(exponent + 1, '0');
  return `${sign}${whole}.${digits.slice(exponent + 1) || '0'}`;
}

const SHORT_ESCAPES = new Map(
  Object.entries({
    '"': '\\"',
    '\\': '\\\\',
    '\n': '\\n',
    '\r': '\\r',
    '\t': '\\t',
    '\f': '\\f',
    '\b': '\\b',
  }),
);
/** Everything but printable ASCII, unit by unit: what lies beyond U+FFFF becomes a pair of escapes. */
const NOT_ASCII = /["\\]|[^ -~]/g;
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is escaped.
const NOT_PLAIN = /["\\\u0000-\u001f]/g;

function pythonString(text: string, ensureAscii: boolean): string {
  const escaped = text.replace(
    ensureAscii ? NOT_ASCII : NOT_PLAIN,
    (unit) => SHORT_ESCAPES.get(unit) ?? `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
  return `"${escaped}"`;
}

/** Python orders strings by code points, ECMAScript by UTF-16 units: they differ from U+E000 on. */
function compareCodePoints(a: string, b: string): number {
  for (let at = 0; ; ) {
    const [x, y] = [a.codePointAt(at), b.codePointAt(at)];
    if (x === undefined || y === undefined) return a.length - b.length;
    if (x !== y) return x - y;
    at += x > 0xffff ? 2 : 1;
  }
}
