import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type DumpsOptions, pythonDumps } from '../../../owner/legacy/python-dumps.ts';
import { pythonObject } from '../../../owner/legacy/python-loads.ts';
import { describeWithPython } from './python.ts';

const WAYS: Readonly<Record<string, DumpsOptions>> = {
  default: {},
  sorted: { sortKeys: true },
  compact: { compact: true },
  plain: { ensureAscii: false },
  all: { sortKeys: true, compact: true, ensureAscii: false },
};

/** The answer that `json_dumps.py` gives, from our own twin. */
function answer(text: string): Record<string, string> {
  const { members } = pythonObject(text);
  const dumped = Object.entries(WAYS).map(([name, options]) => [name, pythonDumps(members, options)]);
  return { text, ...Object.fromEntries(dumped) };
}

/** Written by Python 3.11's json module, through json_dumps.py. */
const vectors: { text: string }[] = JSON.parse(
  readFileSync(join(import.meta.dirname, 'json-dumps.json'), 'utf8'),
);

describe('the twin of json.dumps', () => {
  it.each(vectors)('writes what Python wrote for $text', (vector) => {
    expect(answer(vector.text)).toEqual(vector);
  });
});

const REFUSED = [
  '',
  '[]',
  '1',
  '{',
  '{}x',
  '{"a"}',
  '{"a":}',
  '{"a":1,}',
  '{,"a":1}',
  '{"a":[1,]}',
  '{"a":01}',
  '{"a":1.}',
  '{"a":.5}',
  '{"a":+1}',
  '{"a":-}',
  '{"a":1e}',
  '{"a":0x1}',
  '{"a":nan}',
  '{"a":-NaN}',
  '{"a":True}',
  "{'a':1}",
  '{"a":"\n"}',
  '{"a":"\\x"}',
  '{"a":"\\u12"}',
  '{"a":"\\u+123"}',
  '{"a":"',
  '{"a":"\\',
  '{a:1}',
  '{"a":1 "b":2}',
  '\ufeff{}',
  '{\u00a0}',
  `{"a":${'9'.repeat(4301)}}`,
];

describe('the reader of Python’s JSON', () => {
  it.each(REFUSED)('refuses %j', (text) => {
    expect(() => pythonObject(text)).toThrow(SyntaxError);
  });

  it('refuses more than 100 levels, and reads 100', () => {
    const nested = (levels: number): string => `{"a":${'['.repeat(levels - 1)}${']'.repeat(levels - 1)}}`;
    expect(pythonDumps(pythonObject(nested(100)).members, { compact: true })).toBe(nested(100));
    expect(() => pythonObject(nested(101))).toThrow(SyntaxError);
    expect(() => pythonObject('{"a":'.repeat(300_000))).toThrow(SyntaxError);
  });

  it('says where each outermost value stands, and which name came twice', () => {
    const text = ' { "a" : [ 1 ] , "b":{"x":1,"x":2}, "a":"é" } ';
    const { spans, repeated } = pythonObject(text);
    expect([...spans].map(([name, { start, end }]) => [name, text.slice(start, end)])).toEqual([
      ['a', '"é"'],
      ['b', '{"x":1,"x":2}'],
    ]);
    expect([...repeated]).toEqual(['a']);
  });

  it('throws nothing but SyntaxError, whatever the text', () => {
    const pieces = fc.constantFrom(
      '{',
      '}',
      '[',
      ']',
      ',',
      ':',
      '"',
      '\\',
      'u',
      '1',
      'e',
      '-',
      '.',
      'N',
      ' ',
    );
    fc.assert(
      fc.property(fc.array(pieces, { maxLength: 60 }), (parts) => {
        try {
          pythonObject(`{"a":${parts.join('')}}`);
        } catch (error) {
          expect(error).toBeInstanceOf(SyntaxError);
        }
      }),
    );
  });
});

/** Texts of objects in many spellings: as much of what Python reads as can be made up. */
const anyText = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.string({ unit: 'grapheme' }),
  fc.string({
    unit: fc.constantFrom('a', '\ud800', '\udc00', '\ue000', '\uffff', '"', '\\', '\u007f', '\n'),
  }),
);
const space = fc.constantFrom('', ' ', '\n\t', '  ');
const number = fc.oneof(
  fc.double({ noDefaultInfinity: true, noNaN: true }).map((value) => value.toString()),
  fc.double({ min: 1e-7, max: 1e-2, noNaN: true }).map((value) => value.toString()),
  fc.double({ min: 1e13, max: 1e19, noNaN: true }).map((value) => value.toExponential()),
  fc.tuple(fc.integer(), fc.nat(), fc.integer({ min: -330, max: 330 })).map(([a, b, c]) => `${a}.${b}e${c}`),
  fc.bigInt().map(String),
);
const { value: jsonText } = fc.letrec<{ value: string; object: string; list: string }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    fc.constantFrom('null', 'true', 'false', 'NaN', 'Infinity', '-Infinity', '-0', '-0.0', '1.0', '1E5'),
    number,
    anyText.map((text) => JSON.stringify(text)),
    tie('list'),
    tie('object'),
  ),
  list: fc
    .tuple(fc.array(tie('value'), { maxLength: 4 }), space)
    .map(([items, gap]) => `[${gap}${items.join(`${gap},${gap}`)}${gap}]`),
  object: fc
    .tuple(fc.array(fc.tuple(anyText, tie('value')), { maxLength: 4 }), space)
    .map(
      ([members, gap]) =>
        `{${gap}${members.map(([name, text]) => `${JSON.stringify(name)}${gap}:${gap}${text}`).join(`,${gap}`)}}`,
    ),
}));

describeWithPython(
  'the twin of json.dumps, beside the real one',
  { script: 'json_dumps.py', module: 'json', debian: 'python3' },
  (ask) => {
    it('writes the same bytes for whatever Python reads', () => {
      const values = fc.array(jsonText, { minLength: 600, maxLength: 600, size: 'max' });
      const texts = (fc.sample(values, { numRuns: 1, seed: 20_260_101 })[0] as string[]).map(
        (text) => `{"first":1,"metadata":${text},"first":2}`,
      );
      expect(texts.map(answer)).toEqual(ask(texts));
    });

    it('writes the vectors as the Python of this machine does', () => {
      expect(ask(vectors.map(({ text }) => text))).toEqual(vectors);
    });

    it('refuses what Python refuses', () => {
      // Only objects are read here, and Python below 3.11 has no bound on digits.
      const texts = REFUSED.filter((text) => !['[]', '1'].includes(text) && text.length < 4000);
      for (const answered of ask(texts)) expect(Object.keys(answered), answered.text).toEqual(['text']);
    });
  },
);
