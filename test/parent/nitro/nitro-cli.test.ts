import { execFile } from 'node:child_process';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { nitroCli } from '../../../parent/nitro/nitro-cli.ts';
import { FakeNitro, failure, said } from '../../support/fake-nitro.ts';

const never = new AbortController().signal;
let fake: FakeNitro;
let image: string;

beforeEach(async () => {
  fake = await FakeNitro.start();
  image = join(fake.folder, 'image.eif');
  await writeFile(image, 'image');
});
afterEach(() => fake[Symbol.asyncDispose]());

const spec = () => ({ name: 'ours', image, imageSizeBytes: 5, cpuCount: 2, memoryMib: 512, cid: 21 });

describe('nitro-cli', () => {
  it('runs, describes and terminates an enclave, with arguments and answers as documented', async () => {
    const cli = nitroCli(fake.program);
    const started = await cli.run(spec(), never);
    expect(started).toEqual({ name: 'ours', id: expect.stringMatching(/^i-.*-enc/), cid: 21 });
    expect(await cli.describe()).toEqual({
      enclaves: [{ ...started, state: 'RUNNING', flags: 'NONE', pcr0: 'ab'.repeat(48) }],
      complete: true,
    });
    await cli.terminate(started.id);
    expect((await cli.describe()).enclaves).toEqual([]);
    expect(fake.calls[0]).toEqual([
      ...['run-enclave', '--enclave-name', 'ours', '--cpu-count', '2', '--memory', '512'],
      ...['--eif-path', image, '--enclave-cid', '21'],
    ]);
  });

  it('is never asked for debug mode, and chooses the context id if nobody else does', async () => {
    const cli = nitroCli(fake.program);
    await cli.run({ ...spec(), cid: undefined }, never);
    expect(fake.calls[0]).not.toContain('--debug-mode');
    expect(fake.calls[0]).not.toContain('--enclave-cid');
  });

  it('that fails is decoded into what it means and what to do', async () => {
    fake.next('run-enclave', failure('E27', 'Insufficient memory available.'));
    await expect(nitroCli(fake.program).run(spec(), never)).rejects.toMatchObject({
      code: 'NITRO_CLI_FAILED',
      message: expect.stringMatching(/status 27\. E27: More memory .* Raise memory_mib/),
    });
  });

  it('that fails without a code is quoted, and its exit status is tried as a code', async () => {
    fake.next('terminate-enclave', { status: 101, stdout: '', stderr: "thread 'main' panicked\n" });
    const cli = nitroCli(fake.program);
    await expect(cli.terminate('x')).rejects.toMatchObject({ message: expect.stringContaining('panicked') });
    fake.next('describe-enclaves', { status: 7, stdout: '', stderr: '' });
    await expect(cli.describe()).rejects.toMatchObject({ message: expect.stringContaining('E07') });
  });

  const unreadable: readonly (readonly [string, string, string])[] = [
    ['garbage', 'run-enclave', 'Enclave started!'],
    ['nothing', 'run-enclave', ''],
    ['two documents', 'run-enclave', '{}{}'],
    ['a member twice', 'run-enclave', '{"EnclaveID":"a","EnclaveID":"b"}'],
    ['no id', 'run-enclave', '{"EnclaveName":"ours","EnclaveCID":21}'],
    ['a context id in words', 'run-enclave', '{"EnclaveName":"ours","EnclaveID":"i","EnclaveCID":"21"}'],
    ['an object for a list', 'describe-enclaves', '{}'],
    ['a list of numbers', 'describe-enclaves', '[1]'],
    ['a thousand enclaves', 'describe-enclaves', JSON.stringify(Array(1_000).fill({}))],
    ['that nothing ended', 'terminate-enclave', '{"EnclaveID":"i","Terminated":false}'],
    ['more than is read', 'describe-enclaves', ' '.repeat(1_000_000)],
  ];
  it.each(unreadable)('that says %s is refused', async (_, command, stdout) => {
    const cli = nitroCli(fake.program);
    fake.next(command, { status: 0, stdout, stderr: '' });
    const call = {
      'run-enclave': () => cli.run(spec(), never),
      'describe-enclaves': () => cli.describe(),
      'terminate-enclave': () => cli.terminate('i'),
    }[command] as () => Promise<unknown>;
    await expect(call()).rejects.toMatchObject({ code: 'NITRO_CLI_UNREADABLE' });
  });

  it('that cannot reach every enclave lists the others, and that it is not all', async () => {
    fake.next('describe-enclaves', { ...failure('E39', 'Connection failure.'), stdout: '[]\n' });
    expect(await nitroCli(fake.program).describe()).toEqual({ enclaves: [], complete: false });
  });

  it('of an older release, which measures nothing, is understood', async () => {
    const older = { EnclaveName: 'a', EnclaveID: 'i', EnclaveCID: 9, State: 'RUNNING', Flags: 'NONE' };
    fake.next('describe-enclaves', said([older]));
    expect((await nitroCli(fake.program).describe()).enclaves[0]?.pcr0).toBeUndefined();
  });

  it('that hangs is killed at the deadline', async () => {
    fake.next('describe-enclaves', 'hang');
    await expect(nitroCli(fake.program, { timeoutMs: 1_500 }).describe()).rejects.toMatchObject({
      code: 'NITRO_CLI_TIMEOUT',
    });
  });

  it('that hangs is killed soon after nobody wants its answer any more', async () => {
    fake.next('run-enclave', 'hang');
    const abort = new AbortController();
    const run = nitroCli(fake.program, { abortGraceMs: 10 }).run(spec(), abort.signal);
    await expect.poll(() => fake.calls.length, { timeout: 20_000 }).toBe(1);
    abort.abort();
    await expect(run).rejects.toMatchObject({ code: 'NITRO_CLI_FAILED' });
  });

  it('that is not there is named', async () => {
    await expect(nitroCli('/nowhere/nitro-cli').describe()).rejects.toMatchObject({
      code: 'NITRO_CLI_MISSING',
      message: expect.stringContaining('/nowhere/nitro-cli'),
    });
  });
});

describe('the program', () => {
  it('gets an environment of its own, and leaves a process behind without being waited for', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'sr-'));
    const program = join(folder, 'nitro-cli');
    // The sleep keeps standard output open, as a process that nitro-cli leaves behind might.
    await writeFile(
      program,
      `#!/bin/sh\nsleep 60 &\nenv > ${folder}/env\necho $! > ${folder}/pid\necho '[]'\n`,
    );
    await chmod(program, 0o755);
    process.env.STRONGROOM_TEST_CANARY = 'secret';
    try {
      expect(await nitroCli(program).describe()).toEqual({ enclaves: [], complete: true });
      const { readFile } = await import('node:fs/promises');
      const environment = await readFile(join(folder, 'env'), 'utf8');
      expect(environment).not.toContain('STRONGROOM_TEST_CANARY');
      expect(environment).toContain('BACKTRACE=1');
      process.kill(Number(await readFile(join(folder, 'pid'), 'utf8')));
    } finally {
      delete process.env.STRONGROOM_TEST_CANARY;
      await rm(folder, { recursive: true });
    }
  });

  it('that cannot be started for want of a descriptor is an error, and not the end of the parent', async () => {
    const script = `
      import { openSync } from 'node:fs';
      import { runProgram } from '${new URL('../../../parent/nitro/program.ts', import.meta.url).href}';
      try { for (;;) openSync('/dev/null'); } catch {}
      const { code, message } = await runProgram('/bin/true', [], { timeoutMs: 60_000 }).catch((error) => error);
      console.log(code, message);
    `;
    const shell = ['-c', 'ulimit -n 64; exec "$0" --input-type=module-typescript -e "$1"'];
    const run = promisify(execFile)('/bin/sh', [...shell, process.execPath, script]);
    expect((await run).stdout).toBe('NITRO_CLI_MISSING Cannot run /bin/true: spawn /bin/true EMFILE\n');
  });
});
