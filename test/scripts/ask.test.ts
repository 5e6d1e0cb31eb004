import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { ClientExpectations } from '../../client/index.ts';
import { command } from '../../scripts/commands/ask.ts';
import { startTestEnclave, type TestEnclave } from '../client/test-enclave.ts';

const REQUEST = JSON.stringify({ inputs: [{ name: 'x', datatype: 'FP32', shape: [1, 2], data: [1, 2] }] });

let folder: string;
let enclave: TestEnclave;
let bodies: string[] = [];
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ask-'));
  enclave = await startTestEnclave({
    handler: (request, response, body) => {
      bodies.push(body);
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
      /^verified: i-[0-9a-f]+-enc[0-9a-f]+ \(trust: simulation\), image [0-9a-f]{16}\.\.\., deployment [0-9a-f]{16}\.\.\.\n$/,
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
    ['no input', ['https://a', '--expect', 'e', '--model', 'm']],
  ])('with %s is a usage error', async (_what, args) => {
    await expect(ask(args)).rejects.toThrow(refusal('USAGE'));
  });
});
