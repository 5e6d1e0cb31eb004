/**
 * One pass over an image file: every rule about its form is checked here, in constant memory, before anybody
 * may believe what was in it (docs/image.md section 2). The measurements depend on the order in which contents
 * are hashed: builders hash kernel, command line, ramdisks, loaders hash the file. So kernel, command line and
 * ramdisks must come in that order, and both mean the same.
 */
import { crc32 } from 'node:zlib';
import type { ByteStream } from '../measure.ts';
import { ByteReader } from './byte-reader.ts';
import { EifError } from './errors.ts';
import {
  EIF_CRC_OFFSET,
  EIF_HEADER_BYTES,
  EIF_SECTION_HEADER_BYTES,
  type EifHeader,
  HELD_SECTION_MAX_BYTES,
  parseHeader,
  parseSectionHeader,
  type SectionKind,
  type SectionPlace,
} from './format.ts';

export interface EifSection extends SectionPlace {
  readonly kind: SectionKind;
  /** Among the ramdisks: 0 is the bootstrap ramdisk. */
  readonly ramdisk: number | undefined;
}

export interface EifVisitor {
  header?(header: EifHeader): void;
  /** Pieces of kernel and ramdisks, valid until the returned promise is fulfilled. */
  data(section: EifSection, piece: Uint8Array): void | Promise<void>;
  /** Command line, metadata and signature, whole. */
  held(section: EifSection, content: Uint8Array): void | Promise<void>;
  end?(section: EifSection): void | Promise<void>;
}

/** What the visitor is told is true only once this is fulfilled. Throws EifError. */
export async function walkEif(
  source: ByteStream,
  visitor: EifVisitor,
): Promise<{ readonly header: EifHeader; readonly sections: readonly EifSection[] }> {
  const reader = new ByteReader(source);
  try {
    const headerBytes = await reader.take(EIF_HEADER_BYTES, 'the header');
    const header = parseHeader(headerBytes);
    visitor.header?.(header);
    let crc = crc32(headerBytes.subarray(0, EIF_CRC_OFFSET));
    const sections: EifSection[] = [];
    for (const [index, place] of header.sections.entries()) {
      const name = `section ${index}`;
      const sectionHeader = await reader.take(EIF_SECTION_HEADER_BYTES, name);
      crc = crc32(sectionHeader, crc);
      const kind = parseSectionHeader(sectionHeader, index, place);
      const ramdisk = kind === 'ramdisk' ? countOf(sections, 'ramdisk') : undefined;
      const section: EifSection = { ...place, kind, ramdisk };
      refuseMisplaced(section, sections, header.version);
      sections.push(section);
      if (kind === 'kernel' || kind === 'ramdisk') {
        await reader.forEach(place.sizeBytes, `${name} (${kind})`, (piece) => {
          crc = crc32(piece, crc);
          return visitor.data(section, piece);
        });
      } else {
        const content = await reader.take(place.sizeBytes, `${name} (${kind})`);
        crc = crc32(content, crc);
        await visitor.held(section, content);
      }
      await visitor.end?.(section);
    }
    refuseMissing(sections, header.version);
    await reader.expectEnd();
    if (crc !== header.crc32) {
      throw new EifError('EIF_CRC', `Expected CRC-32 ${hex32(header.crc32)}, computed ${hex32(crc)}.`);
    }
    return { header, sections };
  } finally {
    await reader.close();
  }
}

function refuseMisplaced(section: EifSection, before: readonly EifSection[], version: number): void {
  const { kind, sizeBytes } = section;
  const has = (other: SectionKind) => countOf(before, other) > 0;
  const refuse = (why: string): never => {
    throw new EifError('EIF_SECTIONS', `Section ${before.length} (${kind}) ${why}.`);
  };
  if (kind !== 'ramdisk' && has(kind)) refuse('is there twice');
  if (has('signature')) refuse('follows the signature, which comes last');
  if (kind === 'cmdline' && !has('kernel')) refuse('comes before the kernel');
  if (kind === 'ramdisk' && !has('cmdline')) refuse('comes before kernel and command line');
  if (kind === 'metadata' && version < 4) refuse(`does not exist in version ${version}`);
  if (kind === 'signature' && version < 3) refuse(`does not exist in version ${version}`);
  if (kind === 'kernel' || kind === 'ramdisk') {
    if (sizeBytes === 0) refuse('is empty');
  } else if (sizeBytes > HELD_SECTION_MAX_BYTES[kind]) {
    throw new EifError(
      'EIF_LIMIT',
      `Section ${before.length} (${kind}) has ${sizeBytes} bytes; at most ${HELD_SECTION_MAX_BYTES[kind]} are allowed.`,
    );
  }
}

function refuseMissing(sections: readonly EifSection[], version: number): void {
  const needed: readonly SectionKind[] =
    version < 4 ? ['kernel', 'cmdline', 'ramdisk'] : ['kernel', 'cmdline', 'ramdisk', 'metadata'];
  const missing = needed.find((kind) => countOf(sections, kind) === 0);
  if (missing !== undefined) throw new EifError('EIF_SECTIONS', `The image has no ${missing} section.`);
}

function countOf(sections: readonly EifSection[], kind: SectionKind): number {
  return sections.filter((section) => section.kind === kind).length;
}

function hex32(value: number): string {
  return value.toString(16).padStart(8, '0');
}
