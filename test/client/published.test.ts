/** What is published is JavaScript that tsc makes: it must run where Node strips no types and loads no native code. */
import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startTestEnclave, type TestEnclave } from './test-enclave.ts';

const run = promisify(execFile);
const ROOT = join(import.meta.dirname, '..', '..');

let folder: string;
let enclave: TestEnclave;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'client-build-'));
  const tsc = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc');
  await run(process.execPath, [tsc, '-p', join(ROOT, 'client', 'tsconfig.build.json'), '--outDir', folder]);
  await writeFile(join(folder, 'package.json'), '{"type":"module"}');
  await symlink(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
  enclave = await startTestEnclave({
    handler: (request, response, body) => {
      const { inputs } = JSON.parse(body) as { inputs: unknown };
      response
        .setHeader('content-type', 'application/json')
        .end(JSON.stringify({ outputs: [request.url, inputs] }));
    },
  });
});
afterAll(async () => {
  enclave.close();
  await rm(folder, { recursive: true });
});

/** Runs a script beside the built client, with native code made impossible. */
async function runBuilt(script: string): Promise<string> {
  const path = join(folder, 'script.js');
  const noNativeCode = `process.dlopen = () => { throw new Error('native code was loaded'); };\n`;
  await writeFile(join(folder, 'no-native.cjs'), noNativeCode);
  await writeFile(path, script.replace("'@strongroom/client'", "'./client/index.js'"));
  const flags = ['--no-experimental-strip-types', '--require', './no-native.cjs'];
  return (await run(process.execPath, [...flags, path], { cwd: folder })).stdout;
}

async function writeExpectations(): Promise<void> {
  const { pcrs, simulationRoot } = enclave.expectations;
  await writeFile(join(folder, 'root.pem'), simulationRoot as string);
  const file = { format: 'strongroom-expectations/1', pcrs, simulationRoot: 'root.pem' };
  await writeFile(join(folder, 'expectations.json'), JSON.stringify(file));
}

test('the example of the README runs, built, against an enclave', async () => {
  await writeExpectations();
  const readme = await readFile(join(ROOT, 'client', 'README.md'), 'utf8');
  const [, example = ''] = /```js\n([\s\S]*?)```/.exec(readme) ?? [];
  const output = await runBuilt(example.replace('https://enclave.example.org:8443', enclave.url));
  expect(output).toMatch(/^simulation \[/);
  expect(output).toContain('/v2/models/iris/infer');
  expect(enclave.requests).toEqual(['GET /attestation', 'POST /v2/models/iris/infer']);
});

test('the built client refuses with the same codes', async () => {
  const output = await runBuilt(`
    import { ClientError, connect } from '@strongroom/client';
    await connect('${enclave.url}', { pcrs: { 0: 'any' } }).catch((error) => {
      console.log(error instanceof ClientError, error.name, error.code);
    });
    await connect('${enclave.url}', { pcrs: { 0: 'any', 16: 'any' } }).catch((error) => console.log(error.code));
  `);
  expect(output).toBe('true ClientError CLIENT_EXPECTATIONS\nATTESTATION_UNTRUSTED_ROOT\n');
});

test('nothing in the build reaches for TypeScript files or other parts of the tree', async () => {
  const files = await readdir(folder, { recursive: true });
  const scripts = files.filter((file) => file.endsWith('.js') && !file.startsWith('node_modules'));
  expect(new Set(scripts.map((file) => file.split('/')[0]))).toEqual(
    new Set(['client', 'shared', 'script.js']),
  );
  for (const file of scripts) {
    expect(await readFile(join(folder, file), 'utf8')).not.toMatch(/from '\.[^']*\.ts'/);
  }
});
