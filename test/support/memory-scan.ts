/**
 * Searches what a process holds for secrets: its memory, the files that it has open (nameless ones included),
 * its environment and its command line. Root reads any process, non-dumpable ones too; without root this cannot
 * be done, and tests say so.
 */
import { closeSync, openSync, readdirSync, readFileSync, readSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { CanarySearch, Hit } from './canaries.ts';

export interface Sighting extends Hit {
  readonly place: string;
}

/** Whether this process may look into others. */
export const MAY_LOOK_INTO_PROCESSES = process.getuid?.() === 0;

const PIECE_BYTES = 16 << 20;
const PAGE_BYTES = 4096;
/** pagemap (kernel documentation, admin-guide/mm/pagemap): 8 bytes a page; these bits lie in the upper half. */
const PAGEMAP_ENTRY_BYTES = 8;
const PRESENT = 1 << 31;
const SWAPPED = 1 << 30;
const FILE_OR_SHARED = 1 << 29;

const piece = Buffer.allocUnsafeSlow(PIECE_BYTES);

/** Everything that one process holds. */
export function searchProcess(pid: number, search: CanarySearch): Sighting[] {
  return unique([
    ...searchMemory(pid, search),
    ...searchOpenFiles(pid, search),
    ...['environ', 'cmdline'].flatMap((name) => searchFile(`/proc/${pid}/${name}`, search, `its ${name}`)),
  ]);
}

/**
 * Every page of `/proc/PID/mem` that the process may have written: its private pages, whatever their protection
 * is now, and the present pages of writable shared mappings.
 */
export function searchMemory(pid: number, search: CanarySearch): Sighting[] {
  const memory = openSync(`/proc/${pid}/mem`, 'r');
  const pagemap = openSync(`/proc/${pid}/pagemap`, 'r');
  try {
    const found: Sighting[] = [];
    for (const mapping of writtenMappings(pid)) {
      for (const run of writtenRuns(pagemap, mapping)) {
        found.push(...searchRange(memory, run.start, run.end, search, `memory (${mapping.name})`));
      }
    }
    return unique(found);
  } finally {
    closeSync(memory);
    closeSync(pagemap);
  }
}

/** Every regular file that the process has open, deleted and nameless ones too. */
export function searchOpenFiles(pid: number, search: CanarySearch): Sighting[] {
  return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    const path = `/proc/${pid}/fd/${fd}`;
    try {
      return statSync(path).isFile() ? searchFile(path, search, 'open file') : [];
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []; // Closed while we looked.
      throw error;
    }
  });
}

/** Every file below the folders. Sockets and the like hold nothing; `skip` names folders to leave out. */
export function searchFolders(
  folders: readonly string[],
  search: CanarySearch,
  skip: readonly string[] = [],
): Sighting[] {
  return folders.flatMap((folder) =>
    readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) return skip.includes(path) ? [] : searchFolders([path], search, skip);
      return entry.isFile() ? searchFile(path, search, path) : [];
    }),
  );
}

/** All descendants of a process, itself first. */
export function processTree(pid: number): number[] {
  const children = readdirSync(`/proc/${pid}/task`).flatMap((task) => {
    try {
      const text = readFileSync(`/proc/${pid}/task/${task}/children`, 'latin1').trim();
      return text === '' ? [] : text.split(' ').map(Number);
    } catch {
      return []; // The thread has ended.
    }
  });
  return [pid, ...children.flatMap((child) => processTree(child))];
}

/** Nothing, if the file has gone meanwhile. */
function searchFile(path: string, search: CanarySearch, place: string): Sighting[] {
  let file: number;
  try {
    file = openSync(path, 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
  try {
    return searchRange(file, 0, Number.POSITIVE_INFINITY, search, place);
  } finally {
    closeSync(file);
  }
}

function searchRange(
  fd: number,
  start: number,
  end: number,
  search: CanarySearch,
  place: string,
): Sighting[] {
  const found: Sighting[] = [];
  for (let at = start; at < end; ) {
    const length = readAt(fd, at, Math.min(PIECE_BYTES, end - at));
    for (const hit of search.in(piece.subarray(0, length))) found.push({ ...hit, place });
    if (length < PIECE_BYTES) break;
    at += length - search.overlapBytes;
  }
  return unique(found);
}

/** Fills `piece` as far as there is something to read. */
function readAt(fd: number, position: number, length: number): number {
  let filled = 0;
  while (filled < length) {
    let count = 0;
    try {
      count = readSync(fd, piece, filled, length - filled, position + filled);
    } catch {
      break; // Unmapped while we looked.
    }
    if (count === 0) break;
    filled += count;
  }
  return filled;
}

interface Mapping {
  readonly start: number;
  readonly end: number;
  readonly shared: boolean;
  readonly name: string;
}

function writtenMappings(pid: number): Mapping[] {
  const found: Mapping[] = [];
  let mapping: (Mapping & { readonly writable: boolean }) | undefined;
  for (const line of readFileSync(`/proc/${pid}/smaps`, 'latin1').split('\n')) {
    const head = /^([0-9a-f]+)-([0-9a-f]+) (..)(.)(.) \S+ \S+ \S+\s*(.*)$/.exec(line);
    if (head !== null) {
      const [, start = '', end = '', access = '', , sharing, name] = head;
      mapping = {
        start: Number.parseInt(start, 16),
        end: Number.parseInt(end, 16),
        writable: access.includes('w'),
        shared: sharing === 's',
        name: name || 'anonymous',
      };
    } else if (mapping !== undefined) {
      const [, member, kib] = /^(Rss|Anonymous): +(\d+) kB$/.exec(line) ?? [];
      const counts = mapping.shared ? member === 'Rss' && mapping.writable : member === 'Anonymous';
      if (counts && kib !== '0') found.push(mapping);
    }
  }
  return found;
}

function* writtenRuns(
  pagemap: number,
  { start, end, shared }: Mapping,
): Generator<{ readonly start: number; readonly end: number }> {
  const entries = Buffer.alloc(((end - start) / PAGE_BYTES) * PAGEMAP_ENTRY_BYTES);
  readSync(pagemap, entries, 0, entries.length, (start / PAGE_BYTES) * PAGEMAP_ENTRY_BYTES);
  let from: number | undefined;
  for (let at = start, entry = 4; at < end; at += PAGE_BYTES, entry += PAGEMAP_ENTRY_BYTES) {
    const flags = entries.readInt32LE(entry);
    const written = (flags & (PRESENT | SWAPPED)) !== 0 && (shared || (flags & FILE_OR_SHARED) === 0);
    if (written) from ??= at;
    else if (from !== undefined) {
      yield { start: from, end: at };
      from = undefined;
    }
  }
  if (from !== undefined) yield { start: from, end };
}

function unique(sightings: readonly Sighting[]): Sighting[] {
  return [...new Map(sightings.map((one) => [JSON.stringify(one), one])).values()];
}
