/**
 * Writes an image file of version 4, in the order of nitro-cli's builder: kernel, command line, metadata,
 * ramdisks, signature (aws-nitro-enclaves-image-format src/utils/mod.rs). The parts are read twice, once to
 * measure and once to write, because the header and the signature come before what they depend on; the file is
 * then read back and must measure the same.
 */
import { link, open, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { crc32 } from 'node:zlib';
import { type ByteStream, type ImageMeasurements, measureImage } from '../measure.ts';
import { EifError } from './errors.ts';
import { fileStream } from './file-stream.ts';
import {
  type Architecture,
  EIF_CRC_OFFSET,
  EIF_HEADER_BYTES,
  EIF_MAX_SECTIONS,
  encodeHeader,
  encodeSectionHeader,
  HELD_SECTION_MAX_BYTES,
  type SectionKind,
} from './format.ts';
import { type MeasuredEif, measureEif } from './measure-eif.ts';
import { checkSigner, type ImageSigner, signatureSection } from './signature-write.ts';

/** Gives the same bytes each time it is called. */
export type Repeatable = () => ByteStream;

export interface EifParts {
  readonly architecture: Architecture;
  readonly kernel: Repeatable;
  readonly commandLine: string;
  /** At least one; the first is the bootstrap ramdisk. */
  readonly ramdisks: readonly Repeatable[];
  /** Neither measured nor signed. */
  readonly metadata: object;
  readonly signer?: ImageSigner | undefined;
}

export interface WriteEifOptions {
  /** Replace a file of this name. Otherwise its being there is an error. */
  readonly replace: boolean;
  /** When the certificate's dates are judged. */
  readonly at: Date;
  /** Ends the work; nothing is left of it. */
  readonly signal?: AbortSignal;
}

/** Resolves to what the written file measures to, read back. Throws EifError and what the parts throw. */
export async function writeEif(
  parts: EifParts,
  path: string,
  options: WriteEifOptions,
): Promise<MeasuredEif> {
  if (!options.replace && (await exists(path))) throw new EifError('EIF_OUTPUT', `${path} exists already.`);
  const { signer } = parts;
  const commandLine = Buffer.from(parts.commandLine);
  const metadata = Buffer.from(JSON.stringify(parts.metadata));
  refuseTooMuch(parts, commandLine, metadata);

  const certificate = signer === undefined ? undefined : checkSigner(signer).certificateDer;
  const kernel = new Counted(parts.kernel, options.signal);
  const ramdisks = parts.ramdisks.map((ramdisk) => new Counted(ramdisk, options.signal));
  const meant = await measureImage({
    kernel: kernel.stream(),
    commandLine: parts.commandLine,
    ramdisks: ramdisks.map((ramdisk) => ramdisk.stream()),
    ...(certificate === undefined ? {} : { signingCertificateDer: certificate }),
  });
  const held = (kind: SectionKind, content: Uint8Array): PlannedSection => ({
    kind,
    sizeBytes: content.length,
    content: () => [content],
  });
  const sections: PlannedSection[] = [
    { kind: 'kernel', sizeBytes: kernel.sizeBytes, content: parts.kernel },
    held('cmdline', commandLine),
    held('metadata', metadata),
    ...ramdisks.map(
      ({ sizeBytes }, index): PlannedSection => ({
        kind: 'ramdisk',
        sizeBytes,
        content: parts.ramdisks[index] as Repeatable,
      }),
    ),
    ...(signer === undefined ? [] : [held('signature', signatureSection(signer, meant.pcr0))]),
  ];

  const aside = `${path}.partial-${process.pid}`;
  try {
    await writeSections(aside, parts.architecture, sections, options.signal);
    const written = await readBack(aside, meant, options.at);
    await putInPlace(aside, path, options.replace);
    return written;
  } finally {
    await rm(aside, { force: true });
  }
}

/** Gives a file that was made beside `path`, and is on the disk, its name. Throws EifError EIF_OUTPUT. */
export async function putInPlace(aside: string, path: string, replace: boolean): Promise<void> {
  await (replace ? rename(aside, path) : giveName(aside, path));
  await syncFolder(dirname(path));
}

interface PlannedSection {
  readonly kind: SectionKind;
  readonly sizeBytes: number;
  readonly content: Repeatable;
}

async function writeSections(
  path: string,
  architecture: Architecture,
  sections: readonly PlannedSection[],
  signal: AbortSignal | undefined,
): Promise<void> {
  const sectionSizes = sections.map(({ sizeBytes }) => sizeBytes);
  const header = encodeHeader({ architecture, sectionSizes, crc32: 0 });
  let crc = crc32(header.subarray(0, EIF_CRC_OFFSET));
  const file = await open(path, 'wx', 0o644);
  try {
    let position = EIF_HEADER_BYTES;
    const append = async (bytes: Uint8Array) => {
      crc = crc32(bytes, crc);
      for (let at = 0; at < bytes.length; ) {
        const { bytesWritten } = await file.write(bytes, at, bytes.length - at, position);
        at += bytesWritten;
        position += bytesWritten;
      }
    };
    for (const { kind, sizeBytes, content } of sections) {
      await append(encodeSectionHeader(kind, sizeBytes));
      const end = position + sizeBytes;
      for await (const piece of content()) {
        signal?.throwIfAborted();
        await append(piece);
      }
      if (position !== end) throw changed();
    }
    await file.write(encodeHeader({ architecture, sectionSizes, crc32: crc }), 0, EIF_HEADER_BYTES, 0);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function readBack(path: string, meant: ImageMeasurements, at: Date): Promise<MeasuredEif> {
  const written = await measureEif(fileStream(path), { at });
  const names = ['pcr0', 'pcr1', 'pcr2', 'pcr8'] as const;
  if (!names.every((name) => Buffer.from(meant[name]).equals(written.measurements[name]))) throw changed();
  return written;
}

function changed(): EifError {
  return new EifError('EIF_READ_BACK', 'What was written is not what was measured before: an input changed.');
}

function refuseTooMuch(parts: EifParts, commandLine: Uint8Array, metadata: Uint8Array): void {
  const sections = 3 + parts.ramdisks.length + (parts.signer === undefined ? 0 : 1);
  if (sections > EIF_MAX_SECTIONS)
    throw new EifError('EIF_INPUT', 'An image has no room for so many ramdisks.');
  // A line end would be measured, but not seen by anybody who reads the line.
  if (!/^[\x20-\x7e]*$/.test(parts.commandLine) || commandLine.length > HELD_SECTION_MAX_BYTES.cmdline) {
    throw new EifError(
      'EIF_INPUT',
      `The command line must be one line of at most ${HELD_SECTION_MAX_BYTES.cmdline} ASCII characters.`,
    );
  }
  if (metadata.length > HELD_SECTION_MAX_BYTES.metadata)
    throw new EifError('EIF_INPUT', 'The metadata is too large.');
}

class Counted {
  readonly #source: Repeatable;
  readonly #signal: AbortSignal | undefined;
  sizeBytes = 0;

  constructor(source: Repeatable, signal: AbortSignal | undefined) {
    this.#source = source;
    this.#signal = signal;
  }

  async *stream(): AsyncGenerator<Uint8Array> {
    this.sizeBytes = 0;
    for await (const piece of this.#source()) {
      this.#signal?.throwIfAborted();
      this.sizeBytes += piece.length;
      yield piece;
    }
  }
}

/** Unlike a renaming, a link is never made over a file that came to be meanwhile. */
async function giveName(aside: string, path: string): Promise<void> {
  try {
    await link(aside, path);
  } catch (cause) {
    throw new EifError('EIF_OUTPUT', `${path} cannot be made: ${(cause as Error).message}.`, cause);
  }
}

async function exists(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined)) !== undefined;
}

/** So that the new name outlives a power cut. */
async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
