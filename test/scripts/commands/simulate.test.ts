import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { DecryptCommand } from '@aws-sdk/client-kms';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect, readExpectationsFile } from '../../../client/index.ts';
import { localKmsClient } from '../../../scripts/local/kms-client.ts';
import { encodeOnnxModel } from '../../../scripts/model/onnx.ts';
import { parseKeyFile } from '../../../shared/sealed-model/key-file.ts';
import { processTree } from '../../support/memory-scan.ts';
import { tinyLlama } from '../../support/text-models.ts';

const PROJECT = join(import.meta.dirname, '..', '..', '..');
const START_TIMEOUT_MS = 60_000;
const run = promisify(execFile);

interface Announced {
  readonly url: string;
  readonly model: string;
  readonly expectations: string;
  readonly simulationRoot: string;
  readonly input?: string;
  readonly ask: string;
  readonly pcrs: Readonly<Record<string, string>>;
}

function start(...args: string[]): ChildProcess {
  return spawn(process.execPath, ['scripts/strongroom.ts', 'simulate', ...args], {
    cwd: PROJECT,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

/** What the process has printed once it matches. */
async function printed(child: ChildProcess, wanted: RegExp): Promise<string> {
  let output = '';
  for await (const piece of child.stdout as AsyncIterable<Buffer>) {
    output += piece.toString();
    if (wanted.test(output)) return output;
  }
  throw new Error(`it ended: ${output}${await text(child.stderr as NodeJS.ReadableStream)}`);
}

/** A line of a shell, in the project's folder, as a reader would paste it. */
async function shell(line: string): Promise<{ code: number; stdout: string; stderr: string }> {
  try {
    return { code: 0, ...(await run('sh', ['-c', line], { cwd: PROJECT })) };
  } catch (error) {
    const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string };
    return { code, stdout, stderr };
  }
}

/** Processes that name the folder in their arguments, or work in it. */
function processesOf(folder: string): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(folder);
      } catch {
        return false;
      }
    });
}

/** The folder of a running simulation, as its parent's arguments name it. */
function runFolderOf(child: ChildProcess): string {
  const [parent] = processTree(child.pid as number).filter((pid) => argumentsOf(pid).includes('parent.json'));
  return dirname(
    dirname(
      argumentsOf(parent as number)
        .split('\0')
        .at(-2) as string,
    ),
  );
}

function argumentsOf(pid: number): string {
  return readFileSync(`/proc/${pid}/cmdline`, 'latin1');
}

/** What the parent's operator could try: the host role's credentials, and no attestation document. */
async function decryptUnattested(runFolder: string): Promise<void> {
  const read = (name: string): string => readFileSync(join(runFolder, 'instance-1', name), 'utf8');
  const { host, override } = JSON.parse(read('parent.json')).egress[0];
  const credentials = JSON.parse(read('credentials.json'));
  const client = localKmsClient(
    {
      kms: { host, port: override.port, caCertificatePem: read('kms-root.pem') },
      credentials: () => ({ ...credentials, expiration: new Date(credentials.expiration) }),
    },
    'host',
  );
  try {
    const models = readdirSync(runFolder).find((name) => name.startsWith('models-')) as string;
    const keyFile = readFileSync(join(runFolder, models, 'twice.sealed', 'key.json'));
    const [wrap] = parseKeyFile(keyFile).wraps;
    await client.send(new DecryptCommand({ KeyId: wrap?.keyArn, CiphertextBlob: wrap?.ciphertextBlob }));
  } finally {
    client.destroy();
  }
}

async function expectNothingLeft(runFolder: string): Promise<void> {
  for (let tries = 0; tries < 400 && processesOf(runFolder).length > 0; tries++) await sleep(50);
  expect(processesOf(runFolder)).toEqual([]);
  expect(existsSync(runFolder)).toBe(false);
}

describe('strongroom simulate', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'strongroom-simulate-test-'));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  it(
    'serves the iris model, answers what it prints to ask, and leaves nothing behind on Ctrl-C',
    async () => {
      const child = start();
      try {
        const output = await printed(child, /Ctrl-C ends it/);
        const line = /^ {2}(npx strongroom ask .*)$/m.exec(output)?.[1] as string;
        const answered = await shell(line);
        expect(answered).toMatchObject({
          code: 0,
          stdout: expect.stringMatching(/^probabilities \[1,3\]: \[/),
        });
        expect(answered.stderr).toMatch(/^verified: .*trust: simulation/m);

        const path = /--expect (\S+)/.exec(line)?.[1] as string;
        const runFolder = dirname(dirname(path));
        expect(processesOf(runFolder).length).toBeGreaterThan(1);
        const expectations = JSON.parse(readFileSync(path, 'utf8'));
        writeFileSync(
          path,
          JSON.stringify({ ...expectations, pcrs: { ...expectations.pcrs, 0: 'ee'.repeat(48) } }),
        );
        const refused = await shell(line);
        expect(refused).toMatchObject({ code: 1, stdout: '' });
        expect(refused.stderr).toContain('ATTESTATION_PCR_MISMATCH');

        child.kill('SIGINT');
        expect(await once(child, 'exit')).toEqual([0, null]);
        await expectNothingLeft(runFolder);
      } finally {
        child.kill('SIGKILL');
      }
    },
    START_TIMEOUT_MS,
  );

  it(
    'serves a model of your own, with files where you want them, and says so in one JSON document',
    async () => {
      const model = join(folder, 'twice it.onnx');
      writeFileSync(
        model,
        encodeOnnxModel({
          inputs: [{ name: 'x', type: 'float', shape: ['n', 2] }],
          outputs: [{ name: 'y', type: 'float', shape: ['n', 2] }],
          nodes: [{ op: 'Add', inputs: ['x', 'x'], outputs: ['y'] }],
        }),
      );
      const out = join(folder, 'for clients');
      const child = start(model, '--name', 'twice', '--folder', out, '--json');
      const stderr = text(child.stderr as NodeJS.ReadableStream);
      try {
        const announced = JSON.parse(await printed(child, /\n/)) as Announced;
        expect(announced).toMatchObject({ model: 'twice', expectations: join(out, 'expectations.json') });
        expect(readdirSync(out).sort()).toEqual([
          'expectations.json',
          'input.json',
          'review',
          'simulation-root.pem',
        ]);
        expect(await shell(announced.ask)).toMatchObject({ code: 0, stdout: 'y [1,2]: [0,0]\n' });
        writeFileSync(
          join(out, 'input.json'),
          '{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,2]}]}',
        );
        expect(await shell(announced.ask)).toMatchObject({ code: 0, stdout: 'y [1,2]: [2,4]\n' });

        await expect(decryptUnattested(runFolderOf(child))).rejects.toThrow('explicit deny');

        child.kill('SIGTERM');
        expect(await once(child, 'exit')).toEqual([0, null]);
        expect(existsSync(join(out, 'expectations.json'))).toBe(true);
        expect(await stderr).toMatch(/^kms: refused Decrypt by .*EnclaveHost.*: AccessDenied$/m);
        expect(await stderr).toMatch(/^kms: {3}key policy, statement "DenyOtherImages" .*has no such key/m);
        expect(await stderr).toMatch(/^enclave: data-key-released$/m);
        expect(await stderr).toMatch(/^parent: \{.*"event":"ready"/m);
      } finally {
        child.kill('SIGKILL');
      }
    },
    START_TIMEOUT_MS,
  );

  it(
    'serves a language model, from a confined engine in the measured image',
    async () => {
      const model = join(folder, 'tiny.gguf');
      writeFileSync(model, tinyLlama());
      const out = join(folder, 'for-text-clients');
      const child = start(model, '--folder', out, '--json');
      try {
        const announced = JSON.parse(await printed(child, /\n/)) as Announced;
        expect(announced.model).toBe('tiny');
        // Tensors are nothing that it takes.
        expect(announced.input).toBeUndefined();
        const expectations = await readExpectationsFile(announced.expectations);
        await using enclave = await connect(announced.url, expectations);
        const response = await enclave.fetch('/v2/models/tiny');
        expect(await response.json()).toMatchObject({ name: 'tiny', platform: 'gguf_llamacpp' });
        expect((await enclave.fetch('/v2/health/ready')).status).toBe(200);
      } finally {
        child.kill('SIGTERM');
        await once(child, 'exit');
      }
    },
    START_TIMEOUT_MS,
  );

  it(
    'serves clients with certificates alone, if asked, and what it prints shuts one out',
    async () => {
      const child = start('--clients', 'mtls');
      try {
        const output = await printed(child, /Ctrl-C ends it/);
        const lineOf = (pattern: RegExp): string => pattern.exec(output)?.[1] as string;
        const line = lineOf(/^ {2}(npx strongroom ask .*)$/m);
        expect(await shell(line)).toMatchObject({ code: 0 });
        const nobody = await shell(line.replace(/ --client-cert.*$/, ''));
        expect(nobody).toMatchObject({
          code: 1,
          stderr: expect.stringContaining('CLIENT_CERTIFICATE_REQUIRED'),
        });

        const second = join(folder, 'client-2');
        const issue = lineOf(/^ {2}(npx strongroom cert issue .*)$/m).replace(/client-2$/, second);
        expect(await shell(issue)).toMatchObject({ code: 0 });
        expect(await shell(lineOf(/^ {2}(npx strongroom deny-list sign .* --deny .*)$/m))).toMatchObject({
          code: 0,
        });
        await expect
          .poll(async () => (await shell(line)).stderr, { timeout: 30_000 })
          .toContain('CALLER_DENIED');
        const asSecond = line.replace(
          / --client-cert.*$/,
          ` --client-cert ${second}/certificate.pem --client-key ${second}/key.pem`,
        );
        expect(await shell(asSecond)).toMatchObject({ code: 0 });
        child.kill('SIGINT');
        expect(await once(child, 'exit')).toEqual([0, null]);
      } finally {
        child.kill('SIGKILL');
      }
    },
    2 * START_TIMEOUT_MS,
  );

  it(
    'ends, and starts nothing again, when the parent ends',
    async () => {
      const child = start();
      const stderr = text(child.stderr as NodeJS.ReadableStream);
      try {
        const output = await printed(child, /Ctrl-C ends it/);
        const runFolder = dirname(dirname(/--expect (\S+)/.exec(output)?.[1] as string));
        const parent = processesOf(join(runFolder, 'instance-1', 'parent.json'));
        expect(parent).toHaveLength(1);
        process.kill(Number(parent[0]), 'SIGKILL');
        expect(await once(child, 'exit')).toEqual([2, null]);
        expect(await stderr).toContain('SIMULATION_PROCESS_ENDED');
        await expectNothingLeft(runFolder);
      } finally {
        child.kill('SIGKILL');
      }
    },
    START_TIMEOUT_MS,
  );

  it.each([
    ['two models', ['a.onnx', 'b.onnx'], 'USAGE'],
    ['a name that is none', ['--name', '../x'], 'USAGE'],
    ['a port that is none', ['--port', '70000'], 'USAGE'],
    ['clients of an unknown kind', ['--clients', 'tls'], 'USAGE'],
    ['a model that is not there', ['/nowhere/model.onnx'], 'INPUT_UNREADABLE'],
  ])('starts nothing for %s', async (_what, args, code) => {
    const child = start(...args);
    const stderr = text(child.stderr as NodeJS.ReadableStream);
    expect(await once(child, 'exit')).toEqual([2, null]);
    expect(await stderr).toContain(`code: ${code}`);
  });
});
