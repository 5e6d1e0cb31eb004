/** The OpenAI API over real TLS, with an engine of the test's making behind it. */
import { once } from 'node:events';
import { afterEach, describe, expect, it } from 'vitest';
import type { TextEngine } from '../../../../enclave/engine/engine.ts';
import { EngineError } from '../../../../enclave/engine/errors.ts';
import type { GenerateEvent, GenerateRequest, TextMetadata } from '../../../../enclave/engine/text.ts';
import { eventually } from '../../../support/eventually.ts';
import {
  type Connection,
  servedModel,
  serveForTest,
  type TestServer,
  type TestServerOptions,
} from '../../../support/serving.ts';

const METADATA: TextMetadata = {
  architecture: 'llama',
  contextTokens: 128,
  sequences: 1,
  chat: true,
  vectorSize: 2,
};

type Generate = (request: GenerateRequest, signal: AbortSignal) => AsyncIterable<GenerateEvent>;

const end: GenerateEvent = { kind: 'end', reason: 'stop', promptTokens: 3, completionTokens: 2 };
const say = (...texts: string[]): Generate =>
  async function* () {
    for (const text of texts) yield { kind: 'text', text };
    yield end;
  };

function engineOf(generate: Generate, metadata: Partial<TextMetadata> = {}): TextEngine {
  return {
    kind: 'text',
    ready: true,
    metadata: { ...METADATA, ...metadata },
    generate,
    embed: async (texts) => ({
      vectors: texts.map((text) => Float32Array.of(text.length, 0.5)),
      promptTokens: texts.length,
    }),
    close: async () => {},
  };
}

const open: (TestServer | Connection)[] = [];
afterEach(async () => {
  for (const one of open.splice(0).toReversed()) {
    if ('close' in one) one.close();
    else await one[Symbol.asyncDispose]();
  }
});

async function serve(
  generate: Generate,
  options: Partial<TestServerOptions> & { readonly metadata?: Partial<TextMetadata> } = {},
) {
  const { metadata, ...rest } = options;
  const server = await serveForTest({ models: [servedModel(engineOf(generate, metadata))], ...rest });
  open.push(server);
  const connect = async (): Promise<Connection> => {
    const connection = await server.connect();
    open.push(connection);
    return connection;
  };
  return { server, connect, connection: await connect() };
}

const CHAT = '/v1/chat/completions';
const asked = (more: object = {}) => ({
  model: 'm',
  messages: [{ role: 'user', content: 'hello' }],
  ...more,
});
const streamed = (more: object = {}) => asked({ stream: true, ...more });

/** The events of a stream, `[DONE]` as that text. */
function eventsOf(body: Buffer) {
  return body
    .toString()
    .split('\n\n')
    .filter((block) => block !== '')
    .map((block) => block.replace(/^data: /, ''))
    .map((data) => (data === '[DONE]' ? data : JSON.parse(data)));
}

describe('an answer in one piece', () => {
  it('has the shape that clients know', async () => {
    const { connection } = await serve(say('Hel', 'lo'));
    const { status, json } = await connection.ask('POST', CHAT, asked());
    expect(status).toBe(200);
    expect(json).toMatchObject({
      object: 'chat.completion',
      model: 'm',
      choices: [
        { index: 0, message: { role: 'assistant', content: 'Hello', refusal: null }, finish_reason: 'stop' },
      ],
      usage: { prompt_tokens: 3, completion_tokens: 2, total_tokens: 5 },
    });
    expect(json.id).toMatch(/^chatcmpl-[0-9a-f]{32}$/);
    expect(json.system_fingerprint).toBe('0'.repeat(16));
  });

  it('of completions has a choice for each prompt', async () => {
    const { connection } = await serve(async function* ({ prompt }) {
      if (prompt.kind === 'text') yield { kind: 'text', text: `${prompt.text}!` };
      yield end;
    });
    const { json } = await connection.ask('POST', '/v1/completions', { model: 'm', prompt: ['a', 'b'] });
    expect(json.choices).toMatchObject([
      { index: 0, text: 'a!' },
      { index: 1, text: 'b!' },
    ]);
    expect(json.usage.total_tokens).toBe(10);
  });

  it('has probabilities where they were asked for, with the bytes of tokens that are no whole character', async () => {
    const half = { bytes: Uint8Array.of(0xc3), logprob: -0.5 };
    const { connection } = await serve(async function* () {
      yield { kind: 'text', text: 'é', tokens: [{ ...half, top: [half] }] };
      yield end;
    });
    const { json } = await connection.ask('POST', CHAT, asked({ logprobs: true, top_logprobs: 1 }));
    const token = { token: '\ufffd', bytes: [0xc3], logprob: -0.5 };
    expect(json.choices[0].logprobs.content).toEqual([{ ...token, top_logprobs: [token] }]);
  });

  it('of embeddings is numbers, or their bytes', async () => {
    const { connection } = await serve(say());
    const ask = (more: object) =>
      connection.ask('POST', '/v1/embeddings', { model: 'm', input: ['a', 'bc'], ...more });
    expect((await ask({})).json.data.map((one: { embedding: number[] }) => one.embedding)).toEqual([
      [1, 0.5],
      [2, 0.5],
    ]);
    expect((await ask({ dimensions: 2 })).status).toBe(200);
    const wrong = await ask({ dimensions: 3 });
    expect([wrong.status, wrong.json.error.param]).toEqual([400, 'dimensions']);
  });

  it('of the models names those of the evidence', async () => {
    const { connection } = await serve(say());
    const { json } = await connection.ask('GET', '/v1/models');
    expect(json).toEqual({
      object: 'list',
      data: [{ id: 'm', object: 'model', created: 1_767_225_600, owned_by: 'strongroom' }],
    });
    expect((await connection.ask('GET', '/v1/models/m')).json.id).toBe('m');
    expect((await connection.ask('GET', '/v1/models/x')).json.error.code).toBe('API_NOT_FOUND');
  });
});

describe('a stream', () => {
  it('begins with the role, ends with the reason, the usage if asked for, and [DONE]', async () => {
    const { connection } = await serve(say('Hel', '', 'lo'));
    const { headers, body } = await connection.ask(
      'POST',
      CHAT,
      streamed({ stream_options: { include_usage: true } }),
    );
    expect(headers['content-type']).toBe('text/event-stream; charset=utf-8');
    const events = eventsOf(body);
    expect(events.map((event) => event.choices?.[0]?.delta ?? event.choices ?? event)).toEqual([
      { role: 'assistant', content: '' },
      { content: 'Hel' },
      { content: 'lo' },
      {},
      [],
      '[DONE]',
    ]);
    expect(events[3].choices[0].finish_reason).toBe('stop');
    expect(events.slice(0, 4).map(({ usage }) => usage)).toEqual([null, null, null, null]);
    expect(events[4].usage.total_tokens).toBe(5);
    expect(new Set(events.slice(0, 5).map(({ id }) => id)).size).toBe(1);
  });

  it('is filled up to sizes that tell nothing, unless the caller wants it short', async () => {
    const { connection } = await serve(say('a', 'bb', 'ccc'));
    const filled = await connection.ask('POST', CHAT, streamed());
    const sizes = filled.body
      .toString()
      .split('\n\n')
      .slice(0, -2)
      .map((block) => block.length + 2);
    expect(sizes.every((size) => size % 256 === 0)).toBe(true);
    const short = await connection.ask(
      'POST',
      CHAT,
      streamed({ stream_options: { include_obfuscation: false } }),
    );
    expect(short.body.toString()).not.toContain('obfuscation');
  });

  it('is refused with a status for what the engine refuses at once', async () => {
    const { connection } = await serve(() => {
      throw new EngineError('ENGINE_REJECTED', 'the prompt is longer than the context');
    });
    const { status, json } = await connection.ask('POST', CHAT, streamed());
    expect([status, json]).toEqual([
      400,
      {
        error: {
          message: 'the prompt is longer than the context',
          type: 'invalid_request_error',
          param: null,
          code: 'ENGINE_REJECTED',
        },
      },
    ]);
  });

  it('that breaks in the middle says so and has no [DONE]', async () => {
    const { connection } = await serve(async function* () {
      yield { kind: 'text', text: 'Hel' };
      throw new EngineError('ENGINE_UNAVAILABLE', 'a secret of the inside');
    });
    const events = eventsOf((await connection.ask('POST', CHAT, streamed())).body);
    expect(events.at(-1)).toMatchObject({ error: { code: 'ENGINE_UNAVAILABLE', type: 'server_error' } });
    expect(events).not.toContain('[DONE]');
    expect(JSON.stringify(events)).not.toContain('secret');
  });

  it('ends with the caller: the engine is told, and the place is free', async () => {
    let begun = 0;
    let ended = 0;
    const { connection, connect } = await serve(async function* (_request, signal) {
      begun += 1;
      try {
        yield { kind: 'text', text: 'Hel' };
        await once(signal, 'abort');
      } finally {
        ended += 1;
      }
    });
    const first = connection.ask('POST', CHAT, streamed()).catch(() => undefined);
    await eventually(() => begun).toBe(1);
    connection.close();
    await eventually(() => ended).toBe(1);
    const next = await connect();
    const second = next.ask('POST', CHAT, streamed()).catch(() => undefined);
    await eventually(() => begun).toBe(2);
    next.close();
    await eventually(() => ended).toBe(2);
    await Promise.all([first, second]);
  });

  it('ends without [DONE] for a caller that closes its half of the connection', async () => {
    let aborted = false;
    const { server, connection } = await serve(async function* (_request, signal) {
      yield { kind: 'text', text: 'a' };
      await once(signal, 'abort');
      aborted = true;
      signal.throwIfAborted();
      yield end;
    });
    const { socket } = connection;
    const body = JSON.stringify(streamed());
    const head = `POST ${CHAT} HTTP/1.1\r\nhost: e\r\ncontent-type: application/json\r\ncontent-length: ${body.length}`;
    let text = '';
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1');
    });
    socket.write(`${head}\r\n\r\n${body}`);
    await eventually(() => text).toContain('"content":"a"');
    socket.end();
    await once(socket, 'close');
    await eventually(() => aborted).toBe(true);
    // Neither the end of the events nor that of the chunks: nobody can take it for whole.
    expect(text).not.toContain('[DONE]');
    expect(text).not.toMatch(/\r\n0\r\n/);
    await eventually(() => server.server.connections).toBe(0);
  });

  it('is made no faster than it is taken', async () => {
    let made = 0;
    const { connection } = await serve(async function* () {
      for (; made < 100_000; made += 1) yield { kind: 'text', text: 'x'.repeat(1000) };
      yield end;
    });
    connection.socket.pause();
    const body = JSON.stringify(streamed());
    connection.socket.write(
      `POST ${CHAT} HTTP/1.1\r\nhost: e\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    );
    let before = -1;
    while (made !== before || made === 0) {
      before = made;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    expect(made).toBeLessThan(10_000);
  });

  it('of a caller that stops reading is cut, and its place is free', async () => {
    let ended = 0;
    const { connection } = await serve(
      async function* () {
        try {
          for (;;) yield { kind: 'text', text: 'x'.repeat(1000) };
        } finally {
          ended += 1;
        }
      },
      { deadlines: { partMs: 300 } },
    );
    connection.socket.pause();
    const body = JSON.stringify(streamed());
    connection.socket.write(
      `POST ${CHAT} HTTP/1.1\r\nhost: e\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    );
    await eventually(() => ended).toBe(1);
  });

  it('that takes too long in all ends with an error', async () => {
    const { connection } = await serve(
      async function* (_request, signal) {
        yield { kind: 'text', text: 'Hel' };
        await once(signal, 'abort');
        throw signal.reason;
      },
      { deadlines: { generationMs: 300 } },
    );
    const events = eventsOf((await connection.ask('POST', CHAT, streamed())).body);
    expect(events.at(-1)).toMatchObject({ error: { code: 'API_DEADLINE' } });
  });
});

describe('a request that waits', () => {
  it('for the place of another longer than it may is told to come back', async () => {
    const { connection, connect } = await serve(
      async function* (_request, signal) {
        yield { kind: 'text', text: 'Hel' };
        await once(signal, 'abort');
      },
      { deadlines: { answerMs: 200 } },
    );
    const first = connection.ask('POST', CHAT, streamed()).catch(() => undefined);
    const second = await connect();
    await new Promise((resolve) => setTimeout(resolve, 50));
    const { status, headers, json } = await second.ask('POST', CHAT, streamed());
    expect([status, headers['retry-after'], json.error.code]).toEqual([503, '1', 'API_DEADLINE']);
    connection.close();
    await first;
  });
});

describe('what a model cannot do', () => {
  it.each([
    ['a model that there is not', CHAT, asked({ model: 'x' }), 404, 'API_NOT_FOUND'],
    ['another content type', CHAT, Buffer.from('x'), 400, 'API_INVALID'],
    ['no JSON', CHAT, '{', 400, 'API_INVALID'],
    ['an unknown path', '/v1/responses', asked(), 404, 'API_NOT_FOUND'],
  ])('%s is refused in the words of the API', async (_what, path, body, status, code) => {
    const { connection } = await serve(say());
    const answer = await connection.ask('POST', path, body as object);
    expect([answer.status, answer.json.error.code]).toEqual([status, code]);
    expect(Object.keys(answer.json.error)).toEqual(['message', 'type', 'param', 'code']);
  });

  it('chat without a template is refused, and completions are not', async () => {
    const { connection } = await serve(say('x'), { metadata: { chat: false } });
    const refused = await connection.ask('POST', CHAT, asked());
    expect([refused.status, refused.json.error.param]).toEqual([400, 'messages']);
    expect((await connection.ask('POST', '/v1/completions', { model: 'm', prompt: 'a' })).status).toBe(200);
  });

  it('tensors are refused by a model of text', async () => {
    const { connection } = await serve(say());
    const answer = await connection.ask('POST', '/v2/models/m/infer', {});
    expect([answer.status, answer.json.code]).toEqual([404, 'API_NOT_FOUND']);
  });
});
