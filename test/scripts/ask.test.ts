import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { ClientExpectations } from '../../client/index.ts';
import { writeSaid } from '../../scripts/ask/terminal.ts';
import { command } from '../../scripts/commands/ask.ts';
import { openAiStub } from '../client/openai-stub.ts';
import { startTestEnclave, type TestEnclave } from '../client/test-enclave.ts';
import { eventually } from '../support/eventually.ts';

const REQUEST = JSON.stringify({ inputs: [{ name: 'x', datatype: 'FP32', shape: [1, 2], data: [1, 2] }] });

let folder: string;
let enclave: TestEnclave;
let bodies: string[] = [];
const stub = openAiStub();
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ask-'));
  enclave = await startTestEnclave({
    handler: (request, response, body) => {
      bodies.push(body);
      if (request.url?.startsWith('/v1/')) return stub.handler(request, response, body);
      response.setHeader('content-type', 'application/json');
      if (request.url !== '/v2/models/iris/infer') {
        response.writeHead(404).end(JSON.stringify({ error: 'there is no such model' }));
        return;
      }
      response.end(
        JSON.stringify({ outputs: [{ name: 'label', datatype: 'INT64', shape: [1], data: [2] }] }),
      );
    },
  });
  await writeFile(join(folder, 'request.json'), REQUEST);
});
afterAll(async () => {
  enclave.close();
  await rm(folder, { recursive: true });
});
beforeEach(() => {
  bodies = [];
});

async function expectFile(pcrs: ClientExpectations['pcrs'] = enclave.expectations.pcrs): Promise<string> {
  const path = join(folder, 'expect.json');
  await writeFile(join(folder, 'root.pem'), enclave.expectations.simulationRoot as string);
  await writeFile(
    path,
    JSON.stringify({ format: 'strongroom-expectations/1', pcrs, simulationRoot: 'root.pem' }),
  );
  return path;
}

async function ask(args: readonly string[], input = '') {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const signal = new AbortController().signal;
  try {
    const exit = await command.run(args, {
      stdin: Readable.from([Buffer.from(input)]),
      stdout,
      stderr,
      signal,
    });
    return { exit, out: await ended(stdout), err: await ended(stderr) };
  } finally {
    stdout.end();
    stderr.end();
  }
}

function ended(stream: PassThrough): Promise<string> {
  stream.end();
  return text(stream);
}

const refusal = (code: string) => expect.objectContaining({ code });

describe('strongroom ask', () => {
  test('verifies, asks and prints the answer', async () => {
    const args = [
      enclave.url,
      '--expect',
      await expectFile(),
      '--model',
      'iris',
      '--input',
      join(folder, 'request.json'),
    ];
    const { exit, out, err } = await ask(args);
    expect([exit, out]).toEqual([0, 'label [1]: [2]\n']);
    expect(err).toMatch(
      /^verified: i-[0-9a-f]+-enc[0-9a-f]+ \(trust: simulation\), image [0-9a-f]{16}\.\.\., deployment [0-9a-f]{16}\.\.\., models iris 3\n$/,
    );
    expect(bodies).toEqual([REQUEST]);
  });

  test('reads standard input, and prints one JSON document', async () => {
    const args = [enclave.url, '--expect', await expectFile(), '--model', 'iris', '--input', '-', '--json'];
    const { exit, out, err } = await ask(args, REQUEST);
    expect([exit, err]).toEqual([0, '']);
    const printed = JSON.parse(out);
    expect(printed.verified).toMatchObject({ trust: 'simulation', pcrs: enclave.expectations.pcrs });
    expect(printed.answer.outputs[0].data).toEqual([2]);
    expect(bodies).toEqual([REQUEST]);
  });

  test('sends nothing to an enclave of another image', async () => {
    const expectations = await expectFile({ 0: 'ee'.repeat(48), 16: 'any' });
    const args = [enclave.url, '--expect', expectations, '--model', 'iris', '--input', '-'];
    await expect(ask(args, REQUEST)).rejects.toThrow(refusal('ATTESTATION_PCR_MISMATCH'));
    expect(bodies).toEqual([]);
  });

  test('reports what the enclave refuses, in its words', async () => {
    const args = [enclave.url, '--expect', await expectFile(), '--model', 'wine', '--input', '-'];
    await expect(ask(args, REQUEST)).rejects.toThrow(refusal('CLIENT_REQUEST_REFUSED'));
    await expect(ask(args, REQUEST)).rejects.toThrow('The enclave answers 404: there is no such model');
  });

  test.each([
    ['no URL', ['--expect', 'e', '--model', 'm', '--input', '-']],
    ['two URLs', ['https://a', 'https://b', '--expect', 'e', '--model', 'm', '--input', '-']],
    ['no expectations', ['https://a', '--model', 'm', '--input', '-']],
    ['no model', ['https://a', '--expect', 'e', '--input', '-']],
    ['neither prompt nor input', ['https://a', '--expect', 'e', '--model', 'm']],
    ['prompt and input', ['https://a', 'p', '--expect', 'e', '--model', 'm', '--input', '-']],
    ['options of a prompt and input', ['https://a', '--model', 'm', '--input', '-', '--seed', '1']],
    ['a limit of no tokens', ['https://a', 'p', '--model', 'm', '--max-tokens', '0']],
    ['a seed that is none', ['https://a', 'p', '--model', 'm', '--seed', '1.5']],
    ['a temperature beyond 2', ['https://a', 'p', '--model', 'm', '--temperature', '2.1']],
  ])('with %s is a usage error', async (_what, args) => {
    await expect(ask(args)).rejects.toThrow(refusal('USAGE'));
  });
});

describe('strongroom ask, a prompt', () => {
  const asking = async (...more: string[]) => [
    enclave.url,
    '--expect',
    await expectFile(),
    '--model',
    'tiny',
    ...more,
  ];
  const asked = () => JSON.parse(bodies.at(-1) ?? '');

  test('prints the answer, and what was verified beside it', async () => {
    const { exit, out, err } = await ask(await asking('say this'));
    expect([exit, out]).toEqual([0, 'say this\n']);
    expect(err).toMatch(/^verified: .*\(trust: simulation\).* models iris 3\n$/);
    expect(asked()).toEqual({
      model: 'tiny',
      messages: [{ role: 'user', content: 'say this' }],
      stream: true,
      stream_options: { include_usage: true },
    });
  });

  test('passes on what it is told, and reads a prompt from standard input', async () => {
    const options = ['--system', 'be brief', '--max-tokens', '2', '--seed', '7', '--temperature', '0.5'];
    const { out } = await ask(await asking('-', ...options), 'one two three');
    expect(out).toBe('one two\n');
    expect(asked()).toMatchObject({
      messages: [
        { role: 'system', content: 'be brief' },
        { role: 'user', content: 'one two three' },
      ],
      max_completion_tokens: 2,
      seed: 7,
      temperature: 0.5,
    });
  });

  test('says when the limit of tokens ended the answer', async () => {
    const { err } = await ask(await asking('one two limit', '--max-tokens', '3'));
    expect(err).toMatch(/\ncut at 3 tokens; --max-tokens allows more\n$/);
  });

  test('prints one JSON document', async () => {
    const { out, err } = await ask(await asking('a b', '--json'));
    expect(err).toBe('');
    expect(JSON.parse(out)).toMatchObject({
      verified: { trust: 'simulation' },
      answer: { text: 'a b', finishReason: 'stop', usage: { completion_tokens: 2 } },
    });
  });

  test.each([
    ['cut on the way', 'this is cut'],
    ['without its last event', 'this is unfinished'],
  ])('does not take an answer for whole that was %s', async (_how, prompt) => {
    await expect(ask(await asking(prompt))).rejects.toThrow(refusal('CLIENT_ANSWER_LOST'));
  });

  test('reports what the enclave refuses, in its words', async () => {
    const args = [enclave.url, '--expect', await expectFile(), '--model', 'other', 'hello'];
    await expect(ask(args)).rejects.toThrow('The enclave answers 404: there is no such model');
  });

  test('says when to come back to an enclave that is busy', async () => {
    const asking503 = ask(await asking('you are busy'));
    await expect(asking503).rejects.toMatchObject({
      code: 'CLIENT_REQUEST_LATER',
      exitCode: 3,
      retryAfterSeconds: 2,
      message: 'The enclave answers 503: come back (try again in 2 s)',
    });
  });

  test('needs a prompt with something in it', async () => {
    await expect(ask(await asking('-'), ' \n')).rejects.toThrow(refusal('USAGE'));
  });

  test('gives up with Ctrl-C, and the enclave sees it', async () => {
    const slow = openAiStub({ tokenMs: 20 });
    const server = await startTestEnclave({ handler: slow.handler });
    await writeFile(join(folder, 'slow.pem'), server.expectations.simulationRoot as string);
    const expectations = { format: 'strongroom-expectations/1', pcrs: server.expectations.pcrs };
    const path = join(folder, 'slow.json');
    await writeFile(path, JSON.stringify({ ...expectations, simulationRoot: 'slow.pem' }));
    const interrupt = new AbortController();
    const [stdout, stderr] = [new PassThrough(), new PassThrough()];
    const prompt = Array.from({ length: 90 }, (_, i) => `word${i}`).join(' ');
    const running = command.run([server.url, '--expect', path, '--model', 'tiny', prompt], {
      stdin: Readable.from([]),
      stdout,
      stderr,
      signal: interrupt.signal,
    });
    const [first] = await once(stdout, 'data');
    expect(String(first)).toBe('word0');
    interrupt.abort();
    await expect(running).rejects.toThrow(refusal('INTERRUPTED'));
    await eventually(() => slow.givenUp).toBe(1);
    server.close();
  });

  test('lets a model write nothing but text on a terminal', async () => {
    const stdout = Object.assign(new PassThrough(), { isTTY: true });
    await writeSaid(stdout, 'red \u001b[31m\u009b2J\u0007 tab\tline\n é 漢');
    expect(String(stdout.read())).toBe('red \ufffd[31m\ufffd2J\ufffd tab\tline\n é 漢');
    const pipe = new PassThrough();
    await writeSaid(pipe, '\u001b[31m');
    expect(String(pipe.read())).toBe('\u001b[31m');
  });
});
