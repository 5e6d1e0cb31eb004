/**
 * kill -9 of the command line: at a moment, or right before one of its changes to the file system, found and made with
 * strace. Changes are counted on one thread, so the same number is the same change in every run.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const STRONGROOM = join(import.meta.dirname, '../../scripts/strongroom.ts');
/** Writes of a few bytes are left out: nobody flushes or names a file between two of them. "?": not on each processor. */
const CHANGES =
  '?mkdir,mkdirat,?rename,renameat,renameat2,?link,linkat,?unlink,unlinkat,?rmdir,fsync,ftruncate,pwrite64';

export interface Program {
  readonly args: readonly string[];
  readonly cwd: string;
  readonly env: NodeJS.ProcessEnv;
}

export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export function start(
  { args, cwd, env }: Program,
  under: readonly string[] = [],
): { readonly child: ChildProcess; readonly ended: Promise<Outcome> } {
  const [command = '', ...rest] = [...under, process.execPath, STRONGROOM, ...args];
  const child = spawn(command, rest, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] });
  const texts = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const)
    child[name].on('data', (piece) => {
      texts[name] += piece;
    });
  return { child, ended: once(child, 'close').then(([code]) => ({ code, ...texts })) };
}

/** Evenly spread, first and last included. */
export function some<T>(all: readonly T[], count: number): readonly T[] {
  if (count >= all.length) return all;
  const at = (index: number): number => Math.round((index * (all.length - 1)) / Math.max(1, count - 1));
  return all.filter((_, index) => Array.from({ length: count }, (_, nth) => at(nth)).includes(index));
}

/** Tests that need it say so in their names where they are skipped. */
export const canTrace = works('strace', '-o', '/dev/null', 'true');

/** A program under this finds that the kernel answers these calls with these errors. */
export function refusing(errorOf: Readonly<Record<string, string>>): readonly string[] {
  const injected = Object.entries(errorOf).flatMap(([calls, error]) => [
    '-e',
    `inject=${calls}:error=${error}`,
  ]);
  return [
    'strace',
    '-f',
    '-qq',
    '-o',
    '/dev/null',
    '-e',
    `trace=${Object.keys(errorOf).join()}`,
    ...injected,
  ];
}

export interface Change {
  readonly call: string;
  /** From 1. */
  readonly nth: number;
}

/** Runs the program to its end. */
export async function changesOf(program: Program): Promise<readonly Change[]> {
  const folder = mkdtempSync(join(tmpdir(), 'strongroom-changes-'));
  try {
    const log = join(folder, 'log');
    const { code, stderr } = await start(onOneThread(program), [
      ...['strace', '-f', '-qq', '-o', log, '-e', `trace=${CHANGES}`],
    ]).ended;
    if (code !== 0) throw new Error(`exit code ${code}: ${stderr}`);
    const counts = new Map<string, number>(); // by thread and call
    const changes: Change[] = [];
    for (const [, thread = '', call = ''] of readFileSync(log, 'utf8').matchAll(/^(\d+) +(\w+)\(/gm)) {
      const nth = (counts.get(`${thread} ${call}`) ?? 0) + 1;
      counts.set(`${thread} ${call}`, nth);
      if (!changes.some((change) => change.call === call && change.nth === nth)) changes.push({ call, nth });
    }
    return changes;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export async function killBefore(program: Program, { call, nth }: Change): Promise<void> {
  await start(onOneThread(program), [
    ...['strace', '-f', '-qq', '-o', '/dev/null', '-e', `trace=${call}`],
    ...['-e', `inject=${call}:signal=SIGKILL:when=${nth}`],
  ]).ended;
}

function onOneThread(program: Program): Program {
  return { ...program, env: { ...program.env, UV_THREADPOOL_SIZE: '1' } };
}

function works(command: string, ...args: readonly string[]): boolean {
  try {
    execFileSync(command, args, { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}
