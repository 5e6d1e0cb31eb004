/** The verifier's side of receipts: reads what encode.ts writes, and nothing else (docs/receipts.md section 4). */

import { DOCUMENT_MAX_BYTES } from '../attestation/limits.ts';
import { type CborValue, decodeCbor } from '../cbor.ts';
import { canonicalModels, type LoadedModel, SHA384_BYTES } from '../evidence/evidence.ts';
import type { NoteReceiptPassed } from './checks.ts';
import { encodeReceiptPayload } from './encode.ts';
import { ReceiptError } from './errors.ts';
import { isReceiptSignature } from './key.ts';
import {
  RECEIPT_DIGEST_BYTES,
  RECEIPT_MAX_BYTES,
  RECEIPT_PROTECTED_HEADER,
  RECEIPT_PURPOSE,
  RECEIPT_VERSION,
  type ReceiptFields,
  STREAM_COMMENT,
  STREAM_ENDING_MAX_BYTES,
} from './receipt.ts';

const parsedHere = Symbol('parsed in this module');

/** A receipt whose form is right. Anybody can write one: nothing in it is true until verified. */
export class UnverifiedReceipt {
  readonly #parsed = true;
  readonly untrusted: ReceiptFields;
  /** What the signature covers, as received. */
  readonly payload: Uint8Array;
  readonly signature: Uint8Array;

  constructor(
    token: typeof parsedHere,
    untrusted: ReceiptFields,
    payload: Uint8Array,
    signature: Uint8Array,
  ) {
    if (token !== parsedHere) throw new TypeError('Use parseReceipt.');
    this.untrusted = untrusted;
    this.payload = payload;
    this.signature = signature;
    Object.freeze(this);
  }

  static isGenuine(value: unknown): value is UnverifiedReceipt {
    return typeof value === 'object' && value !== null && #parsed in value && value.#parsed;
  }
}

/** Of an array of four with a head of one byte each: what RFC 9052 4.2 allows, untagged. */
const ARRAY_OF_FOUR = 0x84;
const EMPTY_MAP = 0xa0;
/** Head of the array, head and bytes of the signed header: where the unsigned one begins. */
const UNPROTECTED_AT = 1 + 2 + RECEIPT_PROTECTED_HEADER.length;
/** A map of eight, and 16 models of five items each, stay far below. */
const PAYLOAD_LIMITS = { maxBytes: RECEIPT_MAX_BYTES, maxDepth: 3, maxItems: 256 };

/** Throws ReceiptError or CodecError; the code names the fault. */
export function parseReceipt(bytes: Uint8Array, note?: NoteReceiptPassed): UnverifiedReceipt {
  if (bytes.length > RECEIPT_MAX_BYTES) {
    throw new ReceiptError(
      'RECEIPT_TOO_LARGE',
      `Expected at most ${RECEIPT_MAX_BYTES} bytes, found ${bytes.length}.`,
    );
  }
  note?.('size', `${bytes.length} bytes`);
  // A copy of our own: a caller may reuse its buffer while parts of it are still being read.
  const own = Uint8Array.from(bytes);
  const cose = decodeCbor(own, { maxBytes: RECEIPT_MAX_BYTES, maxDepth: 2, maxItems: 16 });
  const [header, unprotected, payload, signature] = Array.isArray(cose) ? cose : [];
  if (
    own[0] !== ARRAY_OF_FOUR ||
    !(header instanceof Uint8Array) ||
    !(unprotected instanceof Map) ||
    !(payload instanceof Uint8Array) ||
    !(signature instanceof Uint8Array)
  ) {
    throw new ReceiptError(
      'RECEIPT_STRUCTURE',
      'Expected a definite array of header bytes, header map, payload bytes and signature bytes.',
    );
  }
  note?.('cose', 'array of four');
  if (!Buffer.from(RECEIPT_PROTECTED_HEADER).equals(header)) {
    throw new ReceiptError('RECEIPT_ALGORITHM', 'Expected the signed header of a receipt, found another.');
  }
  note?.('header', 'ES256, receipt');
  if (own[UNPROTECTED_AT] !== EMPTY_MAP) {
    throw new ReceiptError('RECEIPT_UNPROTECTED_HEADER', 'Expected an empty unprotected header.');
  }
  note?.('unprotected-header', 'empty');
  if (!isReceiptSignature(signature)) {
    throw new ReceiptError(
      'RECEIPT_SIGNATURE_FORM',
      `Expected r and s in range, s in its lower half, found ${signature.length} bytes of another form.`,
    );
  }
  note?.('signature-form', `${signature.length} bytes`);
  const fields = readPayload(payload);
  note?.('payload', `${payload.length} bytes, receipt ${fields.sequence}`);
  return new UnverifiedReceipt(parsedHere, fields, payload, signature);
}

const FIELDS = ['v', 'seq', 'time', 'model', 'answer', 'models', 'request', 'document'];

function readPayload(payload: Uint8Array): ReceiptFields {
  const map = readMap(payload, PAYLOAD_LIMITS, 'payload', badPayload);
  onlyFields(map, FIELDS, badPayload);
  const version = map.get('v');
  if (version !== RECEIPT_VERSION)
    throw badPayload(`v: expected ${RECEIPT_VERSION}, found ${shown(version)}`);
  const fields: ReceiptFields = {
    sequence: positive(map, 'seq'),
    timestampMs: positive(map, 'time'),
    model: text(map, 'model'),
    models: readModels(map.get('models')),
    requestDigest: bytesOf(map, 'request', RECEIPT_DIGEST_BYTES, RECEIPT_DIGEST_BYTES),
    answerDigest: bytesOf(map, 'answer', RECEIPT_DIGEST_BYTES, RECEIPT_DIGEST_BYTES),
    document: bytesOf(map, 'document', 1, DOCUMENT_MAX_BYTES),
  };
  if (!fields.models.some(({ name }) => name === fields.model)) {
    throw badPayload(`model: expected one of the models, found ${shown(fields.model)}`);
  }
  // What was understood, written again: two spellings of one receipt would be two receipts.
  if (!Buffer.from(encodeReceiptPayload(fields)).equals(payload)) {
    throw badPayload('expected the deterministic encoding of its fields, found another');
  }
  return fields;
}

function readModels(value: CborValue | undefined): readonly LoadedModel[] {
  if (!Array.isArray(value)) throw badPayload(`models: expected a list, found ${shown(value)}`);
  const models = value.map((entry, index) => readModel(entry, `models[${index}]`));
  try {
    const canonical = canonicalModels(models);
    if (canonical.every(({ name }, index) => name === models[index]?.name)) return models;
  } catch (cause) {
    throw badPayload(`models: ${cause instanceof Error ? cause.message : ''}`, cause);
  }
  throw badPayload('models: expected ascending order of their names');
}

function readModel(entry: CborValue, at: string): LoadedModel {
  const [name, version, manifest, contentId] = Array.isArray(entry) && entry.length === 4 ? entry : [];
  const isManifest = manifest === null || manifest instanceof Uint8Array;
  if (
    typeof name === 'string' &&
    typeof version === 'number' &&
    isManifest &&
    contentId instanceof Uint8Array
  ) {
    return {
      name,
      version,
      manifestSha256: manifest === null ? null : hex(manifest),
      contentId: hex(contentId),
    };
  }
  throw badPayload(`${at}: expected name, version, manifest digest and content id`);
}

export interface ReceiptClaims {
  /** `modelsDigest` of the receipt's models. */
  readonly models: Uint8Array;
  /** SHA-384 of the deployment document. */
  readonly deployment: Uint8Array;
}

const CLAIMS_LIMITS = { maxBytes: 512, maxDepth: 1, maxItems: 16 };

/** Reads the `user_data` of the document in a receipt. Throws ReceiptError `RECEIPT_CLAIMS`. */
export function decodeReceiptClaims(userData: Uint8Array | null): ReceiptClaims {
  if (userData === null) throw badClaims('the document carries no user_data');
  const map = readMap(userData, CLAIMS_LIMITS, 'user_data', badClaims);
  // The purpose first: evidence for a TLS connection has other claims, and that is the better thing to be told.
  const purpose = map.get('purpose');
  if (purpose !== RECEIPT_PURPOSE) {
    throw badClaims(`purpose: expected "${RECEIPT_PURPOSE}", found ${shown(purpose)}`);
  }
  onlyFields(map, ['v', 'purpose', 'models', 'deployment'], badClaims);
  const version = map.get('v');
  if (version !== RECEIPT_VERSION) throw badClaims(`v: expected ${RECEIPT_VERSION}, found ${shown(version)}`);
  const digest = (name: string): Uint8Array => {
    const value = map.get(name);
    if (value instanceof Uint8Array && value.length === SHA384_BYTES) return value;
    throw badClaims(`${name}: expected ${SHA384_BYTES} bytes, found ${shown(value)}`);
  };
  return { models: digest('models'), deployment: digest('deployment') };
}

type Fault = (found: string, cause?: unknown) => ReceiptError;
type Fields = ReadonlyMap<CborValue, CborValue>;

function readMap(
  bytes: Uint8Array,
  limits: { readonly maxBytes: number; readonly maxDepth: number; readonly maxItems: number },
  name: string,
  fault: Fault,
): Fields {
  let value: CborValue;
  try {
    value = decodeCbor(bytes, limits);
  } catch (cause) {
    throw fault(`${name}: ${cause instanceof Error ? cause.message : 'not CBOR'}`, cause);
  }
  if (value instanceof Map) return value;
  throw fault(`${name}: expected a map, found ${shown(value)}`);
}

function onlyFields(map: Fields, known: readonly string[], fault: Fault): void {
  for (const key of map.keys()) {
    if (!known.some((name) => name === key)) throw fault(`unknown field ${shown(key)}`);
  }
}

function positive(map: Fields, name: string): number {
  const value = map.get(name);
  if (typeof value === 'number' && value >= 1) return value;
  throw badPayload(`${name}: expected a positive integer, found ${shown(value)}`);
}

function text(map: Fields, name: string): string {
  const value = map.get(name);
  if (typeof value === 'string') return value;
  throw badPayload(`${name}: expected text, found ${shown(value)}`);
}

function bytesOf(map: Fields, name: string, minBytes: number, maxBytes: number): Uint8Array {
  const value = map.get(name);
  if (value instanceof Uint8Array && value.length >= minBytes && value.length <= maxBytes) return value;
  const expected = minBytes === maxBytes ? `${minBytes}` : `${minBytes} to ${maxBytes}`;
  throw badPayload(`${name}: expected ${expected} bytes, found ${shown(value)}`);
}

function shown(value: CborValue | undefined): string {
  if (value === undefined) return 'nothing';
  if (value instanceof Uint8Array) return `${value.length} bytes`;
  if (typeof value === 'object' && value !== null) return Array.isArray(value) ? 'a list' : 'a map';
  return JSON.stringify(typeof value === 'bigint' ? value.toString() : value).slice(0, 80);
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

function badPayload(found: string, cause?: unknown): ReceiptError {
  return new ReceiptError('RECEIPT_PAYLOAD', `The payload is not usable: ${found}.`, cause);
}

function badClaims(found: string, cause?: unknown): ReceiptError {
  return new ReceiptError('RECEIPT_CLAIMS', `The document's claims are not usable: ${found}.`, cause);
}

const STREAM_ENDING = new RegExp(`(?:^|\\n\\n)${STREAM_COMMENT}([A-Za-z0-9_-]+)\\n\\n$`);

/**
 * Takes a stream's receipt from its end; undefined if it does not end with one, or the end is cut off. `tail` is
 * the stream, or at least its last STREAM_ENDING_MAX_BYTES + 2 bytes. `endingBytes` of it belong to the receipt.
 */
export function readStreamEnding(
  tail: Uint8Array,
): { readonly receipt: Uint8Array; readonly endingBytes: number } | undefined {
  const text = Buffer.from(tail.subarray(-(STREAM_ENDING_MAX_BYTES + 2))).toString('latin1');
  const encoded = STREAM_ENDING.exec(text)?.[1];
  if (encoded === undefined) return undefined;
  const receipt = Buffer.from(encoded, 'base64url');
  if (receipt.toString('base64url') !== encoded) return undefined;
  return { receipt, endingBytes: STREAM_COMMENT.length + encoded.length + 2 };
}
