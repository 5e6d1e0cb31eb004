/**
 * The measurements of an enclave image, as nitro-cli computes them and the hypervisor enforces them
 * (aws-nitro-enclaves-image-format src/utils/mod.rs):
 *
 *     PCR0   kernel, command line, every ramdisk        PCR1   kernel, command line, first ramdisk
 *     PCR2   every ramdisk but the first                PCR8   DER of the signing certificate
 *
 * each as SHA384(48 zero bytes || SHA384(contents in a row)): contents alone, no headers, no padding.
 */
import { createHash } from 'node:crypto';
import { extendPcr, pcrOfMeasuredBytes, zeroPcr } from '../../shared/pcr.ts';
import { type HashLane, hashLane } from './hash-lane.ts';

/** Bytes in pieces, each valid until the next is asked for. */
export type ByteStream = AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

export interface ImageParts {
  readonly kernel: ByteStream;
  /** Without a newline at its end: what is given is what is measured. */
  readonly commandLine: string;
  /** At least one; the first is the bootstrap ramdisk. */
  readonly ramdisks: readonly ByteStream[];
  readonly signingCertificateDer?: Uint8Array;
}

/** 48 bytes each. PCR8 is zero for an unsigned image. */
export interface ImageMeasurements {
  readonly pcr0: Uint8Array;
  readonly pcr1: Uint8Array;
  readonly pcr2: Uint8Array;
  readonly pcr8: Uint8Array;
}

/** Reads each part once, in order, in constant memory. */
export async function measureImage(parts: ImageParts): Promise<ImageMeasurements> {
  if (parts.ramdisks.length === 0) throw new TypeError('An image has at least one ramdisk, found none.');
  const measuring = new Measuring(hashLane());
  for await (const piece of parts.kernel) await measuring.addBoot(piece);
  await measuring.addBoot(Buffer.from(parts.commandLine));
  for (const [index, ramdisk] of parts.ramdisks.entries()) {
    for await (const piece of ramdisk) {
      await (index === 0 ? measuring.addBoot(piece) : measuring.addApplication(piece));
    }
  }
  return measuring.finish(parts.signingCertificateDer);
}

/**
 * The formulas, for contents that arrive in order: what boots first, then the application. PCR1 covers a
 * beginning of what PCR0 covers, so it is the state of the same hash at the end of the first ramdisk.
 */
export class Measuring {
  readonly #whole: HashLane;
  readonly #application = createHash('sha384');
  #bootDigest: Uint8Array | undefined;

  /** `whole` hashes everything; whoever made it closes it. */
  constructor(whole: HashLane) {
    this.#whole = whole;
  }

  /** Kernel, command line, first ramdisk. */
  addBoot(piece: Uint8Array): void | Promise<void> {
    if (this.#bootDigest !== undefined) throw new TypeError('What boots comes before the application.');
    return this.#whole.update(piece);
  }

  /** Every other ramdisk. */
  async addApplication(piece: Uint8Array): Promise<void> {
    this.#bootDigest ??= await this.#whole.digestSoFar();
    const taken = this.#whole.update(piece);
    this.#application.update(piece);
    await taken;
  }

  async finish(signingCertificateDer?: Uint8Array): Promise<ImageMeasurements> {
    const whole = await this.#whole.digestSoFar();
    return {
      pcr0: extendPcr(zeroPcr(), whole),
      pcr1: extendPcr(zeroPcr(), this.#bootDigest ?? whole),
      pcr2: extendPcr(zeroPcr(), this.#application.digest()),
      pcr8: signingCertificateDer === undefined ? zeroPcr() : pcrOfMeasuredBytes(signingCertificateDer),
    };
  }
}
