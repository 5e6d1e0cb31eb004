/**
 * A model of several files, from the folder that an exporter wrote to a verified answer. The command that seals is
 * run as its user would.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect } from '../../client/connect.ts';
import {
  createKey,
  newOwner,
  type Owner,
  pcrsOf,
  pinRelease,
  writeDeployment,
} from '../../scripts/local/release.ts';
import { encodeOnnxModel } from '../../scripts/model/onnx.ts';
import { REGION } from '../../simulator/account.ts';
import type { LocalStack } from '../../simulator/local-stack.ts';
import { eventually } from '../support/eventually.ts';
import { externalModel, externalModelAnswer } from '../support/onnx-models.ts';
import { childrenOf, decryptCount, outcomeOf, PROJECT, startStack } from './support.ts';

const NAME = 'large';
let stack: LocalStack;
let owner: Owner;
let keyArn = '';
let deployment: Buffer;
let desk = '';

beforeAll(async () => {
  stack = await startStack();
  owner = await newOwner();
  keyArn = await createKey(stack);
  deployment = writeDeployment({ keyArn, signer: owner.signing.publicKey, modelName: NAME });
  await pinRelease(stack, keyArn, deployment, NAME);
  desk = join(stack.folder, 'desk');
  mkdirSync(desk);
  const { privateKey } = owner.signing;
  writeFileSync(join(desk, 'signing.key.pem'), privateKey.export({ type: 'pkcs8', format: 'pem' }), {
    mode: 0o600,
  });
  writeFileSync(join(desk, 'recovery.pem'), owner.recovery.publicKey.export({ type: 'spki', format: 'pem' }));
  writeFileSync(join(desk, 'kms-ca.pem'), stack.kms.caCertificatePem);
}, 120_000);
afterAll(() => stack?.close());

/** Writes the exporter's folder, and seals it by the command. Returns the folder of sealed models. */
function sealFolder(story: string, files: Readonly<Record<string, Uint8Array>>): string {
  const folder = join(desk, story, 'exported');
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), content);
  }
  const modelsFolder = join(desk, story, 'models');
  mkdirSync(modelsFolder);
  const { accessKeyId, secretAccessKey, sessionToken } = stack.credentials('owner');
  const { status, stderr } = spawnSync(
    process.execPath,
    [
      ...[join(PROJECT, 'scripts/strongroom.ts'), 'seal', '--name', NAME, '--version', '1'],
      ...[
        '--format',
        'onnx',
        '--kms-key',
        keyArn,
        '--sign',
        'signing.key.pem',
        '--recovery-key',
        'recovery.pem',
      ],
      ...['--kms-endpoint', `https://127.0.0.1:${stack.kms.port}`, '--kms-ca', 'kms-ca.pem'],
      ...['-o', join(modelsFolder, `${NAME}.sealed`), folder],
    ],
    {
      cwd: desk,
      encoding: 'utf8',
      env: {
        PATH: process.env.PATH,
        AWS_ACCESS_KEY_ID: accessKeyId,
        AWS_SECRET_ACCESS_KEY: secretAccessKey,
        AWS_SESSION_TOKEN: sessionToken,
        AWS_REGION: REGION,
      },
    },
  );
  expect([status, stderr]).toEqual([0, expect.any(String)]);
  return modelsFolder;
}

describe('a model with external data', () => {
  const { model, files } = externalModel();

  it('is sealed from its folder, served, answers, survives its engine, and never has a name in memory', async () => {
    const inMemory = readdirSync('/dev/shm');
    const modelsFolder = sealFolder('good', { ...files, 'model.onnx': model });
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
    const modelsFolder = sealFolder('extra', {
      ...files,
      'model.onnx': model,
      'notes.txt': Buffer.from('notes'),
    });
    expect(await outcomeOf(stack, { deployment, modelsFolder })).toBe('ENGINE_START_FAILED');
  });

  it('is not served without one that it refers to, though its owner signed it so', async () => {
    const { 'b.data': _, ...others } = files;
    const modelsFolder = sealFolder('missing', { ...others, 'model.onnx': model });
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
    const modelsFolder = sealFolder('hostile', { 'model.onnx': hostile });
    expect(await outcomeOf(stack, { deployment, modelsFolder })).toBe('ENGINE_START_FAILED');
  });

  it('is not served, and no key is asked for, when nobody can tell which file is the model', async () => {
    const released = decryptCount(stack);
    const modelsFolder = sealFolder('two', { 'a.onnx': model, 'b.onnx': model });
    expect(await outcomeOf(stack, { deployment, modelsFolder })).toBe('MODEL_FILES_DISAGREE');
    expect(decryptCount(stack)).toBe(released);
  });
});
