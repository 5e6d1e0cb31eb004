/** OpenAI's own client for Node, unchanged, over verified connections. */
import OpenAI, { APIConnectionError, NotFoundError } from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { connect, strongroomErrorIn, VerifiedAgent, type VerifiedEnclave } from '../../client/index.ts';
import { eventually } from '../support/eventually.ts';
import { openAiStub } from './openai-stub.ts';
import { startTestEnclave, type TestEnclave } from './test-enclave.ts';

const stub = openAiStub({ tokenMs: 1 });
let server: TestEnclave;
let enclave: VerifiedEnclave;
beforeAll(async () => {
  server = await startTestEnclave({ handler: stub.handler });
  enclave = await connect(server.url, server.expectations);
});
afterAll(async () => {
  await enclave.close();
  server.close();
});

const ask = (content: string) => ({ model: 'tiny', messages: [{ role: 'user' as const, content }] });

describe.each([
  ['a fetch', () => ({ fetch: enclave.fetch })],
  ['a dispatcher', () => ({ fetchOptions: { dispatcher: enclave.dispatcher } as never })],
])('the openai client with %s', (_how, options) => {
  const client = () =>
    new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'unused', maxRetries: 0, ...options() });

  test('asks for one answer', async () => {
    const { choices, usage } = await client().chat.completions.create(ask('say it again'));
    expect(choices[0]?.message.content).toBe('say it again');
    expect(usage?.completion_tokens).toBe(3);
  });

  test('streams', async () => {
    const stream = await client().chat.completions.create({
      ...ask('one two three'),
      stream: true,
      stream_options: { include_usage: true },
    });
    const parts: string[] = [];
    for await (const { choices } of stream) parts.push(choices[0]?.delta.content ?? '');
    expect(parts.filter((part) => part !== '')).toEqual(['one', ' two', ' three']);
  });

  test('gives a stream up, and the enclave sees it', async () => {
    const before = stub.givenUp;
    const long = Array.from({ length: 5000 }, (_, i) => `w${i}`).join(' ');
    const stream = await client().chat.completions.create({ ...ask(long), max_tokens: 5000, stream: true });
    for await (const { choices } of stream) if (choices[0]?.delta.content !== '') break;
    await eventually(() => stub.givenUp).toBe(before + 1);
  });

  test('is told when a stream is cut', async () => {
    const stream = await client().chat.completions.create({ ...ask('this will be cut'), stream: true });
    const reading = (async () => {
      for await (const _ of stream);
    })();
    const error = await reading.catch((thrown: unknown) => thrown);
    expect(strongroomErrorIn(error)).toMatchObject({ code: 'CLIENT_ANSWER_LOST' });
  });

  test('lists models and makes embeddings', async () => {
    const models = await client().models.list();
    expect(models.data.map(({ id }) => id)).toEqual(['tiny']);
    const { data } = await client().embeddings.create({ model: 'tiny', input: 'x' });
    expect(data[0]?.embedding).toEqual([0.5, -1, 2]);
  });

  test('is refused in the words of the enclave', async () => {
    const asking = client().chat.completions.create({ ...ask('x'), model: 'other' });
    await expect(asking).rejects.toThrow(NotFoundError);
    await expect(asking).rejects.toMatchObject({ code: 'model_not_found', status: 404 });
  });
});

test('an enclave that is not the expected one is asked nothing, and the cause is in the error', async () => {
  const wrong = { ...server.expectations, pcrs: { 0: 'ee'.repeat(48), 16: 'any' } };
  const agent = new VerifiedAgent(server.url, wrong);
  const before = stub.asked.length;
  const client = new OpenAI({
    baseURL: `${server.url}/v1`,
    apiKey: 'unused',
    maxRetries: 0,
    fetchOptions: { dispatcher: agent } as never,
  });
  const error = await client.chat.completions.create(ask('secret')).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(APIConnectionError);
  expect(strongroomErrorIn(error)).toMatchObject({ code: 'ATTESTATION_PCR_MISMATCH' });
  expect(stub.asked).toHaveLength(before);
  await agent.close();
});
