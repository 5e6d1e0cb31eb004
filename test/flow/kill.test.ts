/**
 * Parent, enclave and engine, killed after every step of the boot and while they serve (docs/flow.md section 11):
 * what happens to the others, what is left, and that the next start serves a verified answer.
 */
import { existsSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { connect } from '../../client/connect.ts';
import type { VerifiedEnclave } from '../../client/verified-enclave.ts';
import { HOST_SERVICE_PORT } from '../../link/ports.ts';
import { pcrsOf, prepareRelease, type Release } from '../../scripts/local/release.ts';
import { predictIris } from '../../scripts/model/iris.ts';
import type { BootStep } from '../../shared/telemetry.ts';
import { LocalStackError } from '../../simulator/errors.ts';
import type { LocalInstance } from '../../simulator/local-instance.ts';
import type { LocalStack } from '../../simulator/local-stack.ts';
import { slowHost } from '../attacks/canary/slow-host.ts';
import { eventually } from '../support/eventually.ts';
import {
  childrenOf,
  decryptCount,
  flowers,
  isAlive,
  MODEL,
  network,
  onnx,
  processesOf,
  startStack,
} from './support.ts';

const CASE_TIMEOUT_MS = 120_000;

let stack: LocalStack;
let release: Release;
let instance: LocalInstance;
/** Told of every step of the enclave that boots; the boot goes on when it resolves. */
let onStep: (step: string) => Promise<void> | void = () => {};
/** Every process that a test has seen. */
const seen = new Set<number>();

beforeAll(async () => {
  stack = await startStack();
  release = await prepareRelease(stack, { name: MODEL, version: 1, onnx });
}, CASE_TIMEOUT_MS);
afterEach(async () => {
  onStep = () => {};
  await instance?.close();
  expect([...seen].filter(isAlive)).toEqual([]);
  expect(processesOf(stack.folder)).toEqual([stack.kmsPid]);
  expect(existsSync(instance.folder)).toBe(false);
  seen.clear();
}, CASE_TIMEOUT_MS);
afterAll(async () => {
  const folder = stack?.folder;
  await stack?.close();
  expect(existsSync(folder)).toBe(false);
}, CASE_TIMEOUT_MS);

const enclavePid = (): number => instance.enclave.process.pid;
const enginePid = (): number => childrenOf(enclavePid())[0] as number;

/** Resolves when the process is gone with all its threads, and its sockets with them. */
async function kill(pid: number): Promise<void> {
  process.kill(pid, 'SIGKILL');
  await eventually(() => isAlive(pid)).toBe(false);
}

/** Starts a parent and an enclave, whose steps reach `onStep` only once the processes are known. */
async function start(): Promise<void> {
  const started = Promise.withResolvers<void>();
  instance = await stack.startInstance({
    ...release,
    onStep: async (step) => {
      await started.promise;
      for (const pid of [instance.parentPid, enclavePid(), ...childrenOf(enclavePid())]) seen.add(pid);
      await onStep(step);
    },
  });
  started.resolve();
}

/** Kills the process right after the step of the boot that comes next, before that goes on. */
function killAfter(step: string, victim: () => number): void {
  onStep = async (reached) => {
    if (reached !== step) return;
    onStep = () => {};
    await kill(victim());
  };
}

/** Of the enclave that was started last: `serving`, or why it stopped. */
async function outcome(): Promise<string> {
  try {
    await instance.serving;
    return 'serving';
  } catch (error) {
    if (!(error instanceof LocalStackError)) throw error;
    return error.reason ?? error.message.trim();
  }
}

function connectNow(): Promise<VerifiedEnclave> {
  const pcrs = pcrsOf(stack, release.deployment);
  return connect(instance.url, { pcrs, simulationRoot: stack.attestationRoot }, { timeoutMs: 20_000 });
}

const measurements = flowers[77]?.measurements ?? [];
const ask = (enclave: VerifiedEnclave): Promise<Response> =>
  enclave.fetch(`/v2/models/${MODEL}/infer`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      inputs: [{ name: 'measurements', datatype: 'FP32', shape: [1, 4], data: measurements }],
    }),
  });

/** Reads the body too: until then its connection takes no other request. */
async function statusOf(answer: Promise<Response>): Promise<number> {
  const response = await answer;
  await response.arrayBuffer();
  return response.status;
}

async function expectRightAnswer(response: Response): Promise<void> {
  expect(response.status).toBe(200);
  const { outputs } = (await response.json()) as { outputs: { data: number[] }[] };
  for (const [index, value] of predictIris(network, measurements).entries())
    expect(outputs[0]?.data[index]).toBeCloseTo(value, 4);
}

async function expectVerifiedAnswer(): Promise<void> {
  await using enclave = await connectNow();
  await expectRightAnswer(await ask(enclave));
}

/** The parent lives, and can only reset its callers. */
const expectNoEnclave = (): Promise<void> =>
  expect(connectNow()).rejects.toMatchObject({ code: 'CLIENT_UNREACHABLE' });
/** The port of a dead parent may be somebody else's by now, whom no caller takes for the enclave. */
const expectNoParent = (): Promise<void> =>
  expect(connectNow()).rejects.toMatchObject({ code: expect.stringMatching(/^(CLIENT|ATTESTATION)_/) });

/** Without the parent an enclave gets as far as it can without asking it for anything. */
const WITHOUT_PARENT: Readonly<Record<Exclude<BootStep, 'serving'>, string>> = {
  'randomness-seeded': 'LINK_UNREACHABLE',
  'deployment-measured': 'LINK_UNREACHABLE',
  'model-checked': 'KMS_UNAVAILABLE',
  'data-key-released': 'SEALED_SOURCE_FAILED',
  'weights-opened': 'serving',
  'data-key-wiped': 'serving',
  'engine-loaded': 'serving',
};

/** The last step, `serving`, is killed below, with requests under way. */
describe('a kill after a step of the boot', () => {
  it.each(Object.entries(WITHOUT_PARENT))(
    '%s: an enclave takes its engine along; without its parent the next one ends in %s; then a start serves',
    async (step, withoutParent) => {
      killAfter(step, enclavePid);
      await start();
      expect(await outcome()).toBe('signal SIGKILL:');
      expect([...seen].filter(isAlive)).toEqual([instance.parentPid]);
      await expectNoEnclave();

      killAfter(step, () => instance.parentPid);
      await instance.startEnclaveAgain();
      expect(await outcome()).toBe(withoutParent);
      await expectNoParent();

      const asked = decryptCount(stack);
      await instance.startParentAgain();
      if (withoutParent !== 'serving') {
        expect([...seen].filter(isAlive)).toEqual([]);
        await expectNoEnclave();
        await instance.startEnclaveAgain();
        expect(await outcome()).toBe('serving');
      }
      await expectVerifiedAnswer();
      expect(decryptCount(stack) - asked).toBe(withoutParent === 'serving' ? 0 : 1);
    },
    CASE_TIMEOUT_MS,
  );
});

describe('a kill between two steps', () => {
  it(
    'while weights arrive: an enclave takes them along; without its parent the next one gives up; then a start serves',
    async () => {
      let arriving = Promise.withResolvers<void>();
      let host: { close(): void } | undefined;
      onStep = (step) => {
        // Before the first connection, which would stay open.
        if (step !== 'randomness-seeded') return;
        host = slowHost(instance.folder, async (request) => {
          if (!request.includes('/payload ')) return;
          arriving.resolve();
          await new Promise(() => {});
        });
      };
      await start();
      await arriving.promise;
      await kill(enclavePid());
      expect(await outcome()).toBe('signal SIGKILL:');
      host?.close();
      const sockets = join(instance.folder, 'parent');
      renameSync(join(sockets, 'real.sock'), join(sockets, `${HOST_SERVICE_PORT}.sock`));

      arriving = Promise.withResolvers();
      await instance.startEnclaveAgain();
      await arriving.promise;
      await kill(instance.parentPid);
      expect(await outcome()).toBe('SEALED_SOURCE_FAILED');
      host?.close();

      onStep = () => {};
      await instance.startParentAgain();
      await instance.startEnclaveAgain();
      expect(await outcome()).toBe('serving');
      await expectVerifiedAnswer();
    },
    CASE_TIMEOUT_MS,
  );
});

describe('an engine that is killed', () => {
  it(
    'while it starts ends the boot, and the next enclave serves',
    async () => {
      do {
        await instance?.close();
        let opened = false;
        onStep = (step) => {
          opened ||= step === 'data-key-wiped';
        };
        await start();
        await eventually(() => opened && enginePid()).toBeGreaterThan(0);
        seen.add(enginePid());
        process.kill(enginePid(), 'SIGSTOP');
        // Once confined it may have loaded its model already; then it is too late for this test.
      } while (isConfined(enginePid()));
      await kill(enginePid());
      expect(await outcome()).toBe('ENGINE_START_FAILED');
      await instance.startEnclaveAgain();
      expect(await outcome()).toBe('serving');
      await expectVerifiedAnswer();
    },
    CASE_TIMEOUT_MS,
  );

  it(
    'once it has loaded is started again under the same enclave, with the weights that it has',
    async () => {
      let killed = 0;
      killAfter('engine-loaded', () => {
        killed = enginePid();
        return killed;
      });
      await start();
      expect(await outcome()).toBe('serving');
      const asked = decryptCount(stack);
      await using enclave = await connectNow();
      await eventually(() => statusOf(ask(enclave))).toBe(200);
      await expectRightAnswer(await ask(enclave));
      expect(enginePid()).not.toBe(killed);
      seen.add(enginePid());
      expect(decryptCount(stack)).toBe(asked);
      expect(instance.console).toBe('');
    },
    CASE_TIMEOUT_MS,
  );
});

/** proc_pid_status(5): a filter is the last thing before the native engine is loaded. */
function isConfined(pid: number): boolean {
  return /^Seccomp:\s+2$/m.test(readFileSync(`/proc/${pid}/status`, 'latin1'));
}

describe('a kill with a request under way', () => {
  /** The first request of a new connection, which waits for an engine that stands still. */
  async function askInVain(): Promise<{
    readonly enclave: VerifiedEnclave;
    readonly answer: Promise<Response>;
  }> {
    seen.add(enginePid());
    const enclave = await connectNow();
    process.kill(enginePid(), 'SIGSTOP');
    const answer = ask(enclave);
    answer.catch(() => {});
    // A whole connection has gone the same way after it, so it has arrived.
    await (await connectNow()).close();
    return { enclave, answer };
  }
  const LOST = { code: 'CLIENT_ANSWER_LOST' };

  it(
    'is told to the caller, whoever is killed, and the next start answers',
    async () => {
      await start();
      await instance.serving;
      const ofEngine = await askInVain();
      await kill(enginePid());
      const told = await ofEngine.answer;
      expect(told.status).toBe(503);
      expect(told.headers.get('retry-after')).toBe('1');
      expect(await told.json()).toMatchObject({ code: 'ENGINE_UNAVAILABLE' });
      await eventually(() => statusOf(ask(ofEngine.enclave))).toBe(200);
      await ofEngine.enclave.close();

      const ofEnclave = await askInVain();
      await kill(enclavePid());
      await expect(ofEnclave.answer).rejects.toMatchObject(LOST);
      await ofEnclave.enclave.close();
      expect(await instance.enclave.process.exited).toEqual({ code: null, signal: 'SIGKILL' });
      expect([...seen].filter(isAlive)).toEqual([instance.parentPid]);
      await expectNoEnclave();
      await instance.startEnclaveAgain();
      await instance.serving;
      await expectVerifiedAnswer();

      const ofParent = await askInVain();
      await kill(instance.parentPid);
      await expect(ofParent.answer).rejects.toMatchObject(LOST);
      await ofParent.enclave.close();
      await expectNoParent();
      process.kill(enginePid(), 'SIGCONT');
      await instance.startParentAgain();
      await expectVerifiedAnswer();
    },
    CASE_TIMEOUT_MS,
  );
});
