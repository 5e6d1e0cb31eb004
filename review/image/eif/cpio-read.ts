/**
 * Reads the newc cpio archive of a ramdisk (kernel
 * Documentation/driver-api/early-userspace/buffer-format.rst; the writer is review/image/cpio.ts), to list what
 * is inside. Contents are hashed as they pass and never held.
 *
 * Stricter than the kernel, which unpacks whatever follows an archive's end and skips what it does not know: a
 * listing must not miss what a kernel would unpack. So one archive, zeros after it, and nothing else.
 */
import { createHash, type Hash } from 'node:crypto';
import { EifError } from './errors.ts';

export type CpioKind = 'file' | 'folder' | 'link' | 'character-device' | 'block-device' | 'pipe' | 'socket';

export interface CpioEntry {
  /** As the archive has it; nothing vouches for it. */
  readonly path: string;
  readonly kind: CpioKind;
  /** Permission bits with setuid, setgid and sticky. */
  readonly mode: number;
  readonly userId: number;
  readonly groupId: number;
  readonly sizeBytes: number;
  /** Of a file's content, hex. */
  readonly sha256: string | undefined;
  /** Where a link points. */
  readonly target: string | undefined;
  /** More than one name for one file. */
  readonly links: number;
}

const MAGIC = '070701';
const HEADER_BYTES = 110;
const TRAILER = 'TRAILER!!!';
/** Linux PATH_MAX, for names and for the targets of links. */
const NAME_MAX_BYTES = 4096;
const ENTRIES_MAX = 200_000;
/** What all names together may take in memory. */
const NAMES_MAX_BYTES = 64 << 20;

const KINDS: ReadonlyMap<number, CpioKind> = new Map([
  [0o100000, 'file'],
  [0o040000, 'folder'],
  [0o120000, 'link'],
  [0o020000, 'character-device'],
  [0o060000, 'block-device'],
  [0o010000, 'pipe'],
  [0o140000, 'socket'],
]);
const KIND_BITS = 0o170000;

interface Fields {
  readonly mode: number;
  readonly userId: number;
  readonly groupId: number;
  readonly links: number;
  readonly contentBytes: number;
  readonly nameBytes: number;
}

interface PassingContent {
  left: number;
  readonly hash: Hash;
  readonly done: (sha256: string) => void;
}

/** Give it the archive in pieces of any length, then call end(). Throws EifError (CPIO_*). */
export class CpioReader {
  readonly #entries: CpioEntry[] = [];
  /** What is being collected, and what to do with it once it is whole. */
  #wanted = HEADER_BYTES;
  #held = Buffer.alloc(HEADER_BYTES);
  #heldBytes = 0;
  #then: (bytes: Buffer) => void = (bytes) => this.#onHeader(bytes);
  /** Content of a file that is passing by. */
  #passing: PassingContent | undefined;
  #at = 0;
  #namesBytes = 0;
  #ended = false;

  push(piece: Uint8Array): void {
    for (let offset = 0; offset < piece.length; ) {
      const rest = piece.subarray(offset);
      const used = this.#passing === undefined ? this.#collect(rest) : this.#pass(rest, this.#passing);
      offset += used;
      this.#at += used;
    }
  }

  /** The entries in the order of the archive. */
  end(): readonly CpioEntry[] {
    if (!this.#ended) throw malformed(`the archive ends at byte ${this.#at} without its trailer`);
    return this.#entries;
  }

  #pass(rest: Uint8Array, passing: PassingContent): number {
    const part = rest.subarray(0, passing.left);
    passing.hash.update(part);
    passing.left -= part.length;
    if (passing.left === 0) {
      this.#passing = undefined;
      passing.done(passing.hash.digest('hex'));
    }
    return part.length;
  }

  #collect(rest: Uint8Array): number {
    if (this.#ended) {
      if (!rest.every((byte) => byte === 0))
        throw malformed(`something follows the trailer, after byte ${this.#at}`);
      return rest.length;
    }
    const part = rest.subarray(0, this.#wanted - this.#heldBytes);
    this.#held.set(part, this.#heldBytes);
    this.#heldBytes += part.length;
    if (this.#heldBytes === this.#wanted) this.#then(this.#held);
    return part.length;
  }

  #collectNext(wanted: number, then: (bytes: Buffer) => void): void {
    this.#wanted = wanted;
    this.#held = Buffer.alloc(wanted);
    this.#heldBytes = 0;
    this.#then = then;
  }

  #nextHeader(): void {
    this.#collectNext(HEADER_BYTES, (bytes) => this.#onHeader(bytes));
  }

  #onHeader(bytes: Buffer): void {
    const text = bytes.toString('latin1');
    if (!text.startsWith(MAGIC)) throw malformed(`no header of the newc format before byte ${this.#at}`);
    if (!/^[0-9a-fA-F]{104}$/.test(text.slice(6)))
      throw malformed(`a header with odd digits near byte ${this.#at}`);
    const field = (index: number) => Number.parseInt(text.slice(6 + 8 * index, 14 + 8 * index), 16);
    const fields = {
      mode: field(1),
      userId: field(2),
      groupId: field(3),
      links: field(4),
      contentBytes: field(6),
      nameBytes: field(11),
    };
    if (field(12) !== 0)
      throw malformed(`a checksum, which this format does not have, near byte ${this.#at}`);
    if (fields.nameBytes < 2 || fields.nameBytes > NAME_MAX_BYTES) {
      throw malformed(`a name of ${fields.nameBytes} bytes near byte ${this.#at}`);
    }
    this.#collectNext(padded(HEADER_BYTES + fields.nameBytes) - HEADER_BYTES, (name) =>
      this.#onName(fields, name),
    );
  }

  #onName(fields: Fields, bytes: Buffer): void {
    const name = bytes.subarray(0, fields.nameBytes - 1);
    if (name.includes(0) || !bytes.subarray(fields.nameBytes - 1).every((byte) => byte === 0)) {
      throw malformed(`a name that ends early, or not at all, near byte ${this.#at}`);
    }
    const path = utf8(name);
    const { mode, contentBytes } = fields;
    if (path === TRAILER) {
      if (contentBytes !== 0) throw malformed('a trailer with content');
      this.#ended = true;
      return;
    }
    const kind = KINDS.get(mode & KIND_BITS);
    if (kind === undefined || mode > 0o177777) throw malformed(`${JSON.stringify(path)} is of no known kind`);
    this.#count(name.length);
    const entry: CpioEntry = {
      path,
      kind,
      mode: mode & 0o7777,
      userId: fields.userId,
      groupId: fields.groupId,
      sizeBytes: contentBytes,
      links: fields.links,
      sha256: undefined,
      target: undefined,
    };
    if (kind === 'file') this.#onFile(entry);
    else if (kind === 'link') this.#onLink(entry);
    else if (contentBytes !== 0) throw malformed(`${JSON.stringify(path)}, a ${kind}, has content`);
    else this.#add(entry);
  }

  #onFile(entry: CpioEntry): void {
    const hash = createHash('sha256');
    const done = (sha256: string) => {
      this.#entries.push({ ...entry, sha256 });
      this.#skipPadding(entry.sizeBytes);
    };
    if (entry.sizeBytes === 0) done(hash.digest('hex'));
    else this.#passing = { left: entry.sizeBytes, hash, done };
  }

  #onLink(entry: CpioEntry): void {
    if (entry.sizeBytes === 0 || entry.sizeBytes > NAME_MAX_BYTES) {
      throw malformed(`${JSON.stringify(entry.path)} links to a name of ${entry.sizeBytes} bytes`);
    }
    this.#collectNext(entry.sizeBytes, (bytes) => {
      const target = utf8(bytes);
      if (target.includes('\0')) throw malformed(`${JSON.stringify(entry.path)} links to a name with a NUL`);
      this.#count(bytes.length);
      this.#entries.push({ ...entry, target });
      this.#skipPadding(entry.sizeBytes);
    });
  }

  #add(entry: CpioEntry): void {
    this.#entries.push(entry);
    this.#nextHeader();
  }

  #skipPadding(contentBytes: number): void {
    const padding = padded(contentBytes) - contentBytes;
    if (padding === 0) this.#nextHeader();
    else {
      this.#collectNext(padding, (bytes) => {
        if (!bytes.every((byte) => byte === 0))
          throw malformed(`padding that is not zero near byte ${this.#at}`);
        this.#nextHeader();
      });
    }
  }

  #count(nameBytes: number): void {
    this.#namesBytes += nameBytes;
    if (this.#entries.length >= ENTRIES_MAX || this.#namesBytes > NAMES_MAX_BYTES) {
      throw new EifError(
        'CPIO_LIMIT',
        `Expected at most ${ENTRIES_MAX} entries with names of ${NAMES_MAX_BYTES} bytes together.`,
      );
    }
  }
}

function padded(sizeBytes: number): number {
  return Math.ceil(sizeBytes / 4) * 4;
}

/** A name that is no text would be shown as another. */
function utf8(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new EifError('CPIO_MALFORMED', 'The ramdisk is no archive to rely on: a name is not UTF-8.', cause);
  }
}

function malformed(why: string): EifError {
  return new EifError('CPIO_MALFORMED', `The ramdisk is no archive to rely on: ${why}.`);
}
