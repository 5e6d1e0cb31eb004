import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeGguf, type GgufTensor, type GgufValue, ggmlSizeBytes } from '../../../scripts/model/gguf.ts';
import { encodeRandomLlama, TINY_LLAMA } from '../../../scripts/model/random-llama.ts';
import { ModelFileError } from '../../../shared/model-files/errors.ts';
import { checkGgufFile, type GgufFile } from '../../../shared/model-files/gguf-file.ts';
import { fileOf } from './onnx-bytes.ts';

const check = (content: Uint8Array): GgufFile => checkGgufFile(fileOf(content));
const text = (value: string): GgufValue => ({ type: 'string', value });
const count = (value: number | bigint): GgufValue => ({ type: 'uint32', value });
const texts = (...values: string[]): GgufValue => ({ type: 'array', of: 'string', values });
const numbers = (of: 'int32' | 'uint32' | 'float32', ...values: number[]): GgufValue => ({
  type: 'array',
  of,
  values,
});

const METADATA: Readonly<Record<string, GgufValue>> = {
  'general.architecture': text('llama'),
  'llama.block_count': count(1),
  'llama.context_length': count(128),
  'llama.embedding_length': count(32),
  'llama.attention.head_count': count(2),
  'tokenizer.ggml.model': text('llama'),
  'tokenizer.ggml.tokens': texts('<unk>', '<s>', 'a'),
  'tokenizer.ggml.scores': numbers('float32', 0, 0, -1),
  'tokenizer.ggml.token_type': numbers('int32', 2, 3, 1),
};
const TENSORS: readonly GgufTensor[] = [
  { name: 'a.weight', dimensions: [32, 3], type: 'Q8_0', data: () => [new Uint8Array(3 * 34)] },
  { name: 'b.weight', dimensions: [32], type: 'F32', data: () => [new Uint8Array(128)] },
];

type Changes = Readonly<Record<string, GgufValue | undefined>>;
function file(changes: Changes = {}, tensors = TENSORS): Buffer {
  const entries = Object.entries({ ...METADATA, ...changes }).filter(
    (entry): entry is [string, GgufValue] => entry[1] !== undefined,
  );
  return Buffer.concat([...encodeGguf({ metadata: new Map(entries), tensors })]);
}
/** A file whose bytes are changed after it was written. */
function edited(edit: (bytes: Buffer) => void, changes: Changes = {}): Buffer {
  const bytes = file(changes);
  edit(bytes);
  return bytes;
}
/** Where the description of the first tensor begins: the length of its name. */
const firstTensor = (bytes: Buffer): number => bytes.indexOf('a.weight') - 8;
/** The fields of the first tensor after its name: dimensions, sizes, type, offset. */
const DIMENSIONS = 16;
const TYPE = DIMENSIONS + 4 + 2 * 8;
const OFFSET = TYPE + 4;

const MALFORMED = 'MODEL_FILE_MALFORMED';
const UNSUPPORTED = 'MODEL_FILE_UNSUPPORTED';
const refusal = (code: string, why: string) =>
  expect.objectContaining({ code, message: expect.stringContaining(why) });

describe('a GGUF file', () => {
  it('of the repository’s writer is accepted, and tells what an engine needs', () => {
    expect(check(Buffer.concat([...encodeRandomLlama(TINY_LLAMA)]))).toEqual({
      architecture: 'llama',
      contextTokens: 512,
      tokenizer: 'llama',
      vocabularyTokens: 1024,
      spacePrefix: true,
      // 2 layers, 4 heads of 16 keys and 16 values, 2 bytes each.
      contextBytesPerToken: 512,
      chatTemplate: expect.stringContaining('<|im_start|>'),
    });
    expect(check(file())).toMatchObject({ contextTokens: 128, chatTemplate: undefined });
  });

  it('may be of version 2, which has the same layout', () => {
    expect(check(edited((bytes) => bytes.writeUInt32LE(2, 4)))).toMatchObject({ architecture: 'llama' });
  });

  it('is read without its weights, in pieces of at most 64 KiB', () => {
    const words = Array.from({ length: 20_000 }, (_, index) => `word${index}`);
    const zeros = words.map(() => 0);
    const changes = {
      'tokenizer.ggml.tokens': texts(...words),
      'tokenizer.ggml.scores': numbers('float32', ...zeros),
      'tokenizer.ggml.token_type': numbers('int32', ...zeros),
    };
    const dimensions = [4096, 2 ** 18];
    const header = file(changes, [{ name: 'w', dimensions, type: 'F32', data: () => [] }]);
    const sizeBytes = header.length + ggmlSizeBytes('F32', dimensions);
    let largest = 0;
    let readBytes = 0;
    const read = (offset: number, target: Uint8Array): void => {
      largest = Math.max(largest, target.length);
      readBytes += target.length;
      target.set(header.subarray(offset, offset + target.length));
    };
    expect(checkGgufFile({ sizeBytes, read })).toMatchObject({ vocabularyTokens: 20_000 });
    expect(largest).toBe(64 * 1024);
    expect(readBytes).toBeLessThan(header.length * 2);
  });

  it.each<[string, Changes]>([
    ['numbers of layers in a list', { 'llama.attention.head_count': numbers('uint32', 2) }],
    [
      'lists of other numbers',
      { other: numbers('uint32', 1, 2, 3), more: { type: 'array', of: 'bool', values: [true] } },
    ],
    [
      'every type of number',
      {
        a: { type: 'uint8', value: 255 },
        b: { type: 'int8', value: -1 },
        c: { type: 'uint16', value: 9 },
        d: { type: 'int16', value: -9 },
        e: { type: 'int32', value: -1 },
        f: { type: 'float32', value: 0.5 },
        g: { type: 'bool', value: true },
        h: { type: 'uint64', value: 7n },
        i: { type: 'int64', value: -7n },
        j: { type: 'float64', value: 0.25 },
      },
    ],
    ['an alignment of 64', { 'general.alignment': count(64), 'split.count': { type: 'uint16', value: 1 } }],
    [
      'byte-level BPE',
      {
        'tokenizer.ggml.model': text('gpt2'),
        'tokenizer.ggml.scores': undefined,
        'tokenizer.ggml.merges': texts('a b', 'ab c'),
      },
    ],
    [
      'ids of special tokens',
      { 'tokenizer.ggml.bos_token_id': count(1), 'tokenizer.ggml.eos_token_id': count(2) },
    ],
  ])('may have %s', (_, changes) => {
    // The writer lays tensors out for an alignment of 32: one tensor fits every alignment.
    const content = file(changes, TENSORS.slice(1));
    const aligned = changes['general.alignment'] === undefined ? content : realigned(content, 64);
    expect(check(aligned)).toMatchObject({ architecture: 'llama' });
  });

  it.each<[string, string, string, Uint8Array]>([
    ['that is empty', MALFORMED, 'cut off at byte 0', Buffer.alloc(0)],
    ['with another beginning', MALFORMED, 'does not begin with GGUF', Buffer.from('GGML'.padEnd(64))],
    ['of version 1', UNSUPPORTED, 'version 1', edited((bytes) => bytes.writeUInt32LE(1, 4))],
    ['of a version to come', UNSUPPORTED, 'version 4', edited((bytes) => bytes.writeUInt32LE(4, 4))],
    ['in big-endian', UNSUPPORTED, 'little-endian', edited((bytes) => bytes.writeUInt32BE(3, 4))],
    ['without tensors', MALFORMED, '0 tensors', edited((bytes) => bytes.writeBigUInt64LE(0n, 8))],
    [
      'of too many tensors',
      MALFORMED,
      '65537 tensors',
      edited((bytes) => bytes.writeBigUInt64LE(65_537n, 8)),
    ],
    [
      'of more tensors than can be counted',
      MALFORMED,
      'the number',
      edited((bytes) => bytes.fill(0xff, 8, 16)),
    ],
    [
      'of too many keys',
      MALFORMED,
      '4097 metadata keys',
      edited((bytes) => bytes.writeBigUInt64LE(4097n, 16)),
    ],
    ['with more keys than it has', MALFORMED, '', edited((bytes) => bytes.writeBigUInt64LE(12n, 16))],
    [
      'with a key without end',
      MALFORMED,
      'at most 256',
      edited((bytes) => bytes.writeBigUInt64LE(2n ** 40n, 24)),
    ],
    ['with a key that is no ASCII', MALFORMED, 'printable ASCII', file({ schlüssel: count(1) })],
    ['with an empty key', MALFORMED, 'printable ASCII', file({ '': count(1) })],
    [
      'with a key twice',
      MALFORMED,
      'twice',
      edited((bytes) => bytes.write('k1', bytes.indexOf('k2')), { k1: count(1), k2: count(1) }),
    ],
    [
      'with a value of unknown type',
      MALFORMED,
      'unknown type 13',
      edited((bytes) => bytes.writeUInt32LE(13, bytes.indexOf('k1') + 2), { k1: count(1) }),
    ],
    [
      'with a half truth',
      MALFORMED,
      'neither true nor false',
      edited((bytes) => bytes.writeUInt8(2, bytes.indexOf('k1') + 6), { k1: { type: 'bool', value: true } }),
    ],
    [
      'with half truths in a list',
      MALFORMED,
      'neither true nor false',
      edited((bytes) => bytes.writeUInt8(2, bytes.indexOf('k1') + 18), {
        k1: { type: 'array', of: 'bool', values: [true] },
      }),
    ],
    [
      'with a text that is not UTF-8',
      MALFORMED,
      'not UTF-8',
      edited((bytes) => bytes.writeUInt8(0xff, bytes.indexOf('k1') + 14), { k1: text('x') }),
    ],
    [
      'with a text without end',
      MALFORMED,
      'at most 524288',
      edited((bytes) => bytes.writeBigUInt64LE(2n ** 32n, bytes.indexOf('k1') + 6), { k1: text('x') }),
    ],
    [
      'with an array of arrays',
      MALFORMED,
      'array of arrays',
      edited((bytes) => bytes.writeUInt32LE(9, bytes.indexOf('k1') + 6), { k1: texts('x') }),
    ],
    [
      'with an array without end',
      MALFORMED,
      'at most 2097152',
      edited((bytes) => bytes.writeBigUInt64LE(2n ** 40n, bytes.indexOf('k1') + 10), { k1: texts('x') }),
    ],
    [
      'with an array longer than the file',
      MALFORMED,
      'cut off',
      edited((bytes) => bytes.writeBigUInt64LE(2n ** 20n, bytes.indexOf('k1') + 10), {
        k1: numbers('float32', 1),
      }),
    ],
    [
      'with an element without end',
      MALFORMED,
      'at most 16384',
      edited((bytes) => bytes.writeBigUInt64LE(2n ** 20n, bytes.indexOf('k1') + 18), { k1: texts('x') }),
    ],

    [
      'without an architecture',
      MALFORMED,
      'general.architecture',
      file({ 'general.architecture': undefined }),
    ],
    [
      'with an architecture that is no text',
      MALFORMED,
      'general.architecture',
      file({ 'general.architecture': count(1) }),
    ],
    [
      'of an unknown architecture',
      UNSUPPORTED,
      'the architecture "mamba"',
      file({ 'general.architecture': text('mamba') }),
    ],
    [
      'of an architecture of the prototype',
      UNSUPPORTED,
      'constructor',
      file({ 'general.architecture': text('constructor') }),
    ],
    [
      'that is a part of a model',
      UNSUPPORTED,
      'llama-gguf-split',
      file({ 'split.count': { type: 'uint16', value: 2 } }),
    ],
    ['without layers', MALFORMED, 'llama.block_count', file({ 'llama.block_count': count(0) })],
    [
      'with no word of its layers',
      MALFORMED,
      'llama.block_count is missing',
      file({ 'llama.block_count': undefined }),
    ],
    ['with too many layers', MALFORMED, 'llama.block_count', file({ 'llama.block_count': count(1025) })],
    [
      'with a negative number of layers',
      MALFORMED,
      'llama.block_count',
      file({ 'llama.block_count': { type: 'int32', value: -1 } }),
    ],
    ['with layers in a text', MALFORMED, 'expected a number', file({ 'llama.block_count': text('1') })],
    [
      'with a context beyond bounds',
      MALFORMED,
      'llama.context_length',
      file({ 'llama.context_length': count(2 ** 24 + 1) }),
    ],
    [
      'with a width of nothing',
      MALFORMED,
      'llama.embedding_length',
      file({ 'llama.embedding_length': count(0) }),
    ],
    [
      'without heads',
      MALFORMED,
      'llama.attention.head_count',
      file({ 'llama.attention.head_count': count(0) }),
    ],
    [
      'with heads that do not part its width',
      MALFORMED,
      '32 for 3 heads',
      file({ 'llama.attention.head_count': count(3) }),
    ],
    [
      'with no keys and values',
      MALFORMED,
      'head_count_kv',
      file({ 'llama.attention.head_count_kv': count(0) }),
    ],
    ['with keys beyond bounds', MALFORMED, 'key_length', file({ 'llama.attention.key_length': count(8193) })],
    [
      'with values of no length',
      MALFORMED,
      'value_length',
      file({ 'llama.attention.value_length': count(0) }),
    ],
    [
      'with lists shorter than its layers',
      MALFORMED,
      '2 values for 3 layers',
      file({ 'llama.block_count': count(3), 'llama.attention.head_count_kv': numbers('uint32', 1, 1) }),
    ],
    ['with experts beyond bounds', MALFORMED, 'expert_count', file({ 'llama.expert_count': count(4097) })],
    ['with an alignment of 48', MALFORMED, 'general.alignment', file({ 'general.alignment': count(48) })],
    ['with an alignment of nothing', MALFORMED, 'general.alignment', file({ 'general.alignment': count(0) })],
    ['with an alignment of 8192', MALFORMED, 'general.alignment', file({ 'general.alignment': count(8192) })],
    ['with an alignment in words', MALFORMED, 'general.alignment', file({ 'general.alignment': text('32') })],
    [
      'with a chat template that is no text',
      MALFORMED,
      'chat template',
      file({ 'tokenizer.chat_template': count(1) }),
    ],
    [
      'with an endless chat template',
      MALFORMED,
      'chat template',
      file({ 'tokenizer.chat_template': text('x'.repeat(262_145)) }),
    ],

    ['without a tokenizer', MALFORMED, 'tokenizer.ggml.model', file({ 'tokenizer.ggml.model': undefined })],
    [
      'with an unknown tokenizer',
      UNSUPPORTED,
      'the tokenizer "t5"',
      file({ 'tokenizer.ggml.model': text('t5') }),
    ],
    ['without a vocabulary', MALFORMED, 'vocabulary of 0', file({ 'tokenizer.ggml.tokens': undefined })],
    ['with an empty vocabulary', MALFORMED, 'vocabulary of 0', file({ 'tokenizer.ggml.tokens': texts() })],
    [
      'with a vocabulary of numbers',
      MALFORMED,
      'a list of string',
      file({ 'tokenizer.ggml.tokens': numbers('int32', 1) }),
    ],
    [
      'with a vocabulary that is no list',
      MALFORMED,
      'a list of string',
      file({ 'tokenizer.ggml.tokens': text('a') }),
    ],
    [
      'with a token with a zero byte',
      MALFORMED,
      'zero byte',
      file({ 'tokenizer.ggml.tokens': texts('a', '\0', 'b') }),
    ],
    ['without scores', MALFORMED, 'without scores', file({ 'tokenizer.ggml.scores': undefined })],
    [
      'with too few scores',
      MALFORMED,
      '2 elements for 3 tokens',
      file({ 'tokenizer.ggml.scores': numbers('float32', 0, 0) }),
    ],
    [
      'with too many types',
      MALFORMED,
      '4 elements for 3 tokens',
      file({ 'tokenizer.ggml.token_type': numbers('int32', 1, 1, 1, 1) }),
    ],
    [
      'with a type of token that there is not',
      MALFORMED,
      'unknown type 7',
      file({ 'tokenizer.ggml.token_type': numbers('int32', 7, 1, 1) }),
    ],
    [
      'with a special token beyond its vocabulary',
      MALFORMED,
      'no token of 3',
      file({ 'tokenizer.ggml.eos_token_id': count(3) }),
    ],
    [
      'with special tokens beyond its vocabulary',
      MALFORMED,
      'no token of 3',
      file({ 'tokenizer.ggml.eog_token_ids': numbers('uint32', 1, 3) }),
    ],
    [
      'with a special token in words',
      MALFORMED,
      'no token of 3',
      file({ 'tokenizer.ggml.eos_token_id': text('a') }),
    ],
    ['of BPE without merges', MALFORMED, 'without merges', file({ 'tokenizer.ggml.model': text('gpt2') })],
    ['with a merge of one token', MALFORMED, 'a merge', file({ 'tokenizer.ggml.merges': texts('ab') })],
    [
      'with a merge of a token and nothing',
      MALFORMED,
      'a merge',
      file({ 'tokenizer.ggml.merges': texts('ab ') }),
    ],
    [
      'with a compiled map of characters',
      UNSUPPORTED,
      'map of characters',
      file({ 'tokenizer.ggml.precompiled_charsmap': { type: 'array', of: 'uint8', values: [1] } }),
    ],

    [
      'with a tensor without a name',
      MALFORMED,
      'not printable ASCII',
      edited((bytes) => bytes.fill(0x20, firstTensor(bytes) + 8, firstTensor(bytes) + 16)),
    ],
    [
      'with a tensor of an endless name',
      MALFORMED,
      'at most 63',
      edited((bytes) => bytes.writeBigUInt64LE(64n, firstTensor(bytes))),
    ],
    [
      'with a tensor twice',
      MALFORMED,
      'twice',
      edited((bytes) => bytes.write('a', bytes.indexOf('b.weight'))),
    ],
    [
      'with a tensor of no dimension',
      MALFORMED,
      '0 dimensions',
      edited((bytes) => bytes.writeUInt32LE(0, firstTensor(bytes) + DIMENSIONS)),
    ],
    [
      'with a tensor of five dimensions',
      MALFORMED,
      '5 dimensions',
      edited((bytes) => bytes.writeUInt32LE(5, firstTensor(bytes) + DIMENSIONS)),
    ],
    [
      'with a tensor of nothing',
      MALFORMED,
      'the dimensions',
      edited((bytes) => bytes.writeBigUInt64LE(0n, firstTensor(bytes) + DIMENSIONS + 12)),
    ],
    [
      'with a tensor beyond counting',
      MALFORMED,
      'the dimensions',
      edited((bytes) => bytes.writeBigUInt64LE(2n ** 50n, firstTensor(bytes) + DIMENSIONS + 12)),
    ],
    [
      'with a tensor of a removed type',
      UNSUPPORTED,
      'type 4',
      edited((bytes) => bytes.writeUInt32LE(4, firstTensor(bytes) + TYPE)),
    ],
    [
      'with a tensor of a type to come',
      UNSUPPORTED,
      'type 1000',
      edited((bytes) => bytes.writeUInt32LE(1000, firstTensor(bytes) + TYPE)),
    ],
    [
      'with a row of a part of a block',
      MALFORMED,
      'a row of 33',
      edited((bytes) => bytes.writeBigUInt64LE(33n, firstTensor(bytes) + DIMENSIONS + 4)),
    ],
    [
      'with a tensor beside its place',
      MALFORMED,
      'begins at 32',
      edited((bytes) => bytes.writeBigUInt64LE(32n, firstTensor(bytes) + OFFSET)),
    ],
    [
      'with tensors over one another',
      MALFORMED,
      'begins at 0',
      edited((bytes) => bytes.writeBigUInt64LE(0n, bytes.indexOf('b.weight') + 8 + 4 + 8 + 4)),
    ],
    ['with tensors beyond its end', MALFORMED, 'its tensors end', file().subarray(0, -1)],
    [
      'with bytes beyond its last tensor',
      MALFORMED,
      '1 bytes beyond',
      Buffer.concat([file(), Buffer.alloc(1)]),
    ],
  ])('%s is refused', (_, code, why, content) => {
    expect(() => check(content)).toThrow(refusal(code, why));
  });

  it('is refused at whatever byte it ends', () => {
    const whole = file();
    for (let length = 0; length < whole.length; length += 1) {
      expect(() => check(whole.subarray(0, length))).toThrow(ModelFileError);
    }
  });

  it('never makes the checker fail in another way, or read beyond its end, whatever is changed in it', () => {
    const whole = file({ 'tokenizer.chat_template': text('x'), list: numbers('uint32', 1, 2) });
    const change = fc.record({ at: fc.nat(whole.length - 1), value: fc.nat(255) });
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 8 }), (changes) => {
        const content = Buffer.from(whole);
        for (const { at, value } of changes) content[at] = value;
        let found: GgufFile;
        try {
          found = check(content);
        } catch (error) {
          expect(error).toBeInstanceOf(ModelFileError);
          return;
        }
        expect(found.contextTokens).toBeLessThanOrEqual(2 ** 24);
        expect(found.vocabularyTokens).toBe(3);
      }),
      { numRuns: 1500 },
    );
  });

  it('never makes the checker fail in another way, whatever it is', () => {
    const header = file().subarray(0, 24);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), fc.boolean(), (bytes, begins) => {
        expect(() => check(begins ? Buffer.concat([header, bytes]) : bytes)).toThrow(ModelFileError);
      }),
    );
  });
});

/** The same file with its data after padding to `alignment`. */
function realigned(content: Buffer, alignment: number): Buffer {
  const dataBytes = 128;
  const start = content.length - dataBytes;
  const padding = Buffer.alloc((alignment - (start % alignment)) % alignment);
  return Buffer.concat([content.subarray(0, start), padding, content.subarray(start)]);
}
