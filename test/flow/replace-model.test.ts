/** A model is replaced by a newer version while callers ask it: real processes, and `strongroom models`. */
import { execFile } from 'node:child_process';
import { renameSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { connect } from '../../client/connect.ts';
import { pcrsOf, prepareRelease, type Release, sealAsOwner } from '../../scripts/local/release.ts';
import type { LocalInstance } from '../../simulator/local-instance.ts';
import type { LocalStack } from '../../simulator/local-stack.ts';
import { decryptCount, MODEL, onnx, PROJECT, startStack } from './support.ts';

const run = promisify(execFile);

let stack: LocalStack;
let release: Release;
let instance: LocalInstance;

beforeAll(async () => {
  stack = await startStack();
  release = await prepareRelease(stack, { name: MODEL, version: 1, onnx });
  instance = await stack.startInstance(release);
  await instance.serving;
}, 120_000);
afterAll(() => stack?.close());

/** What the parent serves from now on is another version, which it also offers in the place of the last. */
async function publish(version: number): Promise<void> {
  const { owner, keyArn, modelsFolder } = release;
  const fresh = join(stack.folder, `models-version-${version}`);
  await sealAsOwner(stack, { owner, keyArn, name: MODEL, version, onnx, modelsFolder: fresh });
  const served = join(modelsFolder, `${MODEL}.sealed`);
  renameSync(served, join(stack.folder, `replaced-by-${version}`));
  renameSync(join(fresh, `${MODEL}.sealed`), served);
}

interface Outcome {
  readonly code: number;
  readonly refused: string | null;
  readonly models: readonly { readonly version: number | null; readonly inMemory: number }[];
}

async function models(...args: string[]): Promise<Outcome> {
  const config = join(instance.folder, 'parent.json');
  const command = ['scripts/strongroom.ts', 'models', ...args, '--config', config, '--json'];
  const { stdout, code = 0 } = await run(process.execPath, command, { cwd: PROJECT }).then(
    (done) => ({ ...done, code: 0 }),
    (error: { stdout: string; code: number }) => error,
  );
  return { code, ...JSON.parse(stdout) };
}

const connectTo = () =>
  connect(instance.url, {
    pcrs: pcrsOf(stack, release.deployment),
    simulationRoot: stack.attestationRoot,
  });

const BODY = JSON.stringify({
  inputs: [{ name: 'measurements', datatype: 'FP32', shape: [1, 4], data: [5, 3.5, 1.5, 0.25] }],
});

/** Asks without a pause until told to stop; gives the versions that answered, in order. */
function askAllTheTime(enclave: Awaited<ReturnType<typeof connectTo>>) {
  const versions: string[] = [];
  let stopped = false;
  const done = (async () => {
    while (!stopped) {
      const answer = await enclave.fetch(`/v2/models/${MODEL}/infer`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: BODY,
      });
      const body = (await answer.json()) as { model_version: string };
      if (answer.status !== 200) throw new Error(JSON.stringify(body));
      versions.push(body.model_version);
    }
  })();
  return {
    versions,
    stop: async () => {
      stopped = true;
      await done;
    },
  };
}

it('replaces a model under load without dropping a request, and tells callers by new evidence', async () => {
  await using enclave = await connectTo();
  const load = askAllTheTime(enclave);
  await publish(2);
  const before = decryptCount(stack);
  expect(await models('load', MODEL)).toMatchObject({ code: 0, refused: null, models: [{ version: 2 }] });
  expect(decryptCount(stack)).toBe(before + 1);
  await expect.poll(() => load.versions.at(-1), { timeout: 20_000 }).toBe('2');
  await load.stop();
  const change = load.versions.indexOf('2');
  expect(change).toBeGreaterThan(0);
  expect(new Set(load.versions.slice(0, change))).toEqual(new Set(['1']));
  expect(new Set(load.versions.slice(change))).toEqual(new Set(['2']));
  await using fresh = await connectTo();
  expect(fresh.evidence.models).toMatchObject([{ name: MODEL, version: 2 }]);
  await expect.poll(async () => (await models()).models[0]?.inMemory, { timeout: 40_000 }).toBe(1);
}, 120_000);

it('refuses what is not newer, before KMS is asked, and serves what it served', async () => {
  const before = decryptCount(stack);
  expect(await models('load', MODEL)).toMatchObject({
    code: 1,
    refused: 'MODELS_NOT_NEWER',
    models: [{ version: 2 }],
  });
  expect(decryptCount(stack)).toBe(before);
  expect(await models('unload', MODEL)).toMatchObject({ code: 1, refused: 'MODELS_LAST' });
  expect(await models('load', 'wine')).toMatchObject({ code: 2, refused: 'MODELS_UNKNOWN' });
  await using enclave = await connectTo();
  expect((await enclave.fetch('/v2/health/ready')).status).toBe(200);
}, 60_000);
