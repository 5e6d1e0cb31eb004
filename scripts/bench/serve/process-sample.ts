/** What processes hold, as the kernel tells it from outside: proc_pid_status(5), proc_pid_fd(5). */
import { readdirSync, readFileSync } from 'node:fs';

export interface ProcessSample {
  readonly rssBytes: number;
  /** Heaps, stacks and buffers: RSS without files and shared memory. */
  readonly anonymousBytes: number;
  readonly descriptors: number;
}

/** The sum over these processes; one that has just ended counts nothing. */
export function processSample(pids: readonly number[]): ProcessSample {
  let sum: ProcessSample = { rssBytes: 0, anonymousBytes: 0, descriptors: 0 };
  for (const pid of pids) {
    const status = read(`/proc/${pid}/status`);
    const kib = (name: string): number =>
      Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0);
    sum = {
      rssBytes: sum.rssBytes + 1024 * kib('VmRSS'),
      anonymousBytes: sum.anonymousBytes + 1024 * kib('RssAnon'),
      descriptors: sum.descriptors + descriptorsOf(pid),
    };
  }
  return sum;
}

export function childrenOf(pid: number): readonly number[] {
  return read(`/proc/${pid}/task/${pid}/children`)
    .split(' ')
    .filter((text) => text !== '')
    .map(Number);
}

function descriptorsOf(pid: number): number {
  try {
    return readdirSync(`/proc/${pid}/fd`).length;
  } catch {
    return 0;
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}
