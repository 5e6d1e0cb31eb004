/**
 * Two small models of text with a tokenizer of a few dozen words, for tests: one gives a vector for each token, the
 * other the scores of three labels. Their numbers mean nothing and are the same each time.
 */
import { encodeOnnxModel, floatInitializer, type OnnxInitializer, type OnnxValue } from './onnx.ts';

const SPECIAL = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]'];
const WORDS =
  'a an and are big bird boy cat dog eat fish girl good green has house in is it little man not of red run see small sun the they to tree was water we with woman yellow you ##s ##ing ##er ##ed . , ! ? [ ] < > cls sep mask pad unk';
const VOCABULARY = [...SPECIAL, ...WORDS.split(' ')];

export const TEXT_WIDTH = 8;
export const TEXT_LABELS = 3;
export const TEXT_MAX_TOKENS = 16;

/** tokenizer.json as Hugging Face's libraries write it for BERT. */
export function tinyTokenizer(): object {
  const special = (content: string): object => ({ SpecialToken: { id: content, type_id: 0 } });
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: SPECIAL.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: {
      type: 'BertNormalizer',
      clean_text: true,
      handle_chinese_chars: true,
      strip_accents: null,
      lowercase: true,
    },
    pre_tokenizer: { type: 'BertPreTokenizer' },
    post_processor: {
      type: 'TemplateProcessing',
      single: [special('[CLS]'), { Sequence: { id: 'A', type_id: 0 } }, special('[SEP]')],
      pair: [],
      special_tokens: {},
    },
    decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
    model: {
      type: 'WordPiece',
      unk_token: '[UNK]',
      continuing_subword_prefix: '##',
      max_input_chars_per_word: 100,
      vocab: Object.fromEntries(VOCABULARY.map((token, id) => [token, id])),
    },
  };
}

export function tinyTokenizerConfig(): object {
  return { model_max_length: TEXT_MAX_TOKENS, pad_token: '[PAD]', cls_token: '[CLS]', sep_token: '[SEP]' };
}

/** Id of a token of the vocabulary, -1 for another. */
export function tokenId(token: string): number {
  return VOCABULARY.indexOf(token);
}

/** The vector of a token, that of padding included. */
export function tokenVector(id: number): Float32Array {
  return Float32Array.from({ length: TEXT_WIDTH }, (_, column) => Math.sin(1 + id * TEXT_WIDTH + column));
}

/** Weights of the classifier, [TEXT_WIDTH, TEXT_LABELS] row-major. */
export function labelWeights(): Float32Array {
  return Float32Array.from({ length: TEXT_WIDTH * TEXT_LABELS }, (_, index) => Math.cos(index));
}

function vectorsOf(tokens: number): OnnxInitializer {
  const rows = Array.from({ length: tokens }, (_, id) => [...tokenVector(id)]);
  return floatInitializer('token_vectors', [tokens, TEXT_WIDTH], rows.flat());
}

function tokenInput(name: string): OnnxValue {
  return { name, type: 'int64', shape: ['batch', 'sequence'] };
}

function axis(name: string, value: number): OnnxInitializer {
  const raw = new Uint8Array(BigInt64Array.of(BigInt(value)).buffer);
  return { name, type: 'int64', shape: [1], raw };
}

/** `last_hidden_state` [batch, sequence, TEXT_WIDTH]; `tokens`: how many a vocabulary has that is not the one above. */
export function encodeTinyEmbedder(tokens = VOCABULARY.length): Uint8Array {
  return encodeOnnxModel({
    name: 'tiny-embedder',
    inputs: ['input_ids', 'attention_mask', 'token_type_ids'].map(tokenInput),
    outputs: [{ name: 'last_hidden_state', type: 'float', shape: ['batch', 'sequence', TEXT_WIDTH] }],
    initializers: [vectorsOf(tokens)],
    nodes: [{ op: 'Gather', inputs: ['token_vectors', 'input_ids'], outputs: ['last_hidden_state'] }],
  });
}

/** `logits` [batch, TEXT_LABELS]: the mean of the tokens' vectors over the mask, times the weights. */
export function encodeTinyClassifier(): Uint8Array {
  return encodeOnnxModel({
    name: 'tiny-classifier',
    inputs: ['input_ids', 'attention_mask'].map(tokenInput),
    outputs: [{ name: 'logits', type: 'float', shape: ['batch', TEXT_LABELS] }],
    initializers: [
      vectorsOf(VOCABULARY.length),
      floatInitializer('weights', [TEXT_WIDTH, TEXT_LABELS], labelWeights()),
      axis('axis_1', 1),
      axis('axis_2', 2),
    ],
    nodes: [
      { op: 'Gather', inputs: ['token_vectors', 'input_ids'], outputs: ['hidden'] },
      { op: 'Cast', inputs: ['attention_mask'], outputs: ['mask'], attributes: { to: { int: 1 } } },
      { op: 'Unsqueeze', inputs: ['mask', 'axis_2'], outputs: ['mask_of_vectors'] },
      { op: 'Mul', inputs: ['hidden', 'mask_of_vectors'], outputs: ['masked'] },
      {
        op: 'ReduceSum',
        inputs: ['masked', 'axis_1'],
        outputs: ['sum'],
        attributes: { keepdims: { int: 0 } },
      },
      {
        op: 'ReduceSum',
        inputs: ['mask', 'axis_1'],
        outputs: ['count'],
        attributes: { keepdims: { int: 1 } },
      },
      { op: 'Div', inputs: ['sum', 'count'], outputs: ['mean'] },
      { op: 'MatMul', inputs: ['mean', 'weights'], outputs: ['logits'] },
    ],
  });
}
