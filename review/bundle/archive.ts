/**
 * The archive: a tar file (POSIX.1-2017, "ustar Interchange Format") in exactly one form, so that any tar opens it and no
 * two readers see different files in it. Regular files alone, in the order of their names, each name once and of a
 * closed list, mode 0644, owner 0, time 0, no extension headers, ended by two blocks of zeros and nothing behind.
 *
 * Reading compares each header with the one that writing gives for the same name and size: whatever is not written here
 * is not read here.
 */
import { EvidenceBundleError } from './errors.ts';
import { ARCHIVE_MAX_BYTES, largestOf, MEMBERS_MAX } from './members.ts';

export interface Member {
  readonly name: string;
  readonly bytes: Uint8Array;
}

const BLOCK = 512;
const NAME_BYTES = 100;

/** The same bytes for the same members, in whatever order they are given. Throws TypeError for what no bundle holds. */
export function encodeArchive(members: readonly Member[]): Uint8Array {
  const sorted = members.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  for (const [index, { name, bytes }] of sorted.entries()) {
    if (!(bytes.length <= (largestOf(name) ?? -1)) || sorted[index - 1]?.name === name) {
      throw new TypeError(`not a member of a bundle, too large, or twice: ${name}`);
    }
  }
  const parts = sorted.flatMap(({ name, bytes }) => [
    header(name, bytes.length),
    bytes,
    Buffer.alloc(padded(bytes.length) - bytes.length),
  ]);
  return Buffer.concat([...parts, Buffer.alloc(2 * BLOCK)]);
}

/** By name, in their order; views into `archive`. Throws EvidenceBundleError BUNDLE_MALFORMED. */
export function decodeArchive(archive: Uint8Array): readonly Member[] {
  if (archive.length > ARCHIVE_MAX_BYTES) throw malformed(`it has more than ${ARCHIVE_MAX_BYTES} bytes`);
  const bytes = Buffer.from(archive.buffer, archive.byteOffset, archive.byteLength);
  const members: Member[] = [];
  for (let at = 0; ; ) {
    const block = bytes.subarray(at, at + BLOCK);
    if (block.length < BLOCK) throw malformed('it is cut short');
    if (isZero(block)) {
      expectEnd(bytes.subarray(at));
      return members;
    }
    const member = readMember(block, bytes, at + BLOCK);
    const last = members.at(-1);
    if (last !== undefined && last.name >= member.name) {
      throw malformed(`${JSON.stringify(member.name)} comes twice, or out of order`);
    }
    if (members.length === MEMBERS_MAX) throw malformed(`it has more than ${MEMBERS_MAX} members`);
    members.push(member);
    at += BLOCK + padded(member.bytes.length);
  }
}

function readMember(block: Buffer, archive: Buffer, at: number): Member {
  const end = block.indexOf(0);
  const name = block.toString('latin1', 0, end === -1 || end > NAME_BYTES ? NAME_BYTES : end);
  const largest = largestOf(name);
  if (largest === undefined) throw malformed(`it holds ${JSON.stringify(name)}, which no bundle does`);
  const digits = block.toString('latin1', 124, 135);
  const sizeBytes = /^[0-7]{11}$/.test(digits) ? Number.parseInt(digits, 8) : Number.NaN;
  if (!(sizeBytes <= largest)) throw malformed(`${name} has no size, or one of more than ${largest} bytes`);
  if (!block.equals(header(name, sizeBytes))) {
    throw malformed(`the header of ${name} is not the one that a bundle has`);
  }
  const content = archive.subarray(at, at + sizeBytes);
  const padding = archive.subarray(at + sizeBytes, at + padded(sizeBytes));
  if (content.length < sizeBytes || padding.length < padded(sizeBytes) - sizeBytes) {
    throw malformed(`it is cut short in ${name}`);
  }
  if (!isZero(padding)) throw malformed(`something hides behind ${name}`);
  return { name, bytes: content };
}

function expectEnd(rest: Buffer): void {
  if (rest.length < 2 * BLOCK) throw malformed('it has no end');
  if (rest.length > 2 * BLOCK || !isZero(rest)) throw malformed('something follows its end');
}

/** Fields at their offsets: name 0, mode 100, uid 108, gid 116, size 124, mtime 136, checksum 148, typeflag 156, magic 257. */
function header(name: string, sizeBytes: number): Buffer {
  const block = Buffer.alloc(BLOCK);
  block.write(name, 0, 'latin1');
  block.write('0000644\0', 100, 'latin1');
  block.write('0000000\0', 108, 'latin1');
  block.write('0000000\0', 116, 'latin1');
  block.write(`${sizeBytes.toString(8).padStart(11, '0')}\0`, 124, 'latin1');
  block.write('00000000000\0', 136, 'latin1');
  block.write('        ', 148, 'latin1'); // the checksum counts itself as spaces
  block.write('0', 156, 'latin1');
  block.write('ustar\x0000', 257, 'latin1');
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return block;
}

function padded(sizeBytes: number): number {
  return Math.ceil(sizeBytes / BLOCK) * BLOCK;
}

function isZero(bytes: Buffer): boolean {
  return bytes.every((byte) => byte === 0);
}

function malformed(why: string): EvidenceBundleError {
  return new EvidenceBundleError('BUNDLE_MALFORMED', `Not an evidence bundle to rely on: ${why}.`);
}
