/**
 * Byte-level BPE (GPT-2, RoBERTa) in front of an ONNX model, against llama.cpp's own tokenizer over the same
 * vocabulary and merges.
 */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadLlama, type Model } from '../../../../enclave/engine/llama/binding.ts';
import { encodeTinyEmbedder } from '../../../../scripts/model/tiny-text.ts';
import {
  BYTE_LETTERS,
  encodeBpeGguf,
  type Merge,
  ROBERTA_SPECIAL,
  robertaTokenizer,
  robertaVocabulary,
  trainMerges,
} from '../../../support/byte-level-bpe.ts';
import { expectClose, textEngines } from '../../../support/text-engines.ts';
import { expectedEmbeddingOfIds, json } from '../../../support/text-onnx.ts';
import {
  spellingsOf,
  TOKENIZER_CONFIG,
  templateOf,
  textTokenizerOf,
} from '../../../support/text-tokenizers.ts';

const SAMPLES = [
  'The dog runs in a house.',
  "I'm sure they're here, we've seen it, she'll say it's Bob's, and he'd know you can't.",
  "I'M SHE'LL IT'S O'Reilly 'tis rock'n'roll ''s 's' d'accord",
  'Café crème, naïve façade, Ångström, Dvořák, cafe\u0301 cre\u0300me, Straße, ŒUVRE',
  'Привет, мир! Καλημέρα κόσμε. שלום עולם مرحبا بالعالم नमस्ते दुनिया สวัสดีชาวโลก',
  '我能吞下玻璃而不伤身体。東京都は日本の首都です、カタカナ。한국어 문장입니다.',
  'yes \u{1f600}\u{1f600} \u{1f468}\u200d\u{1f469}\u200d\u{1f467} \u{1f1ea}\u{1f1fa} \u{1f44d}\u{1f3fd}ok ❤️ \u{1d54f}\u{20000}',
  'a  b   c    d     ',
  '   leading, trailing   ',
  'one\ntwo\n\nthree\r\nfour\n \n  five\t\tsix \t seven\u00a0eight\u3000nine\u2003\u2003ten\u2028eleven',
  '0 12 345 6789 1,000.50 3.14e-10 ٣٤٥ ½ ² Ⅻ x86 v2 2nd 10:30 2026-01-01',
  'f(x) = {a: [1, 2], b: "c"}; // <tag attr=\'v\'>&amp;</tag> #!$%^*_+-=|\\~`',
  'snake_case camelCase https://example.org/a?b=c&d=%20 user@example.org',
  'zero\u0000control\u0007\u001b[0m\u007f soft\u00adhyphen zero\u200bwidth \u202eright',
  ' ',
  '\n',
  '\n\n  x',
  "'",
];

const letters = (from: number, to: number): readonly string[] => BYTE_LETTERS.slice(from, to);
/**
 * A letter, a digit, a sign and a space with every byte that a character can begin with, but for ASCII that is seen,
 * and a line feed after every byte that a longer one can end with. So the tokens tell whether the character was held
 * for a letter, a number, white space or none of them.
 */
const PROBES: readonly Merge[] = [
  ...['a', '1', '!', ...letters(0x20, 0x21)].flatMap((left) =>
    [...letters(0x00, 0x21), ...letters(0x7f, 0x80), ...letters(0xc2, 0xf5)].map(
      (right): Merge => [left, right],
    ),
  ),
  ...letters(0x80, 0xc0).map((left): Merge => [left, BYTE_LETTERS[0x0a] ?? '']),
];

const license = readFileSync(join(import.meta.dirname, '../../../../LICENSE'), 'utf8');
const merges = trainMerges(`${license}${SAMPLES.join('\n').repeat(3)}`, PROBES, 500);
const vocabulary = robertaVocabulary(merges);
const tokenizerJson = robertaTokenizer(vocabulary);
const specialIds = ROBERTA_SPECIAL.map((token) => vocabulary.tokens.indexOf(token));
const [BOS = -1, , EOS = -1] = specialIds;

const tokenizer = textTokenizerOf(tokenizerJson);

const path = join(tmpdir(), `strongroom-bpe-${process.pid}.gguf`);
let model: Model;
beforeAll(async () => {
  writeFileSync(path, encodeBpeGguf(vocabulary));
  const llama = await loadLlama();
  const options = { addonExports: llama, gpuLayers: 0, useMmap: true, overridesList: [], vocabOnly: true };
  model = new llama.AddonModel(path, options);
  expect(await model.init()).toBe(true);
});
afterAll(() => rmSync(path, { force: true }));

/** As llama.cpp has them, with nothing around them. */
const expectedIds = (text: string): number[] => [...model.tokenize(text, false)];
const around = (ids: readonly number[]): number[] => [BOS, ...ids, EOS];
const spell = (ids: readonly number[]): (string | undefined)[] => ids.map((id) => vocabulary.tokens[id]);

/** The library has JavaScript's `\s` where GPT-2 has Unicode's white space: docs/engine.md section 10.5. */
const NEXT_LINE = '\u0085';
const BYTE_ORDER_MARK = '\ufeff';
/** Letters of Unicode 16 and 17 below U+10000. llama.cpp's tables end before them. */
const NEWER = /[\u088f\u0c5c\u0cdc\u1c89\u1c8a\ua7cb-\ua7cf\ua7d2\ua7d4\ua7da-\ua7dc\ua7f1]/;
const agreed = (text: string): boolean =>
  !text.includes(NEXT_LINE) && !text.includes(BYTE_ORDER_MARK) && !NEWER.test(text);

describe('the ids of a text', () => {
  it.each(SAMPLES)('%j are those of llama.cpp, between <s> and </s>', (text) => {
    expect(tokenizer.tokenize(text).ids).toEqual(around(expectedIds(text)));
  });

  it('are those of llama.cpp for a page of prose, most of them merged', () => {
    expect(tokenizer.tokenize(license).ids).toEqual(around(expectedIds(license)));
    const used = new Set(expectedIds(license));
    expect(spell([...used]).filter((token) => (token?.length ?? 0) > 3).length).toBeGreaterThan(50);
  });

  it('are those of llama.cpp for random texts', () => {
    const part = fc.oneof(
      fc.constantFrom(...SAMPLES.flatMap((sample) => sample.split(/(?<=\s)/))),
      fc.constantFrom("'", 's', 't', 'r', 'e', 'l', 'v', 'm', 'd', 'S', ' ', '  ', '\n', '\t', '1', '!'),
      fc.constantFrom('é', '\u0301', '中', '٣', '½', '\u00a0', '\u2028', '\u3000', '\u200b', '\u{1f600}'),
      fc.string({ unit: 'grapheme', maxLength: 6 }),
      fc.integer({ min: 0, max: 0xffff }).map((code) => String.fromCharCode(code).toWellFormed()),
    );
    const text = fc
      .array(part, { maxLength: 12 })
      .map((parts) => parts.join(''))
      .filter((found) => agreed(found) && found !== '');
    fc.assert(
      fc.property(text, (found) => {
        expect(tokenizer.tokenize(found).ids).toEqual(around(expectedIds(found)));
      }),
      { numRuns: 1000 },
    );
  });

  it('show every character held for the same kind: letter, number, white space, other', () => {
    const differs: string[] = [];
    const last = 0x2_0000;
    for (let code = 0; code < last; code += code < 0x3400 || code >= 0xf900 ? 1 : 31) {
      const character = String.fromCodePoint(code);
      if (!character.isWellFormed() || NEWER.test(character)) continue;
      // Beyond the ideographs, emoji are of interest; scripts are newer than llama.cpp's tables here and there.
      if (code >= 0x1_0000 && (code < 0x1_f000 || code > 0x1_faff)) continue;
      const text = `a${character}1${character}!${character} ${character}x  ${character}\n${character}`;
      const ids = tokenizer.tokenize(text).ids;
      if (ids.join() !== around(expectedIds(text)).join()) differs.push(character);
    }
    expect(differs).toEqual([NEXT_LINE, BYTE_ORDER_MARK]);
  });

  it.each<[string, string, string[]]>([
    [
      'a byte order mark, which the library takes for white space',
      ` ${BYTE_ORDER_MARK}x`,
      [' ', '\ufeff', 'x'],
    ],
    ['U+0085, which the library does not', ` ${NEXT_LINE}x`, [` ${NEXT_LINE}`, 'x']],
  ])('differ with %s', (_, text, words) => {
    const { ids } = tokenizer.tokenize(text);
    expect(ids).not.toEqual(around(expectedIds(text)));
    expect(ids).toEqual(around(words.flatMap(expectedIds)));
  });

  it('begin with that of a space where the tokenizer puts one before a text', () => {
    const spaced = textTokenizerOf({
      ...tokenizerJson,
      pre_tokenizer: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    });
    for (const text of ['the work', ' the work', '\nthe', "'s"]) {
      const expected = expectedIds(text.startsWith(' ') ? text : ` ${text}`);
      expect(spaced.tokenize(text).ids).toEqual(around(expected));
    }
  });

  it('stand between the same tokens where a template says so', () => {
    const templated = textTokenizerOf({ ...tokenizerJson, post_processor: templateOf(['<s>'], ['</s>']) });
    for (const text of SAMPLES) expect(templated.tokenize(text)).toEqual(tokenizer.tokenize(text));
  });
});

describe('a text that spells a special token', () => {
  const spellings = ROBERTA_SPECIAL.flatMap(spellingsOf);
  const middle = (text: string): readonly number[] => tokenizer.tokenize(text).ids.slice(1, -1);
  const specialIn = (ids: readonly number[]): number[] => ids.filter((id) => specialIds.includes(id));

  it.each(spellings)('%j is ordinary tokens', (text) => {
    expect(specialIn(middle(text))).toEqual([]);
    expect(middle(text)).toEqual(expectedIds(text));
  });

  it('is ordinary tokens among whatever else', () => {
    const part = fc.oneof(fc.constantFrom(...spellings), fc.string({ unit: 'grapheme', maxLength: 4 }));
    fc.assert(
      fc.property(fc.array(part, { minLength: 1, maxLength: 6 }), (parts) => {
        expect(specialIn(tokenizer.tokenize(`.${parts.join('')}`).ids.slice(1, -1))).toEqual([]);
      }),
    );
  });

  it.each<[string, readonly Merge[], object]>([
    [
      'merges add up to it',
      [
        ['<', 's'],
        ['<s', '>'],
      ],
      {},
    ],
    ['the vocabulary goes before merges', [], { ignore_merges: true }],
  ])('is refused where %s', (_, more, options) => {
    const made = robertaTokenizer(robertaVocabulary([...merges, ...more]));
    const careless = textTokenizerOf({
      ...made,
      pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false },
      model: { ...(made.model as object), ...options },
    });
    expect(() => careless.tokenize('<s>')).toThrow('spells a special token');
    expect(specialIn(careless.tokenize('< s >').ids.slice(1, -1))).toEqual([]);
  });
});

describe('a model of vectors with such a tokenizer', () => {
  const { start } = textEngines();
  const signal = new AbortController().signal;

  it('gives the mean of the vectors of the ids that llama.cpp has', async () => {
    const engine = await start(encodeTinyEmbedder(vocabulary.tokens.length), {
      'tokenizer.json': json(tokenizerJson),
      'tokenizer_config.json': json(TOKENIZER_CONFIG),
    });
    const texts = [...SAMPLES, '<s> is no beginning</s>'];
    const found = await engine.embedder?.embed(texts, signal);
    const ids = texts.map((text) => around(expectedIds(text)));
    expect(found?.promptTokens).toBe(ids.flat().length);
    for (const [index, expected] of ids.entries()) {
      expectClose(found?.vectors[index], expectedEmbeddingOfIds(expected));
    }
  });
});
