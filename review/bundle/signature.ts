/** index.dsse.json: somebody vouches for the index, in a DSSE envelope v1 (ECDSA P-256 or Ed25519). */
import type { KeyObject } from 'node:crypto';
import { isSignedBy, parseEnvelope, signatureAlgorithmOf, signEnvelope } from '../../shared/dsse.ts';
import { PAYLOAD_TYPE } from '../../shared/sealed-model/manifest.ts';
import { EvidenceBundleError } from './errors.ts';
import { largestOf, SIGNATURE } from './members.ts';

/** The envelope, with the index in it. Throws EvidenceBundleError BUNDLE_SIGNER_UNSUPPORTED. */
export function signIndex(index: Uint8Array, signer: KeyObject): Uint8Array {
  expectSupported(signer);
  return signEnvelope(index, PAYLOAD_TYPE, signer);
}

/** This very index, by this very key. Throws EvidenceBundleError. */
export function expectIndexSigned(
  index: Uint8Array,
  envelope: Uint8Array | undefined,
  signer: KeyObject,
): void {
  expectSupported(signer);
  if (envelope === undefined) throw unsigned('nobody signed this bundle');
  const parsed = parseEnvelope(envelope, {
    payloadType: PAYLOAD_TYPE,
    maxBytes: largestOf(SIGNATURE) as number,
    malformed: (why, cause) =>
      new EvidenceBundleError('BUNDLE_MALFORMED', `The signature of the bundle is refused: ${why}.`, cause),
  });
  if (!Buffer.from(parsed.payload).equals(index)) {
    throw unsigned('the signature is over another index than that of the bundle');
  }
  if (!isSignedBy(signer, parsed, PAYLOAD_TYPE))
    throw unsigned('no signature of the bundle is by the given key');
}

function expectSupported(signer: KeyObject): void {
  if (signatureAlgorithmOf(signer) !== undefined) return;
  throw new EvidenceBundleError(
    'BUNDLE_SIGNER_UNSUPPORTED',
    `The signer must be an ECDSA P-256 or Ed25519 key, not ${signer.asymmetricKeyType ?? 'a secret key'}.`,
  );
}

function unsigned(why: string): EvidenceBundleError {
  return new EvidenceBundleError('BUNDLE_UNSIGNED', `Refused: ${why}.`);
}
