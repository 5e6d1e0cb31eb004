/**
 * manifest.json: who vouches for which content id (docs/sealed-model.md section 8.3). An in-toto Statement v1
 * whose subject is the head, in a DSSE envelope v1 signed with ECDSA P-256 (SHA-256, DER) or Ed25519, so that
 * stock tools verify it too.
 */
import { createHash, type KeyObject } from 'node:crypto';
import {
  signatureAlgorithmOf as algorithmOf,
  type Envelope,
  isSignedBy,
  parseEnvelope as parseEnvelopeOf,
} from '../dsse.ts';
import { parseStrictJson } from '../json.ts';
import type { SealedFile } from './core-header.ts';
import { SealedModelError } from './errors.ts';
import { FILES_MAX } from './format.ts';
import type { Head } from './head.ts';
import { faultOfIdentity, faultOfPaths, type ModelIdentity } from './identity.ts';
import { isRecord } from './json-shapes.ts';

export const MANIFEST_MAX_BYTES = 4 << 20;
export const PAYLOAD_TYPE = 'application/vnd.in-toto+json';
export const STATEMENT_TYPE = 'https://in-toto.io/Statement/v1';
export const PREDICATE_TYPE = 'urn:strongroom:sealed-model:v1';
/** The subject's name: the file whose SHA-256 the content id is. */
export const SUBJECT_NAME = 'head';

export interface ManifestFile {
  readonly path: string;
  readonly sizeBytes: number;
  /** Of the plaintext, lower-case hex. */
  readonly sha256: string;
}

export interface ManifestFields extends ModelIdentity {
  /** SHA-256 of the head, lower-case hex. */
  readonly contentId: string;
  readonly files: readonly ManifestFile[];
}

const MAKER = Symbol('only verifyManifest makes a VerifiedManifest');

/** What the signer vouched for. */
export class VerifiedManifest implements ManifestFields {
  readonly name: string;
  readonly version: number;
  declare readonly versionLabel?: string;
  readonly format: string;
  readonly contentId: string;
  readonly files: readonly ManifestFile[];
  /** SHA-256 of manifest.json, lower-case hex. */
  readonly sha256: string;
  readonly #verified = true;

  constructor(maker: symbol, fields: ManifestFields, sha256: string) {
    if (maker !== MAKER) throw new TypeError('only verifyManifest makes a VerifiedManifest');
    this.name = fields.name;
    this.version = fields.version;
    if (fields.versionLabel !== undefined) this.versionLabel = fields.versionLabel;
    this.format = fields.format;
    this.contentId = fields.contentId;
    this.files = fields.files;
    this.sha256 = sha256;
    Object.freeze(this);
  }

  static isGenuine(manifest: VerifiedManifest): boolean {
    return #verified in manifest && manifest.#verified;
  }
}

/** Throws SealedModelError: SEALED_SIGNER_UNSUPPORTED, SEALED_MANIFEST_MALFORMED, SEALED_MANIFEST_UNSIGNED. */
export function verifyManifest(bytes: Uint8Array, signer: KeyObject): VerifiedManifest {
  signatureAlgorithmOf(signer);
  const envelope = parseEnvelope(bytes);
  const { payload, signatures } = envelope;
  if (!isSignedBy(signer, envelope, PAYLOAD_TYPE)) {
    throw new SealedModelError(
      'SEALED_MANIFEST_UNSIGNED',
      `None of the ${signatures.length} signature(s) of the manifest is by the expected signer.`,
    );
  }
  return new VerifiedManifest(
    MAKER,
    parseStatement(payload),
    createHash('sha256').update(bytes).digest('hex'),
  );
}

/** "sha256" for ECDSA P-256, null for Ed25519 (which hashes by itself). Throws SEALED_SIGNER_UNSUPPORTED. */
export function signatureAlgorithmOf(key: KeyObject): 'sha256' | null {
  const algorithm = algorithmOf(key);
  if (algorithm !== undefined) return algorithm;
  throw new SealedModelError(
    'SEALED_SIGNER_UNSUPPORTED',
    `The signer must be an ECDSA P-256 or Ed25519 key, not ${key.asymmetricKeyType ?? 'a secret key'}.`,
  );
}

/** The envelope taken apart, nothing of it believed. Throws SEALED_MANIFEST_MALFORMED. */
export function parseEnvelope(bytes: Uint8Array): Envelope {
  return parseEnvelopeOf(bytes, { payloadType: PAYLOAD_TYPE, maxBytes: MANIFEST_MAX_BYTES, malformed });
}

/** For signers too: what the statement says, before anyone signed it. */
export function parseStatement(payload: Uint8Array): ManifestFields {
  const value = parseJson(payload, 8);
  if (!isRecord(value, ['_type', 'predicate', 'predicateType', 'subject'])) {
    throw malformed('its payload is not an in-toto Statement');
  }
  if (value._type !== STATEMENT_TYPE || value.predicateType !== PREDICATE_TYPE) {
    throw malformed(`it must be a ${STATEMENT_TYPE} with predicate ${PREDICATE_TYPE}`);
  }
  const subject: unknown =
    Array.isArray(value.subject) && value.subject.length === 1 ? value.subject[0] : null;
  const digest =
    isRecord(subject, ['digest', 'name']) && subject.name === SUBJECT_NAME ? subject.digest : null;
  const contentId = isRecord(digest, ['sha256']) ? digest.sha256 : undefined;
  if (!isSha256(contentId)) throw malformed('its one subject must be the head with a SHA-256 digest');

  const { predicate } = value;
  if (!isRecord(predicate, ['files', 'format', 'name', 'version'], ['versionLabel'])) {
    throw malformed('its predicate must have files, format, name, version and at most a versionLabel');
  }
  const { files, format, name, version, versionLabel } = predicate;
  if (
    typeof name !== 'string' ||
    typeof version !== 'number' ||
    typeof format !== 'string' ||
    (versionLabel !== undefined && typeof versionLabel !== 'string')
  ) {
    throw malformed('name, version or format has the wrong type');
  }
  if (!Array.isArray(files) || files.length === 0 || files.length > FILES_MAX) {
    throw malformed(`it must list 1 to ${FILES_MAX} files`);
  }
  const read = files.map(readFile);
  const identity = { name, version, format, ...(versionLabel === undefined ? {} : { versionLabel }) };
  const fault = faultOfIdentity(identity) ?? faultOfPaths(read.map((file) => file.path));
  if (fault !== undefined) throw malformed(fault);
  return { ...identity, contentId, files: read };
}

function readFile(value: unknown): ManifestFile {
  if (!isRecord(value, ['path', 'sha256', 'sizeBytes']))
    throw malformed('a file is not {path, sha256, sizeBytes}');
  const { path, sha256, sizeBytes } = value;
  if (
    typeof path !== 'string' ||
    !isSha256(sha256) ||
    typeof sizeBytes !== 'number' ||
    !Number.isSafeInteger(sizeBytes) ||
    sizeBytes < 0
  ) {
    throw malformed('a file has a path, sha256 or sizeBytes of the wrong type');
  }
  return { path, sizeBytes, sha256 };
}

/**
 * The head is the signed one: same content id, and says the same about itself as the manifest does.
 * Throws SealedModelError SEALED_IDENTITY_MISMATCH.
 */
export function expectHeadOf(manifest: VerifiedManifest, head: Head): void {
  if (!VerifiedManifest.isGenuine(manifest)) throw new TypeError('the manifest was not verified');
  expectStatementOf(manifest, head);
}

/** The same comparison for a signer, who has nobody's signature to trust yet. */
export function expectStatementOf(manifest: ManifestFields, head: Head): void {
  const { identity } = head;
  const pairs: readonly [string, unknown, unknown][] = [
    ['content id', manifest.contentId, Buffer.from(head.contentId).toString('hex')],
    ['name', manifest.name, identity.name],
    ['version', manifest.version, identity.version],
    ['version label', manifest.versionLabel ?? '', identity.versionLabel ?? ''],
    ['format', manifest.format, identity.format],
    ['list of files', filesOf(manifest.files), filesOf(head.files)],
  ];
  for (const [what, expected, found] of pairs) {
    if (expected === found) continue;
    throw new SealedModelError(
      'SEALED_IDENTITY_MISMATCH',
      `The manifest names ${what} ${String(expected)}, the head has ${String(found)}.`,
    );
  }
}

function filesOf(files: readonly Pick<SealedFile, 'path' | 'sizeBytes'>[]): string {
  return JSON.stringify(files.map(({ path, sizeBytes }) => [path, sizeBytes]));
}

function isSha256(value: unknown): value is string {
  return typeof value === 'string' && /^[0-9a-f]{64}$/.test(value);
}

function parseJson(bytes: Uint8Array, maxDepth: number): unknown {
  try {
    return parseStrictJson(bytes, { maxBytes: MANIFEST_MAX_BYTES, maxDepth }).value;
  } catch (cause) {
    throw malformed(cause instanceof Error ? cause.message : 'it is not strict JSON', cause);
  }
}

function malformed(why: string, cause?: unknown): SealedModelError {
  return new SealedModelError('SEALED_MANIFEST_MALFORMED', `The manifest is refused: ${why}.`, cause);
}
