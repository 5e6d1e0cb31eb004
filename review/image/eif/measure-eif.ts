/** From an image file to its measurements, in one pass, in constant memory (docs/image.md section 2). */
import type { JsonObject } from '../../../shared/json.ts';
import { type HashLane, hashLane, ThreadHashLane } from '../hash-lane.ts';
import { type ByteStream, type ImageMeasurements, Measuring } from '../measure.ts';
import type { SigningCertificate } from './certificate.ts';
import type { EifHeader } from './format.ts';
import { parseCommandLine, parseMetadata } from './metadata.ts';
import { parseSignatureSection, type SignatureSection, verifySignature } from './signature.ts';
import { type EifSection, walkEif } from './walk.ts';

export interface MeasuredEif {
  readonly header: EifHeader;
  readonly sections: readonly EifSection[];
  readonly measurements: ImageMeasurements;
  readonly commandLine: string;
  /** NOT measured, NOT signed. Undefined before version 4. */
  readonly unmeasuredMetadata: JsonObject | undefined;
  /** Present if signed; then it is over this very image. */
  readonly signature: EifSignature | undefined;
}

export interface EifSignature {
  readonly algorithm: 'ES256' | 'ES384' | 'ES512';
  readonly certificate: SigningCertificate;
  /** At the time given. nitro-cli refuses to start an image whose certificate is not valid. */
  readonly dates: 'valid' | 'not-yet-valid' | 'expired';
}

export interface MeasureEifOptions {
  /** When the certificate's dates are judged. */
  readonly at: Date;
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
  /** Sees ramdisks as they pass. What it makes of them is true only once the whole file is accepted. */
  readonly ramdisks?: RamdiskVisitor;
  /** From this size on a second thread shares the work. */
  readonly threadFromBytes?: number;
}

export interface RamdiskVisitor {
  piece(ramdisk: number, piece: Uint8Array): void | Promise<void>;
  end(ramdisk: number): void | Promise<void>;
}

const THREAD_FROM_BYTES = 32 << 20;

/** Throws EifError for a file that is not acceptable; then nothing in it has been believed. */
export async function measureEif(source: ByteStream, options: MeasureEifOptions): Promise<MeasuredEif> {
  const { onProgress, ramdisks, threadFromBytes = THREAD_FROM_BYTES } = options;
  let lane: HashLane | undefined;
  let measuring = new Measuring(hashLane());
  let totalBytes = 0;
  let doneBytes = 0;
  let commandLine = '';
  let metadata: JsonObject | undefined;
  let signed: SignatureSection | undefined;

  try {
    const { header, sections } = await walkEif(source, {
      header({ sizeBytes }) {
        totalBytes = sizeBytes;
        if (sizeBytes < threadFromBytes) return;
        lane = new ThreadHashLane();
        measuring = new Measuring(lane);
      },
      data({ ramdisk }, piece) {
        doneBytes += piece.length;
        onProgress?.(doneBytes, totalBytes);
        const added =
          ramdisk === undefined || ramdisk === 0 ? measuring.addBoot(piece) : measuring.addApplication(piece);
        if (ramdisk === undefined || ramdisks === undefined) return added;
        return Promise.all([added, ramdisks.piece(ramdisk, piece)]).then(() => {});
      },
      held({ kind }, content) {
        if (kind === 'metadata') metadata = parseMetadata(content);
        else if (kind === 'signature') signed = parseSignatureSection(content);
        else {
          commandLine = parseCommandLine(content);
          return measuring.addBoot(content);
        }
        return undefined;
      },
      end: ({ ramdisk }) => (ramdisk === undefined ? undefined : ramdisks?.end(ramdisk)),
    });
    onProgress?.(totalBytes, totalBytes);
    const measurements = await measuring.finish(signed?.certificate.der);
    return {
      header,
      sections,
      measurements,
      commandLine,
      unmeasuredMetadata: metadata,
      signature: signed === undefined ? undefined : judge(signed, measurements.pcr0, options.at),
    };
  } finally {
    await lane?.close();
  }
}

function judge(signed: SignatureSection, pcr0: Uint8Array, at: Date): EifSignature {
  const { algorithm, certificate } = verifySignature(signed, pcr0);
  const { notBefore, notAfter } = certificate;
  const dates = at < notBefore ? 'not-yet-valid' : at > notAfter ? 'expired' : 'valid';
  return { algorithm, certificate, dates };
}
