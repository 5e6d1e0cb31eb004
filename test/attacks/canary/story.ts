/**
 * The whole story with every process of it searched for every secret of it: at each step of the boot, which waits
 * meanwhile, in the middle of opening, while the engine computes an answer, and afterwards.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect } from '../../../client/connect.ts';
import { pcrsOf, prepareRelease, type Release } from '../../../scripts/local/release.ts';
import type { LocalInstance } from '../../../simulator/local-instance.ts';
import { LocalStack } from '../../../simulator/local-stack.ts';
import { answerCanaries, canaryModel, canaryQuestion } from './model.ts';
import { dataKeyCanaries, publicCanaries } from './secrets.ts';
import { slowHost } from './slow-host.ts';
import { type Found, type Holder, Watch } from './watch.ts';

const PROJECT = join(import.meta.dirname, '..', '..', '..');
const MODEL = 'canary';
/** Chunks of 1 MiB: so many arrive, the others wait. */
const DELIVERED_BYTES = 4 << 20;
const PATIENCE_MS = 20_000;

export interface Searched {
  readonly found: readonly Found[];
  /** Every moment at which was searched, in order, with what was running. */
  readonly moments: ReadonlyMap<string, readonly Holder[]>;
  readonly answerStatus: number;
  /** Processes and folders that outlive the stack. */
  readonly leftBehind: readonly string[];
}

export async function searchTheStory(): Promise<Searched> {
  const model = canaryModel();
  const question = canaryQuestion();
  const stack = await LocalStack.start({
    projectFolder: PROJECT,
    now: () => new Date(),
    standIn: 'test/attacks/canary/enclave.ts',
  });
  try {
    const release = await prepareRelease(stack, { name: MODEL, version: 1, onnx: model.onnx });
    const watch = new Watch(stack, [
      ...model.canaries,
      ...question.canaries,
      ...dataKeyCanaries(release),
      ...publicCanaries(stack, release),
    ]);
    const instance = await startWatched(stack, release, watch);
    const answerStatus = await askWatched(stack, release, instance, question.body, watch);
    const pids = [...watch.processes().map(({ pid }) => pid), stack.kmsPid];
    await instance.close();
    watch.files('closed', []);
    await stack.close();
    await allEnded(pids);
    const leftBehind = [
      ...pids.filter(isRunning).map((pid) => `process ${pid}`),
      ...[stack.folder].filter(existsSync),
    ];
    return { found: watch.found, moments: watch.moments, answerStatus, leftBehind };
  } finally {
    await stack.close();
  }
}

/** Holds the boot at every step, and between two of them where secrets are at work, and searches. */
async function startWatched(stack: LocalStack, release: Release, watch: Watch): Promise<LocalInstance> {
  let host: { close(): void } | undefined;
  const opening = Promise.withResolvers<void>();
  const starting = stack.startInstance({
    deployment: release.deployment,
    modelsFolder: release.modelsFolder,
    onLine: (_from, line) => void watch.printed.push(line),
    onStarted: (started) => {
      if (started !== 'parent-started') return;
      host = slowHost(watch.instanceFolder, async (request) => {
        // The tunnel to KMS is asked for when the RSA key has been attested.
        if (request.startsWith('CONNECT ')) watch.everything('attesting');
        const [, start = '0'] = /^range: bytes=(\d+)-/im.exec(request) ?? [];
        if (Number(start) >= DELIVERED_BYTES) await opening.promise;
      });
    },
    onStep: async (step) => {
      watch.instance = await starting;
      watch.everything(step);
      if (step === 'data-key-released') void watchOpening(watch).then(opening.resolve, opening.reject);
    },
  });
  try {
    const instance = await starting;
    await Promise.all([instance.serving, opening.promise]);
    return instance;
  } finally {
    host?.close();
  }
}

/** Ends when the chunks that were delivered have been opened and searched for; the others wait meanwhile. */
async function watchOpening(watch: Watch): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  do await sleep(20);
  while (!watch.sees('enclave', 'weights') && performance.now() < deadline);
  watch.everything('opening');
}

async function askWatched(
  stack: LocalStack,
  { deployment }: Release,
  instance: LocalInstance,
  body: string,
  watch: Watch,
): Promise<number> {
  const enclave = await connect(instance.url, {
    pcrs: pcrsOf(stack, deployment),
    simulationRoot: stack.attestationRoot,
  });
  try {
    const answered = enclave.fetch(`/v2/models/${MODEL}/infer`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body,
    });
    await holdWhileComputing(watch);
    const response = await answered;
    const text = await response.text();
    watch.everything('answered');
    if (response.ok) {
      const { outputs } = JSON.parse(text) as { outputs: { name: string; data: number[] }[] };
      watch.add(answerCanaries(outputs));
      watch.everything('answer known');
    }
    return response.status;
  } finally {
    await enclave.close();
  }
}

/** Lets the engine run in short bursts until the question stands in its memory, and looks while it stands still. */
async function holdWhileComputing(watch: Watch): Promise<void> {
  const engine = watch.processes().find(({ holder }) => holder === 'engine')?.pid as number;
  const deadline = performance.now() + PATIENCE_MS;
  try {
    do {
      process.kill(engine, 'SIGCONT');
      await sleep(5);
      process.kill(engine, 'SIGSTOP');
    } while (!watch.sees('engine', 'prompt') && performance.now() < deadline);
    watch.everything('computing');
  } finally {
    process.kill(engine, 'SIGCONT');
  }
}

/** An engine is killed with its enclave, which no longer waits for it: the system may take a moment. */
async function allEnded(pids: readonly number[]): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  while (pids.some(isRunning) && performance.now() < deadline) await sleep(20);
}

/** A zombie has no memory any more. */
function isRunning(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'latin1'));
  } catch {
    return false;
  }
}
