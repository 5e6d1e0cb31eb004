/** Receipts on the local stack: from an enclave in a process of its own, with the client, and with curl through the proxy. */
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import {
  type ClientExpectations,
  connect,
  receiptOf,
  VerifiedAgent,
  withReceipts,
} from '../../client/index.ts';
import { prepareRelease } from '../../scripts/local/release.ts';
import { VerifyingProxy } from '../../scripts/proxy/proxy.ts';
import { ProxyStatus } from '../../scripts/proxy/status.ts';
import { main } from '../../scripts/strongroom.ts';
import { pcrOfMeasuredBytes } from '../../shared/pcr.ts';
import type { LocalInstance } from '../../simulator/local-instance.ts';
import type { LocalStack } from '../../simulator/local-stack.ts';
import { hex, MODEL, onnx, startStack } from './support.ts';

const run = promisify(execFile);
const PATH = `/v2/models/${MODEL}/infer`;
const QUESTION =
  '{"inputs":[{"name":"measurements","datatype":"FP32","shape":[1,4],"data":[5.1,3.5,1.4,0.2]}]}';

let stack: LocalStack;
let instance: LocalInstance;
let expectations: ClientExpectations;
let folder: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'receipts-'));
  stack = await startStack();
  const { deployment, modelsFolder } = await prepareRelease(stack, { name: MODEL, version: 7, onnx });
  instance = await stack.startInstance({ deployment, modelsFolder });
  await instance.serving;
  const pcrs = { 0: hex(stack.measurements.pcr0), 16: hex(pcrOfMeasuredBytes(deployment)) };
  expectations = { pcrs, models: [{ name: MODEL }], simulationRoot: stack.attestationRoot };
  writeFileSync(join(folder, 'root.pem'), stack.attestationRoot);
  const file = {
    format: 'strongroom-expectations/1',
    pcrs,
    models: [{ name: MODEL }],
    simulationRoot: 'root.pem',
  };
  writeFileSync(join(folder, 'expectations.json'), JSON.stringify(file));
  writeFileSync(join(folder, 'request.json'), QUESTION);
}, 120_000);
afterAll(async () => {
  await stack?.close();
  rmSync(folder, { recursive: true, force: true });
});

const path = (name: string) => join(folder, name);

async function receiptVerify(...args: string[]) {
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()];
  const exit = await main(['receipt', 'verify', ...args, '--json'], {
    stdin,
    stdout,
    stderr,
    signal: new AbortController().signal,
  });
  return { exit, ...JSON.parse(String(stdout.read())) };
}

it('the client has a receipt of the answer, which the command verifies by itself', async () => {
  await using enclave = await connect(instance.url, expectations);
  const response = await withReceipts(enclave, expectations)(PATH, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: QUESTION,
  });
  const answer = Buffer.from(await response.arrayBuffer());
  const { receipt, salt, trust, model, sequence } = await receiptOf(response);
  expect({ trust, sequence, name: model.name, version: model.version }).toEqual({
    trust: 'simulation',
    sequence: 1,
    name: MODEL,
    version: 7,
  });
  writeFileSync(path('receipt'), receipt);
  writeFileSync(path('salt'), Buffer.from(salt).toString('base64url'));
  writeFileSync(path('answer.json'), answer);
  const args = [path('receipt'), '--expect', path('expectations.json'), '--salt', path('salt')];
  const exchange = ['--request', path('request.json'), '--path', PATH, '--answer', path('answer.json')];
  expect(await receiptVerify(...args, ...exchange)).toMatchObject({
    exit: 0,
    verified: true,
    trust: 'simulation',
  });
  writeFileSync(path('other.json'), answer.subarray(1));
  expect(await receiptVerify(...args, '--answer', path('other.json'))).toMatchObject({
    exit: 1,
    code: 'RECEIPT_OTHER_ANSWER',
  });
}, 60_000);

it('curl has one through the verifying proxy', async () => {
  const status = new ProxyStatus(instance.url, expectations, 3_600_000, () => new Date());
  const agent = new VerifiedAgent(instance.url, expectations, {
    onVerified: (evidence) => status.verified(evidence),
  });
  const failures: unknown[] = [];
  const proxy = await VerifyingProxy.start({
    agent,
    status,
    port: 0,
    onFailure: (error) => failures.push(error),
  });
  const { url } = proxy;
  try {
    await run('curl', [
      ...['--silent', '--show-error', '-D', path('curl.head'), '-o', path('curl.json')],
      ...['-H', 'Strongroom-Receipt: 1', '-H', 'Content-Type: application/json'],
      ...['--data-binary', `@${path('request.json')}`, `${url}${PATH}`],
    ]);
  } finally {
    await proxy.close(1000);
  }
  expect(failures).toEqual([]);
  expect(readFileSync(path('curl.json'), 'utf8')).toContain('"outputs"');
  const args = [path('curl.head'), '--expect', path('expectations.json'), '--request', path('request.json')];
  const exchange = ['--path', PATH, '--answer', path('curl.json')];
  expect(await receiptVerify(...args, ...exchange)).toMatchObject({
    exit: 0,
    verified: true,
    trust: 'simulation',
  });
}, 60_000);
