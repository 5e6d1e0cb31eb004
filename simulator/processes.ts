/** The processes of a local stack, from outside: how they are started, first heard and ended. */
import type { ChildProcess } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { Transform } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { LocalStackError } from './errors.ts';

/** Ctrl-C in a terminal goes to its whole process group; our processes are ended in order by this one. */
export const OUT_OF_REACH = { detached: true } as const;
/** Loaded first into a process, it ends that process with this one. */
export const LIFELINE = fileURLToPath(new URL('./lifeline.ts', import.meta.url));

/** The first line of JSON on standard output that `wanted` accepts; rejects when the process ends before. */
export function firstLine<T>(
  child: ChildProcess,
  wanted: (line: Record<string, unknown>) => boolean,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream });
    lines.on('line', (text) => {
      const line = JSON.parse(text) as Record<string, unknown>;
      if (wanted(line)) resolve(line as T);
    });
    child.once('error', reject);
    child.once('exit', (code) =>
      reject(
        new LocalStackError(
          'SIMULATION_PROCESS_ENDED',
          `${child.spawnargs.join(' ')} ended with code ${code}.`,
        ),
      ),
    );
  });
}

/** Asks the process to end, and after three seconds no longer asks. */
export async function ended(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  child.kill(signal);
  const impatience = setTimeout(() => child.kill('SIGKILL'), 3_000);
  await exited;
  clearTimeout(impatience);
}

/** Resolves when no process of the group runs any more: a killed one may still be giving its memory back. */
export async function groupGone(groupId: number | undefined): Promise<void> {
  while (groupId !== undefined && groupRuns(groupId)) await sleep(5);
}

/**
 * By proc_pid_stat(5), fields 3 and 5. A zombie holds nothing but its number, and waits for others than us; but
 * one that still has threads has its descriptors and its memory too.
 */
function groupRuns(groupId: number): boolean {
  return readdirSync('/proc').some((name) => {
    if (!/^\d+$/.test(name)) return false;
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'latin1');
      const [state, , group] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      return Number(group) === groupId && (state !== 'Z' || readdirSync(`/proc/${name}/task`).length > 1);
    } catch {
      return false; // It ended while we looked.
    }
  });
}

/** Keeps what is written, and passes it on. */
export function collector(texts: string[]): Transform {
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      texts.push(chunk.toString());
      done(null, chunk);
    },
  });
}
