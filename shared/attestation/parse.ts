/**
 * First question: is it well formed? (docs/attestation.md, section 2.) A primer:
 *
 * An attestation document is a COSE_Sign1 (RFC 9052 4.2): a CBOR array of a signed header, an unsigned header, a
 * payload and a signature. The payload is CBOR again, a map of named fields. The signature covers the payload's
 * bytes as received: they are never decoded and encoded again, because the map may have an indefinite length,
 * and is cut out of the input as it stands.
 *
 * Nothing here is trusted yet: what this returns says so in its names.
 */
import { type CborValue, decodeCbor } from '../cbor.ts';
import type { NotePassed } from './checks.ts';
import { AttestationError } from './errors.ts';
import { type DocumentFields, type OptionalFieldLimits, readFields, readPayload } from './fields.ts';
import { DOCUMENT_MAX_BYTES, PAYLOAD_MAX_BYTES, SIGNATURE_BYTES } from './limits.ts';

const parsedHere = Symbol('parsed in this module');

/** A document whose form is right. Anybody can write one: nothing in it is true until verified. */
export class UnverifiedDocument {
  readonly #parsed = true;
  readonly untrusted: DocumentFields;
  /** The payload as received: what the signature covers. */
  readonly payload: Uint8Array;
  /** r and s, 48 bytes each. */
  readonly signature: Uint8Array;

  constructor(
    token: typeof parsedHere,
    untrusted: DocumentFields,
    payload: Uint8Array,
    signature: Uint8Array,
  ) {
    if (token !== parsedHere) throw new TypeError('Use parseAttestationDocument.');
    this.untrusted = untrusted;
    this.payload = payload;
    this.signature = signature;
    Object.freeze(this);
  }

  static isGenuine(value: unknown): value is UnverifiedDocument {
    return typeof value === 'object' && value !== null && #parsed in value && value.#parsed;
  }
}

/** {1: -35}: the algorithm is ES384. RFC 9053 2.1, AWS attestation_process.md 3.1. */
export const PROTECTED_HEADER = Uint8Array.of(0xa1, 0x01, 0x38, 0x22);

const TAG_COSE_SIGN1 = 18;
const MAJOR_TAG = 6;
const ARRAY_OF_FOUR = 0x84;
const EMPTY_MAP = 0xa0;

/**
 * Throws AttestationError or CodecError; the code names the fault. `limits` may narrow the optional fields, for
 * example to the 512 bytes of AWS attestation_process.md 3.2.2.2.
 */
export function parseAttestationDocument(
  bytes: Uint8Array,
  limits: Partial<OptionalFieldLimits> = {},
  note?: NotePassed,
): UnverifiedDocument {
  if (bytes.length > DOCUMENT_MAX_BYTES) {
    throw new AttestationError(
      'ATTESTATION_TOO_LARGE',
      `expected at most ${DOCUMENT_MAX_BYTES} bytes, found ${bytes.length}`,
    );
  }
  note?.('size', `${bytes.length} bytes`);
  // A copy of our own: a caller may reuse its buffer while parts of it are still being read.
  const own = Uint8Array.from(bytes);
  const tagged = refuseOtherTags(own);
  const cose = decodeCbor(own, { outerTag: TAG_COSE_SIGN1, maxBytes: DOCUMENT_MAX_BYTES });
  note?.('cbor', tagged ? 'one item with tag 18' : 'one item without a tag');
  const { payload, signature } = splitCose(own, tagged ? 1 : 0, cose, note);
  const map = readPayload(payload);
  note?.('payload', `${payload.length} bytes, ${map.size} fields`);
  const fields = readFields(map, limits, note);
  return new UnverifiedDocument(parsedHere, fields, payload, signature);
}

function refuseOtherTags(bytes: Uint8Array): boolean {
  const [first = 0] = bytes;
  if (first >> 5 !== MAJOR_TAG) return false;
  if (first !== ((MAJOR_TAG << 5) | TAG_COSE_SIGN1)) {
    throw new AttestationError('ATTESTATION_TAG', `expected tag ${TAG_COSE_SIGN1} or none, found another`);
  }
  return true;
}

/**
 * RFC 9052 4.2. The head is compared in bytes, 84 44 a1013822 a0, because every other spelling of it is one that
 * AWS never sends and nobody signed.
 */
function splitCose(
  bytes: Uint8Array,
  start: number,
  cose: CborValue,
  note: NotePassed | undefined,
): { payload: Uint8Array; signature: Uint8Array } {
  const [protectedHeader, unprotectedHeader, payload, signature] = Array.isArray(cose) ? cose : [];
  if (
    bytes[start] !== ARRAY_OF_FOUR ||
    !(protectedHeader instanceof Uint8Array) ||
    !(payload instanceof Uint8Array) ||
    !(signature instanceof Uint8Array)
  ) {
    throw new AttestationError(
      'ATTESTATION_STRUCTURE',
      'expected a definite array of header bytes, header map, payload bytes and signature bytes',
    );
  }
  if (payload.length === 0 || payload.length > PAYLOAD_MAX_BYTES) {
    throw new AttestationError(
      'ATTESTATION_STRUCTURE',
      `expected a payload of 1 to ${PAYLOAD_MAX_BYTES} bytes, found ${payload.length}`,
    );
  }
  note?.('cose', 'array of four');
  if (!Buffer.from(PROTECTED_HEADER).equals(protectedHeader)) {
    throw new AttestationError(
      'ATTESTATION_ALGORITHM',
      `expected the signed header a1013822 (ES384), found ${shortHex(protectedHeader)}`,
    );
  }
  note?.('algorithm', 'ES384');
  if (!(unprotectedHeader instanceof Map) || bytes[start + 2 + PROTECTED_HEADER.length] !== EMPTY_MAP) {
    throw new AttestationError('ATTESTATION_UNPROTECTED_HEADER', 'expected an empty unprotected header');
  }
  note?.('unprotected-header', 'empty');
  if (signature.length !== SIGNATURE_BYTES) {
    throw new AttestationError(
      'ATTESTATION_SIGNATURE_LENGTH',
      `expected ${SIGNATURE_BYTES} bytes, found ${signature.length}`,
    );
  }
  note?.('signature-length', `${signature.length} bytes`);
  return { payload, signature };
}

function shortHex(bytes: Uint8Array): string {
  return bytes.length === 0 ? 'nothing' : Buffer.from(bytes.subarray(0, 16)).toString('hex');
}
