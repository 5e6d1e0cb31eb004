/**
 * The `newc` cpio archive that Linux unpacks as its initial root file system (kernel
 * Documentation/driver-api/early-userspace/buffer-format.rst): for each entry a header of 110 ASCII bytes,
 * the name with a NUL, and the content, each padded to a multiple of four; a last entry named TRAILER!!!.
 *
 * The archive depends on names, modes and contents alone: entries are sorted, times and owners are zero,
 * inode numbers count up.
 */
import { type ImageEntry, orderedEntries, readEntry } from './entries.ts';

const PIECE_BYTES = 1 << 20;
/** Between pieces the event loop gets a turn after about this many bytes. */
const TURN_BYTES = 16 << 20;

const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
/** Linux shows every symbolic link with all permissions, and asks for none. */
const SYMBOLIC_LINK = 0o120777;
const SIZE_MAX_BYTES = 0xffff_ffff;

/**
 * Streams the archive. A piece is valid until the next one is asked for: reading reuses one buffer of 1 MiB,
 * whatever the size of the archive. Throws ImageError for entries that an image must not hold.
 */
export async function* cpioArchive(entries: readonly ImageEntry[]): AsyncGenerator<Uint8Array> {
  const buffer = new Uint8Array(PIECE_BYTES);
  let inode = 0;
  let sinceTurn = 0;
  for (const entry of orderedEntries(entries)) {
    inode += 1;
    const { path: name } = entry;
    if (entry.kind === 'link') {
      const target = Buffer.from(entry.target);
      yield header({ inode, mode: SYMBOLIC_LINK, links: 1, sizeBytes: target.length, name });
      yield Buffer.concat([target, padding(target.length)]);
      continue;
    }
    const { mode } = entry;
    if (entry.kind === 'folder') {
      yield header({ inode, mode: S_IFDIR | mode, links: 2, sizeBytes: 0, name });
      continue;
    }
    if (entry.sizeBytes > SIZE_MAX_BYTES) throw new RangeError(`${name} is larger than cpio can say.`);
    yield header({ inode, mode: S_IFREG | mode, links: 1, sizeBytes: entry.sizeBytes, name });
    for (const piece of readEntry(entry, buffer)) {
      yield piece;
      sinceTurn += piece.length;
      if (sinceTurn > TURN_BYTES) {
        sinceTurn = 0;
        await new Promise(setImmediate);
      }
    }
    yield padding(entry.sizeBytes);
  }
  yield header({ inode: 0, mode: 0, links: 1, sizeBytes: 0, name: 'TRAILER!!!' });
}

function header(entry: {
  readonly inode: number;
  readonly mode: number;
  readonly links: number;
  readonly sizeBytes: number;
  readonly name: string;
}): Uint8Array {
  const name = Buffer.from(`${entry.name}\0`);
  const fields = [
    entry.inode,
    entry.mode,
    0, // owner
    0, // group
    entry.links,
    0, // time of modification
    entry.sizeBytes,
    0, // device that holds the file, major
    0, // and minor
    0, // device that the file is, major
    0, // and minor
    name.length,
    0, // checksum, unused in this format
  ];
  const head = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`);
  return Buffer.concat([head, name, padding(head.length + name.length)]);
}

function padding(sizeBytes: number): Uint8Array {
  return new Uint8Array((4 - (sizeBytes % 4)) % 4);
}
