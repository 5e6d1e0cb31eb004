/**
 * Byte-level BPE, the kind of tokenizer of GPT-2 and RoBERTa: one vocabulary with its merges as a GGUF file, for
 * llama.cpp, and as a tokenizer.json. The same text gives the same merges, everywhere.
 */
import { encodeGguf, type GgufValue } from '../../scripts/model/gguf.ts';
import { specialTokens, type TokenizerJson } from './text-tokenizers.ts';

/** llama_token_type of llama.h. */
export const TOKEN_TYPE = { normal: 1, control: 3, userDefined: 4 } as const;

/**
 * Each byte as a printable character: those that are printable as themselves, the others in order from U+0100 on
 * (bytes_to_unicode of GPT-2's encoder.py).
 */
export const BYTE_LETTERS: readonly string[] = (() => {
  const printable = (byte: number): boolean =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte !== 0xad);
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => {
    if (printable(byte)) return String.fromCharCode(byte);
    next += 1;
    return String.fromCharCode(next - 1);
  });
})();

export type Merge = readonly [left: string, right: string];

/**
 * `first`, then the `count` merges of the most frequent neighbours. The text is not split into words, so merges also
 * join what a tokenizer has to keep apart: one that splits in another place gives other tokens.
 */
export function trainMerges(text: string, first: readonly Merge[], count: number): Merge[] {
  const merges = [...first];
  let symbols = [...new TextEncoder().encode(text)].map((byte) => BYTE_LETTERS[byte] ?? '');
  for (const merge of first) symbols = apply(symbols, merge);
  while (merges.length < first.length + count) {
    const merge = mostFrequent(symbols);
    if (merge === undefined) break;
    merges.push(merge);
    symbols = apply(symbols, merge);
  }
  return merges;
}

/** The first one of those that are as frequent; undefined if none occurs twice. */
function mostFrequent(symbols: readonly string[]): Merge | undefined {
  const counts = new Map<string, number>();
  let most: { pair: string; count: number } | undefined;
  for (let at = 1; at < symbols.length; at += 1) {
    const pair = `${symbols[at - 1]} ${symbols[at]}`;
    counts.set(pair, (counts.get(pair) ?? 0) + 1);
  }
  for (const [pair, count] of counts) if (count > (most?.count ?? 1)) most = { pair, count };
  const [left, right] = most?.pair.split(' ') ?? [];
  return left === undefined || right === undefined ? undefined : [left, right];
}

function apply(symbols: readonly string[], [left, right]: Merge): string[] {
  const merged: string[] = [];
  for (let at = 0; at < symbols.length; at += 1) {
    if (symbols[at] === left && symbols[at + 1] === right) {
      merged.push(left + right);
      at += 1;
    } else {
      merged.push(symbols[at] ?? '');
    }
  }
  return merged;
}

export interface BpeVocabulary {
  readonly tokens: readonly string[];
  /** TOKEN_TYPE of each. */
  readonly types: readonly number[];
  readonly merges: readonly Merge[];
  readonly eosId: number;
  readonly chatTemplate?: string;
}

/** A vocabulary without a model: llama.cpp loads it with `vocabOnly`. */
export function encodeBpeGguf({ tokens, types, merges, eosId, chatTemplate }: BpeVocabulary): Buffer {
  const text = (value: string): GgufValue => ({ type: 'string', value });
  const count = (value: number): GgufValue => ({ type: 'uint32', value });
  const metadata = new Map<string, GgufValue>([
    ['general.architecture', text('llama')],
    ['llama.block_count', count(1)],
    ['llama.context_length', count(64)],
    ['llama.embedding_length', count(32)],
    ['llama.feed_forward_length', count(32)],
    ['llama.attention.head_count', count(1)],
    ['llama.attention.layer_norm_rms_epsilon', { type: 'float32', value: 1e-5 }],
    ['tokenizer.ggml.model', text('gpt2')],
    ['tokenizer.ggml.pre', text('gpt-2')],
    ['tokenizer.ggml.tokens', { type: 'array', of: 'string', values: tokens }],
    ['tokenizer.ggml.token_type', { type: 'array', of: 'int32', values: types }],
    [
      'tokenizer.ggml.merges',
      { type: 'array', of: 'string', values: merges.map((merge) => merge.join(' ')) },
    ],
    ['tokenizer.ggml.eos_token_id', count(eosId)],
    ...(chatTemplate === undefined ? [] : ([['tokenizer.chat_template', text(chatTemplate)]] as const)),
  ]);
  const tensor = {
    name: 'output_norm.weight',
    dimensions: [32],
    type: 'F32',
    data: () => [new Uint8Array(128)],
  } as const;
  return Buffer.concat([...encodeGguf({ metadata, tensors: [tensor] })]);
}

/** As RoBERTa has them. `<mask>` is the last. */
export const ROBERTA_SPECIAL: readonly string[] = ['<s>', '<pad>', '</s>', '<unk>', '<mask>'];

/** Special tokens are not doubled where merges spell one. */
export function robertaVocabulary(merges: readonly Merge[]): BpeVocabulary {
  const pieces = [...BYTE_LETTERS, ...merges.map((merge) => merge.join(''))];
  const tokens = [...new Set([...ROBERTA_SPECIAL.slice(0, -1), ...pieces, ...ROBERTA_SPECIAL.slice(-1)])];
  const types = tokens.map((token) =>
    ROBERTA_SPECIAL.includes(token) ? TOKEN_TYPE.control : TOKEN_TYPE.normal,
  );
  return { tokens, types, merges, eosId: 2 };
}

/** A tokenizer.json of it as Hugging Face's libraries write it for RoBERTa. */
export function robertaTokenizer({ tokens, merges }: BpeVocabulary): TokenizerJson {
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: specialTokens(new Map(ROBERTA_SPECIAL.map((token) => [token, tokens.indexOf(token)]))),
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: {
      type: 'RobertaProcessing',
      sep: ['</s>', tokens.indexOf('</s>')],
      cls: ['<s>', tokens.indexOf('<s>')],
      trim_offsets: true,
      add_prefix_space: false,
    },
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: '',
      end_of_word_suffix: '',
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges: merges.map((merge) => merge.join(' ')),
    },
  };
}
