/**
 * Unigram (SentencePiece; XLM-R, T5) in front of an ONNX model, against its definition (Kudo, "Subword
 * Regularization", 2018, section 3.2): of all ways to cut a text into pieces of the vocabulary, the one with the
 * largest sum of log-probabilities. Scores here are multiples of 1/1024, so that sums are exact in any order.
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

/** U+2581, which stands for a space. */
const SPACE = '\u2581';
const SPECIAL = ['<s>', '<pad>', '</s>', '<unk>', '<mask>'];
const [BOS, , EOS, UNKNOWN] = [0, 1, 2, 3] as const;
const WORDS =
  `${SPACE} ${SPACE}the ${SPACE}th the he ${SPACE}a ${SPACE}an ${SPACE}in ${SPACE}water wat ater ter er at ing in ion tion ${SPACE}to to ss ses s< .. ... 10 100 00 ${SPACE}1 fi ffi qt xyz ${SPACE}中国 中国 国中 éé ${SPACE}é \u{1f600} \u{1f600}\u{1f600} ${SPACE}\u{1f600} нет не ет`.split(
    ' ',
  );
/** Without q, x, y, z, and some of what the texts below have, which are unknown unless a longer piece has them. */
const CHARACTERS = [...'abcdefghijklmnoprstuvwABST0123456789.,!?\'"<>/[]()-éü中国нетσ'];
const PIECES = [...new Set([...WORDS, ...CHARACTERS])];
const pieceScore = (index: number): number => -3 - ((index * 40_503) % 8192) / 1024;
const VOCABULARY: readonly (readonly [string, number])[] = [
  ...SPECIAL.slice(0, -1).map((token) => [token, 0] as const),
  ...PIECES.map((piece, index) => [piece, pieceScore(index)] as const),
  ['<mask>', 0],
];
const SPECIAL_IDS = [BOS, 1, EOS, VOCABULARY.length - 1];

const tokenizerJson = (parts: object): TokenizerJson => ({
  version: '1.0',
  added_tokens: specialTokens(
    new Map(SPECIAL.map((token) => [token, VOCABULARY.findIndex(([other]) => other === token)])),
  ),
  decoder: null,
  model: { type: 'Unigram', unk_id: UNKNOWN, vocab: VOCABULARY },
  ...parts,
});
const metaspace = { type: 'Metaspace', replacement: SPACE, prepend_scheme: 'always' };
const precompiled = { type: 'Precompiled', precompiled_charsmap: '' };

const KINDS = {
  'word by word as XLM-R has it': {
    tokenizer: textTokenizerOf(
      tokenizerJson({
        normalizer: precompiled,
        pre_tokenizer: { type: 'Sequence', pretokenizers: [{ type: 'WhitespaceSplit' }, metaspace] },
        post_processor: templateOf(['<s>'], ['</s>']),
      }),
    ),
    before: [BOS],
    prepare: (text: string) =>
      spaced(text)
        .split(' ')
        .filter(Boolean)
        .map((word) => SPACE + word)
        .join(''),
  },
  'as a whole as T5 has it': {
    tokenizer: textTokenizerOf(
      tokenizerJson({
        normalizer: {
          type: 'Sequence',
          normalizers: [precompiled, { type: 'Replace', pattern: { Regex: ' {2,}' }, content: ' ' }],
        },
        pre_tokenizer: metaspace,
        post_processor: templateOf([], ['</s>']),
      }),
    ),
    before: [],
    prepare: (text: string) => {
      const whole = spaced(text);
      return (whole === '' || whole.startsWith(' ') ? whole : ` ${whole}`).replaceAll(' ', SPACE);
    },
  },
};

/**
 * The rule nmt_nfkc of SentencePiece (BuildNmtNFKCMap of its builder.cc), then runs of spaces as one: NFKC, but for
 * the full-width tilde, and more characters that are spaces.
 */
function spaced(text: string): string {
  const parts = text
    .replaceAll(/[\t\n\f\r\u1680\u200b\u200e\u200f\u2028\u2029\u2581\ufeff\ufffd]/g, ' ')
    .split('\uff5e');
  return parts
    .map((part) => part.normalize('NFKC'))
    .join('\uff5e')
    .replaceAll(/ +/g, ' ');
}

type Piece = readonly [spelling: string, score: number];

interface Scores {
  readonly vocabulary: readonly Piece[];
  /** Of pieces that a text can be cut into. */
  readonly of: ReadonlyMap<string, number>;
  readonly unknown: number;
}

function scoresOf(vocabulary: readonly Piece[]): Scores {
  const of = new Map(vocabulary.filter(([piece]) => !SPECIAL.includes(piece)));
  // SentencePiece's kUnkPenalty.
  return { vocabulary, of, unknown: Math.min(...of.values()) - 10 };
}

/** The largest sum that any segmentation of a text has. No piece has a space in its middle, so words are cut apart. */
function bestScore(text: string, scores: Scores): number {
  const characters = [...text];
  const best = [0];
  for (let end = 1; end <= characters.length; end += 1) {
    const sums = characters.slice(0, end).map((_, start) => {
      const piece = characters.slice(start, end).join('');
      const unknown = start === end - 1 ? scores.unknown : Number.NEGATIVE_INFINITY;
      return (best[start] ?? Number.NaN) + (scores.of.get(piece) ?? unknown);
    });
    best.push(Math.max(...sums));
  }
  return best[characters.length] ?? Number.NaN;
}

/** The sum of the segmentation that ids give of a text; undefined if they give none. */
function scoreOf(text: string, ids: readonly number[], scores: Scores): number | undefined {
  const characters = [...text];
  // By how many characters are read. The token for unknown text stands for a whole run of them, of any length.
  let sums = new Map([[0, 0]]);
  for (const id of ids) {
    const next = new Map<number, number>();
    const add = (end: number, sum: number): unknown =>
      next.set(end, Math.max(sum, next.get(end) ?? Number.NEGATIVE_INFINITY));
    for (const [start, sum] of sums) {
      const [piece = '', score = Number.NaN] = scores.vocabulary[id] ?? [];
      const end = start + [...piece].length;
      if (id !== UNKNOWN) {
        if (characters.slice(start, end).join('') === piece) add(end, sum + score);
        continue;
      }
      for (let at = start; at < characters.length && !scores.of.has(characters[at] ?? ''); at += 1) {
        add(at + 1, sum + scores.unknown * (at + 1 - start));
      }
    }
    sums = next;
  }
  return sums.get(characters.length);
}

const SCORES = scoresOf(VOCABULARY);

describe.each(Object.entries(KINDS))('a text, %s,', (_, { tokenizer, before, prepare }) => {
  /** Of the text alone. */
  const idsOf = (text: string): readonly number[] => {
    const { ids } = tokenizer.tokenize(text);
    expect(ids.slice(0, before.length)).toEqual(before);
    expect(ids.at(-1)).toBe(EOS);
    return ids.slice(before.length, -1);
  };
  const expectBest = (text: string): void => {
    const prepared = prepare(text);
    const ids = idsOf(text);
    expect(scoreOf(prepared, ids, SCORES)).toBe(bestScore(prepared, SCORES));
    expect(ids.some((id, index) => id === UNKNOWN && ids[index + 1] === UNKNOWN)).toBe(false);
    expect(ids.filter((id) => SPECIAL_IDS.includes(id))).toEqual([]);
  };

  it.each([
    'the water in a nation',
    ' to  the   water ',
    'sses ssess s<es>s',
    'qxz the qtq xyz xy',
    '10 100 1000 10000.... ... ..',
    'é éé ééé e\u0301 ü',
    '中国 国中国 中国中国',
    'нет не т',
    '\u{1f600} \u{1f600}\u{1f600}\u{1f600} \u{1f601}\u{1f601}x',
    '\ufb01\ufb03 \uff34\uff28\uff25 \u2460 \u00bd',
    'the\nwater\tin\u3000a\u00a0nation\u200bto',
    '\u2581the\u2581\u2581water',
    'a\ufffdb\ufeffc\u200ed\u2028e \uff5e~ \u00a8',
    '',
    '   ',
  ])('%j is cut where the sum of log-probabilities is largest', expectBest);

  it('is so cut whatever it is made of', () => {
    const part = fc.oneof(
      fc.constantFrom(...PIECES.map((piece) => piece.replaceAll(SPACE, ' '))),
      fc.constantFrom(
        ' ',
        '  ',
        '\n',
        '\u3000',
        'q',
        'x',
        'xy',
        'Z',
        '\u{1f601}',
        '\ufb01',
        '\uff34',
        '\uff5e',
        '\ufffd',
        '\u0301',
      ),
      fc.string({ unit: 'grapheme', maxLength: 4 }),
    );
    fc.assert(
      fc.property(fc.array(part, { maxLength: 14 }), (parts) => {
        const text = parts.join('');
        const agreed = !/[\u200c\u200d]/.test(text);
        if (agreed && !SPECIAL.some((token) => prepare(text).includes(token))) expectBest(text);
      }),
      { numRuns: 1000 },
    );
  });

  it('is refused, or ordinary tokens, where it spells a special token', () => {
    const found = SPECIAL.flatMap(spellingsOf).map((text) => {
      try {
        expect(idsOf(text).filter((id) => SPECIAL_IDS.includes(id))).toEqual([]);
        return 'ordinary';
      } catch (error) {
        if (!(error instanceof TypeError)) throw error;
        expect(error.message).toBe('it spells a special token of the tokenizer');
        return 'refused';
      }
    });
    expect(found).toContain('ordinary');
    // These vocabularies have special tokens as pieces, so the exact spelling is one.
    for (const token of SPECIAL.filter((_, id) => id !== UNKNOWN)) {
      expect(() => idsOf(token)).toThrow('spells a special token');
      expect(() => idsOf(`the ${token}${token} water`)).toThrow('spells a special token');
      expect(() => idsOf(token.replace('<', '\uff1c'))).toThrow('spells a special token');
    }
  });

  it('is ordinary tokens or refused with special tokens anywhere in it', () => {
    const part = fc.oneof(
      fc.constantFrom(...SPECIAL.flatMap(spellingsOf)),
      fc.string({ unit: 'grapheme', maxLength: 3 }),
    );
    fc.assert(
      fc.property(fc.array(part, { maxLength: 5 }), (parts) => {
        let ids: readonly number[] = [];
        try {
          ids = idsOf(parts.join(' '));
        } catch (error) {
          expect(error).toMatchObject({ message: 'it spells a special token of the tokenizer' });
        }
        expect(ids.filter((id) => SPECIAL_IDS.includes(id))).toEqual([]);
      }),
    );
  });
});

describe('a vocabulary of Unigram', () => {
  const bare = (model: object, parts: object = {}): ReturnType<typeof textTokenizerOf> =>
    textTokenizerOf({ decoder: null, normalizer: null, pre_tokenizer: null, model, ...parts });

  it('decides by its scores alone, whatever they are', () => {
    const piece = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), minLength: 1, maxLength: 4 });
    const score = fc.integer({ min: -8 * 1024, max: -1 }).map((thousandths) => thousandths / 1024);
    const pieces = fc.uniqueArray(fc.tuple(piece, score), {
      selector: ([of]) => of,
      minLength: 3,
      maxLength: 24,
    });
    const text = fc.string({
      unit: fc.constantFrom('a', 'b', 'c', 'a', 'b', 'c', 'd'),
      minLength: 1,
      maxLength: 24,
    });
    fc.assert(
      fc.property(pieces, text, (some, words) => {
        const special = SPECIAL.slice(0, UNKNOWN + 1).map((token): Piece => [token, 0]);
        const scores = scoresOf([...special, ...some]);
        const model = { type: 'Unigram', unk_id: UNKNOWN, vocab: scores.vocabulary };
        const { ids } = bare(model).tokenize(words);
        expect(scoreOf(words, ids, scores)).toBe(bestScore(words, scores));
      }),
      { numRuns: 1000 },
    );
  });

  it('is not read greedily: the longest first piece is left where the sum says so', () => {
    const vocab = [
      ['<unk>', 0],
      ['abc', -3],
      ['ab', -2],
      ['cd', -2],
      ['c', -8],
      ['d', -8],
    ];
    expect(bare({ type: 'Unigram', unk_id: 0, vocab }).tokenize('abcd').ids).toEqual([2, 3]);
  });

  it('has an unknown character cost as much as its least likely piece, and 10 more', () => {
    const idsOf = (scoreOfB: number): readonly number[] => {
      const vocab = [
        ['<unk>', 0],
        ['qa', -20],
        ['b', scoreOfB],
        ['ab', -0.5],
      ];
      return bare({ type: 'Unigram', unk_id: 0, vocab }).tokenize('qab').ids;
    };
    // -20 - 10.25 against -30 - 0.5, then -20 - 10.75.
    expect(idsOf(-10.25)).toEqual([1, 2]);
    expect(idsOf(-10.75)).toEqual([0, 3]);
  });

  it('makes unknown tokens of unknown characters, although it says that it falls back to bytes', () => {
    const vocab = [
      ['<unk>', 0],
      ['a', -1],
      ['<0xC3>', -2],
      ['<0xA9>', -2],
    ];
    const model = { type: 'Unigram', unk_id: 0, vocab, byte_fallback: true };
    expect(bare(model).tokenize('aéa').ids).toEqual([1, 0, 1]);
  });

  it('has joiners read as spaces, which nmt_nfkc leaves as they are', () => {
    const vocab = [
      ['<unk>', 0],
      ['a', -1],
      [' ', -1],
      ['\u200c', -1],
      ['\u200d', -1],
    ];
    const normalizer = { type: 'Precompiled', precompiled_charsmap: '' };
    const tokenizer = bare({ type: 'Unigram', unk_id: 0, vocab }, { normalizer });
    expect(tokenizer.tokenize('a\u200ca\u200da').ids).toEqual([1, 2, 1, 2, 1]);
  });

  it('has its texts brought to NFKC, whatever map of characters comes with it', () => {
    const vocab = [
      ['<unk>', 0],
      ['f', -1],
      ['i', -1],
    ];
    const normalizer = { type: 'Precompiled', precompiled_charsmap: 'AAAAAA==' };
    expect(bare({ type: 'Unigram', unk_id: 0, vocab }, { normalizer }).tokenize('\ufb01').ids).toEqual([
      1, 2,
    ]);
  });
});
