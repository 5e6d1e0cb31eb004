import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect } from '../../client/connect.ts';
import { pcrsOf, prepareRelease, type Release } from '../../scripts/local/release.ts';
import type { LocalInstance } from '../../simulator/local-instance.ts';
import type { LocalStack } from '../../simulator/local-stack.ts';
import { decryptCount, isAlive, MODEL, onnx, startStack } from './support.ts';

let stack: LocalStack;
let release: Release;
let instance: LocalInstance;

beforeAll(async () => {
  stack = await startStack();
  release = await prepareRelease(stack, { name: MODEL, version: 1, onnx });
  instance = await start();
}, 120_000);
afterAll(() => stack?.close());

async function start(): Promise<LocalInstance> {
  const { deployment, modelsFolder } = release;
  const started = await stack.startInstance({ deployment, modelsFolder });
  await started.serving;
  return started;
}

const connectTo = ({ url }: LocalInstance) =>
  connect(url, { pcrs: pcrsOf(stack, release.deployment), simulationRoot: stack.attestationRoot });

describe('an enclave whose process is started again', () => {
  it('meets registers that are locked, stops there, and asks KMS for nothing', async () => {
    const { enclave } = instance;
    const { pid } = enclave.process;
    const before = decryptCount(stack);
    enclave.process.kill();
    expect(await enclave.process.exited).toEqual({ code: null, signal: 'SIGKILL' });

    const again = enclave.startAgain();
    expect(again.pid).not.toBe(pid);
    expect((await again.exited).code).toBe(1);
    expect(instance.console).toContain('"code":"BOOT_ALREADY_MEASURED"');
    expect(decryptCount(stack)).toBe(before);
    await expect(connectTo(instance)).rejects.toMatchObject({ code: expect.stringMatching(/^CLIENT_/) });
  });

  it('does not get further the second time either', async () => {
    expect((await instance.enclave.startAgain().exited).code).toBe(1);
    expect(instance.console.match(/BOOT_ALREADY_MEASURED/g)).toHaveLength(2);
  });
});

describe('a new enclave', () => {
  it('serves the same release, beside nothing of the old one', async () => {
    await instance.close();
    expect(isAlive(instance.parentPid)).toBe(false);
    const fresh = await start();
    expect(fresh.enclave.moduleId).not.toBe(instance.enclave.moduleId);
    await using enclave = await connectTo(fresh);
    expect(enclave.evidence.moduleId).toBe(fresh.enclave.moduleId);
    expect(await (await enclave.fetch('/v2/health/ready')).json()).toEqual({ ready: true });
  });

  it('may run beside another: two enclaves of one release attest to the same registers but the module', async () => {
    const [one, two] = await Promise.all([start(), start()]);
    await using first = await connectTo(one);
    await using second = await connectTo(two);
    expect(first.evidence.pcrs).toEqual(second.evidence.pcrs);
    expect(first.evidence.moduleId).not.toBe(second.evidence.moduleId);
    expect(first.evidence.certificateSpkiSha256).not.toBe(second.evidence.certificateSpkiSha256);
  });
});
