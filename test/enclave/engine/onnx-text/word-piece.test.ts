/**
 * WordPiece (BERT) in front of an ONNX model, against BERT's own definition (tokenization.py of google-research/bert):
 * clean, split at white space, lower-case and strip accents, split at punctuation, then the longest piece first.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  specialTokens,
  spellingsOf,
  type TokenizerJson,
  templateOf,
  textTokenizerOf,
} from '../../../support/text-tokenizers.ts';

const SPECIAL = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]'];
const UNKNOWN = '[UNK]';
const LONGEST_WORD = 100;
/** Without q. `cls` to `mask` are words, as they are of real vocabularies. */
const LETTERS = [
  ...'abcdefghijklmnoprstuvwxyzABCDEFGHIJKLMNOPRSTUVWXYZ0123456789éßοδςσпривет안中国\u1112\u1161\u11ab',
];
const WORDS =
  'the water un ##affable ##aff ##able ##affab ##le unaff run ##ning ##ing ##n cafe café ##fe cls sep mask pad unk ##sep Water 10 ##00 ###'.split(
    ' ',
  );
const SIGNS = [...'.,!?\'"-[]<>/()#$+`^~|;', '\u3002', '\u2014', '\u00bf', '\u20ac', '\u{1f600}'];
const VOCABULARY = [
  ...new Set([...SPECIAL, ...LETTERS, ...LETTERS.map((letter) => `##${letter}`), ...WORDS, ...SIGNS]),
];
const SPECIAL_TOKENS = new Map(SPECIAL.map((token, id) => [token, id]));

/** `cased`: as of the models that tell upper from lower case, which keep accents. */
function tokenizerJson(cased: boolean): TokenizerJson {
  return {
    version: '1.0',
    added_tokens: specialTokens(SPECIAL_TOKENS),
    normalizer: {
      type: 'BertNormalizer',
      clean_text: true,
      handle_chinese_chars: true,
      strip_accents: null,
      lowercase: !cased,
    },
    pre_tokenizer: { type: 'BertPreTokenizer' },
    post_processor: templateOf(['[CLS]'], ['[SEP]']),
    decoder: null,
    model: {
      type: 'WordPiece',
      unk_token: UNKNOWN,
      continuing_subword_prefix: '##',
      max_input_chars_per_word: LONGEST_WORD,
      vocab: Object.fromEntries(VOCABULARY.map((token, id) => [token, id])),
    },
  };
}

/** _is_chinese_char. */
const IDEOGRAPHS: readonly (readonly [first: number, last: number])[] = [
  [0x4e00, 0x9fff],
  [0x3400, 0x4dbf],
  [0x2_0000, 0x2_a6df],
  [0x2_a700, 0x2_b73f],
  [0x2_b740, 0x2_b81f],
  [0x2_b820, 0x2_ceaf],
  [0xf900, 0xfaff],
  [0x2_f800, 0x2_fa1f],
];
const isIdeograph = (character: string): boolean => {
  const code = character.codePointAt(0) ?? 0;
  return IDEOGRAPHS.some(([first, last]) => code >= first && code <= last);
};
const isSpace = (character: string): boolean => /^[\t\n\r\p{Z}]$/u.test(character);
/** Private use is dropped as well, as Hugging Face's tokenizers do it; BERT keeps it. */
const isDropped = (character: string): boolean =>
  character === '\ufffd' || (!isSpace(character) && /^[\p{Cc}\p{Cf}\p{Co}]$/u.test(character));
/** All ASCII signs, those that Unicode calls symbols included. */
const isPunctuation = (character: string): boolean => /^[!-/:-@[-`{-~\p{P}]$/u.test(character);

/** BasicTokenizer.tokenize. */
function wordsOf(text: string, cased: boolean): string[] {
  const cleaned = [...text]
    .filter((character) => !isDropped(character))
    .map((character) => (isSpace(character) ? ' ' : isIdeograph(character) ? ` ${character} ` : character));
  const words = cleaned.join('').split(' ');
  return words.flatMap((word) => {
    const plain = cased
      ? word
      : word
          .toLowerCase()
          .normalize('NFD')
          .replaceAll(/\p{Mn}/gu, '');
    const parts = [...plain].map((character) => (isPunctuation(character) ? ` ${character} ` : character));
    return parts.join('').split(' ').filter(Boolean);
  });
}

/** WordpieceTokenizer.tokenize, of one word. */
function piecesOf(word: string): string[] {
  const characters = [...word];
  if (characters.length > LONGEST_WORD) return [UNKNOWN];
  const pieces: string[] = [];
  for (let start = 0; start < characters.length; ) {
    const rest = characters.slice(start);
    const prefix = start === 0 ? '' : '##';
    const length = rest
      .map((_, index) => rest.length - index)
      .find((end) => VOCABULARY.includes(prefix + rest.slice(0, end).join('')));
    if (length === undefined) return [UNKNOWN];
    pieces.push(prefix + rest.slice(0, length).join(''));
    start += length;
  }
  return pieces;
}

const spell = (ids: readonly number[]): (string | undefined)[] => ids.map((id) => VOCABULARY[id]);
/** The library looks at UTF-16 units for ideographs: docs/engine.md section 10.5. */
const hasRareIdeograph = (text: string): boolean =>
  [...text].some((character) => character.length > 1 && isIdeograph(character));

describe.each([
  ['lower-cased and without accents', false],
  ['as it stands', true],
])('a text, %s,', (_, cased) => {
  const tokenizer = textTokenizerOf(tokenizerJson(cased));
  const expectedOf = (text: string): string[] => wordsOf(text, cased).flatMap(piecesOf);
  const tokensOf = (text: string): (string | undefined)[] => spell(tokenizer.tokenize(text).ids);

  it.each([
    'The unaffable water, running.',
    'unaffab unaffxq q aqua the\u00a0water\u3000the\u2028water\nrun\r\n\ttherunning',
    'Café CAFÉ cafe\u0301 ÀÉÎÕÜ Straße İI ﬁ',
    'ΟΔΟΣ οδός Σ Привет ПРИВЕТ',
    '中国water國中 \uf900 \u3007 한국 안 カ',
    '[a]<b>/c; it\'s "1,000.50"$10+1000#x ^`~| a\u2014b\u3002c\u00bfd €5 \u037e',
    'a\u0000b\ufffdc\u200bd\u00ade\ufefff\u0007g\ue000h\u0085i\u000bj',
    '\u{1f600}a \u{1f600} a\u{1f600}',
    `${'a'.repeat(LONGEST_WORD)} ${'a'.repeat(LONGEST_WORD + 1)} ${'\u{1f600}'.repeat(60)}`,
    '##a ### ##',
    '',
    ' \n ',
  ])('%j is the pieces that BERT has of it, between [CLS] and [SEP]', (text) => {
    expect(tokensOf(text)).toEqual(['[CLS]', ...expectedOf(text), '[SEP]']);
  });

  it('is the pieces that BERT has of it whatever it is made of', () => {
    const agreed = (text: string): boolean => !hasRareIdeograph(text);
    const part = fc.oneof(
      fc.constantFrom(...VOCABULARY.filter((token) => !SPECIAL.includes(token))),
      fc.constantFrom(
        ' ',
        '  ',
        '\n',
        '\u00a0',
        '\u0301',
        'É',
        'ΑΣ',
        'İ',
        'q',
        '\u200b',
        '한',
        '國',
        '\ufffd',
      ),
      fc.string({ unit: 'grapheme', maxLength: 4 }).filter(agreed),
      fc.string({ unit: 'binary', maxLength: 2 }).filter(agreed),
    );
    fc.assert(
      fc.property(fc.array(part, { maxLength: 12 }), (parts) => {
        const text = parts.join('');
        expect(tokensOf(text)).toEqual(['[CLS]', ...expectedOf(text), '[SEP]']);
      }),
      { numRuns: 1000 },
    );
  });

  it('has every character held for the same kind: letter, ideograph, white space, sign, nothing', () => {
    const differs: number[] = [];
    for (let code = 0; code < 0x3_0000; code += code < 0x3400 || code >= 0xf900 ? 1 : 31) {
      const character = String.fromCodePoint(code);
      if (!character.isWellFormed()) continue;
      const text = `a${character}b ${character}c`;
      const expected = ['[CLS]', ...expectedOf(text), '[SEP]'];
      if (tokensOf(text).join(' ') !== expected.join(' ')) differs.push(code);
    }
    const rare = differs.filter((code) => hasRareIdeograph(String.fromCodePoint(code)));
    expect(differs.filter((code) => !rare.includes(code))).toEqual([]);
    expect(rare.length).toBeGreaterThan(40_000);
  });

  it('has its rare ideographs left in a word, where BERT makes words of them', () => {
    expect(expectedOf('a\u{20000}b')).toEqual(['a', UNKNOWN, 'b']);
    expect(tokensOf('a\u{20000}b')).toEqual(['[CLS]', UNKNOWN, '[SEP]']);
  });

  it.each(SPECIAL.flatMap(spellingsOf))('%j is ordinary tokens', (text) => {
    const tokens = tokensOf(text).slice(1, -1);
    expect(tokens).toEqual(expectedOf(text));
    for (const token of SPECIAL) if (token !== UNKNOWN) expect(tokens).not.toContain(token);
  });

  it('is ordinary tokens with special tokens spelled anywhere in it', () => {
    const part = fc.oneof(
      fc.constantFrom(...SPECIAL.flatMap(spellingsOf)),
      fc.string({ unit: 'grapheme', maxLength: 3 }),
    );
    fc.assert(
      fc.property(fc.array(part, { maxLength: 6 }), (parts) => {
        const tokens = tokensOf(parts.join('')).slice(1, -1);
        for (const token of SPECIAL) if (token !== UNKNOWN) expect(tokens).not.toContain(token);
      }),
    );
  });
});

it('a sigma at the end of a word is lower-cased as such', () => {
  const { ids } = textTokenizerOf(tokenizerJson(false)).tokenize('ΟΔΟΣ');
  expect(spell(ids)).toEqual(['[CLS]', 'ο', '##δ', '##ο', '##ς', '[SEP]']);
});

it('a text that spells a special token is refused where nothing takes its signs apart', () => {
  const careless = textTokenizerOf({
    ...tokenizerJson(true),
    normalizer: null,
    pre_tokenizer: { type: 'WhitespaceSplit' },
  });
  for (const token of SPECIAL) {
    if (token === UNKNOWN) continue;
    for (const text of [token, ` ${token} a`, `a\n${token}`, `${token}a`]) {
      expect(() => careless.tokenize(text)).toThrow('spells a special token');
    }
  }
  expect(spell(careless.tokenize('[ SEP ]').ids).slice(1, -1)).not.toContain('[SEP]');
});
