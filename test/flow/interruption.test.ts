/** The demonstration, interrupted and killed at several moments: nothing of it lives on. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { removeTree } from '../../simulator/run-folder.ts';
import { isAlive, PROJECT, processesOf, socketsBelow } from './support.ts';

const DEADLINE_MS = 120_000;
/** How long a process may take to notice that it is alone. */
const SOON_MS = 15_000;
const RUN = /^strongroom-run-/;

let folder: string;
let demos: ChildProcess[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'sr-'));
  // As /tmp is: the engine's uid must reach the copy of the image.
  chmodSync(folder, 0o711);
  demos = [];
});
afterEach(async () => {
  for (const { pid, exitCode, signalCode } of demos) {
    if (pid !== undefined && exitCode === null && signalCode === null) process.kill(-pid, 'SIGKILL');
  }
  await expect.poll(() => processesOf(folder), { timeout: SOON_MS }).toEqual([]);
  removeTree(folder);
});

/** As `npm start` in a terminal of its own: a process group, a temporary folder, no environment to speak of. */
function startDemo() {
  const child = spawn(process.execPath, [join(PROJECT, 'scripts/strongroom.ts'), 'demo'], {
    cwd: PROJECT,
    env: { TMPDIR: folder, PATH: '/nowhere' },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  demos.push(child);
  let told = '';
  child.stdout.on('data', (chunk: Buffer) => {
    told += chunk.toString();
  });
  const errors = text(child.stderr);
  const exited = new Promise<number | string>((resolve) =>
    child.once('close', (code, signal) => resolve(code ?? signal ?? 'nothing')),
  );
  const pid = child.pid as number;
  return {
    pid,
    errors,
    exited,
    told: () => told,
    /** Resolves when it has come so far; rejects when it ends before. */
    until: async (what: RegExp): Promise<void> => {
      while (!what.test(told)) {
        const ended = await Promise.race([exited, once(child.stdout, 'data').then(() => undefined)]);
        if (ended !== undefined) throw new Error(`ended with ${ended}: ${told}\n${await errors}`);
      }
    },
    /** Closes the reading end of its output. */
    leave: () => child.stdout.destroy(),
    /** What a terminal does on Ctrl-C: the signal goes to everybody in the group. */
    signalGroup: (signal: NodeJS.Signals) => process.kill(-pid, signal),
  };
}

const runFolders = (): string[] => readdirSync(folder).filter((name) => RUN.test(name));

/** Moments of the story by what has been told of it. */
const MOMENTS: readonly [string, RegExp, number][] = [
  ['while the image is laid out', /Strongroom/, 300],
  ['while keys are made', /^ 1 /m, 0],
  ['while the parent and the enclave start', /^ 5 /m, 150],
  ['while the enclave boots', /^ 5 /m, 900],
  ['while an enclave serves', /^ 6 /m, 0],
  ['during the attacks', /changed|one more line/i, 0],
];

describe('Ctrl-C', () => {
  it.each(MOMENTS)(
    '%s: cleans up and says that it was interrupted',
    async (_when, told, afterMs) => {
      const demo = startDemo();
      await demo.until(told);
      await new Promise((resolve) => setTimeout(resolve, afterMs));
      demo.signalGroup('SIGINT');
      expect(await demo.exited).toBe(1);
      expect(await demo.errors).toContain('code: INTERRUPTED');
      expect(demo.told()).not.toMatch(/NOT STOPPED|Nothing is left behind/);
      expect(processesOf(folder)).toEqual([]);
      expect(runFolders()).toEqual([]);
      expect(socketsBelow(folder)).toEqual([]);
    },
    DEADLINE_MS,
  );

  it(
    'is the same as a reader of the output who leaves, as `| head` does',
    async () => {
      const demo = startDemo();
      await demo.until(/^ 1 /m);
      demo.leave();
      expect(await demo.exited).toBe(1);
      expect(processesOf(folder)).toEqual([]);
      expect(runFolders()).toEqual([]);
    },
    DEADLINE_MS,
  );

  it(
    'is the same as SIGTERM to the demonstration alone, as a supervisor sends it',
    async () => {
      const demo = startDemo();
      await demo.until(/^ 6 /m);
      process.kill(demo.pid, 'SIGTERM');
      expect(await demo.exited).toBe(1);
      expect(await demo.errors).toContain('code: INTERRUPTED');
      expect(processesOf(folder)).toEqual([]);
      expect(runFolders()).toEqual([]);
    },
    DEADLINE_MS,
  );
});

describe('SIGKILL', () => {
  // The last test of all kills it while an enclave serves.
  it.each(MOMENTS.filter(([when]) => !/keys|serves|attacks/.test(when)))(
    '%s: no process survives it for long',
    async (_when, told, afterMs) => {
      const demo = startDemo();
      await demo.until(told);
      await new Promise((resolve) => setTimeout(resolve, afterMs));
      process.kill(demo.pid, 'SIGKILL');
      await demo.exited;
      await expect.poll(() => processesOf(folder), { timeout: SOON_MS }).toEqual([]);
      expect(isAlive(demo.pid)).toBe(false);
    },
    DEADLINE_MS,
  );

  it(
    'leaves a folder that the next start removes, and that alone',
    async () => {
      const killed = startDemo();
      await killed.until(/^ 6 /m);
      expect(processesOf(folder).length).toBeGreaterThanOrEqual(4);
      process.kill(killed.pid, 'SIGKILL');
      await expect.poll(() => processesOf(folder), { timeout: SOON_MS }).toEqual([]);
      const [leftover = ''] = runFolders();
      expect(existsSync(join(folder, leftover, 'kms.json'))).toBe(true);
      const other = mkdtempSync(join(folder, 'other-'));

      const next = startDemo();
      await next.until(/^ 1 /m);
      const found = runFolders();
      expect(found).toHaveLength(1);
      expect(found).not.toContain(leftover);
      next.signalGroup('SIGINT');
      await next.exited;
      expect(runFolders()).toEqual([]);
      rmSync(other, { recursive: true });
    },
    DEADLINE_MS,
  );
});
