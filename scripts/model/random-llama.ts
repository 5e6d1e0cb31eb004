/**
 * Language models with random weights: what they say means nothing, and everything around it is real. Vocabulary
 * with merges, byte fallback and special tokens, chat template, attention and feed-forward layers as llama.cpp
 * expects them of the architecture "llama". The same shape and seed give the same bytes, everywhere.
 */
import { encodeGguf, type GgufTensor, type GgufValue } from './gguf.ts';

export interface LlamaShape {
  readonly name: string;
  readonly layers: number;
  /** Elements of the hidden state: a multiple of 32 and of the heads. */
  readonly width: number;
  readonly feedForwardWidth: number;
  readonly heads: number;
  readonly contextTokens: number;
  /** At least as many as the tokens with a meaning, about 600; the rest are fillers. */
  readonly vocabulary: number;
}

/** 0.25 million parameters, 270 KB: for tests and demonstrations. */
export const TINY_LLAMA: LlamaShape = {
  name: 'tiny-llama',
  layers: 2,
  width: 64,
  feedForwardWidth: 192,
  heads: 4,
  contextTokens: 512,
  vocabulary: 1024,
};

/** 70 million parameters, 75 MB: a decoding step that takes as long as a small real model's. */
export const BENCH_LLAMA: LlamaShape = {
  name: 'bench-llama',
  layers: 12,
  width: 640,
  feedForwardWidth: 1760,
  heads: 10,
  contextTokens: 2048,
  vocabulary: 8192,
};

/** ChatML, and a marker for notes that is an ordinary token of the vocabulary, as some models have it. */
const CHAT_TEMPLATE = `{{ bos_token }}{% for message in messages %}{% if message.role == 'system' %}<|note|>{% endif %}{{ '<|im_start|>' + message.role + '\\n' + message.content | trim + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}`;

/** llama_token_type of llama.h. */
const TYPE = { normal: 1, unknown: 2, control: 3, userDefined: 4, byte: 6 } as const;

const WORDS =
  'the of and to in is that for it was on are as with they be at one have this from or had by hot word but what some we can out other were all there when up use your how said an each she which do their time if will way about many then them write would like so these her long make thing see him two has look more day could go come did number sound no most people my over know water than call first who may down side been now find any new work part take get place made live where after back little only round man year came show every good me give our under name very through just form sentence great think say help low line differ turn cause much mean before move right boy old too same tell does set three want air well also play small end put home read hand port large spell add even land here must big high such follow act why ask men change went light kind off need house picture try us again animal point mother world near build self earth father'.split(
    ' ',
  );

interface Token {
  readonly text: string;
  readonly type: number;
}

/** Every beginning of a word is a token, so that merges, one character at a time, lead to the whole of it. */
function vocabularyOf(size: number): readonly Token[] {
  const special: Token[] = [
    { text: '<unk>', type: TYPE.unknown },
    { text: '<s>', type: TYPE.control },
    { text: '</s>', type: TYPE.control },
    { text: '<|im_start|>', type: TYPE.control },
    { text: '<|im_end|>', type: TYPE.control },
    { text: '<|note|>', type: TYPE.userDefined },
  ];
  const bytes = Array.from({ length: 256 }, (_, byte) => ({
    text: `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`,
    type: TYPE.byte,
  }));
  const pieces = new Set<string>(['\u2581']);
  for (let code = 0x21; code < 0x7f; code += 1) pieces.add(String.fromCharCode(code));
  for (const word of WORDS) {
    for (let length = 1; length <= word.length; length += 1) pieces.add(`\u2581${word.slice(0, length)}`);
  }
  const normal = [...pieces].map((text) => ({ text, type: TYPE.normal }));
  const meant = [...special, ...bytes, ...normal];
  const filler = Array.from({ length: Math.max(0, size - meant.length) }, (_, index) => ({
    text: `\u2581filler${index}`,
    type: TYPE.normal,
  }));
  return [...meant, ...filler].slice(0, size);
}

export function encodeRandomLlama(shape: LlamaShape, seed = 1): Generator<Uint8Array> {
  const { layers, width, feedForwardWidth, heads, contextTokens } = shape;
  const tokens = vocabularyOf(shape.vocabulary);
  const text = (value: string): GgufValue => ({ type: 'string', value });
  const count = (value: number): GgufValue => ({ type: 'uint32', value });
  const yes: GgufValue = { type: 'bool', value: true };
  const metadata = new Map<string, GgufValue>([
    ['general.architecture', text('llama')],
    ['general.name', text(shape.name)],
    ['llama.block_count', count(layers)],
    ['llama.context_length', count(contextTokens)],
    ['llama.embedding_length', count(width)],
    ['llama.feed_forward_length', count(feedForwardWidth)],
    ['llama.attention.head_count', count(heads)],
    ['llama.attention.head_count_kv', count(heads)],
    ['llama.attention.layer_norm_rms_epsilon', { type: 'float32', value: 1e-5 }],
    ['llama.rope.dimension_count', count(width / heads)],
    ['llama.vocab_size', count(tokens.length)],
    ['tokenizer.ggml.model', text('llama')],
    ['tokenizer.ggml.tokens', { type: 'array', of: 'string', values: tokens.map((token) => token.text) }],
    // Longer pieces first, as a trained vocabulary would have it for frequent words.
    [
      'tokenizer.ggml.scores',
      { type: 'array', of: 'float32', values: tokens.map(({ text }, index) => text.length - index / 1e4) },
    ],
    ['tokenizer.ggml.token_type', { type: 'array', of: 'int32', values: tokens.map(({ type }) => type) }],
    ['tokenizer.ggml.unknown_token_id', count(0)],
    ['tokenizer.ggml.bos_token_id', count(1)],
    ['tokenizer.ggml.eos_token_id', count(2)],
    ['tokenizer.ggml.eot_token_id', count(4)],
    ['tokenizer.ggml.add_bos_token', yes],
    ['tokenizer.ggml.add_space_prefix', yes],
    ['tokenizer.chat_template', text(CHAT_TEMPLATE)],
  ]);

  let salt = seed;
  const ones = (name: string): GgufTensor => ({
    name,
    dimensions: [width],
    type: 'F32',
    data: () => [new Uint8Array(new Float32Array(width).fill(1).buffer)],
  });
  const matrix = (name: string, columns: number, rows: number, options: Partial<Rows> = {}): GgufTensor => {
    salt += 1;
    const own = { columns, rows, seed: salt, size: 1, ...options };
    return { name, dimensions: [columns, rows], type: 'Q8_0', data: () => randomRows(own) };
  };
  // The first quarter of every hidden state is large, so that of a token's output row is a bias: away from what
  // cannot be read, that is bytes, fillers and special tokens, but less so from the end of the text.
  const bias = (row: number): number => {
    const { text, type } = tokens[row] as Token;
    if (text === '</s>' || text === '<|im_end|>') return -40;
    return type === TYPE.normal && !text.includes('filler') ? 0 : -127;
  };
  const tensors: GgufTensor[] = [
    matrix('token_embd.weight', width, tokens.length, { firstQuarter: () => 127 }),
    ones('output_norm.weight'),
    matrix('output.weight', width, tokens.length, { firstQuarter: bias }),
  ];
  for (let layer = 0; layer < layers; layer += 1) {
    const at = (name: string): string => `blk.${layer}.${name}.weight`;
    tensors.push(
      ones(at('attn_norm')),
      matrix(at('attn_q'), width, width),
      matrix(at('attn_k'), width, width),
      matrix(at('attn_v'), width, width),
      matrix(at('attn_output'), width, width, { size: 0.2 }),
      ones(at('ffn_norm')),
      matrix(at('ffn_gate'), width, feedForwardWidth),
      matrix(at('ffn_up'), width, feedForwardWidth),
      matrix(at('ffn_down'), feedForwardWidth, width, { size: 0.2 }),
    );
  }
  return encodeGguf({ metadata, tensors });
}

interface Rows {
  readonly columns: number;
  readonly rows: number;
  readonly seed: number;
  /** Of the product of a row with a hidden state. */
  readonly size: number;
  /** What stands in the first quarter of a row, from -127 to 127, in place of random numbers. */
  readonly firstQuarter?: (row: number) => number;
}

const BLOCK_ELEMENTS = 32;
const BLOCK_BYTES = 34;
const ROWS_AT_ONCE = 64;

/** Rows of Q8_0 blocks: a 16-bit scale, then 32 integers. */
function* randomRows({ columns, rows, seed, size, firstQuarter }: Rows): Generator<Uint8Array> {
  const next = generator(seed);
  const rowBytes = (columns / BLOCK_ELEMENTS) * BLOCK_BYTES;
  const scale = toHalf((3 * size) / (127 * Math.sqrt(columns)));
  for (let from = 0; from < rows; from += ROWS_AT_ONCE) {
    const some = Math.min(ROWS_AT_ONCE, rows - from);
    const bytes = new Uint8Array(some * rowBytes);
    const view = new DataView(bytes.buffer);
    for (let start = 0; start < bytes.length; start += BLOCK_BYTES) {
      view.setUint16(start, scale, true);
      for (let at = 2; at < BLOCK_BYTES; at += 4) view.setUint32(start + at, next(), true);
    }
    for (let row = 0; row < some && firstQuarter !== undefined; row += 1) {
      const value = firstQuarter(from + row);
      for (let column = 0; column < columns / 4; column += 1) {
        const block = Math.floor(column / BLOCK_ELEMENTS);
        view.setInt8(row * rowBytes + block * BLOCK_BYTES + 2 + (column % BLOCK_ELEMENTS), value);
      }
    }
    yield bytes;
  }
}

/** 32 bits at a time (Marsaglia, "Xorshift RNGs", 2003, with the shifts 13, 17, 5). */
function generator(seed: number): () => number {
  let state = (Math.imul(seed, 0x9e3779b1) ^ 0x6a09e667) >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state;
  };
}

/** IEEE 754 half precision of a positive normal number, rounded down. */
function toHalf(value: number): number {
  const exponent = Math.floor(Math.log2(value));
  return ((exponent + 15) << 10) | Math.floor((value / 2 ** exponent - 1) * 1024);
}
