/** The whole way of a request: TLS, evidence, protocol, confined engine. */
import { closeSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { TensorEngine as Engine } from '../../../enclave/engine/engine.ts';
import { startTensorEngine } from '../../../enclave/engine/tensor-engine.ts';
import { addModel, ENGINE_UID, identityModel, modelDescriptor } from '../../support/onnx-models.ts';
import { reachableProject } from '../../support/reachable.ts';
import { type Connection, servedModel, serveForTest, type TestServer } from '../../support/serving.ts';

const entry = join(reachableProject(), 'enclave', 'engine', 'onnx-main.ts');
const descriptors: number[] = [];
const engines: Engine[] = [];
let server: TestServer;
let connection: Connection;

async function engineFor(model: Uint8Array): Promise<Engine> {
  const modelFd = modelDescriptor(model);
  descriptors.push(modelFd);
  const engine = await startTensorEngine({ modelFd, threads: 1, entry, ...ENGINE_UID });
  engines.push(engine);
  return engine;
}

beforeAll(async () => {
  server = await serveForTest({
    models: [
      servedModel(await engineFor(addModel()), { name: 'add' }),
      servedModel(await engineFor(identityModel(['int64', 'string', 'float16'])), {
        name: 'same',
        version: 2,
      }),
    ],
  });
  connection = await server.connect();
});
afterAll(async () => {
  connection.close();
  await server[Symbol.asyncDispose]();
  await Promise.all(engines.map((engine) => engine.close()));
  for (const fd of descriptors) closeSync(fd);
});

const vector = (name: string, data: number[]) => ({ name, datatype: 'FP32', shape: [data.length], data });

it('adds', async () => {
  const answer = await connection.ask('POST', '/v2/models/add/infer', {
    inputs: [vector('b', [1, 2]), vector('a', [0.5, -2])],
  });
  expect([answer.status, answer.json.outputs]).toEqual([
    200,
    [{ name: 'y', shape: [2], datatype: 'FP32', data: [1.5, 0] }],
  ]);
});

it('says 400 to inputs that only the model can find wrong', async () => {
  const answer = await connection.ask('POST', '/v2/models/add/infer', {
    inputs: [vector('a', [1, 2]), vector('b', [1, 2, 3])],
  });
  expect([answer.status, answer.json.code]).toEqual([400, 'ENGINE_REJECTED']);
});

it('carries 64 bits, text and half floats both ways', async () => {
  const half = Buffer.from([0x00, 0x3c, 0x01, 0x80]);
  const head = Buffer.from(
    '{"inputs":[{"name":"in_int64","datatype":"INT64","shape":[1],"data":[9223372036854775807]},' +
      '{"name":"in_string","datatype":"BYTES","shape":[2],"data":["Größe",""]},' +
      '{"name":"in_float16","datatype":"FP16","shape":[2],"parameters":{"binary_data_size":4}}],' +
      '"outputs":[{"name":"out_int64"},{"name":"out_string"},{"name":"out_float16","parameters":{"binary_data":true}}]}',
  );
  const answer = await connection.ask(
    'POST',
    '/v2/models/same/versions/2/infer',
    Buffer.concat([head, half]),
    {
      'content-type': 'application/octet-stream',
      'inference-header-content-length': String(head.length),
    },
  );
  expect(answer.status).toBe(200);
  const split = Number(answer.headers['inference-header-content-length']);
  const json = answer.body.subarray(0, split).toString();
  expect(json).toContain('"data":[9223372036854775807]');
  expect(json).toContain('"data":["Größe",""]');
  expect(answer.body.subarray(split)).toEqual(half);
});

it('answers many callers at once, each with its own sum', async () => {
  const connections = await Promise.all(Array.from({ length: 6 }, () => server.connect()));
  const answers = await Promise.all(
    connections.map((one, index) =>
      one.ask('POST', '/v2/models/add/infer', { inputs: [vector('a', [index]), vector('b', [100])] }),
    ),
  );
  expect(answers.map(({ json }) => json.outputs[0].data[0])).toEqual([100, 101, 102, 103, 104, 105]);
  for (const one of connections) one.close();
});
