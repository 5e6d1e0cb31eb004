/**
 * A strict linear scan over a tar archive (POSIX.1-2017 pax, "ustar Interchange Format"; GNU tar manual, "Basic
 * Tar Format"), before tar-stream reads its names and modes. A primer: 512-byte blocks; a member is a header and
 * its content, padded to blocks; an extension header before it ("x", or GNU's "L" and "K") carries what does not
 * fit; two blocks of zeros end the archive.
 *
 * Readers part ways where an archive goes on behind its end, gives content to what has none, or says one thing
 * twice. All of that is refused here, so that the image has the files that every other reader sees.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import type { FilePart } from '../../../review/image/entries.ts';
import { ContainerImageError } from './errors.ts';

/** A file on this machine, or a part of one. */
export interface Bytes extends FilePart {
  readonly sizeBytes: number;
}

/** Where a member's content is, in the order of the archive; offsets count from the archive's beginning. */
export interface TarSpan {
  readonly contentOffset: number;
  readonly contentBytes: number;
}

const BLOCK = 512;
const EXTENSION_MAX_BYTES = 65_536;
/** A newc archive says sizes in 32 bits. */
const FILE_MAX_BYTES = 0xffff_ffff;
const FLAGS_WITH_CONTENT = ['0', '\0'];
/** Hard link, symbolic link, devices, folder, pipe: what cannot be kept is refused by name, later. */
const FLAGS_WITHOUT_CONTENT = ['1', '2', '3', '4', '5', '6'];

/**
 * What a pax header may say. Others (extended attributes, sparse files) change what a file is, and cannot be kept.
 */
const PAX_KEYS = new Set([
  ...['path', 'linkpath', 'size', 'uid', 'gid', 'uname', 'gname', 'mtime', 'atime', 'ctime'],
  ...['LIBARCHIVE.creationtime', 'SCHILY.dev', 'SCHILY.ino', 'SCHILY.nlink'],
]);

/** Throws ContainerImageError (CONTAINER_TAR, CONTAINER_LIMIT, CONTAINER_ENTRY). */
export function scanTar(archive: Bytes, maxMembers: number): readonly TarSpan[] {
  const fd = openSync(archive.path, 'r');
  try {
    if (archive.offsetBytes + archive.sizeBytes > fstatSync(fd).size) throw malformed('it is cut short');
    const read = (at: number, sizeBytes: number): Buffer => {
      const bytes = Buffer.alloc(sizeBytes);
      if (at + sizeBytes > archive.sizeBytes) throw malformed(`it ends inside a member, after byte ${at}`);
      if (readSync(fd, bytes, 0, sizeBytes, archive.offsetBytes + at) !== sizeBytes) {
        throw malformed('it is cut short');
      }
      return bytes;
    };
    return scan(read, archive.sizeBytes, maxMembers);
  } finally {
    closeSync(fd);
  }
}

type Read = (at: number, sizeBytes: number) => Buffer;

function scan(read: Read, archiveBytes: number, maxMembers: number): readonly TarSpan[] {
  const spans: TarSpan[] = [];
  /** Extension headers before the next member. */
  let extensions: string[] = [];
  let paxSize: number | undefined;
  for (let at = 0; ; ) {
    const header = read(at, BLOCK);
    if (isZero(header)) {
      if (extensions.length > 0) throw malformed('it ends with an extension header');
      expectZeros(read, at, archiveBytes);
      return spans;
    }
    at += BLOCK;
    const flag = header.toString('latin1', 156, 157);
    const saysBytes = octal(header);
    if (flag === 'x' || flag === 'L' || flag === 'K') {
      if (extensions.includes(flag) || (extensions.length > 0 && [...extensions, flag].includes('x'))) {
        throw malformed(`two extension headers say one thing, near byte ${at}`);
      }
      if (saysBytes > EXTENSION_MAX_BYTES) throw malformed(`an extension header of ${saysBytes} bytes`);
      extensions.push(flag);
      const content = read(at, saysBytes);
      if (flag === 'x') paxSize = sizeIn(paxRecords(content));
      else if (content.indexOf(0) !== saysBytes - 1)
        throw malformed(`a long name with a NUL, near byte ${at}`);
      at += padded(saysBytes);
      continue;
    }
    const contentBytes = paxSize ?? saysBytes;
    if (FLAGS_WITHOUT_CONTENT.includes(flag)) {
      if (contentBytes !== 0 || saysBytes !== 0) {
        throw malformed(`content of what has none, near byte ${at}`);
      }
    } else if (!FLAGS_WITH_CONTENT.includes(flag)) {
      throw malformed(`a member of kind ${JSON.stringify(flag)}, near byte ${at}`);
    }
    if (contentBytes > FILE_MAX_BYTES) {
      throw new ContainerImageError('CONTAINER_LIMIT', `A file of ${contentBytes} bytes is too large.`);
    }
    if (spans.length === maxMembers) {
      throw new ContainerImageError('CONTAINER_LIMIT', `Expected at most ${maxMembers} members in all.`);
    }
    spans.push({ contentOffset: at, contentBytes });
    at += padded(contentBytes);
    extensions = [];
    paxSize = undefined;
  }
}

/** POSIX pax, "pax Extended Header": `length key=value\n`, the length in decimal and of the whole record. */
function paxRecords(content: Buffer): ReadonlyMap<string, string> {
  const records = new Map<string, string>();
  for (let at = 0; at < content.length; ) {
    const space = content.indexOf(' ', at);
    const digits = content.toString('latin1', at, space === -1 ? at : space);
    const end = at + Number(digits);
    if (!/^[1-9]\d{0,5}$/.test(digits) || end > content.length || content[end - 1] !== 0x0a) {
      throw malformed('a pax record whose length is wrong');
    }
    const record = content.subarray(space + 1, end - 1);
    const equals = record.indexOf('=');
    const key = record.toString('utf8', 0, Math.max(equals, 0));
    const value = record.subarray(equals + 1);
    if (!PAX_KEYS.has(key)) {
      throw new ContainerImageError(
        'CONTAINER_ENTRY',
        `A layer says ${JSON.stringify(key)} of a file, which an enclave image cannot keep.`,
      );
    }
    if (records.has(key) || value.includes(0)) throw malformed(`two values, or a NUL, in pax record ${key}`);
    records.set(key, value.toString());
    at = end;
  }
  return records;
}

function sizeIn(records: ReadonlyMap<string, string>): number | undefined {
  const size = records.get('size');
  if (size === undefined) return undefined;
  if (!/^\d{1,15}$/.test(size)) throw malformed('a pax size that is no number');
  return Number(size);
}

/** The size field: 11 octal digits, with spaces or a NUL behind. Larger numbers have another form, not for us. */
function octal(header: Buffer): number {
  const [digits] = /^ *[0-7]{1,12}(?=[ \0]*$)/.exec(header.toString('latin1', 124, 136)) ?? [];
  if (digits === undefined) throw malformed('a size that is no octal number');
  return Number.parseInt(digits, 8);
}

function expectZeros(read: Read, from: number, archiveBytes: number): void {
  if (archiveBytes - from < 2 * BLOCK) throw malformed('it has no end');
  for (let at = from; at < archiveBytes; at += ZEROS.length) {
    if (!isZero(read(at, Math.min(ZEROS.length, archiveBytes - at)))) {
      throw malformed('something follows its end');
    }
  }
}

const ZEROS = Buffer.alloc(1 << 16);

/** Of at most 64 KiB. */
function isZero(bytes: Buffer): boolean {
  return bytes.equals(ZEROS.subarray(0, bytes.length));
}

function padded(sizeBytes: number): number {
  return Math.ceil(sizeBytes / BLOCK) * BLOCK;
}

function malformed(why: string): ContainerImageError {
  return new ContainerImageError('CONTAINER_TAR', `Not a tar archive to rely on: ${why}.`);
}
