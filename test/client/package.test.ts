/**
 * What is published: installed from the packed file into an empty folder, and used there by the oldest line of Node
 * that it says it works with, which strips no types, with native code made impossible.
 */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { packClient } from '../../scripts/client-package.ts';
import { openAiStub } from './openai-stub.ts';
import { startTestEnclave, type TestEnclave } from './test-enclave.ts';

const run = promisify(execFile);
const ROOT = join(import.meta.dirname, '..', '..');
const NODE_22 = node22();

function node22(): string {
  const require = createRequire(join(ROOT, 'test', 'node-22', 'package.json'));
  return join(dirname(require.resolve(`node-linux-${process.arch}/package.json`)), 'bin', 'node');
}

let folder: string;
let installed: string;
let enclave: TestEnclave;
const stub = openAiStub();
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'client-package-'));
  const packed = await packClient(folder);
  await writeFile(join(folder, 'package.json'), '{"type":"module","private":true}');
  await run('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', '--ignore-scripts', packed], {
    cwd: folder,
  });
  installed = join(folder, 'node_modules', '@strongroom', 'client');
  await writeFile(
    join(folder, 'no-native.cjs'),
    `process.dlopen = () => { throw new Error('native code was loaded'); };\n`,
  );
  enclave = await startTestEnclave({
    handler: (request, response, body) => {
      if (request.url?.startsWith('/v1/')) return stub.handler(request, response, body);
      const { inputs } = JSON.parse(body) as { inputs: unknown };
      response
        .setHeader('content-type', 'application/json')
        .end(JSON.stringify({ outputs: [request.url, inputs] }));
    },
  });
  const { pcrs, simulationRoot } = enclave.expectations;
  await writeFile(join(folder, 'root.pem'), simulationRoot as string);
  const file = { format: 'strongroom-expectations/1', pcrs, simulationRoot: 'root.pem' };
  await writeFile(join(folder, 'expectations.json'), JSON.stringify(file));
});
afterAll(async () => {
  enclave.close();
  await rm(folder, { recursive: true });
});

/** Runs a script beside the installed package. */
async function runInstalled(script: string, signal?: AbortSignal): Promise<string> {
  await writeFile(join(folder, 'script.js'), script);
  const flags = ['--no-experimental-strip-types', '--require', './no-native.cjs'];
  return (await run(NODE_22, [...flags, 'script.js'], { cwd: folder, ...(signal && { signal }) })).stdout;
}

/** The first example of the README that has these words. */
async function exampleOf(words: string): Promise<string> {
  const readme = await readFile(join(installed, 'README.md'), 'utf8');
  const found = [...readme.matchAll(/```js\n([\s\S]*?)```/g)].map(([, example = '']) => example);
  const example = found.find((candidate) => candidate.includes(words));
  if (example === undefined) throw new Error(`no example with ${words}`);
  return example.replaceAll('https://enclave.example.org:8443', enclave.url);
}

test('it is used by the Node that it names', async () => {
  const { stdout } = await run(NODE_22, ['--version']);
  expect(stdout).toMatch(/^v22\./);
  const { engines } = JSON.parse(await readFile(join(installed, 'package.json'), 'utf8'));
  expect(engines).toEqual({ node: '>=22.19.0' });
});

test('the first example of the README runs against an enclave', async () => {
  const example = await exampleOf('/v2/models/iris/infer');
  const before = enclave.requests.length;
  const output = await runInstalled(example);
  expect(output).toMatch(/^simulation \[/);
  expect(output).toContain('/v2/models/iris/infer');
  expect(enclave.requests.slice(before)).toEqual(['GET /attestation', 'POST /v2/models/iris/infer']);
});

test("the README's examples for OpenAI's client and for undici run, and so does the runtime's own fetch", async () => {
  const openai = await exampleOf("from 'openai'");
  const undici = await exampleOf("from 'undici'");
  await symlink(join(ROOT, 'node_modules', 'openai'), join(folder, 'node_modules', 'openai'));
  const output = await runInstalled(`
    import { connect, readExpectationsFile } from '@strongroom/client';
    const expectations = await readExpectationsFile('expectations.json');
    const enclave = await connect('${enclave.url}', expectations);
    ${openai}
    const stream = await openai.chat.completions.create(
      { model: 'tiny', stream: true, messages: [{ role: 'user', content: 'a b c' }] });
    let text = '';
    for await (const { choices } of stream) text += choices[0]?.delta.content ?? '';
    console.log(text);
    ${undici}
    console.log((await body.json()).data[0].id);
    const response = await fetch('${enclave.url}/v1/models', { dispatcher: agent });
    console.log((await response.json()).object);
    await agent.close();
    await enclave.close();
  `);
  expect(output).toBe('a b c\ntiny\nlist\n');
});

test('a program that forgets to close ends all the same', async () => {
  const connected = `
    import { connect, readExpectationsFile } from '@strongroom/client';
    const enclave = await connect('${enclave.url}', await readExpectationsFile('expectations.json'));
  `;
  // The enclave itself would end an idle connection after a minute.
  const patience = AbortSignal.timeout(30_000);
  expect(await runInstalled(`${connected} console.log('connected');`, patience)).toBe('connected\n');
  const used = `${connected} console.log((await (await enclave.fetch('/v1/models')).json()).object);`;
  expect(await runInstalled(used, patience)).toBe('list\n');
});

test('it refuses with the same codes', async () => {
  const output = await runInstalled(`
    import { ClientError, connect } from '@strongroom/client';
    await connect('${enclave.url}', { pcrs: { 0: 'any' } }).catch((error) => {
      console.log(error instanceof ClientError, error.name, error.code);
    });
    await connect('${enclave.url}', { pcrs: { 0: 'any', 16: 'any' } }).catch((error) => console.log(error.code));
  `);
  expect(output).toBe('true ClientError CLIENT_EXPECTATIONS\nATTESTATION_UNTRUSTED_ROOT\n');
});

test('its declarations hold for a strict TypeScript project, without skipping any library', async () => {
  const types = join(folder, 'node_modules', '@types');
  await mkdir(types, { recursive: true });
  if (!existsSync(join(types, 'node'))) {
    await symlink(join(ROOT, 'node_modules', '@types', 'node'), join(types, 'node'));
  }
  await writeFile(
    join(folder, 'use.ts'),
    `
    import { connect, ClientError, VerifiedAgent, strongroomErrorIn } from '@strongroom/client';
    import type { ClientErrorCode, ClientExpectations, EnclaveEvidence, VerifiedEnclave } from '@strongroom/client';
    import { request, type Dispatcher } from 'undici';
    const expected: ClientExpectations = { pcrs: { 0: 'any', 16: 'any' } };
    const enclave: VerifiedEnclave = await connect('https://localhost', expected, {
      clientCertificate: { certFile: 'c', keyFile: 'k' }, reverifyAfterMs: 1000, connections: 4,
    });
    const evidence: EnclaveEvidence = enclave.evidence;
    const trust: 'aws-nitro' | 'simulation' = evidence.trust;
    const dispatcher: Dispatcher = new VerifiedAgent('https://localhost', expected);
    await request('https://localhost', { dispatcher });
    const like: typeof fetch = enclave.fetch;
    const code: ClientErrorCode = 'CLIENT_BUSY';
    // @ts-expect-error both registers are required
    await connect('https://localhost', { pcrs: { 0: 'any' } });
    // @ts-expect-error not a code
    const wrong: ClientErrorCode = 'CLIENT_WRONG';
    export { trust, like, code, wrong, ClientError, strongroomErrorIn };
  `,
  );
  const options = { strict: true, noEmit: true, skipLibCheck: false, target: 'es2024', module: 'nodenext' };
  const config = { compilerOptions: { ...options, types: ['node'] }, files: ['use.ts'] };
  await writeFile(join(folder, 'tsconfig.json'), JSON.stringify(config));
  const tsc = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc');
  const { stdout } = await run(process.execPath, [tsc, '-p', folder]).catch((error) => error);
  expect(stdout).toBe('');
});

test('it holds JavaScript and declarations of the client and what it shares, its README and licence', async () => {
  const entries = await readdir(installed, { recursive: true, withFileTypes: true });
  const files = entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(installed.length + 1));
  for (const file of files) {
    expect(file).toMatch(/^((client|shared)\/[\w/-]+(\.js|\.d\.ts)|package\.json|README\.md|LICENSE)$/);
    if (file.endsWith('.js')) {
      expect(await readFile(join(installed, file), 'utf8')).not.toMatch(/from '\.[^']*\.ts'/);
    }
  }
  expect(files).toEqual(
    expect.arrayContaining(['README.md', 'LICENSE', 'client/index.js', 'client/index.d.ts']),
  );
  const readme = await readFile(join(installed, 'README.md'), 'utf8');
  expect(readme).not.toMatch(/\]\(\.\.\//);
});
