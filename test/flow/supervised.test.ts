/**
 * The whole story with `strongroom run` as it runs on a host: it starts the enclave with nitro-cli (a stand-in
 * that starts a simulated one), a verified client asks, the enclave is killed, the parent is killed.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Writable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect } from '../../client/connect.ts';
import { pcrsOf, prepareRelease, type Release } from '../../scripts/local/release.ts';
import type { SimulatedEnclave, SimulatedInstance } from '../../simulator/hypervisor.ts';
import type { LocalStack } from '../../simulator/local-stack.ts';
import { FakeNitro } from '../support/fake-nitro.ts';
import { decryptCount, flowers, MODEL, onnx, PROJECT, startStack } from './support.ts';

let stack: LocalStack;
let release: Release;
let instance: SimulatedInstance;
let fake: FakeNitro;
let enclave: SimulatedEnclave;
let parent: ChildProcess | undefined;

const silent = () => new Writable({ write: (_chunk, _encoding, done) => done() });

beforeAll(async () => {
  stack = await startStack();
  release = await prepareRelease(stack, { name: MODEL, version: 1, onnx });
  const { deployment, modelsFolder } = release;
  const prepared = stack.prepareInstance({ deployment, modelsFolder });
  instance = prepared.instance;
  fake = await FakeNitro.start(async () => {
    enclave = await instance.runEnclave({ image: stack.image, stdout: silent(), stderr: silent() });
    const started = enclave;
    const ended = started.process.exited.then(() => started.close());
    return { ended, end: () => started.close() };
  });
  const image = join(fake.folder, 'image.eif');
  writeFileSync(image, 'what nitro-cli would start');
  const supervised = { kind: 'nitro-cli', image, cpuCount: 2, memoryMib: 4_096, program: fake.program };
  instance.provide('parent.json', JSON.stringify({ ...prepared.parentConfig, enclave: supervised }));
}, 120_000);

afterAll(async () => {
  parent?.kill('SIGKILL');
  await fake?.[Symbol.asyncDispose]();
  await instance?.close();
  await stack?.close();
});

function startParent() {
  const args = [join(PROJECT, 'scripts/strongroom.ts'), 'run', '--config', 'parent.json'];
  const child = spawn(process.execPath, args, { cwd: instance.folder, stdio: ['ignore', 'pipe', 'inherit'] });
  parent = child;
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async (event: string): Promise<{ readonly [field: string]: unknown }> => {
    for (;;) {
      const { value, done } = await lines.next();
      if (done === true) throw new Error(`the parent ended before it said ${event}`);
      const line = JSON.parse(String(value));
      if (line.event === event) return line;
    }
  };
  return { next, ended: new Promise((resolve) => child.once('close', resolve)) };
}

/** Asks as any client does, and gives the module that answered. */
async function askVerified(port: unknown): Promise<string> {
  const expectations = { pcrs: pcrsOf(stack, release.deployment), simulationRoot: stack.attestationRoot };
  await using verified = await connect(`https://127.0.0.1:${port}`, expectations);
  const data = flowers[0]?.measurements;
  const input = { name: 'measurements', datatype: 'FP32', shape: [1, 4], data };
  const response = await verified.fetch(`/v2/models/${MODEL}/infer`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ inputs: [input] }),
  });
  expect(response.status).toBe(200);
  return verified.evidence.moduleId;
}

describe('a supervised enclave', () => {
  it('answers verified; killed, is replaced by one that attests anew; outlives no second parent', async () => {
    const run = startParent();
    const { port } = await run.next('ready');
    await run.next('enclave-serving');
    const first = await askVerified(port);
    expect(first).toBe(enclave.moduleId);
    expect(decryptCount(stack)).toBe(1);

    enclave.process.kill();
    expect(await run.next('enclave-lost')).toMatchObject({ reason: 'ended' });
    await run.next('enclave-serving');
    const second = await askVerified(port);
    expect(second).not.toBe(first);
    expect(decryptCount(stack)).toBe(2);

    parent?.kill('SIGKILL');
    await run.ended;
    expect(fake.running.size).toBe(1);
    const again = startParent();
    const { port: newPort } = await again.next('ready');
    await again.next('enclave-leftover');
    await again.next('enclave-serving');
    expect(await askVerified(newPort)).not.toBe(second);
    expect(decryptCount(stack)).toBe(3);

    parent?.kill('SIGTERM');
    expect(await again.next('stopped')).toMatchObject({ graceful: true });
    expect(await again.ended).toBe(0);
    expect(fake.running.size).toBe(0);
  }, 300_000);
});
