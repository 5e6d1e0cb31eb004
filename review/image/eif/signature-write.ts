/** The signature section of an image that is written (the reader is signature.ts). */
import { createPublicKey, type KeyObject, sign } from 'node:crypto';
import { encodeCbor } from '../../../shared/cbor.ts';
import { readSigningCertificate } from './certificate.ts';
import { COSE_ALGORITHMS, type CoseAlgorithm, protectedHeader, signedPayload, toBeSigned } from './cose.ts';
import { EifError } from './errors.ts';

export interface ImageSigner {
  readonly privateKey: KeyObject;
  readonly certificatePem: Uint8Array;
}

/** EifError EIF_INPUT if key and certificate do not belong together, or are not on P-384. */
export function checkSigner({ privateKey, certificatePem }: ImageSigner): {
  readonly algorithm: CoseAlgorithm;
  readonly certificateDer: Uint8Array;
} {
  const certificate = readSigningCertificate(certificatePem);
  const curve = privateKey.asymmetricKeyDetails?.namedCurve;
  // nitro-cli signs with P-384, as AWS's documentation of PCR8 has it; other curves are read, not written.
  const algorithm = COSE_ALGORITHMS.find(({ name }) => name === 'ES384') as CoseAlgorithm;
  if (privateKey.type !== 'private' || curve !== algorithm.curve) {
    throw new EifError('EIF_INPUT', 'The signing key must be a private key on P-384 (secp384r1).');
  }
  if (!createPublicKey(privateKey).equals(certificate.publicKey)) {
    throw new EifError('EIF_INPUT', 'The signing key is not the key of the signing certificate.');
  }
  return { algorithm, certificateDer: certificate.der };
}

export function signatureSection(signer: ImageSigner, pcr0: Uint8Array): Uint8Array {
  const { algorithm } = checkSigner(signer);
  const payload = signedPayload(pcr0);
  const signature = sign(algorithm.hash, toBeSigned(algorithm, payload), {
    key: signer.privateKey,
    dsaEncoding: 'ieee-p1363',
  });
  const cose = encodeCbor([protectedHeader(algorithm), new Map(), payload, new Uint8Array(signature)]);
  return encodeCbor([
    new Map([
      ['signing_certificate', [...signer.certificatePem]],
      ['signature', [...cose]],
    ]),
  ]);
}
