/** Text into ONNX models, by the real engine in its confined process. */
import { describe, expect, it } from 'vitest';
import type { TensorEngine } from '../../../enclave/engine/engine.ts';
import { writeBytesElements } from '../../../enclave/engine/tensor.ts';
import {
  encodeTinyClassifier,
  encodeTinyEmbedder,
  TEXT_LABELS,
  TEXT_WIDTH,
  tinyTokenizer,
  tokenVector,
} from '../../../scripts/model/tiny-text.ts';
import { addModel } from '../../support/onnx-models.ts';
import { expectClose, textEngines } from '../../support/text-engines.ts';
import { expectedEmbedding, expectedLogits, json, tokenizerFiles, unit } from '../../support/text-onnx.ts';

const { start } = textEngines();

const texts = (...elements: string[]) => ({
  inputs: [
    {
      name: 'text',
      datatype: 'BYTES' as const,
      shape: [elements.length],
      data: writeBytesElements(elements.map((element) => new TextEncoder().encode(element))),
    },
  ],
});
const signal = new AbortController().signal;
const rejected = (message: string) => ({
  code: 'ENGINE_REJECTED',
  message: expect.stringContaining(message),
});

/** Rows of a FP32 output. */
async function ask(engine: TensorEngine, output: string, ...elements: string[]): Promise<number[][]> {
  const { outputs } = await engine.infer({ ...texts(...elements), outputs: [output] });
  const [{ data, shape } = { data: new Uint8Array(), shape: [] }] = outputs;
  const values = [...new Float32Array(data.buffer, data.byteOffset, data.length / 4)];
  const width = shape[1] ?? 0;
  return elements.map((_, index) => values.slice(index * width, (index + 1) * width));
}

describe('a classifier of text', () => {
  let engine: TensorEngine;
  it('takes text in the place of its token inputs', async () => {
    engine = await start(encodeTinyClassifier(), tokenizerFiles());
    expect(engine.metadata).toEqual({
      inputs: [{ name: 'text', datatype: 'BYTES', shape: [-1] }],
      outputs: [{ name: 'logits', datatype: 'FP32', shape: [-1, TEXT_LABELS] }],
    });
    expect(engine.embedder).toBeUndefined();
  });

  it('answers each text of a batch as if it were alone, whatever is filled up', async () => {
    const [long, short] = await ask(engine, 'logits', 'The dog runs in a house.', 'cats');
    expectClose(long, expectedLogits(['the', 'dog', 'run', '##s', 'in', 'a', 'house', '.']));
    expectClose(short, expectedLogits(['cat', '##s']));
    expectClose((await ask(engine, 'logits', 'cats'))[0], short ?? []);
    expectClose((await ask(engine, 'logits', ''))[0], expectedLogits([]));
  });

  it.each<[string, string[]]>([
    ['[CLS]', ['[', 'cls', ']']],
    ['a [SEP] b', ['a', '[', 'sep', ']', '[UNK]']],
    ['dog[MASK]', ['dog', '[', 'mask', ']']],
    ['[PAD][PAD]', ['[', 'pad', ']', '[', 'pad', ']']],
    ['\uff3bCLS\uff3d', ['[UNK]', 'cls', '[UNK]']],
    ['[UNK]', ['[', 'unk', ']']],
  ])('takes %s as the letters that it is, and as no special token', async (text, tokens) => {
    expectClose((await ask(engine, 'logits', text))[0], expectedLogits(tokens));
  });

  it('refuses what is too long, and cuts nothing off', async () => {
    await ask(engine, 'logits', 'dog '.repeat(14));
    await expect(engine.infer(texts('cat', 'dog '.repeat(15)))).rejects.toMatchObject(
      rejected('text 1: 17 tokens, and the model reads 16'),
    );
  });

  it('refuses none, too many, too much, and what is not UTF-8', async () => {
    await expect(engine.infer(texts())).rejects.toMatchObject(rejected('1 to 256 texts'));
    const many = Array.from({ length: 257 }, () => 'a');
    await expect(engine.infer(texts(...many))).rejects.toMatchObject(rejected('1 to 256 texts'));
    await expect(engine.infer(texts(' '.repeat(2 ** 18)))).rejects.toMatchObject(rejected('bytes of text'));
    const { inputs } = texts('ab');
    const data = inputs[0]?.data.fill(0xff, 4) ?? new Uint8Array();
    await expect(
      engine.infer({ inputs: [{ name: 'text', datatype: 'BYTES', shape: [1], data }] }),
    ).rejects.toMatchObject(rejected('text 0'));
    expect(await ask(engine, 'logits', 'dog')).toHaveLength(1);
  });
});

describe('a model of vectors', () => {
  it('gives the mean of the tokens, padding apart, at length 1, and counts the tokens', async () => {
    const engine = await start(encodeTinyEmbedder(), tokenizerFiles());
    expect(engine.metadata.outputs).toEqual([
      { name: 'embedding', datatype: 'FP32', shape: [-1, TEXT_WIDTH] },
      { name: 'token_count', datatype: 'INT64', shape: [-1] },
    ]);
    const found = await engine.embedder?.embed(['a dog', 'the little bird'], signal);
    expect(found?.promptTokens).toBe(4 + 5);
    expectClose([...(found?.vectors[0] ?? [])], expectedEmbedding(['a', 'dog']));
    expectClose([...(found?.vectors[1] ?? [])], expectedEmbedding(['the', 'little', 'bird']));
    expect(engine.embedder?.vectorSize).toBe(TEXT_WIDTH);
  });

  it('gives the first token where 1_Pooling/config.json says so', async () => {
    const pooling = json({ pooling_mode_cls_token: true, pooling_mode_mean_tokens: false });
    const engine = await start(encodeTinyEmbedder(), {
      ...tokenizerFiles(),
      '1_Pooling/config.json': pooling,
    });
    expectClose((await ask(engine, 'embedding', 'dog'))[0], unit([...tokenVector(2)]));
  });
});

it('refuses a text where the tokenizer itself would make a special token of its letters', async () => {
  const tokenizer = json({
    ...tinyTokenizer(),
    normalizer: null,
    pre_tokenizer: { type: 'WhitespaceSplit' },
  });
  const engine = await start(encodeTinyClassifier(), { ...tokenizerFiles(), 'tokenizer.json': tokenizer });
  await expect(engine.infer(texts('a [SEP] dog'))).rejects.toMatchObject(rejected('spells a special token'));
  expectClose((await ask(engine, 'logits', 'a dog'))[0], expectedLogits(['a', 'dog']));
});

it('refuses a text in which a vocabulary of SentencePiece has a special token', async () => {
  const vocab = ['<s>', '<pad>', '</s>', '<unk>', '\u2581', 'a', 'b', '<', '/', 's', '>'];
  const tokenizer = json({
    added_tokens: [
      { id: 0, content: '<s>', special: true },
      { id: 2, content: '</s>', special: true },
    ],
    normalizer: null,
    pre_tokenizer: { type: 'Metaspace', replacement: '\u2581', prepend_scheme: 'always' },
    post_processor: { type: 'RobertaProcessing', sep: ['</s>', 2], cls: ['<s>', 0] },
    decoder: null,
    model: { type: 'Unigram', unk_id: 3, vocab: vocab.map((token) => [token, token.length > 1 ? 0 : -1]) },
  });
  const engine = await start(encodeTinyEmbedder(), { ...tokenizerFiles(), 'tokenizer.json': tokenizer });
  expect((await engine.embedder?.embed(['ab'], signal))?.promptTokens).toBe(5);
  await expect(engine.infer(texts('ab</s>'))).rejects.toMatchObject(rejected('spells a special token'));
});

it('refuses several texts that are too many tokens together, and takes one of as many', async () => {
  const files = { ...tokenizerFiles(), 'tokenizer_config.json': json({ model_max_length: 20_000 }) };
  const engine = await start(encodeTinyClassifier(), files);
  const long = 'a '.repeat(16_382);
  await ask(engine, 'logits', long);
  await expect(engine.infer(texts('a', long))).rejects.toMatchObject(
    rejected('2 texts of up to 16384 tokens: expected at most 16384 together'),
  );
});

describe('is not started', () => {
  const files = tokenizerFiles();
  const without = (name: string): Record<string, Uint8Array> =>
    Object.fromEntries(Object.entries(files).filter(([other]) => other !== name));
  it.each<[string, Uint8Array, Readonly<Record<string, Uint8Array>>, string]>([
    ['a model without token inputs', addModel(), files, 'an input a that is none of'],
    [
      'a tokenizer that is not JSON',
      encodeTinyClassifier(),
      { 'tokenizer.json': Buffer.from('{') },
      'is not JSON',
    ],
    [
      'a tokenizer that is a list',
      encodeTinyClassifier(),
      { 'tokenizer.json': json([]) },
      'is no JSON object',
    ],
    [
      'a tokenizer of an unknown kind',
      encodeTinyClassifier(),
      { ...files, 'tokenizer.json': json({ ...tinyTokenizer(), model: { type: 'Guess', vocab: [] } }) },
      'tokenizer.json:',
    ],
    [
      'a tokenizer that is too large',
      encodeTinyClassifier(),
      { 'tokenizer.json': Buffer.alloc(2 ** 26 + 1, ' ') },
      'expected at most 67108864',
    ],
    [
      'a configuration that is too large',
      encodeTinyClassifier(),
      { ...files, 'config.json': Buffer.alloc(2 ** 20 + 1, ' ') },
      'expected at most 1048576',
    ],
    [
      'nothing that says how long',
      encodeTinyClassifier(),
      without('tokenizer_config.json'),
      'how many tokens',
    ],
    [
      'another pooling',
      encodeTinyEmbedder(),
      { ...files, '1_Pooling/config.json': json({ pooling_mode_max_tokens: true }) },
      '1_Pooling/config.json: expected',
    ],
    [
      'pooling for a model without vectors',
      encodeTinyClassifier(),
      { ...files, '1_Pooling/config.json': json({ pooling_mode_mean_tokens: true }) },
      'no output token_embeddings or last_hidden_state',
    ],
    [
      'special tokens outside the vocabulary',
      encodeTinyClassifier(),
      {
        ...files,
        'tokenizer.json': json({
          ...tinyTokenizer(),
          post_processor: { type: 'BertProcessing', sep: ['[GONE]', 99], cls: ['[CLS]', 2] },
        }),
      },
      'adds a token that is not in the vocabulary',
    ],
  ])('%s', async (_, model, given, message) => {
    await expect(start(model, given)).rejects.toMatchObject({
      code: 'ENGINE_START_FAILED',
      message: expect.stringContaining(message),
    });
  });
});
