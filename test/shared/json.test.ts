import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { codeOf } from '../../shared/errors.ts';
import { type JsonLimits, parseStrictJson } from '../../shared/json.ts';
import { describeWithVectors } from '../vectors.ts';

const bytes = (text: string) => new TextEncoder().encode(text);
const parse = (text: string) => parseStrictJson(bytes(text)).value;
const code = (input: string | Uint8Array, limits?: Partial<JsonLimits>): string | undefined => {
  try {
    parseStrictJson(typeof input === 'string' ? bytes(input) : input, limits);
    return undefined;
  } catch (error) {
    return codeOf(error) ?? `not ours: ${String(error)}`;
  }
};
/** Objects without prototype, compared with what JSON.parse gives. */
const plain = (value: unknown) => JSON.parse(JSON.stringify(value)) as unknown;

describe('the strict JSON parser', () => {
  it('reads what JSON.parse reads, for every value that all readers agree on', () => {
    fc.assert(
      fc.property(fc.json(), fc.constantFrom(undefined, 2, '\t'), (compact, indent) => {
        const text = JSON.stringify(JSON.parse(compact), undefined, indent);
        if (code(text) !== undefined) {
          expect(code(text)).toMatch(/^JSON_(UNSAFE_NUMBER|ENCODING|FORBIDDEN_MEMBER)$/);
        } else {
          expect(plain(parse(text))).toEqual(JSON.parse(text));
        }
      }),
      { numRuns: 400 },
    );
  });

  it('never accepts what JSON.parse refuses, however the text was damaged', () => {
    fc.assert(
      fc.property(
        fc.json(),
        fc.nat(),
        fc.constantFrom(...'"\\,:{}[]0-+.eE \n\u0000x'),
        (text, where, character) => {
          const at = where % (text.length + 1);
          const damaged = text.slice(0, at) + character + text.slice(at + 1);
          if (code(damaged) === undefined) expect(plain(parse(damaged))).toEqual(JSON.parse(damaged));
          else expect(code(damaged)).toMatch(/^JSON_/);
        },
      ),
      { numRuns: 600 },
    );
  });

  it.each([
    ['0', 0],
    ['-1', -1],
    ['1.5', 1.5],
    ['1e3', 1000],
    ['9007199254740991', Number.MAX_SAFE_INTEGER],
    ['-9007199254740991', Number.MIN_SAFE_INTEGER],
    ['0.0', 0],
    [' "a" ', 'a'],
    ['"\\u00e9\\n\\/\\ud83d\\ude00"', 'é\n/😀'],
    ['"\u2028"', '\u2028'],
    ['[]', []],
  ])('accepts %s', (text, value) => {
    expect(parse(text)).toEqual(value);
  });

  it.each([
    ['nothing', '', 'JSON_MALFORMED'],
    ['only space', ' ', 'JSON_MALFORMED'],
    ['a second value', '1 2', 'JSON_TRAILING_BYTES'],
    ['a trailing NUL', '1\u0000', 'JSON_TRAILING_BYTES'],
    ['a trailing comma in an object', '{"a":1,}', 'JSON_MALFORMED'],
    ['a trailing comma in an array', '[1,]', 'JSON_MALFORMED'],
    ['a comment', '{/* */}', 'JSON_MALFORMED'],
    ['single quotes', "{'a':1}", 'JSON_MALFORMED'],
    ['a name without quotes', '{a:1}', 'JSON_MALFORMED'],
    ['a missing colon', '{"a" 1}', 'JSON_MALFORMED'],
    ['a missing end', '{"a":[1', 'JSON_MALFORMED'],
    ['an unfinished string', '"a', 'JSON_MALFORMED'],
    ['a control character in a string', '"a\nb"', 'JSON_MALFORMED'],
    ['an unknown escape', '"\\x41"', 'JSON_MALFORMED'],
    ['a short unicode escape', '"\\u12"', 'JSON_MALFORMED'],
    ['a leading zero', '01', 'JSON_TRAILING_BYTES'],
    ['a leading plus', '+1', 'JSON_MALFORMED'],
    ['a bare point', '.5', 'JSON_MALFORMED'],
    ['a hexadecimal number', '0x10', 'JSON_TRAILING_BYTES'],
    ['NaN', 'NaN', 'JSON_MALFORMED'],
    ['space that JSON does not know', '\u00a01', 'JSON_MALFORMED'],
    ['a duplicate member', '{"a":1,"a":1}', 'JSON_DUPLICATE_MEMBER'],
    ['a duplicate member, once escaped', '{"a":1,"\\u0061":2}', 'JSON_DUPLICATE_MEMBER'],
    ['a duplicate member deep inside', '[{"x":{"a":1,"b":2,"a":3}}]', 'JSON_DUPLICATE_MEMBER'],
    ['a member named __proto__', '{"__proto__":{}}', 'JSON_FORBIDDEN_MEMBER'],
    ['a member named __proto__, escaped', '{"\\u005f_proto__":1}', 'JSON_FORBIDDEN_MEMBER'],
    ['a lone high surrogate', '"\\ud800"', 'JSON_ENCODING'],
    ['a lone low surrogate', '"\\udc00a"', 'JSON_ENCODING'],
    ['surrogates in the wrong order', '"\\ude00\\ud83d"', 'JSON_ENCODING'],
    ['a lone surrogate in a name', '{"\\ud800":1}', 'JSON_ENCODING'],
    ['an integer above 2^53 - 1', '9007199254740992', 'JSON_UNSAFE_NUMBER'],
    ['an integer below -(2^53 - 1)', '-9007199254740992', 'JSON_UNSAFE_NUMBER'],
    ['an exponent that hides such an integer', '1e16', 'JSON_UNSAFE_NUMBER'],
    ['a number that overflows', '1e999', 'JSON_UNSAFE_NUMBER'],
    ['a number that vanishes', '1e-999', 'JSON_UNSAFE_NUMBER'],
    ['minus zero', '-0', 'JSON_UNSAFE_NUMBER'],
    ['minus zero with a fraction', '-0.0', 'JSON_UNSAFE_NUMBER'],
  ])('refuses %s', (_what, text, expected) => {
    expect(code(text)).toBe(expected);
  });

  it.each([
    ['a byte order mark', Uint8Array.of(0xef, 0xbb, 0xbf, 0x31)],
    ['an invalid sequence', Uint8Array.of(0x22, 0xff, 0x22)],
    ['an overlong form', Uint8Array.of(0x22, 0xc0, 0xaf, 0x22)],
    ['an encoded surrogate', Uint8Array.of(0x22, 0xed, 0xa0, 0x80, 0x22)],
    ['UTF-16', Uint8Array.of(0xff, 0xfe, 0x31, 0x00)],
  ])('refuses %s', (_what, input) => {
    expect(code(input)).toBe('JSON_ENCODING');
  });

  it('bounds size and depth', () => {
    expect(code(`"${'a'.repeat(65_534)}"`)).toBeUndefined();
    expect(code(`"${'a'.repeat(65_535)}"`)).toBe('JSON_LIMIT');
    expect(code('[[]]', { maxDepth: 2 })).toBeUndefined();
    expect(code('[[]]', { maxDepth: 1 })).toBe('JSON_LIMIT');
    expect(code('{"a":{}}', { maxDepth: 1 })).toBe('JSON_LIMIT');
    expect(code('[],[]', { maxDepth: 1 })).toBe('JSON_TRAILING_BYTES');
    expect(code('['.repeat(60_000))).toBe('JSON_LIMIT');
  });

  it('makes objects whose members are the text and nothing else', () => {
    const value = parse('{"constructor":1,"toString":{}}') as Record<string, unknown>;
    expect(Object.getPrototypeOf(value)).toBeNull();
    expect(Object.getPrototypeOf(value.toString)).toBeNull();
    expect('hasOwnProperty' in value).toBe(false);
    expect(Object.keys(value)).toEqual(['constructor', 'toString']);
  });

  it('knows where every value starts', () => {
    const json = parseStrictJson(bytes('{\n  "é": [1,\n    {"b": true}],\r\n  "c": null }'));
    expect(json.positionOf([])).toEqual({ line: 1, column: 1, offset: 0 });
    expect(json.positionOf(['é', 0])).toEqual({ line: 2, column: 9, offset: 11 });
    expect(json.positionOf(['é', 1, 'b'])).toEqual({ line: 3, column: 11, offset: 24 });
    expect(json.positionOf(['c'])).toEqual({ line: 4, column: 8, offset: 40 });
    expect(json.positionOf(['d'])).toBeUndefined();
    expect(json.positionOf(['é', '0'])).toBeUndefined();
    expect(json.positionOf(['c', 'x'])).toBeUndefined();
  });

  it('names line and column of a fault', () => {
    expect(() => parse('{\n "a": 1,\n "a": 2}')).toThrowError(/line 3, column 2/);
  });
});

describeWithVectors('every manifest of the vectors', (folder) => {
  it('is read as JSON.parse reads it', () => {
    for (const place of ['attestation', 'cms', 'eif']) {
      const file = readFileSync(join(folder, place, 'manifest.json'));
      const { value } = parseStrictJson(file, { maxBytes: 1 << 20 });
      expect(plain(value)).toEqual(JSON.parse(file.toString('utf8')));
    }
  });

  it('as is every published key policy', () => {
    const real = join(folder, 'policies', 'real');
    for (const name of readdirSync(real)) {
      const file = readFileSync(join(real, name));
      expect(plain(parseStrictJson(file).value), name).toEqual(JSON.parse(file.toString('utf8')));
    }
  });
});
