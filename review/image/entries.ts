/**
 * What a ramdisk holds: files and folders, and links in images that were made of container images. The content
 * of a file is on disk or in memory; both are read in pieces, so the size of an image costs no memory.
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
  /** A path on this machine, a part of a file on this machine, or the content itself. */
  readonly content: string | FilePart | Uint8Array;
}

/** `sizeBytes` of the entry from here on. */
export interface FilePart {
  readonly path: string;
  readonly offsetBytes: number;
}

/** A symbolic link; nothing here ever follows one. */
export interface LinkEntry {
  readonly kind: 'link';
  readonly path: string;
  readonly target: string;
}

export type PlainEntry = FolderEntry | FileEntry;
export type ImageEntry = PlainEntry | LinkEntry;

/** Names as tools on every side read them alike. */
const PLAIN_NAME = /^[\w.@+-][\w.@+ -]*$/;

/** Everything below a folder, sorted. ImageError IMAGE_FILE_REFUSED for links, devices, odd names. */
export function folderEntries(folder: string): readonly PlainEntry[] {
  const entries: PlainEntry[] = [];
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

/** `orderedEntries` that have plain names besides. */
export function checkedEntries<Entry extends ImageEntry>(entries: readonly Entry[]): readonly Entry[] {
  for (const { path } of entries) {
    if (!path.split('/').every((name) => PLAIN_NAME.test(name))) throw notPlain(path);
  }
  return orderedEntries(entries);
}

/** The entries in the order of an archive. Refuses names that lead elsewhere, doubles, files without their folder. */
export function orderedEntries<Entry extends ImageEntry>(entries: readonly Entry[]): readonly Entry[] {
  const sorted = entries
    .map((entry) => ({ entry, bytes: Buffer.from(entry.path) }))
    .sort((a, b) => Buffer.compare(a.bytes, b.bytes))
    .map(({ entry }) => entry);
  const folders = new Set(['']);
  const seen = new Set<string>();
  for (const { kind, path } of sorted) {
    const names = path.split('/');
    if (names.some((name) => name === '' || name === '.' || name === '..' || name.includes('\0'))) {
      throw notPlain(path);
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

function notPlain(path: string): ImageError {
  return new ImageError('IMAGE_FILE_REFUSED', `${JSON.stringify(path)} is not a plain name.`);
}

/** Yields the file's bytes in `buffer`, which is used again for each piece. */
export function* readEntry(entry: FileEntry, buffer: Uint8Array): Generator<Uint8Array> {
  const { content, sizeBytes } = entry;
  if (content instanceof Uint8Array) {
    yield content;
    return;
  }
  const isPart = typeof content !== 'string';
  const fd = openSync(isPart ? content.path : content, 'r');
  try {
    let position = isPart ? content.offsetBytes : 0;
    let left = sizeBytes;
    // Of a whole file one byte more is asked for, which must not be there.
    const beyond = isPart ? 0 : 1;
    while (left + beyond > 0) {
      const count = readSync(fd, buffer, 0, Math.min(buffer.length, left + beyond), position);
      if (count === 0) break;
      position += count;
      left -= count;
      if (left < 0) break;
      yield buffer.subarray(0, count);
    }
    if (left !== 0) {
      throw new ImageError(
        'IMAGE_CHANGED_WHILE_READ',
        `${entry.path} is not ${sizeBytes} bytes long any more.`,
      );
    }
  } finally {
    closeSync(fd);
  }
}
