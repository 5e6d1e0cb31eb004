import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { main } from '../../../scripts/strongroom.ts';
import { commandLine, deploymentBytes, newOwner, type Owner, partsOf } from './support.ts';

let owner: Owner;
let options: ReturnType<typeof commandLine>;
let key = '';
let folder = '';
const environment = { ...process.env };
beforeAll(async () => {
  owner = await newOwner();
  options = commandLine(owner);
  Object.assign(process.env, options.env);
  key = await owner.newKey('iris');
  ({ folder } = await owner.seal('iris', [key]));
  writeFileSync(join(owner.folder, 'deployment.json'), deploymentBytes('iris', [key]));
  writeFileSync(join(owner.folder, 'kept.key'), new Uint8Array(32).fill(3), { mode: 0o600 });
});
afterAll(async () => {
  process.env = environment;
  await owner.close();
});

interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

async function run(...args: string[]): Promise<Ran> {
  const streams = { stdin: new PassThrough(), stdout: new PassThrough(), stderr: new PassThrough() };
  const texts = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const)
    streams[name].on('data', (piece) => (texts[name] += piece));
  const code = await main(args, { ...streams, signal: new AbortController().signal });
  return { code, ...texts };
}
const withKms = (...args: string[]): Promise<Ran> => run(...args, ...options.kms);

describe.each(['rewrap', 'reseal', 'rotate'])('%s --help', (command) => {
  it('shows an example and the exit codes', async () => {
    const { code, stdout } = await run(command, '--help');
    expect(code).toBe(0);
    expect(stdout).toContain(`strongroom ${command}`);
    expect(stdout).toMatch(/Example:[\s\S]*Exit codes: 0/);
  });
});

describe('usage', () => {
  const arn = 'arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab';
  it.each([
    ['rewrap'],
    ['rewrap', 'one', 'two'],
    ['rewrap', 'one', '--all', 'models'],
    ['rewrap', 'one', '--to', arn],
    ['rewrap', 'one', '--to', arn, '--remove', arn, '--key-file', 'FOLDER/kept.key'],
    ['rewrap', 'one', '--key-file', 'FOLDER/kept.key'],
    ['rewrap', 'one', '--key-file', 'FOLDER/kept.key', '--recovery', 'FOLDER/recovery.key.pem', '--to', arn],
    ['rewrap', 'one', '--recovery-file', 'x', '--to', arn],
    ['rewrap', 'one', '--kms-key', arn, '--remove', arn],
    ['rewrap', '--all', 'models', '--recovery-file', 'x'],
    ['rewrap', 'one', '--jobs', '0'],
    ['rewrap', 'one', '--jobs', '65'],
    ['rewrap', 'one', '--deployment', 'FOLDER/deployment.json', '--no-deployment'],
    ['reseal'],
    ['reseal', 'one', '-o', 'two'],
    ['reseal', 'one', '-o', 'two', '--replace', '--key-file', 'FOLDER/kept.key'],
    ['reseal', 'one', '--key-file', 'FOLDER/kept.key'],
    ['reseal', 'one', '-o', 'two', '--key-file', 'FOLDER/kept.key', '--content-id', 'ab'],
    ['reseal', 'one', '-o', 'two', '--key-file', 'FOLDER/kept.key'],
    ['reseal', 'one', '-o', 'two', '--key-file', 'FOLDER/kept.key', '--version', '0'],
    ['rotate'],
    ['rotate', '--enable'],
    ['rotate', '--kms-key', arn, '--enable', '--now'],
    ['rotate', '--kms-key', arn, '--period', '90'],
    ['rotate', '--kms-key', arn, '--enable', '--period', '89'],
    ['rotate', '--kms-key', arn, '--ask-kms'],
    ['rotate', 'models', '--kms-key', arn, '--now'],
  ])('%s %s %s %s is refused with exit code 2', async (...args) => {
    const filled = args.map((arg) => arg.replace('FOLDER', owner.folder));
    const { code, stdout, stderr } = await run(...filled, '--json');
    expect({ code, stderr }).toEqual({ code: 2, stderr: '' });
    expect(JSON.parse(stdout)).toMatchObject({ error: { code: 'USAGE' } });
  });
});

describe('what people read', () => {
  it('says after a rewrap what changed, and that key.json alone suffices', async () => {
    const deployment = join(owner.folder, 'deployment.json');
    const { code, stdout, stderr } = await withKms('rewrap', folder, '--again', '--deployment', deployment);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toContain('rewrapped iris version 3');
    expect(stdout).toContain('was the newest already');
    expect(stdout).toContain(`key.json alone suffices; it opens with ${key}`);
    expect((await withKms('rewrap', folder)).stdout).toContain('needs nothing');
  });

  it('says what a key that the deployment does not list takes', async () => {
    const next = await owner.newKey('iris');
    const deployment = join(owner.folder, 'deployment.json');
    const to = ['rewrap', folder, '--to', next, '--recovery', options.keys.recovery];
    const { stdout } = await withKms(...to, '--deployment', deployment);
    expect(stdout).toContain(`goes on opening with ${key}`);
    expect(stdout).toContain('a new deployment, hence a new PCR16');
    expect((await withKms(...to, '--again')).stdout).toContain('No deployment was given');
    const { code, stderr } = await withKms('rewrap', folder, '--remove', key, '--deployment', deployment);
    expect(code).toBe(1);
    expect(stderr).toContain('REWRAP_WOULD_STRAND');
    expect((await withKms('rewrap', folder, '--remove', next, '--deployment', deployment)).code).toBe(0);
  });

  it('reports on many, with the exit code of the worst', async () => {
    const { code, stdout } = await withKms('rewrap', '--all', owner.folder);
    expect(code).toBe(0);
    expect(stdout).toContain('1 needed nothing');
    const good = readFileSync(join(folder, 'key.json'));
    writeFileSync(join(folder, 'key.json'), '{}');
    const bad = await withKms('rewrap', '--all', owner.folder);
    expect(bad).toMatchObject({ code: 1, stdout: expect.stringContaining('SEALED_KEY_FILE_MALFORMED') });
    writeFileSync(join(folder, 'key.json'), good);
    const unreachable = ['--kms-endpoint', 'https://127.0.0.1:1', '--json'];
    expect(await run('rewrap', '--all', owner.folder, ...unreachable)).toMatchObject({ code: 3 });
  }, 60_000);

  it('lists wraps with what is known of them, and ends with 3 where nothing is', async () => {
    expect(await withKms('rotate', owner.folder)).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/current {2}.*iris\.sealed {2}iris version 3 {2}wrapped .*by its label/),
    });
    const other = await owner.newKey('unnoted');
    await owner.seal('unnoted', [other], { note: false });
    expect(await withKms('rotate', owner.folder)).toMatchObject({
      code: 3,
      stdout: expect.stringContaining('1 unknown'),
    });
    expect(await withKms('rotate', owner.folder, '--ask-kms')).toMatchObject({ code: 0 });
    rmSync(join(owner.folder, 'unnoted.sealed'), { recursive: true });
  });

  it('says after a reseal what remains to be done, and leaves the old model', async () => {
    const before = partsOf(folder);
    const out = join(owner.folder, 'next.sealed');
    const { recovery, signing } = options.keys;
    const args = ['reseal', folder, '--recovery', recovery, '--sign', signing, '--kms-key', key, '-o', out];
    const { code, stdout, stderr } = await withKms(...args);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toContain(`sealed iris version 3 into ${out}`);
    expect(stdout).toContain(`the old model stays in ${folder}`);
    expect(partsOf(folder)).toEqual(before);
    expect((await withKms(...args)).stderr).toContain('OWNER_WOULD_OVERWRITE');
    expect(readdirSync(owner.folder).filter((name) => name.startsWith('.'))).toEqual([]);
  });
});
