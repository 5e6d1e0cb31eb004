/**
 * Several models, several engines, and one of them was taken over. It must not get the weights of another, not
 * even while that one starts and has not yet closed itself off.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { startTensorEngine } from '../../enclave/engine/tensor-engine.ts';
import { EngineUids } from '../../enclave/models/engine-uids.ts';
import { modelDescriptor } from '../support/onnx-models.ts';
import { reachableProject } from '../support/reachable.ts';

const project = reachableProject();
const NEIGHBOUR = join(project, 'test', 'attacks', 'hostile-engine', 'neighbour.ts');
const ENGINE = join(project, 'enclave', 'engine', 'onnx-main.ts');
const WEIGHTS = 'the weights of another model';
/** Nobody else's, not even those of the same test in another run on this machine. */
const FIRST_UID = 1_000_000 + 2 * process.pid;

const neighbours: ChildProcess[] = [];
afterEach(() => {
  for (const child of neighbours.splice(0)) child.kill('SIGKILL');
});

/** Starts the hostile engine, then the other one for every round, and returns all that the hostile one read. */
async function readByNeighbour(
  uids: { hostile: number; other: number },
  isOver: (rounds: number, read: string) => boolean,
): Promise<string> {
  const child = spawn(process.execPath, [NEIGHBOUR], {
    cwd: '/',
    env: {},
    uid: uids.hostile,
    gid: uids.hostile,
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  neighbours.push(child);
  let read = '';
  await new Promise<void>((resolve, reject) => {
    child.once('exit', () => reject(new Error('the hostile engine did not run')));
    child.stdout.on('data', (chunk: Buffer) => {
      read += chunk.toString('latin1');
      if (read.includes('confined\n')) resolve();
    });
  });
  const modelFd = modelDescriptor(Buffer.from(WEIGHTS));
  for (let rounds = 0; !isOver(rounds, read); rounds++) {
    await expect(
      startTensorEngine({ modelFd, threads: 1, entry: ENGINE, uid: uids.other }),
    ).rejects.toMatchObject({
      code: 'ENGINE_START_FAILED',
    });
  }
  closeSync(modelFd);
  expect(child.exitCode ?? child.signalCode).toBeNull();
  return read;
}

describe.runIf(process.getuid?.() === 0)('an engine that was taken over', () => {
  it('reads nothing of the engine that starts beside it, under the uids that the boot gives them', async () => {
    const pool = new EngineUids(FIRST_UID);
    const [hostile, other] = [pool.take().value, pool.take().value];
    const uids = { hostile: hostile as number, other: other as number };
    const read = await readByNeighbour(uids, (rounds) => rounds === 3);
    expect(read).toBe('confined\n');
  });

  it('would read its weights if they shared a uid', async () => {
    // Whether one start is caught depends on the scheduler; that one of many is, does not.
    await readByNeighbour({ hostile: FIRST_UID, other: FIRST_UID }, (_rounds, read) =>
      read.includes(WEIGHTS),
    );
  });
});

it('has a uid that no other engine has, for as many models as a deployment may name', () => {
  const pool = new EngineUids(65_533);
  const uids = Array.from({ length: 16 }, () => pool.take());
  expect(new Set(uids.map(({ value }) => value)).size).toBe(16);
  uids[3]?.giveBack();
  expect(pool.take().value).toBe(uids[3]?.value);
  expect(new EngineUids(undefined).take().value).toBeUndefined();
});
