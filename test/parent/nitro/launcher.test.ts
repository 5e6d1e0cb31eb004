import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { NitroCliConfig } from '../../../parent/config/enclave.ts';
import { nitroLauncher } from '../../../parent/nitro/launcher.ts';
import { nitroCli } from '../../../parent/nitro/nitro-cli.ts';
import type { ParentEvent } from '../../../parent/observe.ts';
import type { Launcher } from '../../../parent/supervise.ts';
import { FakeNitro, failure } from '../../support/fake-nitro.ts';

const never = new AbortController().signal;
let fake: FakeNitro;
let events: ParentEvent[];

beforeEach(async () => {
  fake = await FakeNitro.start();
  await writeFile(join(fake.folder, 'image.eif'), 'image');
  events = [];
});
afterEach(() => fake[Symbol.asyncDispose]());

function launcher(change: Partial<NitroCliConfig> = {}, cid = 21): Launcher {
  const config: NitroCliConfig = {
    kind: 'nitro-cli',
    image: join(fake.folder, 'image.eif'),
    cpuCount: 2,
    memoryMib: 512,
    name: 'ours',
    program: fake.program,
    bootTimeoutMs: 60_000,
    ...change,
  };
  return nitroLauncher(config, { cli: nitroCli(fake.program), cid, observe: (event) => events.push(event) });
}

const names = () => [...fake.running.values()].map(({ name }) => name);

describe('an enclave of nitro-cli', () => {
  it('is started, seen, and terminated', async () => {
    const ours = launcher();
    await ours.start(never);
    expect(await ours.look()).toBe('running');
    await ours.terminate();
    expect(await ours.look()).toBe('gone');
    expect(names()).toEqual([]);
    expect(events).toMatchObject([{ event: 'enclave-started', cid: 21, cpuCount: 2, memoryMib: 512 }]);
  });

  it('that ends by itself is seen to be gone, and terminating it is no error', async () => {
    const ours = launcher();
    await ours.start(never);
    for (const { enclave } of fake.running.values()) enclave.end();
    await expect.poll(() => ours.look(), { timeout: 20_000 }).toBe('gone');
    await ours.terminate();
  });

  it('is unknown, and not gone, while nitro-cli cannot reach everybody', async () => {
    const ours = launcher();
    await ours.start(never);
    fake.next('describe-enclaves', { ...failure('E39', 'Connection failure.'), stdout: '[]' });
    expect(await ours.look()).toBe('unknown');
  });

  it("a killed parent's one is found by its name, said so, and terminated; others are left alone", async () => {
    await launcher().start(never);
    await launcher({ name: 'theirs' }, 22).start(never);
    events = [];
    await launcher().clear();
    expect(names()).toEqual(['theirs']);
    expect(events).toEqual([{ event: 'enclave-leftover', id: expect.any(String), cid: 21 }]);
  });

  it('is not started where somebody else has its context id', async () => {
    await launcher({ name: 'theirs' }).start(never);
    await expect(launcher().clear()).rejects.toMatchObject({
      code: 'NITRO_CID_TAKEN',
      message: expect.stringContaining('"theirs"'),
    });
    expect(names()).toEqual(['theirs']);
  });

  it('in debug mode is refused', async () => {
    fake.flags = 'DEBUG_MODE';
    await expect(launcher().start(never)).rejects.toMatchObject({ code: 'NITRO_DEBUG_MODE' });
  });

  it('of another image than the configuration says is refused, with both measurements', async () => {
    await expect(launcher({ pcr0: 'cd'.repeat(48) }).start(never)).rejects.toMatchObject({
      code: 'NITRO_IMAGE_MISMATCH',
      message: expect.stringContaining(`expected PCR0 ${'cd'.repeat(48)}, found ${'ab'.repeat(48)}`),
    });
    await launcher().clear();
    await launcher({ pcr0: 'ab'.repeat(48) }).start(never);
  });

  it('that cannot be terminated is said so', async () => {
    const ours = launcher();
    await ours.start(never);
    fake.next('terminate-enclave', failure('E36', 'No.'));
    await expect(ours.terminate()).rejects.toMatchObject({ code: 'NITRO_CLI_FAILED' });
    expect(await ours.look()).toBe('running');
    await ours.terminate();
    expect(await ours.look()).toBe('gone');
  });

  it('is not said to have ended while nitro-cli cannot reach everybody', async () => {
    const ours = launcher();
    await ours.start(never);
    fake.next('describe-enclaves', { ...failure('E39', 'Connection failure.'), stdout: '[]' });
    await expect(ours.terminate()).rejects.toMatchObject({
      code: 'NITRO_CLI_FAILED',
      message: expect.stringContaining('"ours" may be left'),
    });
    await ours.terminate();
    expect(names()).toEqual([]);
  });

  it('of which nobody was told the id, because its start was cut short, is terminated all the same', async () => {
    const ours = launcher();
    await launcher().start(never);
    await ours.terminate();
    expect(names()).toEqual([]);
  });

  it('without an image is refused before nitro-cli is asked', async () => {
    await expect(launcher({ image: '/nowhere.eif' }).start(never)).rejects.toMatchObject({ code: 'ENOENT' });
    expect(fake.calls).toEqual([]);
  });
});
