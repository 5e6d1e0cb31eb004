/**
 * Platform configuration registers: SHA-384 hash chains that a Nitro enclave starts with or extends itself.
 * PCR0-2 hold the image, PCR3 the parent's IAM role, PCR4 its instance id, PCR8 the image's signer; 16 to 31
 * are the enclave's own (docs/attestation.md, section 8). Formulas: QEMU hw/virtio/virtio-nsm.c `extend_pcr`,
 * confirmed on real documents.
 */
import { createHash } from 'node:crypto';

export const PCR_BYTES = 48;
export const PCR_COUNT = 32;
/** PCR16 holds the deployment document; the enclave extends it once and locks it. */
export const DEPLOYMENT_PCR = 16;

/** SHA384(current || data): the value of a register after it was extended with data. */
export function extendPcr(current: Uint8Array, data: Uint8Array): Uint8Array {
  return sha384(current, data);
}

export function zeroPcr(): Uint8Array {
  return new Uint8Array(PCR_BYTES);
}

/** True for 48 zero bytes: never measured, or (PCR0-2) an enclave in debug mode. */
export function isZeroPcr(value: Uint8Array): boolean {
  return value.length === PCR_BYTES && value.every((byte) => byte === 0);
}

/** SHA384(48 zero bytes || SHA384(bytes)): PCR0-2 of image parts, PCR8 of a certificate, PCR16 of a deployment. */
export function pcrOfMeasuredBytes(bytes: Uint8Array): Uint8Array {
  return extendPcr(zeroPcr(), sha384(bytes));
}

/** SHA384(48 zero bytes || text), the text not hashed first: PCR3 of a role ARN, PCR4 of an instance id. */
export function pcrOfText(text: string): Uint8Array {
  return extendPcr(zeroPcr(), new TextEncoder().encode(text));
}

function sha384(...parts: readonly Uint8Array[]): Uint8Array {
  const hash = createHash('sha384');
  for (const part of parts) hash.update(part);
  return new Uint8Array(hash.digest());
}
