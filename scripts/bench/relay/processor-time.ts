import { readdirSync, readFileSync } from 'node:fs';

/** A process and those that it started, and so on: socat has one a connection. */
function familyOf(pid: number): number[] {
  const children = readOrEmpty(`/proc/${pid}/task/${pid}/children`).trim();
  return [pid, ...(children === '' ? [] : children.split(' ').flatMap((child) => familyOf(Number(child))))];
}

/** Processor seconds that a process and its children have used (Linux sched-stats.rst, "/proc/<pid>/schedstat"). */
export function processorSeconds(pid: number): number {
  let nanoseconds = 0;
  for (const member of familyOf(pid)) {
    for (const thread of threadsOf(member)) {
      nanoseconds += Number(readOrEmpty(`/proc/${member}/task/${thread}/schedstat`).split(' ')[0]);
    }
  }
  return nanoseconds / 1e9;
}

function threadsOf(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/task`);
  } catch {
    return [];
  }
}

/** USER_HZ, the unit of times in /proc/stat, is 100 wherever Node runs (proc_stat(5), time(7)). */
const TICKS_PER_SECOND = 100;

/** Processor seconds that the whole machine has used, by anybody, or was denied by its host. */
export function machineSeconds(): number {
  const [, user, nice, system, , , irq, softirq, steal] = readOrEmpty('/proc/stat')
    .split(/\s+/, 9)
    .map(Number);
  return sum([user, nice, system, irq, softirq, steal]) / TICKS_PER_SECOND;
}

function sum(values: readonly (number | undefined)[]): number {
  return values.reduce<number>((total, value) => total + (value ?? 0), 0);
}

/** Bytes of memory that a process and its children hold, shared pages split among those who share them. */
export function memoryBytes(pid: number): number {
  let bytes = 0;
  for (const member of familyOf(pid)) {
    const kib = /^Pss:\s+(\d+) kB/m.exec(readOrEmpty(`/proc/${member}/smaps_rollup`))?.[1];
    bytes += Number(kib ?? 0) * 1024;
  }
  return bytes;
}

function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    // Gone since it was listed.
    return '';
  }
}
