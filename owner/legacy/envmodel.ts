/**
 * ENVMODEL (docs/legacy.md section 4): the data key travels with the model, wrapped by KMS. The metadata is the KMS
 * encryption context and, written by Python's `json.dumps`, the associated data; nothing else of the envelope is
 * authenticated.
 *
 *   "ENVMODEL" | length 4 | JSON envelope | ciphertext | tag 16
 */
import type { FileHandle } from 'node:fs/promises';
import { decodeBase64 } from '../../shared/sealed-model/json-shapes.ts';
import {
  digestMember,
  encodePreamble,
  expectVersionOne,
  type LegacyMessage,
  malformed,
  memberOf,
  NONCE_BYTES,
  otherMembers,
  type Preamble,
  readMessage,
  stringMember,
} from './layout.ts';
import { type DumpsOptions, pythonDumps } from './python-dumps.ts';
import type { PythonDict, PythonValue } from './python-loads.ts';

const MEMBERS = ['version', 'kms_key_id', 'encrypted_dek', 'nonce', 'metadata', 'plaintext_hash'] as const;
/** KMS Decrypt takes at most this much (AWS KMS API reference, Decrypt, CiphertextBlob). */
const WRAPPED_KEY_MAX_BYTES = 6144;
/** The longest that KMS takes (AWS KMS API reference, Decrypt, KeyId). */
const KEY_ID_MAX_CHARACTERS = 2048;

export interface Envmodel {
  readonly format: 'envmodel';
  readonly message: LegacyMessage;
  /** As claimed: an ARN, an id or an alias. Never asked of KMS. */
  readonly kmsKeyId: string;
  readonly wrappedKey: Uint8Array;
  readonly metadata: PythonDict;
  /** What the associated data may be, likeliest first. */
  readonly associatedData: readonly Uint8Array[];
  /** Names of members that the layout does not have. */
  readonly otherMembers: readonly string[];
  readonly preamble: Preamble;
}

export async function readEnvmodel(
  file: FileHandle,
  fileBytes: number,
  preamble: Preamble,
): Promise<Envmodel> {
  expectVersionOne(preamble);
  const kmsKeyId = stringMember(preamble, 'kms_key_id');
  if (!/^[!-~]+$/.test(kmsKeyId) || kmsKeyId.length > KEY_ID_MAX_CHARACTERS) {
    throw malformed('"kms_key_id" is no key id, alias or ARN');
  }
  const wrappedKey = base64Member(preamble, 'encrypted_dek');
  if (wrappedKey.length === 0 || wrappedKey.length > WRAPPED_KEY_MAX_BYTES) {
    throw malformed(
      `"encrypted_dek" must have 1 to ${WRAPPED_KEY_MAX_BYTES} bytes, not ${wrappedKey.length}`,
    );
  }
  const nonce = base64Member(preamble, 'nonce');
  if (nonce.length !== NONCE_BYTES) {
    throw malformed(`"nonce" must have ${NONCE_BYTES} bytes, not ${nonce.length}`);
  }
  const metadata = memberOf(preamble, 'metadata');
  if (!(metadata instanceof Map)) throw malformed('"metadata" must be an object');
  const plaintextSha256 = digestMember(preamble, 'plaintext_hash');
  const offsetBytes = preamble.endBytes;
  return {
    format: 'envmodel',
    message: await readMessage(file, fileBytes, { nonce, offsetBytes, plaintextSha256 }),
    kmsKeyId,
    wrappedKey,
    metadata,
    associatedData: associatedDataOf(preamble, metadata),
    otherMembers: otherMembers(preamble, MEMBERS),
    preamble,
  };
}

/** `'0'.repeat(64)` may hold the digest's place until the digest is known. */
export function encodeEnvmodel(envelope: {
  readonly kmsKeyId: string;
  readonly wrappedKey: Uint8Array;
  readonly nonce: Uint8Array;
  readonly metadata: PythonDict;
  readonly plaintextSha256: string;
}): Uint8Array {
  const members: PythonDict = new Map<string, PythonValue>([
    ['version', 1n],
    ['kms_key_id', envelope.kmsKeyId],
    ['encrypted_dek', base64(envelope.wrappedKey)],
    ['nonce', base64(envelope.nonce)],
    ['metadata', envelope.metadata],
    ['plaintext_hash', envelope.plaintextSha256],
  ]);
  return encodePreamble('envmodel', pythonDumps(members));
}

/** The same envelope under another KMS key. Every other byte stays, above all those of the metadata. */
export function rewrapEnvmodel(
  { text, spans }: Preamble,
  { kmsKeyId, wrappedKey }: { readonly kmsKeyId: string; readonly wrappedKey: Uint8Array },
): Uint8Array {
  const changes = [
    { span: spans.get('kms_key_id'), value: kmsKeyId },
    { span: spans.get('encrypted_dek'), value: base64(wrappedKey) },
  ].toSorted((a, b) => (b.span?.start ?? 0) - (a.span?.start ?? 0)); // from the end: places before stay valid
  let json = text;
  for (const { span, value } of changes) {
    if (span === undefined) throw new TypeError('the envelope was not read as an ENVMODEL');
    json = json.slice(0, span.start) + pythonDumps(value) + json.slice(span.end);
  }
  return encodePreamble('envmodel', json);
}

/** What Python takes for the metadata's associated data when it writes: `json.dumps(metadata).encode()`. */
export function associatedDataToWrite(metadata: PythonDict): Uint8Array {
  return Buffer.from(pythonDumps(metadata));
}

/** The bytes as they stand, then what Python's `json.dumps` makes of them in its common ways. */
function associatedDataOf({ text, spans }: Preamble, metadata: PythonDict): readonly Uint8Array[] {
  const span = spans.get('metadata') ?? { start: 0, end: 0 };
  const texts = new Set([text.slice(span.start, span.end)]);
  for (const ensureAscii of [true, false]) {
    for (const compact of [false, true]) {
      for (const sortKeys of [false, true]) {
        const options: DumpsOptions = { ensureAscii, compact, sortKeys };
        texts.add(pythonDumps(metadata, options));
      }
    }
  }
  // Python cannot encode lone surrogates either.
  return [...texts]
    .filter((candidate) => candidate.isWellFormed())
    .map((candidate) => Buffer.from(candidate));
}

function base64Member(preamble: Preamble, name: string): Uint8Array {
  const bytes = decodeBase64(stringMember(preamble, name));
  if (bytes === undefined) throw malformed(`${JSON.stringify(name)} must be base64`);
  return bytes;
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}
