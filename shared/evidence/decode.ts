/** The client's side of evidence: reads what encode.ts writes, and nothing else (docs/evidence.md sections 2 to 4). */
import { type CborValue, decodeCbor } from '../cbor.ts';
import { type JsonValue, parseStrictJson } from '../json.ts';
import { EvidenceError } from './errors.ts';
import {
  CLAIMS_MAX_BYTES,
  CLAIMS_VERSION,
  canonicalModels,
  EVIDENCE_MAX_BYTES,
  type EvidenceClaims,
  EXPORTER_BYTES,
  type LoadedModel,
  SHA384_BYTES,
  SPKI_DIGEST_BYTES,
} from './evidence.ts';

const CLAIM_NAMES = ['v', 'purpose', 'exporter', 'spki', 'models', 'deployment'] as const;
const PURPOSE_MAX_LENGTH = 16;

/**
 * Reads the `user_data` of an attestation document: exactly the six known keys, each of its type and length.
 * The purpose is only read here; whoever relies on it compares it. Throws EvidenceError `EVIDENCE_CLAIMS`.
 */
export function decodeEvidenceClaims(userData: Uint8Array | null): EvidenceClaims {
  if (userData === null) throw badClaims('the document carries no user_data');
  if (userData.length > CLAIMS_MAX_BYTES) {
    throw badClaims(`at most ${CLAIMS_MAX_BYTES} bytes are accepted, found ${userData.length}`);
  }
  const map = readMap(userData);
  for (const key of map.keys()) {
    if (!CLAIM_NAMES.some((known) => known === key)) throw badClaims(`unknown key ${shown(key)}`);
  }
  const version = map.get('v');
  if (version !== CLAIMS_VERSION) throw badClaims(`v: expected ${CLAIMS_VERSION}, found ${shown(version)}`);
  const purpose = map.get('purpose');
  if (typeof purpose !== 'string' || purpose.length > PURPOSE_MAX_LENGTH) {
    throw badClaims(`purpose: expected a short text, found ${shown(purpose)}`);
  }
  return {
    purpose,
    exporter: digest(map, 'exporter', EXPORTER_BYTES),
    spki: digest(map, 'spki', SPKI_DIGEST_BYTES),
    models: digest(map, 'models', SHA384_BYTES),
    deployment: digest(map, 'deployment', SHA384_BYTES),
  };
}

function readMap(bytes: Uint8Array): Map<CborValue, CborValue> {
  let value: CborValue;
  try {
    value = decodeCbor(bytes);
  } catch (cause) {
    throw badClaims(cause instanceof Error ? cause.message : 'not CBOR', cause);
  }
  if (value instanceof Map) return value;
  throw badClaims(`expected a map, found ${shown(value)}`);
}

function digest(map: ReadonlyMap<CborValue, CborValue>, name: string, length: number): Uint8Array {
  const value = map.get(name);
  if (value instanceof Uint8Array && value.length === length) return value;
  throw badClaims(`${name}: expected ${length} bytes, found ${shown(value)}`);
}

function shown(value: CborValue | undefined): string {
  if (value === undefined) return 'nothing';
  if (value instanceof Uint8Array) return `${value.length} bytes`;
  if (typeof value === 'object' && value !== null) return Array.isArray(value) ? 'an array' : 'a map';
  return JSON.stringify(typeof value === 'bigint' ? value.toString() : value).slice(0, 80);
}

function badClaims(found: string, cause?: unknown): EvidenceError {
  return new EvidenceError('EVIDENCE_CLAIMS', `The evidence claims are not usable: ${found}.`, cause);
}

/** The attestation document as bytes, and the models that it vouches for by their digest; nothing is verified yet. */
export interface UnverifiedEvidence {
  readonly untrustedDocument: Uint8Array;
  readonly untrustedModels: readonly LoadedModel[];
}

/** Reads the body of the answer. Throws EvidenceError `EVIDENCE_RESPONSE` or `EVIDENCE_MODELS`. */
export function decodeEvidenceResponse(body: Uint8Array): UnverifiedEvidence {
  if (body.length > EVIDENCE_MAX_BYTES) {
    throw badResponse(`at most ${EVIDENCE_MAX_BYTES} bytes are accepted, found ${body.length}`);
  }
  const root = members(readJson(body), 'the answer', ['document', 'models']);
  const { document, models } = root;
  if (typeof document !== 'string') throw badResponse('document is not a string');
  if (!Array.isArray(models)) throw badResponse('models is not a list');
  const list = models.map((entry, index) => readModel(entry, `models[${index}]`));
  const canonical = canonicalModels(list);
  if (canonical.some((model, index) => model.name !== list[index]?.name)) {
    throw new EvidenceError('EVIDENCE_MODELS', 'Expected the models in ascending order of their names.');
  }
  return { untrustedDocument: strictBase64(document), untrustedModels: list };
}

function readJson(body: Uint8Array): JsonValue {
  try {
    return parseStrictJson(body, { maxBytes: EVIDENCE_MAX_BYTES, maxDepth: 4 }).value;
  } catch (cause) {
    throw badResponse(cause instanceof Error ? cause.message : 'not JSON', cause);
  }
}

function readModel(value: JsonValue, at: string): LoadedModel {
  const { name, version, manifestSha256, contentId } = members(value, at, [
    'name',
    'version',
    'manifestSha256',
    'contentId',
  ]);
  if (
    typeof name !== 'string' ||
    typeof version !== 'number' ||
    (manifestSha256 !== null && typeof manifestSha256 !== 'string') ||
    typeof contentId !== 'string'
  ) {
    throw badResponse(`${at} has a member of the wrong type`);
  }
  return { name, version, manifestSha256, contentId };
}

function members(
  value: JsonValue,
  at: string,
  names: readonly string[],
): { readonly [name: string]: JsonValue } {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw badResponse(`${at} is not an object`);
  const found = Object.keys(value);
  for (const name of found) {
    if (!names.includes(name))
      throw badResponse(`${at} has an unknown member ${JSON.stringify(name.slice(0, 40))}`);
  }
  for (const name of names) {
    if (!found.includes(name)) throw badResponse(`${at} lacks the member "${name}"`);
  }
  return value as { readonly [name: string]: JsonValue };
}

/** Node's decoder skips what it does not know; encoding again shows whether anything was skipped. */
function strictBase64(text: string): Uint8Array {
  const bytes = Buffer.from(text, 'base64');
  if (bytes.length > 0 && bytes.toString('base64') === text) return bytes;
  throw badResponse('document is not base64 with its padding');
}

function badResponse(found: string, cause?: unknown): EvidenceError {
  return new EvidenceError('EVIDENCE_RESPONSE', `The evidence answer is not usable: ${found}.`, cause);
}
