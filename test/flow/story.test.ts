import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect } from '../../client/connect.ts';
import type { VerifiedEnclave } from '../../client/verified-enclave.ts';
import { unixLink } from '../../link/unix.ts';
import { enclaveControl } from '../../parent/control.ts';
import { releaseDeployment } from '../../review/releases.ts';
import { reviewTrail } from '../../review/trail/read.ts';
import { prepareRelease, type Release } from '../../scripts/local/release.ts';
import { predictIris } from '../../scripts/model/iris.ts';
import { pcrOfMeasuredBytes, pcrOfText } from '../../shared/pcr.ts';
import { BOOT_STEPS } from '../../shared/telemetry.ts';
import { ROLES } from '../../simulator/account.ts';
import type { LocalInstance } from '../../simulator/local-instance.ts';
import type { LocalStack } from '../../simulator/local-stack.ts';
import {
  childrenOf,
  decryptCount,
  flowers,
  hex,
  isAlive,
  MODEL,
  network,
  onnx,
  processesOf,
  recordsOf,
  socketsBelow,
  startStack,
} from './support.ts';

let stack: LocalStack;
let release: Release;
let instance: LocalInstance;
let enclave: VerifiedEnclave;
let pcrs: { readonly 0: string; readonly 3: string; readonly 16: string };
const steps: string[] = [];
const inShm = readdirSync('/dev/shm');

beforeAll(async () => {
  stack = await startStack();
  release = await prepareRelease(stack, { name: MODEL, version: 7, onnx });
  pcrs = {
    0: hex(stack.measurements.pcr0),
    3: hex(pcrOfText(ROLES.host)),
    16: hex(pcrOfMeasuredBytes(release.deployment)),
  };
  const { deployment, modelsFolder } = release;
  instance = await stack.startInstance({ deployment, modelsFolder, onStep: (step) => void steps.push(step) });
  await instance.serving;
  enclave = await connectNow();
}, 120_000);
afterAll(async () => {
  await enclave?.close();
  await stack?.close();
});

const connectNow = (): Promise<VerifiedEnclave> =>
  connect(instance.url, {
    pcrs,
    models: [{ name: MODEL, minimumVersion: 7, contentId: release.sealed.manifest.contentId }],
    simulationRoot: stack.attestationRoot,
  });

const INFER = `/v2/models/${MODEL}/infer`;
const measurements = flowers[77]?.measurements ?? [];
const input = (change: object = {}): object => ({
  name: 'measurements',
  datatype: 'FP32',
  shape: [1, 4],
  data: measurements,
  ...change,
});
const ask = (body: unknown, headers: Record<string, string> = {}, path = INFER): Promise<Response> =>
  enclave.fetch(path, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' || body instanceof Uint8Array ? (body as string) : JSON.stringify(body),
  });
const expectProbabilities = (found: readonly number[]): void => {
  const expected = predictIris(network, measurements);
  expect(found).toHaveLength(expected.length);
  for (const [index, value] of expected.entries()) expect(found[index]).toBeCloseTo(value, 4);
};

describe('the boot', () => {
  it('goes through every step in its order', () => {
    expect(steps).toEqual([...BOOT_STEPS]);
  });

  it('says nothing on its console', () => {
    expect(instance.console).toBe('');
  });

  it('asks KMS once, and KMS records to which image it gave the key', () => {
    const [record, ...more] = recordsOf(stack, 'Decrypt');
    expect(more).toEqual([]);
    expect(record).toMatchObject({
      eventSource: 'kms.amazonaws.com',
      userIdentity: { type: 'AssumedRole', sessionContext: { sessionIssuer: { arn: ROLES.host } } },
      requestParameters: {
        keyId: release.keyArn,
        encryptionContext: release.sealed.encryptionContext,
        encryptionAlgorithm: 'SYMMETRIC_DEFAULT',
      },
      responseElements: null,
      additionalEventData: {
        recipient: {
          attestationDocumentModuleId: instance.enclave.moduleId,
          attestationDocumentEnclaveImageDigest: Buffer.from(stack.measurements.pcr0).toString('base64'),
          attestationDocumentEnclavePCR3: Buffer.from(pcrs[3], 'hex').toString('base64'),
        },
      },
      resources: [{ ARN: release.keyArn }],
      tlsDetails: { tlsVersion: 'TLSv1.3', clientProvidedHostHeader: stack.kms.host },
      strongroom: { outcome: 'answered' },
    });
    expect(record.errorCode).toBeUndefined();
  });
});

describe('the evidence', () => {
  it('says that this is a simulation', () => {
    expect(enclave.evidence.trust).toBe('simulation');
  });

  it('shows the image, the role, the instance and the deployment in the registers', () => {
    const { evidence } = enclave;
    const { pcr0, pcr1, pcr2 } = stack.measurements;
    expect([evidence.pcrs[0], evidence.pcrs[1], evidence.pcrs[2]]).toEqual([pcr0, pcr1, pcr2].map(hex));
    expect(evidence.pcrs[3]).toBe(pcrs[3]);
    expect(evidence.pcrs[4]).toBe(hex(pcrOfText(stack.instanceId)));
    expect(evidence.pcrs[16]).toBe(pcrs[16]);
    expect(Object.keys(evidence.pcrs)).toHaveLength(32);
    expect(evidence.moduleId).toBe(instance.enclave.moduleId);
  });

  it('names the deployment by its digest and the model by name, version, manifest and content id', () => {
    const { folder, manifest } = release.sealed;
    const digest = createHash('sha256').update(readFileSync(join(folder, 'manifest.json')));
    expect(enclave.evidence.deploymentSha384).toBe(
      createHash('sha384').update(release.deployment).digest('hex'),
    );
    expect(enclave.evidence.models).toEqual([
      { name: MODEL, version: 7, manifestSha256: digest.digest('hex'), contentId: manifest.contentId },
    ]);
    expect(manifest.contentId).toBe(
      createHash('sha256')
        .update(readFileSync(join(folder, 'head')))
        .digest('hex'),
    );
  });

  it('is new for every connection, of the same enclave with the same certificate', async () => {
    await using other = await connectNow();
    expect(hex(other.evidence.document)).not.toBe(hex(enclave.evidence.document));
    expect(other.evidence.certificateSpkiSha256).toBe(enclave.evidence.certificateSpkiSha256);
  });
});

describe('asking', () => {
  it('answers JSON with the probabilities of the network that was trained', async () => {
    const response = await ask({ id: 'a flower', inputs: [input()] });
    expect(response.status).toBe(200);
    const answer = (await response.json()) as { outputs: { name: string; data: number[] }[] };
    expect(answer).toMatchObject({ id: 'a flower', model_name: MODEL, model_version: '7' });
    expectProbabilities(answer.outputs[0]?.data ?? []);
  });

  it('answers binary tensors, in and out', async () => {
    const tensor = new Uint8Array(Float32Array.from(measurements).buffer);
    const header = Buffer.from(
      JSON.stringify({
        parameters: { binary_data_output: true },
        inputs: [
          {
            name: 'measurements',
            datatype: 'FP32',
            shape: [1, 4],
            parameters: { binary_data_size: tensor.length },
          },
        ],
      }),
    );
    const response = await ask(Buffer.concat([header, tensor]), {
      'content-type': 'application/octet-stream',
      'inference-header-content-length': String(header.length),
    });
    expect(response.status).toBe(200);
    const body = Buffer.from(await response.arrayBuffer());
    const jsonLength = Number(response.headers.get('inference-header-content-length'));
    const { outputs } = JSON.parse(body.subarray(0, jsonLength).toString()) as {
      outputs: { parameters: { binary_data_size: number } }[];
    };
    expect(outputs[0]?.parameters.binary_data_size).toBe(body.length - jsonLength);
    expectProbabilities([...new Float32Array(Uint8Array.from(body.subarray(jsonLength)).buffer)]);
  });

  it('answers a raw binary request', async () => {
    const response = await ask(new Uint8Array(Float32Array.from(measurements).buffer), {
      'content-type': 'application/octet-stream',
      'inference-header-content-length': '0',
    });
    expect(response.status).toBe(200);
    expectProbabilities([
      ...new Float32Array(
        Uint8Array.from(
          Buffer.from(await response.arrayBuffer()).subarray(
            Number(response.headers.get('inference-header-content-length')),
          ),
        ).buffer,
      ),
    ]);
  });

  it('answers what it holds: health, server, model', async () => {
    expect(await (await enclave.fetch('/v2/health/ready')).json()).toEqual({ ready: true });
    expect(await (await enclave.fetch('/v2')).json()).toMatchObject({ extensions: expect.any(Array) });
    expect(await (await enclave.fetch(`/v2/models/${MODEL}`)).json()).toMatchObject({
      name: MODEL,
      inputs: [{ name: 'measurements', datatype: 'FP32', shape: [-1, 4] }],
    });
  });
});

describe('bad input to the live enclave', () => {
  const JSON_BODY = { 'content-type': 'application/json' };
  const cases: readonly [string, number, string, () => Promise<Response>][] = [
    ['no JSON', 400, 'body', () => ask('{"inputs":')],
    ['no inputs', 400, 'inputs', () => ask({})],
    ['an unknown input', 400, 'inputs[0].name', () => ask({ inputs: [input({ name: 'petals' })] })],
    ['another datatype', 400, 'inputs[0].datatype', () => ask({ inputs: [input({ datatype: 'INT64' })] })],
    ['another shape', 400, 'inputs[0].shape', () => ask({ inputs: [input({ shape: [2, 2] })] })],
    ['too few numbers', 400, 'inputs[0].data', () => ask({ inputs: [input({ data: [1, 2, 3] })] })],
    ['words for numbers', 400, 'inputs[0].data', () => ask({ inputs: [input({ data: ['a', 1, 2, 3] })] })],
    ['the same input twice', 400, 'inputs[1]', () => ask({ inputs: [input(), input()] })],
    ['an unknown output', 400, 'outputs[0]', () => ask({ inputs: [input()], outputs: [{ name: 'x' }] })],
    ['an unknown parameter', 400, 'parameters', () => ask({ inputs: [input()], parameters: { top_k: 1 } })],
    ['an unknown model', 404, '', () => ask({ inputs: [input()] }, {}, '/v2/models/roses/infer')],
    [
      'an unknown version',
      404,
      '',
      () => ask({ inputs: [input()] }, {}, `/v2/models/${MODEL}/versions/6/infer`),
    ],
    ['an unknown path', 404, 'path', () => enclave.fetch('/v2/secrets')],
    ['another method', 405, 'method', () => enclave.fetch(INFER)],
    [
      'another content type',
      415,
      '',
      () => ask('a=1', { 'content-type': 'application/x-www-form-urlencoded' }),
    ],
    ['a compressed body', 415, '', () => ask('{}', { ...JSON_BODY, 'content-encoding': 'gzip' })],
    ['more than the deployment allows', 413, '', () => ask(new Uint8Array(4 * 1024 * 1024 + 1))],
    [
      'a header length beyond the body',
      400,
      'Inference-Header-Content-Length',
      () => ask('{}', { 'content-type': 'application/octet-stream', 'inference-header-content-length': '9' }),
    ],
    ['a wrong nonce', 400, '', () => enclave.fetch('/attestation?nonce=short')],
  ];

  it.each(cases)('%s is told %i and what is wrong', async (_what, status, field, send) => {
    const response = await send();
    const { error } = (await response.json()) as { error: string };
    expect(response.status).toBe(status);
    expect(error).toContain(field);
  });

  it('leaves it serving, with the engine that it started with', async () => {
    const engines = childrenOf(instance.enclave.process.pid);
    for (const [, , , send] of cases.slice(0, 8)) await (await send()).arrayBuffer();
    expect((await ask({ inputs: [input()] })).status).toBe(200);
    expect(childrenOf(instance.enclave.process.pid)).toEqual(engines);
    expect(instance.console).toBe('');
  });
});

describe('the processes', () => {
  it('are four, and none is this one: KMS, parent, enclave, and the engine under the enclave', () => {
    const engines = childrenOf(instance.enclave.process.pid);
    expect(engines).toHaveLength(1);
    const pids = [stack.kmsPid, instance.parentPid, instance.enclave.process.pid, ...engines];
    expect(new Set([...pids, process.pid]).size).toBe(5);
    expect(pids.every(isAlive)).toBe(true);
  });

  it.runIf(process.getuid?.() === 0)('give the engine a uid of its own', () => {
    const [engine] = childrenOf(instance.enclave.process.pid);
    expect(statSync(`/proc/${engine}`).uid).not.toBe(0);
  });

  it.runIf(process.getuid?.() === 0)('leave enclave and engine without any network socket', () => {
    const network = ['tcp', 'tcp6', 'udp', 'udp6'].flatMap((table) =>
      readFileSync(`/proc/net/${table}`, 'latin1')
        .split('\n')
        .map((line) => line.trim().split(/\s+/)[9]),
    );
    const socketsOf = (pid: number): string[] =>
      readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
        try {
          return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1] ?? [];
        } catch {
          return [];
        }
      });
    const inNetwork = (pid: number): number =>
      socketsOf(pid).filter((inode) => network.includes(inode)).length;
    const { pid } = instance.enclave.process;
    expect(inNetwork(instance.parentPid)).toBeGreaterThan(0);
    expect(socketsOf(pid).length).toBeGreaterThan(0);
    for (const inside of [pid, ...childrenOf(pid)]) expect(inNetwork(inside)).toBe(0);
  });
});

describe('the trail of KMS', () => {
  const expectations = (name: string, pcr0: string) => ({
    keys: [release.keyArn],
    releases: [
      {
        name: 'strongroom',
        version: name,
        pcrs: { 0: pcr0, 1: hex(stack.measurements.pcr1), 2: hex(stack.measurements.pcr2) },
        deployments: [releaseDeployment(release.deployment)],
      },
    ],
    hostRoleArns: [ROLES.host],
    sealerArns: [ROLES.owner],
    administratorArns: [ROLES.administrator],
  });

  it('shows a reviewer that the key was used by this image alone, and that the policy was put', async () => {
    const report = await reviewTrail([stack.auditLog], expectations('this', pcrs[0]), { failOn: 'high' });
    expect(report).toMatchObject({ verdict: 'CLEAN', unreadable: [], notSupplied: [] });
    expect(report.uses).toContainEqual(
      expect.objectContaining({ action: 'Decrypt', principal: ROLES.host, image: 'strongroom this' }),
    );
    expect(report.findings.map(({ code }) => code)).toEqual(['policy-admin']);
  });

  it('shows another reviewer, who knows another image, that it was not theirs', async () => {
    const report = await reviewTrail([stack.auditLog], expectations('other', 'ab'.repeat(48)), {
      failOn: 'high',
    });
    expect(report.findings[0]).toMatchObject({
      code: 'unknown-image',
      severity: 'critical',
      detail: `PCR0 ${pcrs[0]}`,
    });
  });
});

describe('the end', () => {
  const control = () =>
    enclaveControl(
      unixLink({ dial: join(instance.folder, 'enclave'), listen: join(instance.folder, 'parent') }),
    );

  it('drains when its parent says so: open connections end, new ones find nobody, it lives on', async () => {
    const before = decryptCount(stack);
    const parent = control();
    expect(await parent.live()).toBe(true);
    await parent.drain();
    await expect(connectNow()).rejects.toMatchObject({ code: expect.stringMatching(/^CLIENT_/) });
    await expect(ask({ inputs: [input()] })).rejects.toThrow();
    expect(await parent.live()).toBe(true);
    parent.close();
    expect(isAlive(instance.enclave.process.pid)).toBe(true);
    expect(decryptCount(stack)).toBe(before);
  });

  it('takes the parent down on SIGTERM, by itself', async () => {
    process.kill(instance.parentPid, 'SIGTERM');
    await expect.poll(() => isAlive(instance.parentPid), { timeout: 10_000 }).toBe(false);
  });

  it('leaves no process, folder, socket or file in memory behind', async () => {
    const { folder } = stack;
    const { pid } = instance.enclave.process;
    const pids = [stack.kmsPid, instance.parentPid, pid, ...childrenOf(pid)];
    expect(processesOf(folder).length).toBeGreaterThan(0);
    expect(socketsBelow(folder).length).toBeGreaterThan(0);
    await enclave.close();
    await stack.close();
    expect(pids.filter(isAlive)).toEqual([]);
    expect(processesOf(folder)).toEqual([]);
    expect(existsSync(folder)).toBe(false);
    expect(socketsBelow(folder)).toEqual([]);
    await expect
      .poll(() => readdirSync('/dev/shm').filter((name) => !inShm.includes(name)), { timeout: 10_000 })
      .toEqual([]);
  });

  it('is final: a closed stack starts nothing, and closing it again does nothing', async () => {
    const { deployment, modelsFolder } = release;
    await expect(stack.startInstance({ deployment, modelsFolder })).rejects.toThrow('closed');
    await stack.close();
    expect(existsSync(stack.folder)).toBe(false);
  });
});
