import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ENCLAVE_ENVIRONMENT } from '../../enclave/start-guard.ts';
import { decodeCbor } from '../../shared/cbor.ts';
import { pcrOfText } from '../../shared/pcr.ts';
import { type RunEnclaveOptions, SimulatedInstance } from '../../simulator/hypervisor.ts';
import { layOutSimulatedImage, measureSimulatedImage } from '../../simulator/image.ts';
import { createSimulatedCa, type SimulatedCa } from '../../simulator/nsm/ca.ts';
import { removeTree } from '../../simulator/run-folder.ts';
import { eventually } from '../support/eventually.ts';
import { enclaveProject, PROGRAM, type Project } from './project.ts';

const ROLE = 'arn:aws:iam::123456789012:role/host';

let base: string;
let image: string;
let project: Project;
let ca: SimulatedCa;
let instance: SimulatedInstance;
let output: PassThrough;

beforeAll(async () => {
  base = mkdtempSync(join(tmpdir(), 'strongroom-hypervisor-'));
  project = enclaveProject();
  image = join(base, 'image');
  await layOutSimulatedImage(project.folder, image);
  ca = await createSimulatedCa({ region: 'eu-central-1', now: new Date() });
});
afterAll(() => {
  removeTree(base);
  project.remove();
});
beforeEach(() => {
  output = new PassThrough();
  instance = new SimulatedInstance({
    folder: join(base, 'instance'),
    ca,
    roleArn: ROLE,
    now: () => new Date(),
  });
});
afterEach(() => instance.close());

function options(more: Partial<RunEnclaveOptions> = {}): RunEnclaveOptions {
  return { image, stdout: output, stderr: output, ...more };
}

/** Resolves when the enclave reports the step; `hold` keeps it there. */
function waitFor(step: string, hold: Promise<void> = Promise.resolve()) {
  const arrived = Promise.withResolvers<void>();
  const onStep = async (reached: string) => {
    if (reached !== step) return;
    arrived.resolve();
    await hold;
  };
  return { arrived: arrived.promise, onStep };
}

const registers = () => {
  const [, , payload] = decodeCbor(readFileSync(join(instance.folder, 'document'))) as [
    unknown,
    unknown,
    Uint8Array,
  ];
  return (decodeCbor(payload) as Map<string, Map<number, Uint8Array>>).get('pcrs') as Map<number, Uint8Array>;
};

/** An ended process that nobody has waited for yet is not alive (proc_pid_stat(5), field 3). */
function isAlive(pid: string | undefined): boolean {
  try {
    return !/^\d+ \(.*\) Z /s.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch {
    return false;
  }
}

describe('a simulated enclave', () => {
  it('attests to the copy that it runs from, to its role, its instance and its deployment', async () => {
    const { arrived, onStep } = waitFor('serving');
    const enclave = await instance.runEnclave(options({ onStep }));
    await arrived;
    const measured = await measureSimulatedImage(image);
    expect(enclave.measurements).toEqual(measured);
    const pcrs = registers();
    expect(pcrs.get(0)).toEqual(measured.pcr0);
    expect(pcrs.get(1)).toEqual(measured.pcr1);
    expect(pcrs.get(2)).toEqual(measured.pcr2);
    expect(pcrs.get(3)).toEqual(pcrOfText(ROLE));
    expect(pcrs.get(4)).toEqual(pcrOfText(instance.instanceId));
    expect(pcrs.get(16)).toEqual(pcrOfText('deployment'));
    expect(pcrs.size).toBe(32);
  });

  it('runs the Node of the copy, in the environment of the copy, in its folder', async () => {
    const { arrived, onStep } = waitFor('serving');
    await instance.runEnclave(options({ onStep }));
    await arrived;
    const said = JSON.parse(String(output.read() ?? (await once(output, 'data'))[0]));
    expect(said).toEqual({
      execPath: realpathSync(join(image, 'rootfs/usr/bin/node')),
      env: ENCLAVE_ENVIRONMENT,
      cwd: realpathSync(instance.folder),
    });
  });

  it('waits at a step for as long as the hypervisor holds it', async () => {
    const gate = Promise.withResolvers<void>();
    const { arrived, onStep } = waitFor('started', gate.promise);
    const enclave = await instance.runEnclave(options({ onStep }));
    await arrived;
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(existsSync(join(instance.folder, 'document'))).toBe(false);
    expect(existsSync(`/proc/${enclave.process.pid}`)).toBe(true);
    gate.resolve();
    await eventually(() => existsSync(join(instance.folder, 'document'))).toBe(true);
  });

  it('keeps its locked registers when its process is started again: that process cannot boot', async () => {
    const { arrived, onStep } = waitFor('serving');
    const enclave = await instance.runEnclave(options({ onStep }));
    await arrived;
    enclave.process.kill();
    expect(await enclave.process.exited).toEqual({ code: null, signal: 'SIGKILL' });
    const { code } = await enclave.startAgain().exited;
    expect(code).toBe(1);
    expect(String(output.read())).toContain('NSM_READ_ONLY_INDEX');
  });

  it('is a fresh one after the old one was closed', async () => {
    for (let run = 0; run < 2; run += 1) {
      const { arrived, onStep } = waitFor('serving');
      const enclave = await instance.runEnclave(options({ onStep }));
      await arrived;
      expect(registers().get(16)).toEqual(pcrOfText('deployment'));
      await enclave.close();
      expect(existsSync(`/proc/${enclave.process.pid}`)).toBe(false);
    }
  });

  it('runs alone on its instance', async () => {
    const { arrived, onStep } = waitFor('started');
    await instance.runEnclave(options({ onStep }));
    await expect(instance.runEnclave(options())).rejects.toThrow('close it first');
    await arrived;
  });

  it('takes with it whatever its program started', async () => {
    const program = `import { spawn } from 'node:child_process';\n${PROGRAM.replace(
      "await hypervisor.reached('serving');",
      "console.log(spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { stdio: 'inherit' }).pid);\nprocess.exit(3);",
    )}`;
    const other = enclaveProject(program);
    const otherImage = join(base, 'other');
    await layOutSimulatedImage(other.folder, otherImage);
    const enclave = await instance.runEnclave(options({ image: otherImage }));
    expect((await enclave.process.exited).code).toBe(3);
    const pid = String(output.read()).trim().split('\n').at(-1);
    expect(Number(pid)).toBeGreaterThan(1);
    await eventually(() => isAlive(pid)).toBe(false);
    removeTree(otherImage);
    other.remove();
  });

  it('attests to zeros in debug mode', async () => {
    const { arrived, onStep } = waitFor('serving');
    await instance.runEnclave(options({ onStep, debug: true }));
    await arrived;
    for (const index of [0, 1, 2]) expect(registers().get(index)).toEqual(new Uint8Array(48));
  });

  it('leaves neither process nor folder behind', async () => {
    const { arrived, onStep } = waitFor('serving');
    const { process: enclaveProcess } = await instance.runEnclave(options({ onStep }));
    await arrived;
    await instance.close();
    expect(existsSync(instance.folder)).toBe(false);
    expect(existsSync(`/proc/${enclaveProcess.pid}`)).toBe(false);
    expect(readdirSync(base)).toEqual(['image']);
  });

  it('ends when its hypervisor is killed', async () => {
    const script = `
      import { SimulatedInstance } from ${JSON.stringify(join(import.meta.dirname, '../../simulator/hypervisor.ts'))};
      import { createSimulatedCa } from ${JSON.stringify(join(import.meta.dirname, '../../simulator/nsm/ca.ts'))};
      const now = () => new Date();
      const ca = await createSimulatedCa({ region: 'eu-central-1', now: now() });
      const instance = new SimulatedInstance({ folder: ${JSON.stringify(join(base, 'killed'))}, ca, now });
      const enclave = await instance.runEnclave({ image: ${JSON.stringify(image)}, stdout: process.stderr, stderr: process.stderr,
        onStep: async (step) => { if (step === 'serving') console.log(enclave.process.pid); } });`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const [pid] = await once(child.stdout, 'data');
    const alive = () => isAlive(String(pid).trim());
    expect(alive()).toBe(true);
    child.kill('SIGKILL');
    await eventually(alive).toBe(false);
    removeTree(join(base, 'killed'));
  });
});

describe('the measurement of a simulated image', () => {
  const pcr0Of = async (change: (project: Project) => void): Promise<string> => {
    const changed = enclaveProject();
    try {
      change(changed);
      await layOutSimulatedImage(changed.folder, join(base, 'changed'));
      return Buffer.from((await measureSimulatedImage(join(base, 'changed'))).pcr0).toString('hex');
    } finally {
      changed.remove();
      removeTree(join(base, 'changed'));
    }
  };

  it('changes with one line of enclave/ and of the stand-in, and not with docs/', async () => {
    const unchanged = Buffer.from((await measureSimulatedImage(image)).pcr0).toString('hex');
    expect(await pcr0Of(({ write }) => write('docs/flow.md', '# Another\n'))).toBe(unchanged);
    expect(await pcr0Of(({ write }) => write('enclave/main.ts', "import './nsm/device.ts'; \n"))).not.toBe(
      unchanged,
    );
    expect(await pcr0Of(({ write }) => write('simulator/enclave.ts', `${PROGRAM}\n`))).not.toBe(unchanged);
  });
});
