/**
 * The signature section (aws-nitro-enclaves-image-format src/utils/eif_signer.rs): a CBOR array of one map, with
 * the signing certificate (PEM) and a COSE_Sign1, both as arrays of integers.
 *
 * PCR8 depends on the certificate alone, and a certificate is public: PCR8 says something only because a wrong
 * signature stops the image. So what the section says about PCR0 is not read: the payload is built again from
 * PCR0 as measured, and compared.
 */
import { verify } from 'node:crypto';
import { type CborValue, decodeCbor } from '../../../shared/cbor.ts';
import { readSigningCertificate, type SigningCertificate } from './certificate.ts';
import { COSE_ALGORITHMS, type CoseAlgorithm, protectedHeader, signedPayload, toBeSigned } from './cose.ts';
import { EifError } from './errors.ts';
import { HELD_SECTION_MAX_BYTES } from './format.ts';

export interface SignatureSection {
  readonly certificate: SigningCertificate;
  readonly coseSign1: Uint8Array;
}

export interface VerifiedSignature {
  readonly algorithm: CoseAlgorithm['name'];
  readonly certificate: SigningCertificate;
}

/** The section's form alone. Throws EifError EIF_SIGNATURE_FORM. */
export function parseSignatureSection(section: Uint8Array): SignatureSection {
  const list = cbor(section, 'the signature section');
  if (!Array.isArray(list) || list.length !== 1) {
    throw new EifError('EIF_SIGNATURE_FORM', 'Expected a list of exactly one signature.');
  }
  const [entry] = list;
  if (!(entry instanceof Map) || entry.size !== 2) {
    throw new EifError('EIF_SIGNATURE_FORM', 'Expected signing_certificate and signature, and nothing else.');
  }
  return {
    certificate: readSigningCertificate(byteArray(entry.get('signing_certificate'), 'signing_certificate')),
    coseSign1: byteArray(entry.get('signature'), 'signature'),
  };
}

/** Is it over this image, by the key of its certificate? Throws EifError. Whose key it is, PCR8 says. */
export function verifySignature(section: SignatureSection, pcr0: Uint8Array): VerifiedSignature {
  const { certificate, coseSign1 } = section;
  const cose = cbor(coseSign1, 'the signature');
  const [header, unprotected, payload, signature] = Array.isArray(cose) && cose.length === 4 ? cose : [];
  if (
    !(header instanceof Uint8Array) ||
    !(unprotected instanceof Map) ||
    unprotected.size !== 0 ||
    !(payload instanceof Uint8Array) ||
    !(signature instanceof Uint8Array)
  ) {
    throw new EifError(
      'EIF_SIGNATURE_FORM',
      'The signature is not a COSE_Sign1 with an empty second header.',
    );
  }
  const algorithm = COSE_ALGORITHMS.find((known) => Buffer.from(protectedHeader(known)).equals(header));
  if (algorithm === undefined) {
    throw new EifError('EIF_SIGNATURE_FORM', 'The signature is not of ES256, ES384 or ES512.');
  }
  const { publicKey } = certificate;
  const curve = publicKey.asymmetricKeyDetails?.namedCurve;
  if (publicKey.asymmetricKeyType !== 'ec' || curve !== algorithm.curve) {
    throw new EifError(
      'EIF_SIGNATURE_FORM',
      `${algorithm.name} needs a key on ${algorithm.curve}, the certificate has ${curve ?? publicKey.asymmetricKeyType}.`,
    );
  }
  if (signature.length !== algorithm.signatureBytes) {
    throw new EifError(
      'EIF_SIGNATURE_FORM',
      `Expected a signature of ${algorithm.signatureBytes} bytes, found ${signature.length}.`,
    );
  }
  if (!Buffer.from(signedPayload(pcr0)).equals(payload)) {
    throw new EifError(
      'EIF_SIGNATURE_WRONG',
      'The signature is over another image: its PCR0 is not the measured one.',
    );
  }
  const signed = toBeSigned(algorithm, payload);
  if (!verify(algorithm.hash, signed, { key: publicKey, dsaEncoding: 'ieee-p1363' }, signature)) {
    throw new EifError('EIF_SIGNATURE_WRONG', 'The signature is not by the key of the signing certificate.');
  }
  return { algorithm: algorithm.name, certificate };
}

function cbor(bytes: Uint8Array, what: string): CborValue {
  try {
    return decodeCbor(bytes, {
      maxBytes: HELD_SECTION_MAX_BYTES.signature,
      maxItems: HELD_SECTION_MAX_BYTES.signature,
    });
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new EifError('EIF_SIGNATURE_FORM', `CBOR of ${what}: ${why}.`, cause);
  }
}

function byteArray(value: CborValue | undefined, name: string): Uint8Array {
  const isByte = (item: CborValue): item is number => typeof item === 'number' && item >= 0 && item <= 255;
  if (!Array.isArray(value) || !value.every(isByte)) {
    throw new EifError('EIF_SIGNATURE_FORM', `Expected ${name} as an array of bytes.`);
  }
  return Uint8Array.from(value);
}
