/**
 * The measurements of an enclave image, as nitro-cli computes them and the hypervisor enforces them
 * (aws-nitro-enclaves-image-format src/utils/mod.rs):
 *
 *     PCR0   kernel, command line, every ramdisk        PCR1   kernel, command line, first ramdisk
 *     PCR2   every ramdisk but the first                PCR8   DER of the signing certificate
 *
 * each as SHA384(48 zero bytes || SHA384(contents in a row)): contents alone, no headers, no padding.
 */
import { createHash, type Hash } from 'node:crypto';
import { extendPcr, zeroPcr } from '../../shared/pcr.ts';

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
  const whole = createHash('sha384');
  const boot = createHash('sha384');
  const application = createHash('sha384');

  await feed(parts.kernel, [whole, boot]);
  await feed([Buffer.from(parts.commandLine)], [whole, boot]);
  for (const [index, ramdisk] of parts.ramdisks.entries()) {
    await feed(ramdisk, [whole, index === 0 ? boot : application]);
  }
  const { signingCertificateDer } = parts;
  return {
    pcr0: registerOf(whole),
    pcr1: registerOf(boot),
    pcr2: registerOf(application),
    pcr8:
      signingCertificateDer === undefined
        ? zeroPcr()
        : registerOf(createHash('sha384').update(signingCertificateDer)),
  };
}

async function feed(stream: ByteStream, hashes: readonly Hash[]): Promise<void> {
  for await (const piece of stream) {
    for (const hash of hashes) hash.update(piece);
  }
}

function registerOf(hash: Hash): Uint8Array {
  return extendPcr(zeroPcr(), hash.digest());
}
