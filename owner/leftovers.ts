/**
 * What a killed seal leaves beside its output, and whose it is. A hidden name tells its writer: machine, process
 * and when that process started. The next seal to the same output removes what its writer can no longer finish.
 */
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';
import { lstat, readdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

export interface Leftover {
  readonly path: string;
  /** `running`: its writer still lives. `unknown`: written on another machine, before a restart, or by another user. */
  readonly outcome: 'removed' | 'running' | 'unknown';
}

/** Where a result waits until it is whole: beside `path`, under a name that says who writes it. */
export function asideOf(path: string): string {
  const writer = `${machine()}-${process.pid}-${startOf(process.pid) ?? 0}`;
  return `${prefixOf(path)}${writer}-${randomBytes(6).toString('hex')}`;
}

/** Removes what writers that are gone left for `path`; touches nothing else. */
export async function removeLeftovers(path: string): Promise<readonly Leftover[]> {
  const folder = dirname(path);
  const prefix = basename(prefixOf(path));
  const names = await readdir(folder).catch(() => []);
  const found: Leftover[] = [];
  for (const name of names.filter((entry) => entry.startsWith(prefix))) {
    const leftover = join(folder, name);
    const outcome = await outcomeOf(leftover, name.slice(prefix.length));
    if (outcome === 'removed') await rm(leftover, { recursive: true, force: true });
    found.push({ path: leftover, outcome });
  }
  return found;
}

/**
 * Takes over a folder that a writer which is gone left for `path`: renamed, it is this process's own. Undefined if
 * there is none. Of two that try, one gets it.
 */
export async function adoptLeftover(path: string): Promise<string | undefined> {
  const folder = dirname(path);
  const prefix = basename(prefixOf(path));
  const names = await readdir(folder).catch(() => []);
  for (const name of names.filter((entry) => entry.startsWith(prefix))) {
    const leftover = join(folder, name);
    const mine = asideOf(path);
    const isFolder = await lstat(leftover).then(
      (found) => found.isDirectory(),
      () => false,
    );
    if (!isFolder || (await outcomeOf(leftover, name.slice(prefix.length))) !== 'removed') continue;
    const adopted = await rename(leftover, mine).then(
      () => true,
      () => false,
    );
    if (adopted) return mine;
  }
  return undefined;
}

async function outcomeOf(path: string, writer: string): Promise<Leftover['outcome']> {
  const [where, pid, start] = /^([0-9a-f]{8})-(\d+)-(\d+)-[0-9a-f]{12}$/.exec(writer)?.slice(1) ?? [];
  if (where !== machine() || (await lstat(path)).uid !== process.getuid?.()) return 'unknown';
  return startOf(Number(pid)) === start ? 'running' : 'removed';
}

function prefixOf(path: string): string {
  return join(dirname(path), `.${basename(path)}.partial-`);
}

/** Process ids mean something only within one run of one kernel, and one process namespace of it. */
function machine(): string {
  const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1');
  return createHash('sha256')
    .update(boot + readlinkSync('/proc/self/ns/pid'))
    .digest('hex')
    .slice(0, 8);
}

/** When a process started, in clock ticks after boot (proc_pid_stat(5), field 22): pids are used again. */
function startOf(pid: number): string | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch {
    return undefined;
  }
  const [state, ...fields] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return state === 'Z' ? undefined : fields[18];
}
