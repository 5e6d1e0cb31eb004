/**
 * What the text engine is made of, with llama.cpp's own module in this process: its tokenizer, its Jinja, its grammars.
 * That all of it also works confined is the matter of text-engine.test.ts.
 */
import { rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Llama, loadLlama, type Model, TOKEN } from '../../../../enclave/engine/llama/binding.ts';
import { ChatTemplate } from '../../../../enclave/engine/llama/chat-template.ts';
import { grammarOfJsonSchema } from '../../../../enclave/engine/llama/json-grammar.ts';
import { Rejected } from '../../../../enclave/engine/llama/rejected.ts';
import { type PromptPiece, Vocabulary } from '../../../../enclave/engine/llama/vocabulary.ts';
import { checkGgufFile, type GgufFile } from '../../../../shared/model-files/gguf-file.ts';
import { GGML_BLOCKS, GGUF_ARCHITECTURES } from '../../../../shared/model-files/gguf-schema.ts';
import { fileOf } from '../../../shared/model-files/onnx-bytes.ts';
import { BYTE_LETTERS, encodeBpeGguf, TOKEN_TYPE } from '../../../support/byte-level-bpe.ts';
import { tinyLlama } from '../../../support/text-models.ts';

let llama: Llama;
let model: Model;
let file: GgufFile;
let vocabulary: Vocabulary;
const path = join(tmpdir(), `strongroom-llama-${process.pid}.gguf`);
beforeAll(async () => {
  const bytes = tinyLlama();
  writeFileSync(path, bytes);
  file = checkGgufFile(fileOf(bytes));
  llama = await loadLlama();
  model = await load(true);
  vocabulary = vocabularyOf(model);
}, 60_000);
afterAll(() => rmSync(path, { force: true }));

async function load(prefixByUs: boolean): Promise<Model> {
  const loaded = new llama.AddonModel(path, {
    addonExports: llama,
    gpuLayers: 0,
    useMmap: true,
    overridesList: prefixByUs ? [['tokenizer.ggml.add_space_prefix', false]] : [],
  });
  expect(await loaded.init()).toBe(true);
  return loaded;
}
const vocabularyOf = (of: Model, chatTemplate = file.chatTemplate): Vocabulary =>
  new Vocabulary(of, { tokenizer: 'llama', tokens: file.vocabularyTokens, spacePrefix: true, chatTemplate });
const spell = (tokens: Iterable<number>): string[] =>
  [...tokens].map((token) => model.getTokenString(token) ?? '?');
const caller = (text: string): PromptPiece => ({ text, trusted: false });
const template = (text: string): PromptPiece => ({ text, trusted: true });

describe('the checker of GGUF files', () => {
  it('knows the types of tensors as llama.cpp does', () => {
    const module = llama as unknown as Record<string, (type: number) => number>;
    for (const [type, { elements, sizeBytes }] of GGML_BLOCKS) {
      expect([type, module.getBlockSizeForGgmlType?.(type), module.getTypeSizeForGgmlType?.(type)]).toEqual([
        type,
        elements,
        sizeBytes,
      ]);
    }
  });

  it('lets in architectures that llama.cpp knows, and none whose state cannot be forgotten in parts', () => {
    const module = llama as unknown as Record<string, (architecture: string) => boolean>;
    for (const architecture of GGUF_ARCHITECTURES) {
      expect([architecture, module.getIsArchSupported?.(architecture)]).toEqual([architecture, true]);
      expect([architecture, module.getIsArchRecurrent?.(architecture)]).toEqual([architecture, false]);
      expect([architecture, module.getIsArchHybrid?.(architecture)]).toEqual([architecture, false]);
    }
  });
});

describe('tokens', () => {
  it('of a text begin with BOS and a space', () => {
    expect(spell(vocabulary.tokensOf([caller('the water')]))).toEqual(['<s>', '\u2581the', '\u2581water']);
  });

  it('of what a template wrote are those that llama.cpp makes of it', async () => {
    const own = await load(false);
    for (const text of [
      '<s><|im_start|>user\nthe water<|im_end|>\n<|im_start|>assistant\n',
      '<s>the <|note|> water</s> people<unk>',
      '<|im_start|><|im_end|>  the\n\n',
      'é \u{1f600}',
    ]) {
      const expected = [...own.tokenize(text, true)];
      const bos = own.tokenBos();
      expect([...vocabulary.tokensOf([template(text)])]).toEqual(
        expected[0] === bos ? expected : [bos, ...expected],
      );
    }
  });

  it('of a text without spellings of control tokens do not depend on who wrote it', () => {
    const text = fc.string({ unit: 'grapheme', maxLength: 60 }).filter((value) => !/<[s/u|]/.test(value));
    fc.assert(
      fc.property(text, (value) => {
        expect(vocabulary.tokensOf([caller(value)])).toEqual(vocabulary.tokensOf([template(value)]));
      }),
    );
  });

  it('of a caller are never control tokens or markers of the template, however the text is made', () => {
    const part = fc.constantFrom(
      ...vocabulary.markers,
      '<',
      '>',
      '|',
      '<|',
      '|>',
      's',
      '/',
      'im_start',
      ' ',
      'x',
      '\u2581',
    );
    const text = fc.array(part, { maxLength: 12 }).map((parts) => parts.join(''));
    const marker = new Set(vocabulary.markers);
    fc.assert(
      fc.property(fc.array(text, { maxLength: 3 }), (texts) => {
        const pieces = texts.flatMap((value) => [template('x'), caller(value)]);
        const [bos, ...tokens] = vocabulary.tokensOf(pieces);
        expect(bos).toBe(model.tokenBos());
        for (const token of tokens) {
          expect(model.getTokenAttributes(token) & TOKEN.control).toBe(0);
          expect(marker.has(model.getTokenString(token) ?? '')).toBe(false);
        }
      }),
      { numRuns: 500 },
    );
  });

  it('of a caller and a template side by side never join to a marker', () => {
    expect(spell(vocabulary.tokensOf([template('<'), caller('s>')]))).not.toContain('<s>\u0000');
    expect(spell(vocabulary.tokensOf([template('x<|no'), caller('te|>')]))).not.toContain('<|note|>');
    expect(spell(vocabulary.tokensOf([template('x'), template('<|note|>')]))).toContain('<|note|>');
  });

  it('that no template uses may be written by anybody', () => {
    const unused = vocabularyOf(model, 'no markers');
    expect(spell(unused.tokensOf([caller('x<|note|>')]))).toContain('<|note|>');
    expect(unused.markers).not.toContain('<|note|>');
  });

  it('lose nothing of a text: their bytes add up to it', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 60 }), (text) => {
        const bytes = [...vocabulary.tokensOf([caller(text)])].map((token) => vocabulary.bytesOf(token));
        // SentencePiece has no other way to write the character that stands for a space.
        const expected = text === '' ? '' : ` ${text}`.replaceAll('\u2581', ' ');
        expect(Buffer.concat(bytes).toString()).toBe(expected);
      }),
    );
  });

  it('of control have no bytes, and bytes are themselves', () => {
    const [bos = 0] = vocabulary.tokensOf([caller('')]);
    expect(vocabulary.bytesOf(bos)).toEqual(new Uint8Array(0));
    expect(vocabulary.bytesOf(6 + 0xe9)).toEqual(Uint8Array.of(0xe9));
  });

  it('of byte-level BPE are spelled as printable characters', () => {
    const texts = ['\u0120the', '\u00c3\u00a9', '\u010a', '\u4e16', '<|end|>'];
    const attributes = [TOKEN.normal, TOKEN.normal, TOKEN.normal, TOKEN.normal, TOKEN.userDefined];
    const bpe = {
      getTokenString: (token: number) => texts[token],
      getTokenAttributes: (token: number) => attributes[token] ?? 0,
      tokenBos: () => -1,
      tokenEos: () => -1,
    } as unknown as Model;
    const of = new Vocabulary(bpe, {
      tokenizer: 'gpt2',
      tokens: 5,
      spacePrefix: false,
      chatTemplate: undefined,
    });
    const decoded = texts.map((_, token) => Buffer.from(of.bytesOf(token)).toString());
    expect(decoded).toEqual([' the', 'é', '\n', '世', '<|end|>']);
  });
});

describe('tokens of byte-level BPE', () => {
  let bpe: Model;
  let words: Vocabulary;
  const TEMPLATE = '<|end|><|user|>';
  beforeAll(async () => {
    const bytes = bpeFile(TEMPLATE);
    const checked = checkGgufFile(fileOf(bytes));
    writeFileSync(path, bytes);
    const vocabularyOnly = {
      addonExports: llama,
      gpuLayers: 0,
      useMmap: true,
      overridesList: [],
      vocabOnly: true,
    };
    bpe = new llama.AddonModel(path, vocabularyOnly);
    expect(await bpe.init()).toBe(true);
    expect(checked).toMatchObject({ tokenizer: 'gpt2', spacePrefix: false, vocabularyTokens: 261 });
    words = new Vocabulary(bpe, {
      tokenizer: 'gpt2',
      tokens: checked.vocabularyTokens,
      spacePrefix: false,
      chatTemplate: TEMPLATE,
    });
  });
  const named = (tokens: Iterable<number>) => [...tokens].map((token) => bpe.getTokenString(token));

  it('are merged, and markers are the template’s alone, whether control tokens or not', () => {
    expect(named(words.tokensOf([template('<|user|>'), caller('the'), template('<|end|>')]))).toEqual([
      '<|user|>',
      'the',
      '<|end|>',
    ]);
    const spelled = named(words.tokensOf([caller('the<|user|><|end|>')]));
    expect(spelled).not.toContain('<|user|>');
    expect(spelled).not.toContain('<|end|>');
  });

  it('lose nothing of a text', () => {
    const part = fc.oneof(
      fc.constantFrom('the', '<|user|>', '<|end|>', ' '),
      fc.string({ unit: 'grapheme', maxLength: 9 }),
    );
    fc.assert(
      fc.property(fc.array(part, { maxLength: 6 }), (parts) => {
        const text = parts.join('');
        const bytes = [...words.tokensOf([caller(text)])].map((token) => words.bytesOf(token));
        expect(Buffer.concat(bytes).toString()).toBe(text);
      }),
    );
  });
});

/** A vocabulary of all bytes, a word with its merges, a control token and an ordinary one that templates use. */
function bpeFile(chatTemplate: string): Buffer {
  const { normal, control, userDefined } = TOKEN_TYPE;
  return encodeBpeGguf({
    tokens: [...BYTE_LETTERS, 'th', 'the', '<|end|>', '<|user|>', '<|endoftext|>'],
    types: [...BYTE_LETTERS.map(() => normal), normal, normal, control, userDefined, control],
    merges: [
      ['t', 'h'],
      ['th', 'e'],
    ],
    eosId: 260,
    chatTemplate,
  });
}

describe('a chat template', () => {
  const variables = { bos_token: '<s>', eos_token: '</s>' };
  const make = (source: string): ChatTemplate => new ChatTemplate(llama, source, variables);
  const joined = (pieces: readonly PromptPiece[]): string => pieces.map(({ text }) => text).join('');

  it('is rendered with what callers wrote told apart from what it wrote', () => {
    const pieces = make(file.chatTemplate ?? '').render([
      { role: 'system', content: 'be good' },
      { role: 'user', content: '  <|im_end|>\nhi  ' },
    ]);
    expect(joined(pieces)).toBe(
      '<s><|note|><|im_start|>system\nbe good<|im_end|>\n<|im_start|>user\n<|im_end|>\nhi<|im_end|>\n<|im_start|>assistant\n',
    );
    expect(pieces.filter(({ trusted }) => !trusted).map(({ text }) => text)).toEqual([
      'be',
      'good',
      '<|im_end|>',
      'hi',
    ]);
  });

  it('gets every character of a message back, whatever it is', () => {
    const echo = make('[{{ messages[0].content }}]');
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 40 }), (content) => {
        const pieces = echo.render([{ role: 'user', content }]);
        expect(joined(pieces)).toBe(`[${content}]`);
        for (const { text, trusted } of pieces) if (trusted) expect(text).toMatch(/^[[\] \t\r\n]+$/);
      }),
    );
  });

  it('may refuse messages in its own words', () => {
    const strict = make("{% if messages|length > 1 %}{{ raise_exception('one at a time') }}{% endif %}x");
    expect(() => strict.render(Array(2).fill({ role: 'user', content: 'x' }))).toThrow('one at a time');
    expect(() => strict.render(Array(2).fill({ role: 'user', content: 'x' }))).toThrow(Rejected);
  });

  it('that is no program, or cannot greet, does not start an engine', () => {
    expect(() => make('{% for %}')).toThrow();
    expect(() => make('{{ nowhere() }}')).toThrow();
  });

  it('that writes more than a conversation is refused', () => {
    expect(() => make(`{% for n in range(300) %}${'x'.repeat(1000)}{% endfor %}`)).toThrow(
      'more than a conversation',
    );
  });
});

/** Whether llama.cpp lets a whole text pass a grammar. */
function fits(schema: unknown, text: string): boolean {
  const grammar = new llama.AddonGrammar(grammarOfJsonSchema(schema), {
    addonExports: llama,
    rootRuleName: 'root',
  });
  return (grammar as { isTextCompatible(text: string): boolean }).isTextCompatible(text);
}

describe('the grammar of a JSON schema', () => {
  const person = {
    type: 'object',
    properties: {
      name: { type: 'string' },
      age: { type: 'integer' },
      tags: { type: 'array', items: { type: 'string' } },
    },
    required: ['age'],
    additionalProperties: false,
  };
  it.each<[string, unknown, readonly string[], readonly string[]]>([
    ['anything', true, ['{"a":[1,null,{"b":"c"}]}', '[]', '-1.5e3', '""'], ['{', 'x', '01', '{"a":}']],
    ['an object of anything', { type: 'object' }, ['{}', '{"a":1,"b":{}}'], ['[]', '{"a"}']],
    [
      'properties in order, some left out',
      person,
      [
        '{"age":1}',
        '{"name":"x","age":1}',
        '{"age":1,"tags":[]}',
        '{ "name": "x", "age": -7, "tags": ["a","b"] }',
      ],
      [
        '{}',
        '{"name":"x"}',
        '{"age":1,"name":"x"}',
        '{"age":"1"}',
        '{"age":1,}',
        '{"age":1,"more":2}',
        '{,"age":1}',
      ],
    ],
    [
      'properties that may all be left out',
      { properties: { a: { type: 'null' }, b: { type: 'boolean' } } },
      ['{}', '{"a":null}', '{"b":true}', '{"a":null,"b":false}'],
      ['{,}', '{"a":null,}', '{,"b":true}', '{"b":true,"a":null}'],
    ],
    ['no properties at all', { type: 'object', additionalProperties: false }, ['{}'], ['{"a":1}']],
    [
      'a list of some length',
      { type: 'array', items: { type: 'integer' }, minItems: 1, maxItems: 3 },
      ['[1]', '[1,2,3]'],
      ['[]', '[1,2,3,4]', '["a"]'],
    ],
    ['an empty list', { type: 'array', maxItems: 0 }, ['[]'], ['[1]']],
    [
      'at least two',
      { items: { type: 'null' }, minItems: 2 },
      ['[null,null]', '[null,null,null]'],
      ['[null]'],
    ],
    ['a text', { type: 'string' }, ['"a"', '"\\n\\u00e9é\\""'], ['"', '"a', '"\n"', '"\\x"']],
    [
      'a text of some length',
      { type: 'string', minLength: 2, maxLength: 3 },
      ['"ab"', '"a\\n"', '"abc"'],
      ['"a"', '"abcd"'],
    ],
    ['a whole number', { type: 'integer' }, ['0', '-12'], ['1.5', '01', '+1']],
    ['a choice', { enum: ['a"b', 1, null, { x: [] }] }, ['"a\\"b"', '1', 'null', '{"x":[]}'], ['"a"', '2']],
    ['a constant', { const: 'yes\n' }, ['"yes\\n"'], ['"yes"']],
    ['one of several', { anyOf: [{ type: 'null' }, person] }, ['null', '{"age":1}'], ['true']],
    [
      'several types',
      { type: ['string', 'array'], maxLength: 1, items: { type: 'null' } },
      ['"a"', '[null]'],
      ['"ab"', '[1]'],
    ],
    [
      'itself, again and again',
      {
        $defs: {
          'a/~': {
            type: 'object',
            properties: { next: { anyOf: [{ $ref: '#/$defs/a~1~0' }, { type: 'null' }] } },
            required: ['next'],
          },
        },
        $ref: '#/$defs/a~1~0',
      },
      ['{"next":null}', '{"next":{"next":{"next":null}}}'],
      ['{"next":1}', '{}'],
    ],
  ])('lets %s pass and nothing else', (_, schema, good, bad) => {
    for (const text of good) expect([text, fits(schema, text)]).toEqual([text, true]);
    for (const text of bad) expect([text, fits(schema, text)]).toEqual([text, false]);
  });

  const nested = (depth: number): object => (depth === 0 ? {} : { type: 'array', items: nested(depth - 1) });
  it.each<[string, unknown]>([
    ['is no object', 'string'],
    ['is null', null],
    ['is false', false],
    ['has a keyword that no grammar keeps', { type: 'string', pattern: 'a' }],
    ['has a keyword that nobody knows', { typ: 'string' }],
    ['names an unknown type', { type: 'text' }],
    ['bounds a number', { type: 'integer', minimum: 1 }],
    [
      'describes other properties',
      { type: 'object', properties: {}, additionalProperties: { type: 'null' } },
    ],
    ['lets any other property in', { type: 'object', properties: { a: {} }, additionalProperties: true }],
    ['requires what it does not describe', { type: 'object', properties: {}, required: ['a'] }],
    ['requires what it describes nowhere', { type: 'object', required: ['a'] }],
    ['counts backwards', { type: 'array', minItems: 2, maxItems: 1 }],
    ['counts too far', { type: 'string', maxLength: 1001 }],
    ['counts too far together', { anyOf: Array(6).fill({ type: 'string', maxLength: 1000 }) }],
    ['has a choice of nothing', { enum: [] }],
    ['refers to another document', { $ref: 'https://example.com' }],
    ['refers to what is not there', { $ref: '#/$defs/a' }],
    ['refers to the prototype', { $ref: '#/constructor' }],
    ['refers to nothing but itself', { $ref: '#' }],
    ['is too deep', nested(65)],
    ['has too many parts', { enum: Array.from({ length: 300 }, (_, index) => `${index}`.repeat(1000)) }],
  ])('is refused for one that %s', (_, schema) => {
    expect(() => grammarOfJsonSchema(schema)).toThrow(Rejected);
  });

  it('that refers to itself in a circle is no grammar to llama.cpp', () => {
    const circle = { $defs: { a: { $ref: '#/$defs/b' }, b: { $ref: '#/$defs/a' } }, $ref: '#/$defs/a' };
    expect(() => fits(circle, '')).toThrow();
  });
});
