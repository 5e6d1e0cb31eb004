/**
 * The enclave image format (aws-nitro-enclaves-image-format README.md and src/defs/mod.rs). A primer:
 *
 * A header of 548 bytes, then sections: each a header of 12 bytes and its data, without padding. All numbers
 * are big-endian. The file says twice where its sections are, in two tables of the header and in the sections'
 * own headers, and programs differ in which they follow: nitro-cli walks, QEMU looks up. Here the two must agree.
 *
 *     0x000 magic ".eif"      0x004 version u16        0x006 flags u16 (1: aarch64)
 *     0x008 memory u64        0x010 processors u64     0x018 reserved u16
 *     0x01a sections u16      0x01c 32 offsets u64     0x11c 32 sizes u64
 *     0x21c unused u32        0x220 CRC-32 u32 of everything but itself
 *
 *     section: kind u16, flags u16, size u64, data
 */
import { EifError } from './errors.ts';

export const EIF_HEADER_BYTES = 548;
export const EIF_SECTION_HEADER_BYTES = 12;
/** The CRC is the header's last field; it covers the header up to here, then the rest of the file. */
export const EIF_CRC_OFFSET = 544;
export const EIF_MAX_SECTIONS = 32;

/** Far beyond the memory of any instance, and exact as a number. */
const IMAGE_MAX_BYTES = 2 ** 40;

/** Sections that are read as a whole. Others are streamed, so that their size costs no memory. */
export const HELD_SECTION_MAX_BYTES = {
  /** Linux COMMAND_LINE_SIZE is 2048 on both architectures; more would be cut off unseen. */
  cmdline: 4096,
  /** aws-nitro-enclaves-image-format src/defs/mod.rs: SIGNATURE_MAX_SIZE. */
  signature: 32_768,
  metadata: 1 << 20,
} as const;

const MAGIC = 0x2e656966;
const VERSION_MIN = 2;
const VERSION_MAX = 4;
const FLAG_AARCH64 = 1;
const OFFSETS_AT = 0x1c;
const SIZES_AT = 0x11c;
/** A kernel, a command line and a ramdisk. */
const SECTIONS_MIN = 3;

export const SECTION_KINDS = { kernel: 1, cmdline: 2, ramdisk: 3, signature: 4, metadata: 5 } as const;
export type SectionKind = keyof typeof SECTION_KINDS;
export type Architecture = 'x86_64' | 'aarch64';

export interface SectionPlace {
  /** Of the section's header in the file. */
  readonly offset: number;
  /** Of the data alone. */
  readonly sizeBytes: number;
}

export interface EifHeader {
  readonly version: number;
  readonly architecture: Architecture;
  /** What the builder wrote; nothing reads it. */
  readonly defaultMemoryBytes: bigint;
  readonly defaultCpus: bigint;
  readonly sections: readonly SectionPlace[];
  readonly crc32: number;
  /** Of the whole file. */
  readonly sizeBytes: number;
}

/** Reads the 548 bytes. Nothing is allocated by what they say. Throws EifError. */
export function parseHeader(bytes: Uint8Array): EifHeader {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0) !== MAGIC) {
    throw new EifError('EIF_NOT_AN_IMAGE', 'Expected ".eif" at the beginning, found something else.');
  }
  const version = view.getUint16(4);
  if (version < VERSION_MIN || version > VERSION_MAX) {
    throw new EifError('EIF_VERSION', `Expected version ${VERSION_MIN} to ${VERSION_MAX}, found ${version}.`);
  }
  const flags = view.getUint16(6);
  if ((flags & ~FLAG_AARCH64) !== 0)
    throw new EifError('EIF_HEADER', `Unknown flags 0x${flags.toString(16)}.`);
  if (view.getUint16(0x18) !== 0 || view.getUint32(0x21c) !== 0) {
    throw new EifError('EIF_HEADER', 'A reserved field is not zero.');
  }
  const count = view.getUint16(0x1a);
  if (count < SECTIONS_MIN || count > EIF_MAX_SECTIONS) {
    throw new EifError(
      'EIF_SECTIONS',
      `Expected ${SECTIONS_MIN} to ${EIF_MAX_SECTIONS} sections, found ${count}.`,
    );
  }
  const sections: SectionPlace[] = [];
  let end = EIF_HEADER_BYTES;
  for (let index = 0; index < EIF_MAX_SECTIONS; index++) {
    const offset = view.getBigUint64(OFFSETS_AT + 8 * index);
    const size = view.getBigUint64(SIZES_AT + 8 * index);
    if (index >= count) {
      if (offset !== 0n || size !== 0n) {
        throw new EifError('EIF_TABLES', `The tables name more than the ${count} sections of the image.`);
      }
      continue;
    }
    if (offset !== BigInt(end)) {
      throw new EifError('EIF_TABLES', `Section ${index} would start at ${offset}; it follows at ${end}.`);
    }
    if (size > BigInt(IMAGE_MAX_BYTES - end)) {
      throw new EifError('EIF_LIMIT', `Section ${index} would have ${size} bytes.`);
    }
    const sizeBytes = Number(size);
    sections.push({ offset: end, sizeBytes });
    end += EIF_SECTION_HEADER_BYTES + sizeBytes;
  }
  return {
    version,
    architecture: (flags & FLAG_AARCH64) === 0 ? 'x86_64' : 'aarch64',
    defaultMemoryBytes: view.getBigUint64(8),
    defaultCpus: view.getBigUint64(0x10),
    sections,
    crc32: view.getUint32(EIF_CRC_OFFSET),
    sizeBytes: end,
  };
}

/** The 12 bytes before a section's data, which must say what the header's tables say. Throws EifError. */
export function parseSectionHeader(bytes: Uint8Array, index: number, place: SectionPlace): SectionKind {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const number = view.getUint16(0);
  const kind = (Object.keys(SECTION_KINDS) as SectionKind[]).find((name) => SECTION_KINDS[name] === number);
  if (kind === undefined)
    throw new EifError('EIF_SECTIONS', `Section ${index} is of unknown kind ${number}.`);
  if (view.getUint16(2) !== 0) throw new EifError('EIF_HEADER', `Section ${index} has unknown flags.`);
  const size = view.getBigUint64(4);
  if (size !== BigInt(place.sizeBytes)) {
    throw new EifError(
      'EIF_TABLES',
      `Section ${index} has ${size} bytes by its own header, ${place.sizeBytes} by the table.`,
    );
  }
  return kind;
}

/** The 548 bytes of an image of version 4, with sections in a row. */
export function encodeHeader(header: {
  readonly architecture: Architecture;
  readonly sectionSizes: readonly number[];
  readonly crc32: number;
}): Uint8Array {
  const bytes = new Uint8Array(EIF_HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MAGIC);
  view.setUint16(4, VERSION_MAX);
  view.setUint16(6, header.architecture === 'aarch64' ? FLAG_AARCH64 : 0);
  // nitro-cli's builder writes these two, and nothing reads them.
  view.setBigUint64(8, 1n << 30n);
  view.setBigUint64(0x10, 2n);
  view.setUint16(0x1a, header.sectionSizes.length);
  let offset = EIF_HEADER_BYTES;
  for (const [index, sizeBytes] of header.sectionSizes.entries()) {
    view.setBigUint64(OFFSETS_AT + 8 * index, BigInt(offset));
    view.setBigUint64(SIZES_AT + 8 * index, BigInt(sizeBytes));
    offset += EIF_SECTION_HEADER_BYTES + sizeBytes;
  }
  view.setUint32(EIF_CRC_OFFSET, header.crc32);
  return bytes;
}

export function encodeSectionHeader(kind: SectionKind, sizeBytes: number): Uint8Array {
  const bytes = new Uint8Array(EIF_SECTION_HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, SECTION_KINDS[kind]);
  view.setBigUint64(4, BigInt(sizeBytes));
  return bytes;
}
