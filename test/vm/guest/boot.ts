/**
 * The complete boot, on /dev/nsm and AF_VSOCK, up to a verified answer. Measured copy, hypervisor and KMS are
 * those of a local stack; the device forwards to the hypervisor's NSM.
 */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { connect } from '../../../client/connect.ts';
import { BOOT_STEPS } from '../../../enclave/platform.ts';
import { PARENT_CONFIG_FORMAT } from '../../../parent/config/config.ts';
import { prepareRelease, type Release } from '../../../scripts/local/release.ts';
import { predictIris, readFlowers, splitFlowers, trainIris } from '../../../scripts/model/iris.ts';
import { encodeIrisModel } from '../../../scripts/model/iris-onnx.ts';
import { pcrOfMeasuredBytes, pcrOfText } from '../../../shared/pcr.ts';
import { REGION, ROLES, type RoleName } from '../../../simulator/account.ts';
import { type SimulatedEnclave, SimulatedInstance } from '../../../simulator/hypervisor.ts';
import { layOutSimulatedImage, measureSimulatedImage } from '../../../simulator/image.ts';
import type { LocalStack } from '../../../simulator/local-stack.ts';
import { createSimulatedCa } from '../../../simulator/nsm/ca.ts';
import { newInstanceId } from '../../../simulator/nsm/identity.ts';
import { check } from './check.ts';
import { Helper } from './helper.ts';
import { type Kms, startKms } from './kms.ts';
import { deviceAppears } from './nsm.ts';

const PROJECT = join(import.meta.dirname, '..', '..', '..');
const FOLDER = '/tmp/run';
const IMAGE = join(FOLDER, 'image');
const MODEL = 'iris';
const ENGINE_UID = '65533';
/** Without hardware help this machine is about twenty times slower than the ones behind it. */
const PATIENCE_MS = 60_000;

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

export async function checkBoot(): Promise<void> {
  const network = trainIris(splitFlowers(readFlowers()).training);
  mkdirSync(FOLDER, { mode: 0o711 });
  await layOutSimulatedImage(PROJECT, IMAGE, 'test/vm/guest/enclave.ts');
  const ca = await createSimulatedCa({ region: REGION, now: new Date() });
  const instanceId = newInstanceId();
  const kms = await startKms(FOLDER, instanceId, ca.rootPem);
  const stack = {
    folder: FOLDER,
    kms: kms.endpoint,
    measurements: await measureSimulatedImage(IMAGE),
    credentials: (role: RoleName) => kms.credentials[role],
  } as unknown as LocalStack; // as much of one as a release needs
  const release = await prepareRelease(stack, { name: MODEL, version: 7, onnx: encodeIrisModel(network) });

  const instance = new SimulatedInstance({
    folder: join(FOLDER, 'instance'),
    ca,
    roleArn: ROLES.host,
    instanceId,
    now: () => new Date(),
  });
  instance.provide('kms-root.pem', kms.endpoint.caCertificatePem);
  const device = (await Helper.start('nsm-device.ts', { socket: join(instance.folder, 'nsm.sock') })).helper;
  await deviceAppears();
  const parent = await Helper.start('parent.ts', { configPath: parentConfig(instance.folder, kms, release) });

  const steps: string[] = [];
  const serving = Promise.withResolvers<void>();
  const enclaveConsole = new PassThrough();
  let said = '';
  enclaveConsole.on('data', (text: Buffer) => {
    said += text.toString();
  });
  let enclave: SimulatedEnclave | undefined;
  await check('boot: the closure of enclave/main.ts boots on /dev/nsm and AF_VSOCK', async () => {
    enclave = await instance.runEnclave({
      image: IMAGE,
      stdout: enclaveConsole,
      stderr: enclaveConsole,
      onStep: async (step) => {
        steps.push(step);
        if (step === 'serving') serving.resolve();
      },
    });
    const stopped = enclave.process.exited.then(() => Promise.reject(new Error(`it stopped: ${said}`)));
    await Promise.race([serving.promise, stopped]);
    assert.deepEqual(steps, [...BOOT_STEPS]);
    assert.equal(said, '');
    return steps.join(', ');
  });
  if (enclave !== undefined) {
    const { pid } = enclave.process;
    await check('boot: a caller verifies the enclave and gets the model’s answer', async () => {
      const { port } = parent.ready as { port: number };
      const pcrs = {
        0: hex(stack.measurements.pcr0),
        3: hex(pcrOfText(ROLES.host)),
        16: hex(pcrOfMeasuredBytes(release.deployment)),
      };
      const models = [{ name: MODEL, minimumVersion: 7, contentId: release.sealed.manifest.contentId }];
      const expectations = { pcrs, models, simulationRoot: ca.rootPem };
      const verified = await connect(`https://127.0.0.1:${port}`, expectations, { timeoutMs: PATIENCE_MS });
      const measurements = [5.1, 3.5, 1.4, 0.2];
      const response = await verified.fetch(`/v2/models/${MODEL}/infer`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({
          inputs: [{ name: 'measurements', datatype: 'FP32', shape: [1, 4], data: measurements }],
        }),
      });
      assert.equal(response.status, 200);
      const { outputs } = (await response.json()) as { outputs: { data: number[] }[] };
      const found = outputs.map(({ data }) => data).find((data) => data.length === 3) ?? [];
      for (const [index, expected] of predictIris(network, measurements).entries()) {
        assert.ok(Math.abs((found[index] ?? Number.NaN) - expected) < 1e-4, `${found} at ${index}`);
      }
      await verified.close();
      return `probabilities ${found.map((value) => value.toFixed(4)).join(', ')}`;
    });
    await check('boot: the engine is confined, on every thread, and the device is closed to it', async () =>
      confinement(pid),
    );
    await check('boot: a process that is started again in the same enclave does not boot', async () => {
      enclave?.process.kill();
      await enclave?.process.exited;
      const { code } = (await enclave?.startAgain().exited) ?? {};
      assert.equal(code, 1);
      return said.trim();
    });
  }
  await parent.helper.kill();
  await instance.close();
  await device.kill();
  await kms.stop();
}

function parentConfig(folder: string, { endpoint, credentials }: Kms, release: Release): string {
  writeFileSync(join(folder, 'credentials.json'), JSON.stringify(credentials.host), { mode: 0o600 });
  writeFileSync(join(folder, 'deployment.json'), release.deployment);
  const path = join(folder, 'parent.json');
  const config = {
    format: PARENT_CONFIG_FORMAT,
    // On Nitro; this parent is given its own link, because 1 is refused for an enclave.
    link: { kind: 'vsock', enclaveCid: 4 },
    ingress: { host: '127.0.0.1', port: 0 },
    egress: [{ host: endpoint.host, port: 443, override: { address: '127.0.0.1', port: endpoint.port } }],
    deployment: 'deployment.json',
    models: { kind: 'folder', path: release.modelsFolder },
    credentials: { kind: 'file', path: 'credentials.json' },
  };
  writeFileSync(path, JSON.stringify(config));
  return path;
}

function confinement(enclavePid: number): string {
  const engines = readdirSync('/proc').filter(
    (name) => /^\d+$/.test(name) && statusOf(`/proc/${name}`).get('PPid') === String(enclavePid),
  );
  assert.equal(engines.length, 1, 'the enclave has one child');
  const threads = readdirSync(`/proc/${engines[0]}/task`);
  for (const thread of threads) {
    const status = statusOf(`/proc/${engines[0]}/task/${thread}`);
    assert.equal(status.get('Seccomp'), '2');
    assert.equal(status.get('NoNewPrivs'), '1');
    assert.deepEqual(new Set(status.get('Uid')?.split('\t')), new Set([ENGINE_UID]));
    assert.match(status.get('CapEff') ?? '', /^0+$/);
  }
  const device = statSync('/dev/nsm');
  assert.deepEqual([device.uid, device.mode & 0o777], [0, 0o600]);
  return `${threads.length} threads of uid ${ENGINE_UID}, each with a seccomp filter and no privileges`;
}

/** proc_pid_status(5); empty for a process that has ended. */
function statusOf(folder: string): ReadonlyMap<string, string> {
  try {
    const lines = readFileSync(join(folder, 'status'), 'latin1').split('\n');
    return new Map(
      lines.map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf('\t') + 1)]),
    );
  } catch {
    return new Map();
  }
}
