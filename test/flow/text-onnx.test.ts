/** Models of text in ONNX, from the folder that an exporter wrote to what a caller gets for words. */
import OpenAI, { BadRequestError, NotFoundError } from 'openai';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { connect, type VerifiedEnclave } from '../../client/index.ts';
import { pcrsOf } from '../../scripts/local/release.ts';
import { encodeTinyClassifier, encodeTinyEmbedder } from '../../scripts/model/tiny-text.ts';
import type { LocalInstance } from '../../simulator/local-instance.ts';
import type { LocalStack } from '../../simulator/local-stack.ts';
import { expectedEmbedding, expectedLogits, json, tokenizerFiles } from '../support/text-onnx.ts';
import { type Desk, openDesk } from './desk.ts';
import { outcomeOf, startStack } from './support.ts';

const NAME = 'words';
let stack: LocalStack;
let desk: Desk;
beforeAll(async () => {
  stack = await startStack();
  desk = await openDesk(stack, NAME);
}, 120_000);
afterAll(() => stack?.close());

async function serve(
  modelsFolder: string,
  use: (enclave: VerifiedEnclave, openai: OpenAI, instance: LocalInstance) => Promise<void>,
): Promise<void> {
  const { deployment } = desk;
  await using instance = await stack.startInstance({ deployment, modelsFolder });
  await instance.serving;
  const enclave = await connect(instance.url, {
    pcrs: pcrsOf(stack, deployment),
    models: [{ name: NAME, minimumVersion: 1 }],
    simulationRoot: stack.attestationRoot,
  });
  try {
    const baseURL = `${instance.url}/v1`;
    await use(
      enclave,
      new OpenAI({ baseURL, apiKey: 'unused', fetch: enclave.fetch, maxRetries: 0 }),
      instance,
    );
  } finally {
    await enclave.close();
  }
}

async function classify(enclave: VerifiedEnclave, data: readonly string[]) {
  const answer = await enclave.fetch(`/v2/models/${NAME}/infer`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ inputs: [{ name: 'text', datatype: 'BYTES', shape: [data.length], data }] }),
  });
  return {
    status: answer.status,
    json: (await answer.json()) as { outputs: { data: number[] }[]; code?: string },
  };
}

function expectClose(found: ArrayLike<number> | undefined, expected: readonly number[]): void {
  expect(found).toHaveLength(expected.length);
  for (const [index, value] of expected.entries()) expect(found?.[index]).toBeCloseTo(value, 5);
}

it('classifies words, and refuses what is too long', async () => {
  const modelsFolder = desk.sealFolder('classifier', {
    ...tokenizerFiles(),
    'config.json': json({ model_type: 'bert', max_position_embeddings: 512 }),
    'onnx/model.onnx': encodeTinyClassifier(),
  });
  await serve(modelsFolder, async (enclave, openai) => {
    const { status, json } = await classify(enclave, ['The dog runs.', 'good [SEP] cats!']);
    expect(status).toBe(200);
    expectClose(json.outputs[0]?.data, [
      ...expectedLogits(['the', 'dog', 'run', '##s', '.']),
      ...expectedLogits(['good', '[', 'sep', ']', 'cat', '##s', '!']),
    ]);
    const long = await classify(enclave, ['dog '.repeat(15)]);
    expect([long.status, long.json.code]).toEqual([400, 'ENGINE_REJECTED']);
    await expect(openai.embeddings.create({ model: NAME, input: 'a' })).rejects.toBeInstanceOf(NotFoundError);
  });
}, 180_000);

it("embeds words for OpenAI's client, in numbers and in base64", async () => {
  const modelsFolder = desk.sealFolder('embedder', {
    ...tokenizerFiles(),
    '1_Pooling/config.json': json({ word_embedding_dimension: 8, pooling_mode_mean_tokens: true }),
    'model.onnx': encodeTinyEmbedder(),
  });
  await serve(modelsFolder, async (_, openai) => {
    for (const encoding_format of [undefined, 'float', 'base64'] as const) {
      const { data, usage } = await openai.embeddings.create({
        model: NAME,
        input: ['a dog', 'The little birds'],
        ...(encoding_format === undefined ? {} : { encoding_format }),
      });
      const [first, second] = data.map(({ embedding }) => numbersOf(embedding));
      expectClose(first, expectedEmbedding(['a', 'dog']));
      expectClose(second, expectedEmbedding(['the', 'little', 'bird', '##s']));
      expect(usage.prompt_tokens).toBe(4 + 6);
    }
    const input = 'a dog';
    await expect(openai.embeddings.create({ model: NAME, input, dimensions: 7 })).rejects.toThrow(
      /expected 8/,
    );
    await expect(openai.embeddings.create({ model: NAME, input: 'dog '.repeat(15) })).rejects.toBeInstanceOf(
      BadRequestError,
    );
    await expect(openai.completions.create({ model: NAME, prompt: 'a' })).rejects.toBeInstanceOf(
      NotFoundError,
    );
  });
}, 180_000);

/** Asked for base64 by name, the client hands it on. */
function numbersOf(embedding: number[] | string): ArrayLike<number> {
  if (typeof embedding !== 'string') return embedding;
  const bytes = Uint8Array.from(Buffer.from(embedding, 'base64'));
  return new Float32Array(bytes.buffer);
}

it('is not served beside a file that belongs neither to the model nor to its tokenizer', async () => {
  const modelsFolder = desk.sealFolder('vocabulary', {
    ...tokenizerFiles(),
    'model.onnx': encodeTinyClassifier(),
    'vocab.txt': Buffer.from('a'),
  });
  expect(await outcomeOf(stack, { deployment: desk.deployment, modelsFolder })).toBe('ENGINE_START_FAILED');
}, 180_000);
