/**
 * The folder of one simulation: measured copies, sockets, sealed models. It goes when the run ends; what a
 * killed run left behind is found and removed by the next one, which tells them apart by the owner's process.
 */
import {
  chmodSync,
  lstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { LocalStackError } from './errors.ts';

const PREFIX = 'strongroom-run-';
const OWNER_FILE = 'owner';
/** A folder without an owner is one that is just being made, for at most this long. */
const UNOWNED_MAX_MS = 60_000;

export interface RunFolder {
  readonly path: string;
  /** Removes the folder and everything in it. */
  remove(): void;
}

/** `now` is compared with the age of folders of other runs. */
export function createRunFolder(options: { readonly now: Date; readonly parent?: string }): RunFolder {
  const { now, parent = tmpdir() } = options;
  removeLeftovers(parent, now);
  const path = mkdtempSync(join(parent, PREFIX));
  // Engines run under a uid of their own and must reach the measured copy; what is secret has folders of 0700.
  chmodSync(path, 0o711);
  writeFileSync(join(path, OWNER_FILE), `${process.pid} ${startOf(process.pid)}\n`);
  return { path, remove: () => removeTree(path) };
}

const OTHERS_MAY_ENTER = 0o001;

/**
 * As root, engines run under uids of their own, which must reach the copy that they start from. Throws
 * LocalStackError `SIMULATION_FOLDER_CLOSED` if one of the folders down to `parent` keeps others out.
 */
export function refuseClosedFolder(parent: string): void {
  if (process.getuid?.() !== 0) return;
  for (let folder = realpathSync(parent); ; folder = dirname(folder)) {
    if ((lstatSync(folder).mode & OTHERS_MAY_ENTER) === 0) {
      throw new LocalStackError(
        'SIMULATION_FOLDER_CLOSED',
        `Expected a temporary folder that every user may enter, found ${folder} closed to others.`,
      );
    }
    if (folder === dirname(folder)) return;
  }
}

/** Removes the folders of this user's runs whose process is gone. */
export function removeLeftovers(parent: string, now: Date): void {
  for (const name of readdirSync(parent)) {
    const path = join(parent, name);
    if (name.startsWith(PREFIX) && isLeftover(path, now)) removeTree(path);
  }
}

function isLeftover(path: string, now: Date): boolean {
  const status = lstatSync(path, { throwIfNoEntry: false });
  if (status === undefined || !status.isDirectory() || status.uid !== process.getuid?.()) return false;
  let owner: string;
  try {
    owner = readFileSync(join(path, OWNER_FILE), 'utf8');
  } catch {
    return now.getTime() - status.mtimeMs > UNOWNED_MAX_MS;
  }
  const [pid, start] = owner.trim().split(' ');
  return start !== startOf(Number(pid));
}

/** When a process started, in clock ticks after boot (proc_pid_stat(5), field 22): pids are used again. */
function startOf(pid: number): string | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch {
    return undefined;
  }
  const FIELDS_BEFORE_NAME_ENDS = 2;
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[22 - FIELDS_BEFORE_NAME_ENDS - 1];
}

/** Measured copies are read-only, and only root removes from read-only folders as they are. */
export function removeTree(path: string): void {
  const unlock = (folder: string) => {
    chmodSync(folder, 0o700);
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      if (entry.isDirectory()) unlock(join(folder, entry.name));
    }
  };
  if (lstatSync(path, { throwIfNoEntry: false })?.isDirectory()) unlock(path);
  rmSync(path, { recursive: true, force: true });
}
