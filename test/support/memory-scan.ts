/**
 * Searches what a process holds for secrets: its memory and the files that it has open, nameless ones included.
 *
 * Root reads any process, non-dumpable ones too; without root this cannot be done, and tests say so.
 */
import { closeSync, openSync, readdirSync, readFileSync, readSync, statSync } from 'node:fs';
import { join } from 'node:path';

/** A secret to look for, in every form that software likes to give it. */
export interface Canary {
  readonly name: string;
  readonly forms: readonly { readonly form: string; readonly needle: Buffer }[];
}

export interface Sighting {
  readonly canary: string;
  readonly form: string;
  readonly place: string;
}

/** Raw, hex in both cases, base64 and base64url at three alignments, UTF-16 of the text forms. */
export function canary(name: string, secret: Uint8Array, options: { readonly text?: boolean } = {}): Canary {
  const bytes = Buffer.from(secret);
  const forms = [
    { form: 'raw', needle: bytes },
    { form: 'reversed', needle: Buffer.from(bytes).reverse() },
    ...(['hex', 'HEX'] as const).map((form) => ({
      form,
      needle: Buffer.from(form === 'hex' ? bytes.toString('hex') : bytes.toString('hex').toUpperCase()),
    })),
    ...[0, 1, 2].flatMap((shift) => {
      // Only whole groups of four characters that depend on the secret alone.
      const padded = Buffer.concat([Buffer.alloc(shift), bytes]).toString('base64');
      const inner = padded.slice(shift === 0 ? 0 : 4, Math.floor((shift + bytes.length) / 3) * 4);
      const url = inner.replaceAll('+', '-').replaceAll('/', '_');
      return [
        { form: `base64 at ${shift}`, needle: Buffer.from(inner) },
        ...(url === inner ? [] : [{ form: `base64url at ${shift}`, needle: Buffer.from(url) }]),
      ];
    }),
  ];
  const wide = options.text === true ? [bytes.toString('latin1')] : [bytes.toString('hex'), bytes.toString('base64')];
  return {
    name,
    forms: [...forms, ...wide.map((text, index) => ({ form: `utf16 ${index}`, needle: Buffer.from(text, 'utf16le') }))],
  };
}

/** Searches one buffer; each form is reported once. */
export function searchBytes(haystack: Buffer, canaries: readonly Canary[], place: string): Sighting[] {
  return canaries.flatMap((one) =>
    one.forms
      .filter(({ needle }) => haystack.includes(needle))
      .map(({ form }) => ({ canary: one.name, form, place })),
  );
}

const CHUNK_BYTES = 16 * 1024 * 1024;
const OVERLAP_BYTES = 4096;

/** Searches everything readable in `/proc/PID/mem`. */
export function searchMemory(pid: number, canaries: readonly Canary[]): Sighting[] {
  const found: Sighting[] = [];
  const memory = openSync(`/proc/${pid}/mem`, 'r');
  try {
    for (const { start, end, name } of mappings(pid)) {
      for (let at = start; at < end; at += CHUNK_BYTES) {
        const length = Math.min(CHUNK_BYTES + OVERLAP_BYTES, end - at);
        const bytes = readAt(memory, at, length);
        if (bytes !== undefined) found.push(...searchBytes(bytes, canaries, `memory of ${pid} (${name})`));
      }
    }
  } finally {
    closeSync(memory);
  }
  return unique(found);
}

/** Searches every regular file that the process has open, deleted and nameless ones too. */
export function searchOpenFiles(pid: number, canaries: readonly Canary[]): Sighting[] {
  const found: Sighting[] = [];
  for (const fd of readdirSync(`/proc/${pid}/fd`)) {
    const path = `/proc/${pid}/fd/${fd}`;
    try {
      if (statSync(path).isFile()) found.push(...searchBytes(readFileSync(path), canaries, `open file ${fd} of ${pid}`));
    } catch {
      // Closed while we looked.
    }
  }
  return unique(found);
}

/** Searches every file below a folder. */
export function searchFolder(folder: string, canaries: readonly Canary[]): Sighting[] {
  const found: Sighting[] = [];
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    found.push(...searchBytes(readFileSync(path), canaries, path));
  }
  return unique(found);
}

/** All descendants of a process, itself first. */
export function processTree(pid: number): number[] {
  const children = readdirSync(`/proc/${pid}/task`).flatMap((task) => {
    try {
      return readFileSync(`/proc/${pid}/task/${task}/children`, 'latin1').trim().split(' ').filter(Boolean).map(Number);
    } catch {
      return [];
    }
  });
  return [pid, ...children.flatMap((child) => processTree(child))];
}

/** Readable and writable mappings: a secret cannot be in a mapping that nobody ever wrote to. */
function mappings(pid: number): { start: number; end: number; name: string }[] {
  return readFileSync(`/proc/${pid}/maps`, 'latin1')
    .trim()
    .split('\n')
    .flatMap((line) => {
      const match = /^([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+\s*(.*)$/.exec(line);
      if (match === null) return [];
      const [, start, end, mode, name] = match as unknown as [string, string, string, string, string];
      if (!mode.startsWith('rw') || name === '[vvar]') return [];
      return [{ start: Number.parseInt(start, 16), end: Number.parseInt(end, 16), name: name || 'anonymous' }];
    });
}

function readAt(fd: number, position: number, length: number): Buffer | undefined {
  const bytes = Buffer.allocUnsafeSlow(length);
  let filled = 0;
  while (filled < length) {
    try {
      const count = readSync(fd, bytes, filled, length - filled, position + filled);
      if (count === 0) break;
      filled += count;
    } catch {
      break; // A guard page inside the mapping.
    }
  }
  return filled === 0 ? undefined : bytes.subarray(0, filled);
}

function unique(sightings: readonly Sighting[]): Sighting[] {
  return [...new Map(sightings.map((one) => [JSON.stringify(one), one])).values()];
}
