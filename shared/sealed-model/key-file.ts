/**
 * key.json: the data key, wrapped by one or more KMS keys (docs/sealed-model.md section 8). It is small and
 * replaceable, and nobody signs it: a substituted wrap opens under no other encryption context, and a
 * substituted data key fails the head's commitment. So it is read for what it says and believed in nothing.
 */
import { parseStrictJson } from '../json.ts';
import { SealedModelError } from './errors.ts';
import { CONTEXT_BYTES } from './format.ts';
import type { Head } from './head.ts';
import { decodeBase64, isRecord } from './json-shapes.ts';

export const KEY_FILE_MAX_BYTES = 65_536;
export const KEY_FILE_FORMAT = 'strongroom-key-v1';
const WRAPS_MAX = 16;
/** KMS Decrypt takes at most this much (AWS KMS API reference, Decrypt, CiphertextBlob). */
const CIPHERTEXT_BLOB_MAX_BYTES = 6144;
/** A key, not an alias: an alias can be pointed elsewhere without the policy of either key changing. */
const KMS_KEY_ARN = /^arn:aws(?:-[a-z]+)*:kms:[a-z]{2}(?:-[a-z]+)+-\d:\d{12}:key\/[A-Za-z0-9-]{1,128}$/;

export interface KeyFile {
  /** ctx of the head that this key belongs to, as claimed. */
  readonly context: Uint8Array;
  readonly wraps: readonly KeyWrap[];
}

export interface KeyWrap {
  readonly kind: 'aws-kms';
  readonly keyArn: string;
  readonly ciphertextBlob: Uint8Array;
  readonly label?: string;
}

export function isKmsKeyArn(text: string): boolean {
  return KMS_KEY_ARN.test(text);
}

/** Throws SealedModelError SEALED_KEY_FILE_MALFORMED. */
export function parseKeyFile(bytes: Uint8Array): KeyFile {
  let value: unknown;
  try {
    value = parseStrictJson(bytes, { maxBytes: KEY_FILE_MAX_BYTES, maxDepth: 4 }).value;
  } catch (cause) {
    throw malformed(cause instanceof Error ? cause.message : 'it is not strict JSON', cause);
  }
  if (!isRecord(value, ['context', 'format', 'wraps'])) {
    throw malformed('it must have exactly context, format and wraps');
  }
  if (value.format !== KEY_FILE_FORMAT)
    throw malformed(`its format must be ${JSON.stringify(KEY_FILE_FORMAT)}`);
  const context = typeof value.context === 'string' ? decodeBase64(value.context) : undefined;
  if (context?.length !== CONTEXT_BYTES) throw malformed('context must be 32 bytes in base64');
  if (!Array.isArray(value.wraps) || value.wraps.length === 0 || value.wraps.length > WRAPS_MAX) {
    throw malformed(`wraps must list 1 to ${WRAPS_MAX} wrapped keys`);
  }
  const wraps = value.wraps.map(readWrap);
  if (new Set(wraps.map((wrap) => wrap.keyArn)).size !== wraps.length) {
    throw malformed('two wraps name the same KMS key');
  }
  return { context, wraps };
}

function readWrap(value: unknown, index: number): KeyWrap {
  const where = `wraps[${index}]`;
  if (!isRecord(value, ['kind', 'keyArn', 'ciphertextBlob'], ['label'])) {
    throw malformed(`${where} must have kind, keyArn, ciphertextBlob and at most a label`);
  }
  const { kind, keyArn, ciphertextBlob, label } = value;
  if (kind !== 'aws-kms') throw malformed(`${where}.kind must be "aws-kms"`);
  if (typeof keyArn !== 'string' || !isKmsKeyArn(keyArn)) {
    throw malformed(`${where}.keyArn must be the ARN of a KMS key (not of an alias)`);
  }
  const blob = typeof ciphertextBlob === 'string' ? decodeBase64(ciphertextBlob) : undefined;
  if (blob === undefined || blob.length === 0 || blob.length > CIPHERTEXT_BLOB_MAX_BYTES) {
    throw malformed(`${where}.ciphertextBlob must be 1 to ${CIPHERTEXT_BLOB_MAX_BYTES} bytes in base64`);
  }
  if (label === undefined) return { kind, keyArn, ciphertextBlob: blob };
  if (typeof label !== 'string' || label.length > 128) {
    throw malformed(`${where}.label must be a string of at most 128 characters`);
  }
  return { kind, keyArn, ciphertextBlob: blob, label };
}

/** Tells a mix-up before KMS is asked. Throws SealedModelError SEALED_KEY_FILE_FOREIGN. */
export function expectKeyFileOf(head: Head, keyFile: KeyFile): void {
  if (Buffer.compare(head.context, keyFile.context) === 0) return;
  throw new SealedModelError(
    'SEALED_KEY_FILE_FOREIGN',
    `key.json belongs to context ${base64(keyFile.context)}, the head has ${base64(head.context)}.`,
  );
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('base64');
}

function malformed(why: string, cause?: unknown): SealedModelError {
  return new SealedModelError('SEALED_KEY_FILE_MALFORMED', `key.json is refused: ${why}.`, cause);
}
