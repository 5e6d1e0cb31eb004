/**
 * A language model, from its file to the word on the screen: sealed, released by KMS to the enclave, loaded by llama.cpp
 * in its confined process, and asked by what people already have: OpenAI's client, curl, and the terminal.
 */
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { promisify } from 'node:util';
import OpenAI, { BadRequestError, NotFoundError } from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type ClientExpectations,
  connect,
  receiptOf,
  strongroomErrorIn,
  VerifiedAgent,
  type VerifiedEnclave,
  withReceipts,
} from '../../client/index.ts';
import { command as askCommand } from '../../scripts/commands/ask.ts';
import { command as receiptCommand } from '../../scripts/commands/receipt-verify.ts';
import { writeClientFiles } from '../../scripts/local/client-files.ts';
import { pcrsOf, prepareRelease } from '../../scripts/local/release.ts';
import { VerifyingProxy } from '../../scripts/proxy/proxy.ts';
import { ProxyStatus } from '../../scripts/proxy/status.ts';
import type { LocalInstance } from '../../simulator/local-instance.ts';
import type { LocalStack } from '../../simulator/local-stack.ts';
import { tinyLlama } from '../support/text-models.ts';
import { startStack } from './support.ts';

const run = promisify(execFile);
const MODEL = 'tiny';
const SEED = 7;

let folder: string;
let stack: LocalStack;
let instance: LocalInstance;
let enclave: VerifiedEnclave;
let openai: OpenAI;
let proxy: VerifyingProxy;
let expectations: string;
let expected: ClientExpectations;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'strongroom-language-'));
  stack = await startStack();
  const { deployment, modelsFolder } = await prepareRelease(stack, {
    name: MODEL,
    version: 1,
    gguf: tinyLlama(),
  });
  instance = await stack.startInstance({ deployment, modelsFolder });
  await instance.serving;
  const pcrs = pcrsOf(stack, deployment);
  expected = {
    pcrs,
    simulationRoot: stack.attestationRoot,
    models: [{ name: MODEL, minimumVersion: 1 }],
  };
  ({ expectations } = writeClientFiles(folder, {
    name: MODEL,
    pcrs,
    simulationRoot: stack.attestationRoot,
    question: undefined,
  }));
  enclave = await connect(instance.url, expected);
  openai = new OpenAI({
    baseURL: `${instance.url}/v1`,
    apiKey: 'unused',
    fetch: enclave.fetch,
    maxRetries: 0,
  });
  const status = new ProxyStatus(instance.url, expected, 3_600_000, () => new Date());
  proxy = await VerifyingProxy.start({
    agent: new VerifiedAgent(instance.url, expected, { onVerified: (evidence) => status.verified(evidence) }),
    status,
    port: 0,
    onFailure: () => {},
  });
}, 120_000);
afterAll(async () => {
  await proxy?.close(0);
  await enclave?.dispatcher.destroy();
  await stack?.close();
  rmSync(folder, { recursive: true, force: true });
});

const question = (content: string, more: object = {}) => ({
  model: MODEL,
  messages: [{ role: 'user' as const, content }],
  seed: SEED,
  max_completion_tokens: 16,
  ...more,
});

async function whole(client: OpenAI, content: string): Promise<string> {
  const { choices } = await client.chat.completions.create(question(content));
  return choices[0]?.message.content ?? '';
}

describe("OpenAI's client, over verified connections", () => {
  it('chats: one prompt and seed give one answer, whole or streamed', async () => {
    const answer = await openai.chat.completions.create(question('what is a house'));
    const said = answer.choices[0]?.message.content;
    expect(said).toMatch(/\S/);
    expect(answer.usage?.completion_tokens).toBeGreaterThan(0);
    expect(await whole(openai, 'what is a house')).toBe(said);

    const stream = await openai.chat.completions.create({
      ...question('what is a house'),
      stream: true,
      stream_options: { include_usage: true },
    });
    let streamed = '';
    let usage: unknown;
    for await (const part of stream) {
      streamed += part.choices[0]?.delta.content ?? '';
      usage = part.usage ?? usage;
    }
    expect(streamed).toBe(said);
    expect(usage).toEqual(answer.usage);
  });

  it('lists models, completes and embeds', async () => {
    expect((await openai.models.list()).data.map(({ id }) => id)).toEqual([MODEL]);
    const { choices } = await openai.completions.create({
      model: MODEL,
      prompt: 'once',
      max_tokens: 4,
      seed: SEED,
    });
    expect(choices[0]?.text).toMatch(/./);
    const inBase64 = await openai.embeddings.create({ model: MODEL, input: ['a house', 'a boy'] });
    const inNumbers = await openai.embeddings.create({
      model: MODEL,
      input: ['a house', 'a boy'],
      encoding_format: 'float',
    });
    expect(inBase64.data).toHaveLength(2);
    const [first] = inBase64.data;
    expect(first?.embedding.length).toBeGreaterThan(10);
    expect(first?.embedding.map(Math.fround)).toEqual(inNumbers.data[0]?.embedding.map(Math.fround));
  });

  it('gets JSON of a schema, and log probabilities', async () => {
    const schema = {
      type: 'object',
      properties: { ready: { type: 'boolean' } },
      required: ['ready'],
      additionalProperties: false,
    };
    const { choices } = await openai.chat.completions.create({
      ...question('ready?', { max_completion_tokens: 64 }),
      response_format: { type: 'json_schema', json_schema: { name: 'ready', strict: true, schema } },
    });
    expect(JSON.parse(choices[0]?.message.content ?? '')).toEqual({ ready: expect.any(Boolean) });
    const probable = await openai.chat.completions.create({
      ...question('x'),
      logprobs: true,
      top_logprobs: 2,
    });
    const [token] = probable.choices[0]?.logprobs?.content ?? [];
    expect(token?.logprob).toBeLessThanOrEqual(0);
    expect(token?.top_logprobs).toHaveLength(2);
  });

  it('is refused in words that it understands', async () => {
    const other = openai.chat.completions.create({ ...question('x'), model: 'other' });
    await expect(other).rejects.toThrow(NotFoundError);
    await expect(other).rejects.toMatchObject({ status: 404, code: 'API_NOT_FOUND' });
    const unknown = openai.chat.completions.create({ ...question('x'), nonsense: true } as never);
    await expect(unknown).rejects.toThrow(BadRequestError);
  });

  it('gives a stream up, and its place is free at once', async () => {
    for (let i = 0; i < 8; i++) {
      const stream = await openai.chat.completions.create({
        ...question(`again ${i}`, { max_completion_tokens: 256 }),
        stream: true,
      });
      for await (const _ of stream) break;
    }
    expect(await whole(openai, 'what is a house')).toMatch(/\S/);
  });

  it('asks many at once over a bounded number of connections', async () => {
    const answers = await Promise.all(Array.from({ length: 6 }, () => whole(openai, 'what is a house')));
    expect(new Set(answers).size).toBe(1);
  });
});

describe('through the verifying proxy', () => {
  const curl = async (...args: string[]) => (await run('curl', ['-sS', '--noproxy', '*', ...args])).stdout;
  const contentOf = (events: string): string =>
    [...events.matchAll(/^data: (\{.*)$/gm)]
      .map(([, data = '']) => JSON.parse(data).choices[0]?.delta.content ?? '')
      .join('');

  it("OpenAI's client and curl get what the enclave says", async () => {
    const said = await whole(openai, 'what is a house');
    const client = new OpenAI({ baseURL: `${proxy.url}/v1`, apiKey: 'unused', maxRetries: 0 });
    expect(await whole(client, 'what is a house')).toBe(said);
    const asked = ['-H', 'content-type: application/json', '-d', JSON.stringify(question('what is a house'))];
    const answer = JSON.parse(await curl(`${proxy.url}/v1/chat/completions`, ...asked));
    expect(answer.choices[0].message.content).toBe(said);
    const body = JSON.stringify(question('what is a house', { stream: true }));
    const events = await curl(
      '-N',
      `${proxy.url}/v1/chat/completions`,
      ...['-H', 'content-type: application/json', '-d', body],
    );
    expect(contentOf(events)).toBe(said);
    expect(events.endsWith('data: [DONE]\n\n')).toBe(true);
  });

  it('curl lists models and is refused in their words', async () => {
    expect(JSON.parse(await curl(`${proxy.url}/v1/models`)).data[0].id).toBe(MODEL);
    const refused = JSON.parse(await curl(`${proxy.url}/v1/models/other`));
    expect(refused.error).toMatchObject({ code: 'API_NOT_FOUND', type: 'invalid_request_error' });
    const wrong = await curl(
      `${proxy.url}/v1/embeddings`,
      '-H',
      'content-type: application/json',
      '-d',
      '{}',
    );
    expect(JSON.parse(wrong).error.param).toBe('model');
  });

  it('a person sees the model that answers', async () => {
    const page = await curl(proxy.url);
    expect(page).toContain(`<strong>${MODEL}</strong>`);
    expect(page).toContain('A simulated enclave, as expected.');
  });
});

describe('at the terminal', () => {
  async function ask(...more: string[]): Promise<string> {
    const io = {
      stdin: Readable.from([]),
      stdout: new PassThrough(),
      stderr: new PassThrough(),
      signal: new AbortController().signal,
    };
    const out = text(io.stdout);
    await askCommand.run([instance.url, '--expect', expectations, '--model', MODEL, ...more], io);
    io.stdout.end();
    return out;
  }

  it('the same question gets the same answer', async () => {
    const said = await whole(openai, 'what is a house');
    const options = ['--seed', String(SEED), '--max-tokens', '16'];
    expect((await ask('what is a house', ...options)).trimEnd()).toBe(said.trimEnd());
    const { answer, verified } = JSON.parse(await ask('what is a house', ...options, '--json'));
    expect(answer).toMatchObject({ text: said, usage: { completion_tokens: expect.any(Number) } });
    expect(verified.models).toMatchObject([{ name: MODEL, version: 1 }]);
  });
});

describe('a receipt', () => {
  it("comes to OpenAI's client, which does not notice, with a whole answer and with a stream", async () => {
    const client = new OpenAI({
      baseURL: `${instance.url}/v1`,
      apiKey: 'unused',
      fetch: withReceipts(enclave, expected),
      maxRetries: 0,
    });
    const { data, response } = await client.chat.completions
      .create(question('what is a house'))
      .withResponse();
    const said = data.choices[0]?.message.content;
    const first = await receiptOf(response);
    expect(first.model.name).toBe(MODEL);

    const streamed = await client.chat.completions
      .create({ ...question('what is a house'), stream: true })
      .withResponse();
    let text = '';
    for await (const part of streamed.data) text += part.choices[0]?.delta.content ?? '';
    expect(text).toBe(said);
    expect((await receiptOf(streamed.response)).sequence).toBe(first.sequence + 1);
  });

  it('of a stream that curl saved is verified offline, and that of a shorter one is not', async () => {
    const body = JSON.stringify({ ...question('what is a house'), stream: true });
    const [request, head, answer] = ['request.json', 'head', 'answer.sse'].map((name) => join(folder, name));
    writeFileSync(request as string, body);
    await run('curl', [
      ...['--silent', '--show-error', '-N', '-D', `${head}`, '-o', `${answer}`],
      ...['-H', 'Strongroom-Receipt: 1', '-H', 'Content-Type: application/json'],
      ...['--data-binary', `@${request}`, `${proxy.url}/v1/chat/completions`],
    ]);
    const verify = async (...args: string[]) => {
      const stdout = new PassThrough();
      const exit = await receiptCommand.run([`${head}`, '--expect', expectations, '--json', ...args], {
        stdin: Readable.from([]),
        stdout,
        stderr: new PassThrough(),
        signal: new AbortController().signal,
      });
      return { exit, ...JSON.parse(String(stdout.read())) };
    };
    const exchange = ['--request', `${request}`, '--path', '/v1/chat/completions'];
    expect(await verify(...exchange, '--answer', `${answer}`)).toMatchObject({ exit: 0, verified: true });
    const saved = readFileSync(`${answer}`);
    writeFileSync(`${answer}`, saved.subarray(saved.indexOf('\n\n') + 2));
    expect(await verify(...exchange, '--answer', `${answer}`)).toMatchObject({
      exit: 1,
      code: 'RECEIPT_OTHER_ANSWER',
    });
  });
});

describe('a receipt at the terminal', () => {
  it('is kept by ask with its exchange, and receipt verify accepts them', async () => {
    const run = async (command: typeof askCommand, ...args: string[]) => {
      const [stdout, stderr] = [new PassThrough(), new PassThrough()];
      const { signal } = new AbortController();
      const exit = await command.run(args, { stdin: Readable.from([]), stdout, stderr, signal });
      return { exit, out: String(stdout.read()) };
    };
    const kept = join(folder, 'house.receipt');
    const asking = [instance.url, '--expect', expectations, '--model', MODEL, 'what is a house'];
    expect(await run(askCommand, ...asking, '--seed', `${SEED}`, '--receipt', kept)).toMatchObject({
      exit: 0,
    });
    const bodies = ['--request', `${kept}.request`, '--answer', `${kept}.answer`];
    const verifying = [kept, '--expect', expectations, ...bodies, '--path', '/v1/chat/completions', '--json'];
    const { exit, out } = await run(receiptCommand, ...verifying);
    expect(exit).toBe(0);
    expect(JSON.parse(out)).toMatchObject({
      verified: true,
      trust: 'simulation',
      receipt: { model: { name: MODEL } },
    });
  });
});

describe('when the parent dies in the middle of a stream', () => {
  it('it is an error, and not the end of the answer', async () => {
    const stream = await openai.chat.completions.create({
      ...question('tell', { max_completion_tokens: 400 }),
      stream: true,
    });
    let parts = 0;
    const reading = (async () => {
      for await (const _ of stream) if (parts++ === 0) process.kill(instance.parentPid, 'SIGKILL');
    })();
    const error = await reading.catch((thrown: unknown) => thrown);
    expect(strongroomErrorIn(error)).toMatchObject({ code: 'CLIENT_ANSWER_LOST' });
    expect(parts).toBeGreaterThan(0);
  });
});
