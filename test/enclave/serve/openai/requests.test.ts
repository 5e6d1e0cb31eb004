/** What requests of the OpenAI API may say: obeyed, ignored or refused, and never half of it. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseChatRequest } from '../../../../enclave/serve/openai/chat-request.ts';
import { parseCompletionRequest } from '../../../../enclave/serve/openai/completion-request.ts';
import { encodeEmbeddings, parseEmbeddingsRequest } from '../../../../enclave/serve/openai/embeddings.ts';
import { encodeEvent } from '../../../../enclave/serve/openai/event-stream.ts';

const MOST_TOKENS = 256;
const bytes = (value: unknown): Uint8Array => Buffer.from(JSON.stringify(value));
const MESSAGES = [{ role: 'user', content: 'hello' }];
const chat = (more: object = {}) =>
  parseChatRequest(bytes({ model: 'm', messages: MESSAGES, ...more }), MOST_TOKENS);
const completion = (more: object = {}) =>
  parseCompletionRequest(bytes({ model: 'm', prompt: 'hello', ...more }), MOST_TOKENS);
const embeddings = (more: object = {}) =>
  parseEmbeddingsRequest(bytes({ model: 'm', input: 'hello', ...more }));
const refusing = (field: string) => expect.objectContaining({ code: 'API_INVALID', field });

describe('a chat request', () => {
  it('without anything else asks for a text of the most tokens that there may be', () => {
    expect(chat()).toEqual({
      model: 'm',
      generate: [{ prompt: { kind: 'chat', messages: MESSAGES }, maxTokens: MOST_TOKENS }],
      streaming: undefined,
    });
  });

  it('is obeyed in everything that it may say', () => {
    const [generate] = chat({
      temperature: 0.5,
      top_p: 0.9,
      top_k: 40,
      min_p: 0.05,
      frequency_penalty: 1,
      presence_penalty: -1,
      seed: 7,
      stop: ['a', 'b'],
      max_completion_tokens: 12,
      logprobs: true,
      top_logprobs: 3,
      response_format: {
        type: 'json_schema',
        json_schema: { name: 'x', strict: true, schema: { type: 'null' } },
      },
    }).generate;
    expect(generate).toEqual({
      prompt: { kind: 'chat', messages: MESSAGES },
      maxTokens: 12,
      temperature: 0.5,
      topP: 0.9,
      topK: 40,
      minP: 0.05,
      frequencyPenalty: 1,
      presencePenalty: -1,
      seed: 7,
      stop: ['a', 'b'],
      topLogprobs: 3,
      jsonSchema: { type: 'null' },
    });
  });

  it('takes parts of text, and developers for the system', () => {
    const content = [
      { type: 'text', text: 'a' },
      { type: 'text', text: 'b' },
    ];
    const { generate } = chat({ messages: [{ role: 'developer', content }] });
    expect(generate[0]?.prompt).toEqual({ kind: 'chat', messages: [{ role: 'system', content: 'a\nb' }] });
  });

  it('is ignored in what changes nothing, and null is nothing', () => {
    const ignored = {
      user: 'u',
      metadata: { a: 'b' },
      store: true,
      service_tier: 'flex',
      safety_identifier: 's',
      prompt_cache_key: 'k',
    };
    expect(chat(ignored)).toEqual(chat());
    expect(chat({ temperature: null, stop: null, tools: null, response_format: null })).toEqual(chat());
  });

  it('may ask for nothing in many ways', () => {
    const nothing = {
      n: 1,
      logit_bias: {},
      tools: [],
      functions: [],
      tool_choice: 'none',
      function_call: 'none',
      parallel_tool_calls: true,
      modalities: ['text'],
      response_format: { type: 'text' },
      stream: false,
      logprobs: false,
    };
    expect(chat(nothing)).toEqual(chat());
  });

  it.each([
    ['n', { n: 2 }],
    ['logit_bias', { logit_bias: { 5: 1 } }],
    ['tools', { tools: [{ type: 'function' }] }],
    ['tool_choice', { tool_choice: 'auto' }],
    ['functions', { functions: [{}] }],
    ['audio', { audio: {} }],
    ['modalities', { modalities: ['text', 'audio'] }],
    ['temperature', { temperature: 2.1 }],
    ['temperature', { temperature: '1' }],
    ['top_p', { top_p: -0.1 }],
    ['top_k', { top_k: 1.5 }],
    ['seed', { seed: 2 ** 32 }],
    ['seed', { seed: 0.5 }],
    ['stop', { stop: '' }],
    ['stop', { stop: Array(17).fill('a') }],
    ['stop', { stop: ['a'.repeat(257)] }],
    ['max_tokens', { max_tokens: 0 }],
    ['max_tokens', { max_tokens: MOST_TOKENS + 1 }],
    ['max_completion_tokens', { max_completion_tokens: 3, max_tokens: 4 }],
    ['top_logprobs', { top_logprobs: 2 }],
    ['top_logprobs', { logprobs: true, top_logprobs: 21 }],
    ['stream', { stream: 'yes' }],
    ['stream_options', { stream_options: { include_usage: true } }],
    ['stream_options.other', { stream: true, stream_options: { other: true } }],
    ['response_format.type', { response_format: { type: 'grammar' } }],
    ['response_format.schema', { response_format: { type: 'json_object', schema: {} } }],
    ['response_format.json_schema', { response_format: { type: 'json_schema' } }],
    [
      'response_format.json_schema.schema',
      { response_format: { type: 'json_schema', json_schema: { schema: [] } } },
    ],
    ['messages', { messages: [] }],
    ['messages', { messages: 'hello' }],
    ['messages[0].role', { messages: [{ role: 'tool', content: 'x' }] }],
    ['messages[0].role', { messages: [{ role: 'constructor', content: 'x' }] }],
    ['messages[0].content', { messages: [{ role: 'user' }] }],
    ['messages[0].content[0].type', { messages: [{ role: 'user', content: [{ type: 'image_url' }] }] }],
    ['messages[0].name', { messages: [{ role: 'user', content: 'x', name: 'n' }] }],
    ['messages[0].tool_calls', { messages: [{ role: 'assistant', content: 'x', tool_calls: [{}] }] }],
    ['model', { model: null }],
    ['reasoning_effort', { reasoning_effort: 'low' }],
    ['surprise', { surprise: 1 }],
  ])('is refused for its %s', (field, more) => {
    expect(() => chat(more)).toThrow(refusing(field));
  });

  it('is refused when it is no object', () => {
    expect(() => parseChatRequest(bytes([]), MOST_TOKENS)).toThrow(refusing('body'));
  });

  it('is never anything but taken or refused by name, whatever it holds', () => {
    fc.assert(
      fc.property(
        fc.dictionary(fc.constantFrom('stop', 'seed', 'messages', 'stream', 'x', 'n'), fc.jsonValue()),
        (more) => {
          try {
            chat(more);
          } catch (error) {
            expect(error).toMatchObject({ code: 'API_INVALID' });
          }
        },
      ),
    );
  });
});

describe('a completion request', () => {
  it('has the default of the API for its length, and a choice for each prompt', () => {
    const { generate } = completion({ prompt: ['a', 'b'], logprobs: 0 });
    expect(generate).toEqual([
      { prompt: { kind: 'text', text: 'a' }, maxTokens: 16, topLogprobs: 0 },
      { prompt: { kind: 'text', text: 'b' }, maxTokens: 16, topLogprobs: 0 },
    ]);
  });

  it.each([
    ['prompt', { prompt: [1, 2, 3] }],
    ['prompt', { prompt: [] }],
    ['prompt', { prompt: null }],
    ['echo', { echo: true }],
    ['suffix', { suffix: 'x' }],
    ['best_of', { best_of: 2 }],
    ['logprobs', { logprobs: 6 }],
    ['max_tokens', { max_tokens: MOST_TOKENS + 1 }],
    ['messages', { messages: [] }],
  ])('is refused for its %s', (field, more) => {
    expect(() => completion(more)).toThrow(refusing(field));
  });
});

describe('an embeddings request', () => {
  it.each([
    ['input', { input: [] }],
    ['input', { input: [[1, 2]] }],
    ['input', { input: Array(257).fill('a') }],
    ['encoding_format', { encoding_format: 'hex' }],
    ['dimensions', { dimensions: 0 }],
    ['stream', { stream: true }],
  ])('is refused for its %s', (field, more) => {
    expect(() => embeddings(more)).toThrow(refusing(field));
  });

  it('is answered with numbers or with their bytes, which are the same', () => {
    const vectors = [Float32Array.of(0.5, -0.25), Float32Array.of(1, 0)];
    const found = { vectors, promptTokens: 5 };
    const floats = encodeEmbeddings(embeddings({ input: ['a', 'b'] }), found);
    expect(floats).toMatchObject({
      data: [
        { index: 0, embedding: [0.5, -0.25] },
        { index: 1, embedding: [1, 0] },
      ],
      usage: { prompt_tokens: 5, total_tokens: 5 },
    });
    const encoded = encodeEmbeddings(embeddings({ encoding_format: 'base64' }), found) as {
      data: { embedding: string }[];
    };
    const raw = Buffer.from(encoded.data[0]?.embedding ?? '', 'base64');
    expect([raw.readFloatLE(0), raw.readFloatLE(4)]).toEqual([0.5, -0.25]);
  });
});

describe('an event', () => {
  it('has a size that tells nothing about its text', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 200 }), (text) => {
        const event = encodeEvent({ choices: [{ text }] }, true);
        expect(event.length % 256).toBe(0);
        const { obfuscation, ...value } = JSON.parse(Buffer.from(event).toString().slice('data: '.length));
        expect(value).toEqual({ choices: [{ text: text.toWellFormed() }] });
        expect(obfuscation).toMatch(/^0*$/);
      }),
    );
  });

  it('is as short as it can be where the caller wants that', () => {
    expect(Buffer.from(encodeEvent({ a: 1 }, false)).toString()).toBe('data: {"a":1}\n\n');
  });
});
