/**
 * `Recipient`: the attestation document of a request (KMS developer guide, "Cryptographic attestation").
 *
 * A document that cannot be read or verified ends the request. It is never ignored: then the caller would be
 * answered with the plaintext, which is the one thing that attestation is there to prevent.
 */
import { createPublicKey } from 'node:crypto';
import type { TrustAnchor } from '../../shared/attestation/anchors.ts';
import { parseAttestationDocument } from '../../shared/attestation/parse.ts';
import { verifyAttestationDocument } from '../../shared/attestation/verify.ts';
import { sealEnvelopedData } from '../../shared/cms/write.ts';
import { codeOf } from '../../shared/errors.ts';
import { type KmsException, validation } from './exception.ts';
import type { Input } from './input.ts';

export interface Recipient {
  readonly moduleId: string;
  readonly pcrs: ReadonlyMap<number, Uint8Array>;
  /** Seals to the attested key, as KMS does: BER CMS. */
  readonly seal: (plaintext: Uint8Array) => Uint8Array;
}

/** KMS API reference, RecipientInfo. */
const DOCUMENT_MAX_BYTES = 262_144;

/**
 * Reads and verifies `Recipient`, or returns undefined if the request has no such member at all. Throws
 * ValidationException: the name is ours, since AWS documents neither name nor text for a bad document.
 */
export function readRecipient(
  input: Input,
  trust: { readonly anchors: readonly TrustAnchor[]; readonly at: Date },
): Recipient | undefined {
  const member = input.object('Recipient');
  if (member === undefined) return undefined;
  const algorithm = member.oneOf('KeyEncryptionAlgorithm', ['RSAES_OAEP_SHA_256']);
  const document = member.requiredBlob('AttestationDocument', { max: DOCUMENT_MAX_BYTES });
  member.end();
  if (algorithm === undefined)
    throw validation('recipient.keyEncryptionAlgorithm', 'Member must not be null');
  return verify(document, trust);
}

function verify(
  document: Uint8Array,
  trust: { readonly anchors: readonly TrustAnchor[]; readonly at: Date },
): Recipient {
  try {
    const { fields } = verifyAttestationDocument(parseAttestationDocument(document), trust);
    if (fields.publicKey === null) throw new TypeError('the document carries no public key');
    const spki = requireRsa2048(fields.publicKey);
    return {
      moduleId: fields.moduleId,
      pcrs: fields.pcrs,
      seal: (plaintext) => sealEnvelopedData(plaintext, spki),
    };
  } catch (error) {
    throw refused(error);
  }
}

/** Whether AWS takes larger keys is not documented, so nothing here may come to depend on it. */
function requireRsa2048(spki: Uint8Array): Uint8Array {
  const key = createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' });
  if (key.asymmetricKeyType !== 'rsa' || key.asymmetricKeyDetails?.modulusLength !== 2048) {
    throw new TypeError('the attested public key is not RSA-2048');
  }
  // OpenSSL ignores bytes that follow the key.
  if (!key.export({ format: 'der', type: 'spki' }).equals(spki)) {
    throw new TypeError('the attested public key is not exactly one SPKI in DER');
  }
  return spki;
}

function refused(error: unknown): KmsException {
  const text = error instanceof Error ? error.message : String(error);
  return validation('recipient.attestationDocument', 'Member must be a valid attestation document', [
    `The attestation document is refused (${codeOf(error) ?? 'public key'}): ${text}`,
  ]);
}
