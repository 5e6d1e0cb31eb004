/**
 * What is signed in an image, byte for byte. The signature is a COSE_Sign1 (RFC 9052 4.2) whose payload names a
 * register and its value. The image format's library writes byte strings as arrays of integers
 * (aws-nitro-enclaves-image-format src/utils/eif_signer.rs), in the payload too; COSE's own fields are strings.
 */
import { encodeCbor } from '../../../shared/cbor.ts';

export interface CoseAlgorithm {
  readonly name: 'ES256' | 'ES384' | 'ES512';
  /** RFC 9053 2.1. */
  readonly id: number;
  readonly hash: string;
  /** As node:crypto names it. RFC 9053 leaves curve and hash free; signing tools pair them. */
  readonly curve: string;
  readonly signatureBytes: number;
}

export const COSE_ALGORITHMS: readonly CoseAlgorithm[] = [
  { name: 'ES256', id: -7, hash: 'sha256', curve: 'prime256v1', signatureBytes: 64 },
  { name: 'ES384', id: -35, hash: 'sha384', curve: 'secp384r1', signatureBytes: 96 },
  { name: 'ES512', id: -36, hash: 'sha512', curve: 'secp521r1', signatureBytes: 132 },
];

export function protectedHeader({ id }: CoseAlgorithm): Uint8Array {
  return encodeCbor(new Map([[1, id]]));
}

/** The only payload that is ever signed: register 0 with the image's own measurement. */
export function signedPayload(pcr0: Uint8Array): Uint8Array {
  return encodeCbor(
    new Map<string, number | number[]>([
      ['register_index', 0],
      ['register_value', [...pcr0]],
    ]),
  );
}

/** RFC 9052 4.4: what the signature is over. */
export function toBeSigned(algorithm: CoseAlgorithm, payload: Uint8Array): Uint8Array {
  return encodeCbor(['Signature1', protectedHeader(algorithm), new Uint8Array(0), payload]);
}
