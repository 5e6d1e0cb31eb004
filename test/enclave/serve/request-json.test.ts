import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseRequestJson, type RequestJson } from '../../../enclave/serve/request-json.ts';

const parse = (text: string): RequestJson => parseRequestJson(Buffer.from(text));
const invalid = expect.objectContaining({ code: 'API_INVALID' });

describe('JSON of a request', () => {
  it('agrees with JSON.parse wherever that is exact', () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 5 }), (text) => {
        fc.pre(!text.includes('\\ud'));
        const rounded = JSON.stringify(parse(text), (_, value) =>
          typeof value === 'bigint' ? Number(value) : value,
        );
        expect(rounded).toBe(JSON.stringify(JSON.parse(text)));
      }),
      { numRuns: 300 },
    );
  });

  it('never fails otherwise than by refusing, whatever the bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), fc.string(), (bytes, text) => {
        for (const input of [bytes, Buffer.from(text), Buffer.from(`{"inputs":[${text}`)]) {
          try {
            parseRequestJson(input);
          } catch (error) {
            expect(error).toEqual(invalid);
          }
        }
      }),
      { numRuns: 300 },
    );
  });

  it('keeps integers exact that a double would round', () => {
    expect(parse('[9007199254740993,-9223372036854775808,18446744073709551615,9007199254740991]')).toEqual([
      9007199254740993n,
      -9223372036854775808n,
      18446744073709551615n,
      9007199254740991,
    ]);
    expect(parse('[1.0,1e3,-0]')).toEqual([1, 1000, -0]);
  });

  it('reads a list of numbers alike, whether numbers alone or anything else is in it', () => {
    const number = fc.oneof(
      fc.double({ noNaN: true, noDefaultInfinity: true }).map(String),
      fc.bigInt({ min: -(2n ** 64n), max: 2n ** 64n }).map(String),
      fc.constantFrom('-0', '0', '1e2', '1E+2', '-1.50e-3', '1e300', '123456789012345678901.0'),
    );
    fc.assert(
      fc.property(fc.array(number), fc.constantFrom('', ' ', ' \n\t'), (numbers, space) => {
        const list = numbers.join(`${space},${space}`);
        const alone = parse(`[${space}${list}${space}]`);
        const withWord = parse(`[${list}${numbers.length > 0 ? ',' : ''}null]`) as RequestJson[];
        expect(alone).toEqual(withWord.slice(0, -1));
      }),
      { numRuns: 300 },
    );
  });

  it('reads every escape', () => {
    expect(parse(String.raw`["\"\\\/\b\f\n\r\t\u00e9\ud83d\udd11", "é", ""]`)).toEqual([
      '"\\/\b\f\n\r\té🔑',
      'é',
      '',
    ]);
  });

  it('takes __proto__ for a name like any other', () => {
    const value = parse('{"__proto__":{"polluted":true},"constructor":1}') as Record<string, RequestJson>;
    expect(Object.keys(value)).toEqual(['__proto__', 'constructor']);
    expect(({} as Record<string, unknown>).polluted).toBeUndefined();
  });

  it.each([
    ['nothing', ''],
    ['two values', '1 2'],
    ['a byte order mark', '\ufeff{}'],
    ['a comment', '{} // no'],
    ['a trailing comma in a list', '[1,]'],
    ['two numbers without a comma', '[1 2]'],
    ['a leading zero in a list', '[01]'],
    ['a number beyond a double in a list', '[1,1e999]'],
    ['another kind of space in a list', '[1,\u00a02]'],
    ['a list that ends in the middle of a number', '[1,-'],
    ['a trailing comma in an object', '{"a":1,}'],
    ['a missing value', '{"a":}'],
    ['a missing colon', '{"a" 1}'],
    ['a name without quotes', '{a:1}'],
    ['a list that does not end', '[1'],
    ['an object that does not end', '{"a":1'],
    ['a string that does not end', '"abc'],
    ['a string that ends in an escape', '"abc\\'],
    ['a string that ends in an escaped quote', '"abc\\"'],
    ['a line break in a string', '"a\nb"'],
    ['an unknown escape', '"\\x41"'],
    ['a cut escape', '"\\u12"'],
    ['a lone surrogate', '"\\ud83d"'],
    ['a leading zero', '01'],
    ['a plus sign', '+1'],
    ['a bare point', '1.'],
    ['NaN', 'NaN'],
    ['Infinity', '-Infinity'],
    ['a hexadecimal number', '0x10'],
    ['a number beyond a double', '1e999'],
    ['an integer beyond a double', `1${'0'.repeat(400)}`],
    ['a word cut short', 'tru'],
    ['a duplicate member', '{"a":1,"a":2}'],
    ['a duplicate member spelled differently', '{"a":1,"\\u0061":2}'],
    ['deep nesting', '['.repeat(41) + ']'.repeat(41)],
    ['very deep nesting', '['.repeat(1_000_000)],
  ])('refuses %s', (_, text) => {
    expect(() => parse(text)).toThrow(invalid);
  });

  it('refuses what is not UTF-8', () => {
    expect(() => parseRequestJson(Uint8Array.of(0x22, 0xc3, 0x22))).toThrow(invalid);
  });

  it('repeats nothing of the input in its message', () => {
    expect(() => parse('{"prompt": hunter2}')).toThrow(/^body: not JSON at character 11: expected a value$/);
  });
});

describe('JSON that is small to send and large to hold', () => {
  const tooLarge = expect.objectContaining({ code: 'API_TOO_LARGE' });

  it('is refused when it has more objects than any request, though each is two bytes', () => {
    expect(parse(`[${'{},'.repeat(8191)}{}]`)).toHaveLength(8192);
    expect(() => parse(`[${'{},'.repeat(8192)}{}]`)).toThrow(invalid);
  });

  it('is refused when an object has more members than any that we know', () => {
    const object = (count: number) => `{${Array.from({ length: count }, (_, i) => `"${i}":0`).join()}}`;
    expect(Object.keys(parse(object(64)) as object)).toHaveLength(64);
    expect(() => parse(object(65))).toThrow(invalid);
  });

  it('is refused by its length before any of it is read', () => {
    expect(() => parseRequestJson(new Uint8Array(32 * 1024 * 1024 + 1))).toThrow(tooLarge);
    expect(() => parseRequestJson(new Uint8Array(32 * 1024 * 1024))).toThrow(invalid);
  });
});
