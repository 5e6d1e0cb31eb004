/**
 * DSSE envelopes, v1: a payload of a named type, and who vouches for it, with ECDSA P-256 (SHA-256, DER) or Ed25519.
 * What is signed is PAE(type, payload) = "DSSEv1" SP len(type) SP type SP len(payload) SP payload, that is the exact
 * bytes and how to read them; nothing is parsed before a signature by the expected signer was found, and a signature
 * for one type of payload is none for another.
 */
import { createHash, createPublicKey, type KeyObject, sign, verify } from 'node:crypto';
import { parseStrictJson } from './json.ts';
import { canonicalJson } from './sealed-model/canonical-json.ts';
import { decodeBase64, isRecord } from './sealed-model/json-shapes.ts';

const SIGNATURES_MAX = 8;

export interface Envelope {
  readonly payload: Uint8Array;
  readonly signatures: readonly Uint8Array[];
}

export interface EnvelopeForm {
  readonly payloadType: string;
  readonly maxBytes: number;
  /** The error of whoever reads: `why` is the rest of a sentence that says what is wrong. */
  readonly malformed: (why: string, cause?: unknown) => Error;
}

/** The envelope taken apart, nothing of it believed. Throws `form.malformed`. */
export function parseEnvelope(bytes: Uint8Array, form: EnvelopeForm): Envelope {
  const { payloadType, malformed } = form;
  const value = parseJson(bytes, form);
  if (!isRecord(value, ['payload', 'payloadType', 'signatures'])) {
    throw malformed('it is not a DSSE envelope');
  }
  if (value.payloadType !== payloadType) throw malformed(`its payload type must be ${payloadType}`);
  const payload = typeof value.payload === 'string' ? decodeBase64(value.payload) : undefined;
  if (payload === undefined) throw malformed('its payload is not base64');
  if (!Array.isArray(value.signatures) || value.signatures.length > SIGNATURES_MAX) {
    throw malformed(`it must list at most ${SIGNATURES_MAX} signatures`);
  }
  const signatures = value.signatures.map((entry: unknown) => {
    // keyid is a hint that nobody signed: who signed is decided by trying the expected key, never by it.
    const signature = isRecord(entry, ['sig'], ['keyid']) ? entry.sig : undefined;
    const decoded = typeof signature === 'string' ? decodeBase64(signature) : undefined;
    if (decoded === undefined || decoded.length > 128) throw malformed('a signature is not {sig, keyid?}');
    return decoded;
  });
  return { payload, signatures };
}

function parseJson(bytes: Uint8Array, { maxBytes, malformed }: EnvelopeForm): unknown {
  try {
    return parseStrictJson(bytes, { maxBytes, maxDepth: 4 }).value;
  } catch (cause) {
    throw malformed(cause instanceof Error ? cause.message : 'it is not strict JSON', cause);
  }
}

/** Throws TypeError for a signer that `signatureAlgorithmOf` does not know. */
export function isSignedBy(
  signer: KeyObject,
  { payload, signatures }: Envelope,
  payloadType: string,
): boolean {
  const signed = preAuthenticationEncoding(payloadType, payload);
  const algorithm = algorithmOf(signer);
  return signatures.some((signature) => verify(algorithm, signed, signer, signature));
}

/** An envelope with one signature. Throws TypeError for a signer that `signatureAlgorithmOf` does not know. */
export function signEnvelope(payload: Uint8Array, payloadType: string, signer: KeyObject): Uint8Array {
  const signature = sign(algorithmOf(signer), preAuthenticationEncoding(payloadType, payload), signer);
  return encodeEnvelope({ payload, signatures: [signature] }, payloadType, [keyIdOf(signer)]);
}

export function encodeEnvelope(
  { payload, signatures }: Envelope,
  payloadType: string,
  keyIds: readonly string[],
): Uint8Array {
  return new TextEncoder().encode(
    `${canonicalJson({
      payload: Buffer.from(payload).toString('base64'),
      payloadType,
      signatures: signatures.map((signature, index) => ({
        keyid: keyIds[index],
        sig: Buffer.from(signature).toString('base64'),
      })),
    })}\n`,
  );
}

/** DSSE v1 protocol, "PAE definition". */
export function preAuthenticationEncoding(type: string, payload: Uint8Array): Uint8Array {
  return Buffer.concat([
    Buffer.from(`DSSEv1 ${Buffer.byteLength(type)} ${type} ${payload.length} `),
    payload,
  ]);
}

/** "sha256" for ECDSA P-256, null for Ed25519 (which hashes by itself), undefined for any other key. */
export function signatureAlgorithmOf(key: KeyObject): 'sha256' | null | undefined {
  if (key.asymmetricKeyType === 'ed25519') return null;
  const isP256 = key.asymmetricKeyType === 'ec' && key.asymmetricKeyDetails?.namedCurve === 'prime256v1';
  return isP256 ? 'sha256' : undefined;
}

function algorithmOf(key: KeyObject): 'sha256' | null {
  const algorithm = signatureAlgorithmOf(key);
  if (algorithm === undefined) throw new TypeError('expected an ECDSA P-256 or Ed25519 key');
  return algorithm;
}

/** SHA-256 of the public key's SubjectPublicKeyInfo, hex: a hint for people and tools, never trusted. */
export function keyIdOf(key: KeyObject): string {
  const spki = (key.type === 'private' ? createPublicKey(key) : key).export({ type: 'spki', format: 'der' });
  return createHash('sha256').update(spki).digest('hex');
}
