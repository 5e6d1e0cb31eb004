/**
 * What a ramdisk holds: regular files and folders with plain names, nothing else. An entry can be a file on
 * disk or bytes in memory; both are read in pieces, so the size of an image costs no memory.
 */
import { closeSync, lstatSync, openSync, readdirSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { ImageError } from './errors.ts';

export interface FolderEntry {
  readonly kind: 'folder';
  /** From the ramdisk's root, without a leading slash: `rootfs/app`. */
  readonly path: string;
  /** Permission bits, for example 0o555. */
  readonly mode: number;
}

export interface FileEntry {
  readonly kind: 'file';
  readonly path: string;
  readonly mode: number;
  readonly sizeBytes: number;
  /** A path on this machine, or the content itself. */
  readonly content: string | Uint8Array;
}

export type ImageEntry = FolderEntry | FileEntry;

/** Names as tools on every side read them alike. */
const PLAIN_NAME = /^[\w.@+-][\w.@+ -]*$/;

/** Everything below a folder, sorted. ImageError IMAGE_FILE_REFUSED for links, devices, odd names. */
export function folderEntries(folder: string): readonly ImageEntry[] {
  const entries: ImageEntry[] = [];
  const walk = (path: string) => {
    for (const name of readdirSync(join(folder, path))) {
      const child = path === '' ? name : `${path}/${name}`;
      const status = lstatSync(join(folder, child));
      const mode = status.mode & 0o7777;
      if (status.isDirectory()) {
        entries.push({ kind: 'folder', path: child, mode });
        walk(child);
      } else if (status.isFile()) {
        entries.push({
          kind: 'file',
          path: child,
          mode,
          sizeBytes: status.size,
          content: join(folder, child),
        });
      } else {
        throw new ImageError('IMAGE_FILE_REFUSED', `${child} is neither a regular file nor a folder.`);
      }
    }
  };
  walk('');
  return checkedEntries(entries);
}

/** The entries in the order of an archive. Refuses odd names, doubles and files without their folder. */
export function checkedEntries(entries: readonly ImageEntry[]): readonly ImageEntry[] {
  const sorted = [...entries].sort((a, b) => Buffer.compare(Buffer.from(a.path), Buffer.from(b.path)));
  const folders = new Set(['']);
  const seen = new Set<string>();
  for (const { kind, path } of sorted) {
    const names = path.split('/');
    if (names.some((name) => name === '.' || name === '..' || !PLAIN_NAME.test(name))) {
      throw new ImageError('IMAGE_FILE_REFUSED', `${JSON.stringify(path)} is not a plain name.`);
    }
    if (seen.has(path) || !folders.has(names.slice(0, -1).join('/'))) {
      throw new ImageError(
        'IMAGE_FILE_REFUSED',
        `${path} is there twice, or is not in a folder of the image.`,
      );
    }
    seen.add(path);
    if (kind === 'folder') folders.add(path);
  }
  return sorted;
}

/** Yields the file's bytes in `buffer`, which is used again for each piece. */
export function* readEntry(entry: FileEntry, buffer: Uint8Array): Generator<Uint8Array> {
  if (typeof entry.content !== 'string') {
    yield entry.content;
    return;
  }
  const fd = openSync(entry.content, 'r');
  try {
    let left = entry.sizeBytes;
    for (;;) {
      const count = readSync(fd, buffer, 0, buffer.length, null);
      if (count === 0) break;
      left -= count;
      if (left < 0) break;
      yield buffer.subarray(0, count);
    }
    if (left !== 0) {
      throw new ImageError(
        'IMAGE_CHANGED_WHILE_READ',
        `${entry.path} is not ${entry.sizeBytes} bytes long any more.`,
      );
    }
  } finally {
    closeSync(fd);
  }
}
