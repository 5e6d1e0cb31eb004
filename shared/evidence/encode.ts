/** The enclave's side of evidence: writes what decode.ts reads (docs/evidence.md sections 2 to 4). */
import { type CborValue, encodeCbor } from '../cbor.ts';
import { EvidenceError } from './errors.ts';
import {
  CLAIMS_MAX_BYTES,
  CLAIMS_VERSION,
  canonicalModels,
  type EvidenceClaims,
  EXPORTER_BYTES,
  type LoadedModel,
  NONCE_BYTES,
  SHA384_BYTES,
  SPKI_DIGEST_BYTES,
} from './evidence.ts';

/** The `user_data` of an attestation document. Throws EvidenceError `EVIDENCE_CLAIMS` for a wrong length. */
export function encodeEvidenceClaims(claims: EvidenceClaims): Uint8Array {
  const bytes = encodeCbor(
    new Map<CborValue, CborValue>([
      ['v', CLAIMS_VERSION],
      ['purpose', claims.purpose],
      ['exporter', exactly(claims.exporter, EXPORTER_BYTES, 'exporter')],
      ['spki', exactly(claims.spki, SPKI_DIGEST_BYTES, 'spki')],
      ['models', exactly(claims.models, SHA384_BYTES, 'models')],
      ['deployment', exactly(claims.deployment, SHA384_BYTES, 'deployment')],
    ]),
  );
  if (bytes.length > CLAIMS_MAX_BYTES) {
    throw new EvidenceError(
      'EVIDENCE_CLAIMS',
      `Claims have at most ${CLAIMS_MAX_BYTES} bytes, found ${bytes.length}.`,
    );
  }
  return bytes;
}

function exactly(bytes: Uint8Array, length: number, name: string): Uint8Array {
  if (bytes.length === length) return bytes;
  throw new EvidenceError('EVIDENCE_CLAIMS', `${name}: expected ${length} bytes, found ${bytes.length}.`);
}

/** The body of the answer to `GET /attestation`. */
export function encodeEvidenceResponse(document: Uint8Array, models: readonly LoadedModel[]): Uint8Array {
  const list = canonicalModels(models).map(({ name, version, manifestSha256, contentId }) => ({
    name,
    version,
    manifestSha256,
    contentId,
  }));
  return Buffer.from(JSON.stringify({ document: Buffer.from(document).toString('base64'), models: list }));
}

const NONCE_TEXT = /^[A-Za-z0-9_-]{43}$/;

/** Reads the request's nonce. Throws EvidenceError `EVIDENCE_NONCE` unless it is the one spelling of 32 bytes. */
export function parseNonce(text: string | null): Uint8Array {
  if (text !== null && NONCE_TEXT.test(text)) {
    const nonce = Buffer.from(text, 'base64url');
    // The last character carries two bits that are not part of the value; only zero is canonical.
    if (nonce.length === NONCE_BYTES && nonce.toString('base64url') === text) return nonce;
  }
  throw new EvidenceError(
    'EVIDENCE_NONCE',
    `Expected the query "nonce" with ${NONCE_BYTES} bytes in base64url.`,
  );
}
