import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { measureEif } from '../../../review/image/eif/measure-eif.ts';
import { main } from '../../../scripts/strongroom.ts';
import { eifFile, GOOD, part, testSigner } from '../../review/image/eif/eif-file.ts';

/** What the stand-in does when it is called. */
interface Answer {
  readonly status?: number;
  readonly stdout?: string;
  readonly stderr?: string;
  /** An image file to write to --output-file. */
  readonly image?: string;
}

let folder = '';
let output = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'strongroom-nitro-build-'));
  output = join(folder, 'out.eif');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** A program that answers as nitro-cli is documented to, and notes how it was called. */
function standIn(answer: Answer): string {
  const program = join(folder, 'nitro-cli');
  const source = `#!${process.execPath}
    const { copyFileSync, mkdirSync, writeFileSync } = require('node:fs');
    const answer = ${JSON.stringify(answer)};
    const args = process.argv.slice(2);
    const artifacts = process.env.NITRO_CLI_ARTIFACTS;
    writeFileSync(${JSON.stringify(join(folder, 'called.json'))}, JSON.stringify({ args, artifacts }));
    mkdirSync(artifacts + '/left-over');
    process.stderr.write('Start building the Enclave Image...\\n' + (answer.stderr ?? ''));
    if (answer.image) copyFileSync(answer.image, args[args.indexOf('--output-file') + 1]);
    process.stdout.write(answer.stdout ?? '');
    process.exitCode = answer.status ?? 0;`;
  writeFileSync(program, source);
  chmodSync(program, 0o755);
  return program;
}

const called = () =>
  JSON.parse(readFileSync(join(folder, 'called.json'), 'utf8')) as { args: string[]; artifacts: string };

async function image(): Promise<{ readonly image: string; readonly registers: Record<string, string> }> {
  const bytes = eifFile({ sections: GOOD });
  const path = join(folder, 'prepared.eif');
  writeFileSync(path, bytes);
  const { measurements } = await measureEif([bytes], { at: new Date() });
  const hex = (register: Uint8Array) => Buffer.from(register).toString('hex');
  const registers = {
    PCR0: hex(measurements.pcr0),
    PCR1: hex(measurements.pcr1),
    PCR2: hex(measurements.pcr2),
  };
  return { image: path, registers };
}
const said = (registers: object) =>
  `${JSON.stringify({ Measurements: { HashAlgorithm: 'Sha384 { ... }', ...registers } }, undefined, 2)}\n`;

async function run(...args: string[]) {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const exit = await main(['image', 'build', '-o', output, ...args], {
    stdin: new PassThrough(),
    stdout,
    stderr,
    signal: new AbortController().signal,
  });
  return { exit, output: String(stdout.read() ?? '') + String(stderr.read() ?? '') };
}
const build = (program: string, ...more: string[]) =>
  run('--docker-uri', 'strongroom:1', '--nitro-cli', program, ...more);

/** Nothing but what the test put there. */
const leftOvers = () => readdirSync(folder).filter((name) => name.startsWith('out.eif'));

describe('an image that nitro-cli builds', () => {
  it('is measured here, gets its name once both say the same, and leaves nothing else behind', async () => {
    const { image: path, registers } = await image();
    const program = standIn({ image: path, stdout: said(registers) });
    const { exit, output: json } = await build(program, '--name', 'mine', '--json');
    expect(exit, json).toBe(0);
    expect(JSON.parse(json).Measurements).toMatchObject(registers);
    expect(readFileSync(output).equals(readFileSync(path))).toBe(true);
    const { args, artifacts } = called();
    expect(args.filter((_, at) => args[at - 1] !== '--output-file')).toEqual([
      'build-enclave',
      '--docker-uri',
      'strongroom:1',
      '--output-file',
      '--name',
      'mine',
    ]);
    expect(existsSync(artifacts)).toBe(false);
    expect(leftOvers()).toEqual(['out.eif']);
  });

  it('is signed by nitro-cli, with the files that were named', async () => {
    const signer = testSigner('secp384r1');
    const [key, certificate] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
    writeFileSync(key, signer.keyPem);
    writeFileSync(certificate, signer.certificatePem);
    const { image: path, registers } = await image();
    const program = standIn({ image: path, stdout: said({ ...registers, PCR8: 'ab'.repeat(48) }) });
    const { exit, output: text } = await build(program, '--sign', key, '--certificate', certificate);
    expect(called().args.slice(-4)).toEqual(['--private-key', key, '--signing-certificate', certificate]);
    // The file is not signed, whatever nitro-cli says.
    expect({ exit, named: text.includes('PCR8') }).toEqual({ exit: 3, named: true });
    expect(leftOvers()).toEqual([]);
  });

  it.each(['PCR0', 'PCR1', 'PCR2'])('is refused if nitro-cli says another %s', async (name) => {
    const { image: path, registers } = await image();
    const program = standIn({ image: path, stdout: said({ ...registers, [name]: '00'.repeat(48) }) });
    const { exit, output: text } = await build(program);
    expect(exit).toBe(3);
    expect(text).toContain('EIF_READ_BACK');
    expect(text).toContain(name);
    expect(leftOvers()).toEqual([]);
  });

  it('is refused if it is no acceptable image file', async () => {
    const { registers } = await image();
    const path = join(folder, 'bad.eif');
    writeFileSync(path, eifFile({ sections: [...GOOD, part('kernel', 'another')] }));
    expect(await build(standIn({ image: path, stdout: said(registers) }))).toMatchObject({ exit: 2 });
    expect(leftOvers()).toEqual([]);
  });

  it.each([
    ['nothing', ''],
    ['no JSON', 'Enclave Image successfully created.\n'],
    ['no measurements', '{"Measurements":null}'],
    ['measurements that are none', '{"Measurements":{"PCR0":"x","PCR1":"y","PCR2":"z"}}'],
    ['a member twice', '{"Measurements":{},"Measurements":{}}'],
    ['more than it has to say', 'x'.repeat(2 << 20)],
  ])('is refused if nitro-cli prints %s', async (_, stdout) => {
    const { image: path } = await image();
    const { exit, output: text } = await build(standIn({ image: path, stdout }));
    expect(exit).toBe(3);
    expect(text).toContain('NITRO_CLI_UNREADABLE');
    expect(leftOvers()).toEqual([]);
  });

  it('is no image if nitro-cli fails: its code is explained, and that it can be done without', async () => {
    const failure = {
      status: 50,
      stderr: '[ E50 ] Docker image pull error. Such error appears when trying to build an EIF file...\n',
    };
    const { exit, output: text } = await build(standIn(failure));
    expect(exit).toBe(3);
    expect(text).toContain('NITRO_CLI_FAILED');
    expect(text).toContain('E50');
    expect(text).toContain('strongroom builds the image by itself');
  });

  it('is no image if nitro-cli fails without a code; what it said is shown on one line', async () => {
    const { output: text } = await build(
      standIn({ status: 101, stderr: 'thread panicked\u001b[2J\nat x.rs\n' }),
    );
    expect(text).toContain('thread panicked [2J at x.rs');
  });

  it('needs nitro-cli', async () => {
    const { exit, output: text } = await build(join(folder, 'absent'));
    expect(exit).toBe(2);
    expect(text).toContain('NITRO_CLI_MISSING');
  });

  it('does not replace a file unless told to', async () => {
    writeFileSync(output, 'precious');
    const { image: path, registers } = await image();
    const program = standIn({ image: path, stdout: said(registers) });
    expect((await build(program)).output).toContain('EIF_OUTPUT');
    expect(readFileSync(output, 'utf8')).toBe('precious');
    expect((await build(program, '--force')).exit).toBe(0);
  });

  it('takes no option that nitro-cli decides by itself, and none of its own without an image to build of', async () => {
    for (const option of ['--kernel', '--cmdline', '--root', '--container', '--arch']) {
      expect(await build(standIn({}), option, 'x')).toMatchObject({ exit: 2 });
    }
    expect(await run('--nitro-cli', standIn({}))).toMatchObject({ exit: 2 });
    expect(existsSync(join(folder, 'called.json'))).toBe(false);
  });
});
