/**
 * A model of several files, from the folder that an exporter wrote to a verified answer. The command that seals is
 * run as its user would.
 */
import { readdirSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect } from '../../client/connect.ts';
import { pcrsOf } from '../../scripts/local/release.ts';
import { encodeOnnxModel } from '../../scripts/model/onnx.ts';
import type { LocalStack } from '../../simulator/local-stack.ts';
import { eventually } from '../support/eventually.ts';
import { externalModel, externalModelAnswer } from '../support/onnx-models.ts';
import { type Desk, openDesk } from './desk.ts';
import { childrenOf, decryptCount, outcomeOf, startStack } from './support.ts';

const NAME = 'large';
let stack: LocalStack;
let desk: Desk;
let deployment: Buffer;

beforeAll(async () => {
  stack = await startStack();
  desk = await openDesk(stack, NAME);
  ({ deployment } = desk);
}, 120_000);
afterAll(() => stack?.close());

describe('a model with external data', () => {
  const { model, files } = externalModel();

  it('is sealed from its folder, served, answers, survives its engine, and never has a name in memory', async () => {
    const inMemory = readdirSync('/dev/shm');
    const modelsFolder = desk.sealFolder('good', { ...files, 'model.onnx': model });
    await using instance = await stack.startInstance({ deployment, modelsFolder });
    await instance.serving;
    const enclave = await connect(instance.url, {
      pcrs: pcrsOf(stack, deployment),
      models: [{ name: NAME, minimumVersion: 1 }],
      simulationRoot: stack.attestationRoot,
    });
    const ask = async (): Promise<number> => {
      const data = Array.from({ length: 64 }, (_, at) => (at === 7 ? 1 : 0));
      const answer = await enclave.fetch(`/v2/models/${NAME}/infer`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ inputs: [{ name: 'x', datatype: 'FP32', shape: [1, 64], data }] }),
      });
      if (answer.status !== 200) return answer.status;
      const { outputs } = (await answer.json()) as { outputs: { data: number[] }[] };
      for (const [column, value] of externalModelAnswer(7).entries()) {
        expect(outputs[0]?.data[column]).toBeCloseTo(value, 4);
      }
      return answer.status;
    };
    try {
      expect(await ask()).toBe(200);
      expect(readdirSync('/dev/shm')).toEqual(inMemory);
      const released = decryptCount(stack);
      const [engine] = childrenOf(instance.enclave.process.pid);
      process.kill(Number(engine), 'SIGKILL');
      await eventually(ask).toBe(503);
      await eventually(ask).toBe(200);
      expect(decryptCount(stack)).toBe(released);
    } finally {
      await enclave.close();
    }
  });

  it('is not served with a file that it does not refer to', async () => {
    const modelsFolder = desk.sealFolder('extra', {
      ...files,
      'model.onnx': model,
      'notes.txt': Buffer.from('notes'),
    });
    expect(await outcomeOf(stack, { deployment, modelsFolder })).toBe('ENGINE_START_FAILED');
  });

  it('is not served without one that it refers to, though its owner signed it so', async () => {
    const { 'b.data': _, ...others } = files;
    const modelsFolder = desk.sealFolder('missing', { ...others, 'model.onnx': model });
    expect(await outcomeOf(stack, { deployment, modelsFolder })).toBe('ENGINE_START_FAILED');
  });

  it('is not served when it refers to a file of the enclave', async () => {
    const raw = { location: '/etc/passwd', offsetBytes: 0, sizeBytes: 16 };
    const hostile = encodeOnnxModel({
      inputs: [],
      outputs: [{ name: 'y', type: 'float', shape: [4] }],
      initializers: [{ name: 'w', type: 'float', shape: [4], raw }],
      nodes: [{ op: 'Identity', inputs: ['w'], outputs: ['y'] }],
    });
    const modelsFolder = desk.sealFolder('hostile', { 'model.onnx': hostile });
    expect(await outcomeOf(stack, { deployment, modelsFolder })).toBe('ENGINE_START_FAILED');
  });

  it('is not served, and no key is asked for, when nobody can tell which file is the model', async () => {
    const released = decryptCount(stack);
    const modelsFolder = desk.sealFolder('two', { 'a.onnx': model, 'b.onnx': model });
    expect(await outcomeOf(stack, { deployment, modelsFolder })).toBe('MODEL_FILES_DISAGREE');
    expect(decryptCount(stack)).toBe(released);
  });
});
