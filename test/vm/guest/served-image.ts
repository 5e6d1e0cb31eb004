/** The image with the stand-in entry: the complete boot, and a caller who verifies it by what the file measures. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { connect } from '../../../client/connect.ts';
import { pcrOfMeasuredBytes } from '../../../shared/pcr.ts';
import { BOOT_STEPS } from '../../../shared/telemetry.ts';
import { check } from './check.ts';
import { MODEL, type Outside } from './outside.ts';

const ENTRY_IN_IMAGE = '/app/test/vm/guest/enclave.ts';
const ENGINE_UID = '65533';
const PATIENCE_MS = 60_000;

export async function checkServedImage(outside: Outside, ended: Promise<number>): Promise<void> {
  await check('stand-in image: it boots to the end on /dev/nsm and AF_VSOCK', async () => {
    const early = ended.then((code) => assert.fail(`it ended with ${code}`));
    await Promise.race([outside.events.until(({ step }) => step === 'serving'), early]);
    // The first one comes before there is anybody to tell.
    assert.deepEqual(outside.events.steps(), BOOT_STEPS.slice(1));
    assert.equal(outside.kmsRecords().filter((name) => name === 'Decrypt').length, 1);
    return outside.events.steps().join(', ');
  });
  await check('stand-in image: a caller verifies it by “image measure” and gets the model’s answer', () =>
    inference(outside),
  );
  await check('stand-in image: the engine is confined, on every thread, and the device is closed to it', () =>
    confinement(enclavePid()),
  );
  await check('stand-in image: a second process in the same enclave does not boot', () =>
    again(enclavePid()),
  );
  await check('stand-in image: init ends with its command', async () => {
    process.kill(Number(enclavePid()), 'SIGTERM');
    return `exit code ${await ended}`;
  });
}

async function inference({ parentPort, model, pcrs, ...outside }: Outside): Promise<string> {
  const pcr16 = Buffer.from(pcrOfMeasuredBytes(outside.deployment)).toString('hex');
  const expectations = {
    pcrs: { ...pcrs, 16: pcr16 },
    models: [{ name: MODEL.name, minimumVersion: MODEL.version, contentId: outside.contentId }],
    simulationRoot: outside.rootPem,
  };
  const verified = await connect(`https://127.0.0.1:${parentPort}`, expectations, { timeoutMs: PATIENCE_MS });
  const { measurements, probabilities } = model;
  const response = await verified.fetch(`/v2/models/${MODEL.name}/infer`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      inputs: [{ name: 'measurements', datatype: 'FP32', shape: [1, 4], data: measurements }],
    }),
  });
  assert.equal(response.status, 200);
  const { outputs } = (await response.json()) as { outputs: { data: number[] }[] };
  const found = outputs.map(({ data }) => data).find((data) => data.length === 3) ?? [];
  for (const [index, expected] of probabilities.entries()) {
    assert.ok(Math.abs((found[index] ?? Number.NaN) - expected) < 1e-4, `${found} at ${index}`);
  }
  await verified.close();
  return `PCR0 ${pcrs[0].slice(0, 16)}…; probabilities ${found.map((value) => value.toFixed(4)).join(', ')}`;
}

async function confinement(pid: string): Promise<string> {
  const engines = processes().filter((id) => statusOf(`/proc/${id}`).get('PPid') === pid);
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

/** The same command in the same environment and root, while the first one serves. */
async function again(pid: string): Promise<string> {
  const [command = '', ...flags] = listOf(`/proc/${pid}/cmdline`);
  const environment = listOf(`/proc/${pid}/environ`).map((line) => line.split(/=(.*)/s).slice(0, 2));
  const child = spawn('/bin/busybox', ['chroot', `/proc/${pid}/root`, command, ...flags], {
    env: Object.fromEntries(environment),
    stdio: ['ignore', 'inherit', 'pipe'],
  });
  let said = '';
  child.stderr.on('data', (text: Buffer) => {
    said += text.toString();
  });
  const [code] = (await once(child, 'close')) as [number];
  assert.equal(code, 1, said);
  assert.match(said, /BOOT_ALREADY_MEASURED/);
  return 'BOOT_ALREADY_MEASURED';
}

function enclavePid(): string {
  const pid = processes().find((id) => listOf(`/proc/${id}/cmdline`).at(-1) === ENTRY_IN_IMAGE);
  return pid ?? assert.fail('the enclave does not run');
}

function processes(): string[] {
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name));
}

/** A list of strings, each with a NUL at its end; empty for a process that has ended. */
function listOf(path: string): string[] {
  try {
    return readFileSync(path, 'utf8').split('\0').slice(0, -1);
  } catch {
    return [];
  }
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
