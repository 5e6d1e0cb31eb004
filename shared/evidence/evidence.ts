/**
 * Evidence for callers (docs/evidence.md): what an enclave says about one TLS connection.
 *
 * The caller sends a nonce as the first request of a connection. Both ends derive the same 32 bytes from their
 * TLS session with that nonce as context (RFC 8446 7.5, exporters). The enclave puts them, with the digests of
 * its certificate key, its models and its deployment, into the `user_data` of an attestation document that
 * carries the nonce. Whoever does not hold this very session cannot have derived them: evidence that was
 * copied, relayed or replayed names another session.
 *
 * This file is what both ends share. encode.ts is the enclave's side and decode.ts the client's.
 */
import { createHash } from 'node:crypto';
import { type CborValue, encodeCbor } from '../cbor.ts';
import { EvidenceError } from './errors.ts';

/** RFC 8446 7.5 and RFC 5705 4: labels of one's own begin with "EXPORTER" to stay clear of TLS's. */
export const EXPORTER_LABEL = 'EXPORTER-strongroom-attestation-v1';
export const EXPORTER_BYTES = 32;
export const NONCE_BYTES = 32;
export const SPKI_DIGEST_BYTES = 32;
export const SHA384_BYTES = 48;

/** AWS attestation_process.md 3.1: `user_data` holds at most 512 bytes. */
export const CLAIMS_MAX_BYTES = 512;
export const CLAIMS_VERSION = 1;
export const TLS_PURPOSE = 'tls';

/** The whole answer of `GET /attestation`; a document has at most some 16 KiB (AWS attestation_process.md 3.1). */
export const EVIDENCE_MAX_BYTES = 64 * 1024;
export const EVIDENCE_PATH = '/attestation';
export const MODELS_MAX = 16;

/** What the enclave claims in `user_data`; each byte string has exactly the length of its digest. */
export interface EvidenceClaims {
  readonly purpose: string;
  /** The TLS exporter value for EXPORTER_LABEL with the caller's nonce as context. */
  readonly exporter: Uint8Array;
  /** SHA-256 of the certificate's SubjectPublicKeyInfo in DER. */
  readonly spki: Uint8Array;
  /** `modelsDigest` of the loaded models. */
  readonly models: Uint8Array;
  /** SHA-384 of the deployment document: PCR16 = SHA-384(48 zero bytes || deployment). */
  readonly deployment: Uint8Array;
}

/** One model that the enclave has open; digests are 64 lower-case hex digits. */
export interface LoadedModel {
  readonly name: string;
  readonly version: number;
  /** Null where the deployment pins the content id itself, so that no manifest vouches for it. */
  readonly manifestSha256: string | null;
  readonly contentId: string;
}

/** Model names appear in paths and policies (docs/deployment.md): one plain alphabet everywhere. */
const MODEL_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const SHA256_HEX = /^[0-9a-f]{64}$/;

/**
 * The list in its one order, ascending by name. Throws EvidenceError `EVIDENCE_MODELS` for an empty or too
 * long list, a name that appears twice, or a field out of its bounds.
 */
export function canonicalModels(models: readonly LoadedModel[]): readonly LoadedModel[] {
  if (models.length === 0 || models.length > MODELS_MAX) {
    throw new EvidenceError('EVIDENCE_MODELS', `Expected 1 to ${MODELS_MAX} models, found ${models.length}.`);
  }
  for (const { name, version, manifestSha256, contentId } of models) {
    const wellFormed =
      MODEL_NAME.test(name) &&
      Number.isSafeInteger(version) &&
      version >= 1 &&
      (manifestSha256 === null || SHA256_HEX.test(manifestSha256)) &&
      SHA256_HEX.test(contentId);
    if (!wellFormed) {
      throw new EvidenceError(
        'EVIDENCE_MODELS',
        `Expected a model with a plain name, a positive version and two SHA-256 digests in lower-case hex, found ${JSON.stringify({ name, version, manifestSha256, contentId }).slice(0, 300)}.`,
      );
    }
  }
  const sorted = models.toSorted((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
  for (let index = 1; index < sorted.length; index++) {
    if (sorted[index - 1]?.name === sorted[index]?.name) {
      throw new EvidenceError('EVIDENCE_MODELS', `The model "${sorted[index]?.name}" is listed twice.`);
    }
  }
  return sorted;
}

/** The CBOR array of [name, version, manifest digest, content id] arrays in canonical order, digests as byte strings. */
export function modelsAsCbor(models: readonly LoadedModel[]): CborValue[] {
  return canonicalModels(models).map(({ name, version, manifestSha256, contentId }) => [
    name,
    version,
    manifestSha256 === null ? null : Buffer.from(manifestSha256, 'hex'),
    Buffer.from(contentId, 'hex'),
  ]);
}

/** SHA-384 of that array; an absent manifest is null in it (docs/evidence.md section 3). */
export function modelsDigest(models: readonly LoadedModel[]): Uint8Array {
  return createHash('sha384')
    .update(encodeCbor(modelsAsCbor(models)))
    .digest();
}
