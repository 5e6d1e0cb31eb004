/** An enclave opens a model that its parent takes from S3 and from a registry: real processes, SDK and TLS. */
import { readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect } from '../../client/connect.ts';
import { MODEL_FILES } from '../../parent/models/store.ts';
import { pcrsOf, prepareRelease, type Release } from '../../scripts/local/release.ts';
import { predictIris } from '../../scripts/model/iris.ts';
import { REGION } from '../../simulator/account.ts';
import type { LocalStack } from '../../simulator/local-stack.ts';
import { newObject } from '../../simulator/s3/objects.ts';
import { type SimulatedS3, startSimulatedS3 } from '../../simulator/s3/server.ts';
import { createTestCa } from '../parent/models/certificates.ts';
import { registry } from '../parent/models/stores.ts';
import { eventually } from '../support/eventually.ts';
import { flowers, MODEL, network, onnx, outcomeOf, startStack } from './support.ts';

const BUCKET = 'sealed-models';

let stack: LocalStack;
let release: Release;
let s3: SimulatedS3;
let nowhere: string;

beforeAll(async () => {
  stack = await startStack();
  release = await prepareRelease(stack, { name: MODEL, version: 1, onnx });
  s3 = await startSimulatedS3({
    region: REGION,
    buckets: [BUCKET],
    principals: [stack.credentials('host')],
    now: () => new Date(),
  });
  nowhere = join(stack.folder, 'no-models');
  await mkdir(nowhere);
}, 120_000);
afterAll(async () => {
  await s3?.close();
  await stack?.close();
});

const sealedFile = (file: string): Buffer =>
  readFileSync(join(release.modelsFolder, `${MODEL}.sealed`, file));

/** Puts the sealed model below this prefix, and says how a parent's configuration names that. */
function publish(prefix: string, change: (file: string, bytes: Buffer) => Buffer = (_, bytes) => bytes) {
  for (const file of MODEL_FILES) {
    const object = newObject(change(file, sealedFile(file)), new Date());
    s3.objects.set(`${BUCKET}/${prefix}/${MODEL}.sealed/${file}`, object);
  }
  return { kind: 's3', bucket: BUCKET, prefix, region: REGION, endpoint: s3.endpoint };
}

/** Starts an instance whose folder of models is empty, asks it about one flower and gives its answer. */
async function askOver(modelsFrom: object): Promise<readonly number[]> {
  const { deployment } = release;
  await using instance = await stack.startInstance({ deployment, modelsFolder: nowhere, modelsFrom });
  await instance.serving;
  const enclave = await connect(instance.url, {
    pcrs: pcrsOf(stack, deployment),
    models: [{ name: MODEL, minimumVersion: 1, contentId: release.sealed.manifest.contentId }],
    simulationRoot: stack.attestationRoot,
  });
  try {
    const input = { name: 'measurements', datatype: 'FP32', shape: [1, 4], data: measurements };
    const answer = await enclave.fetch(`/v2/models/${MODEL}/infer`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ inputs: [input] }),
    });
    const { outputs } = (await answer.json()) as { outputs: { data: number[] }[] };
    return outputs.at(-1)?.data ?? [];
  } finally {
    await enclave.close();
  }
}

const measurements = flowers[77]?.measurements ?? [];

function expectAnswer(found: readonly number[]): void {
  const expected = predictIris(network, measurements);
  expect(found).toHaveLength(expected.length);
  for (const [index, value] of expected.entries()) expect(found[index]).toBeCloseTo(value, 4);
}

describe('an enclave and a model', () => {
  it('from S3, read with the credentials of the host', async () => {
    expectAnswer(await askOver(publish('team/a')));
  });

  it('from a registry that asks for a client certificate', async () => {
    const ca = await createTestCa();
    await using store = await registry({
      ca,
      config: await ca.issue({ use: 'client' }),
      server: { requestCert: true, rejectUnauthorized: true, ca: ca.certificate },
    });
    for (const file of MODEL_FILES) store.put(`${MODEL}.sealed/${file}`, sealedFile(file));
    expectAnswer(await askOver(store.config));
    expect(store.handshakes.every(({ client }) => client === 'client')).toBe(true);
  });

  it('from a bucket where somebody changed one bit of it: the enclave does not open it', async () => {
    const modelsFrom = publish('changed', (file, bytes) => {
      if (file === 'payload') bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
      return bytes;
    });
    const { deployment } = release;
    expect(await outcomeOf(stack, { deployment, modelsFolder: nowhere, modelsFrom })).toBe(
      'SEALED_CHUNK_REFUSED',
    );
  });

  it('from a bucket that the host may not read: the enclave stops, and the parent says why', async () => {
    const modelsFrom = publish('team/b');
    const lines: string[] = [];
    const outcome = await outcomeOf(stack, {
      deployment: release.deployment,
      modelsFolder: nowhere,
      modelsFrom: { ...modelsFrom, region: 'eu-west-1' },
      onLine: (from, line) => void (from === 'parent' && lines.push(line)),
    });
    expect(outcome).toBe('LINK_ANSWER_REFUSED');
    await eventually(() => lines.join('\n')).toContain('"error":"PARENT_MODELS_REFUSED"');
  });
});
