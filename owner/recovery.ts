/**
 * The recovery wrap: the data key under a key of the owner's own, in a file that is never published
 * (docs/sealed-model.md section 8.4). Under a generated key policy KMS gives the data key to attested enclaves
 * alone, so without this file nobody could ever seal the same weights to another key.
 *
 * RSA-OAEP with SHA-256, so that years from now stock tools open it; the OAEP label binds it to one model.
 */
import { constants, type KeyObject, privateDecrypt, publicEncrypt } from 'node:crypto';
import { basename, dirname, join, resolve } from 'node:path';
import { parseStrictJson } from '../shared/json.ts';
import { canonicalJson } from '../shared/sealed-model/canonical-json.ts';
import type { Head } from '../shared/sealed-model/head.ts';
import { decodeBase64, isRecord } from '../shared/sealed-model/json-shapes.ts';
import { OwnerError } from './errors.ts';

const FORMAT = 'strongroom-recovery-v1';
const MODULUS_BITS_MIN = 3072;
const LABEL = 'strongroom recovery wrap v1\0';

/** Beside the sealed folder and never inside it, since that is published. */
export function recoveryFileOf(folder: string): string {
  return `${folder.replace(/\/+$/, '')}.recovery.json`;
}

/** Where a model that takes another's place waits to do so (key-life/replace-folder.ts). */
export function nextOf(folder: string): string {
  const path = resolve(folder);
  return join(dirname(path), `.${basename(path)}.next`);
}

/** Where the wrap may be. The second is that of a replacement which was killed at its very end. */
export function recoveryFilesOf(folder: string): readonly [string, string] {
  return [recoveryFileOf(folder), recoveryFileOf(nextOf(folder))];
}

/** Throws OWNER_KEY_UNUSABLE unless the key is RSA with at least 3072 bits. */
export function expectRecoveryKey(publicKey: KeyObject): void {
  const bits = publicKey.asymmetricKeyDetails?.modulusLength ?? 0;
  if (publicKey.asymmetricKeyType === 'rsa' && bits >= MODULUS_BITS_MIN) return;
  throw new OwnerError(
    'OWNER_KEY_UNUSABLE',
    `A recovery key is an RSA key of at least ${MODULUS_BITS_MIN} bits, not ${publicKey.asymmetricKeyType ?? 'a secret key'}.`,
  );
}

/** The recovery file's bytes. */
export function wrapForRecovery(
  dataKey: Uint8Array,
  { identity, context }: Pick<Head, 'identity' | 'context'>,
  publicKey: KeyObject,
): Uint8Array {
  expectRecoveryKey(publicKey);
  const wrapped = publicEncrypt({ key: publicKey, ...padding(context) }, dataKey);
  return new TextEncoder().encode(
    `${canonicalJson({
      algorithm: 'RSA-OAEP-SHA256',
      context: Buffer.from(context).toString('base64'),
      format: FORMAT,
      name: identity.name,
      version: identity.version,
      wrapped: wrapped.toString('base64'),
    })}\n`,
  );
}

/** The data key, in an ArrayBuffer of its own; the caller wipes it. Throws OWNER_RECOVERY_REFUSED. */
export function openRecoveryWrap(
  file: Uint8Array,
  { context }: Pick<Head, 'context'>,
  privateKey: KeyObject,
): Uint8Array {
  const value = parse(file);
  if (value.context !== Buffer.from(context).toString('base64')) throw refused('it belongs to another model');
  try {
    const wrapped = decodeBase64(value.wrapped) ?? new Uint8Array(0);
    const opened = privateDecrypt({ key: privateKey, ...padding(context) }, wrapped);
    const dataKey = new Uint8Array(new ArrayBuffer(opened.length));
    dataKey.set(opened);
    opened.fill(0);
    return dataKey;
  } catch (cause) {
    throw refused('this private key does not open it', cause);
  }
}

/** Which model it says that it belongs to, in base64: a claim. Throws OWNER_RECOVERY_REFUSED. */
export function contextOfRecovery(file: Uint8Array): string {
  return parse(file).context;
}

function parse(file: Uint8Array): { readonly context: string; readonly wrapped: string } {
  let value: unknown;
  try {
    value = parseStrictJson(file, { maxDepth: 2 }).value;
  } catch (cause) {
    throw refused('it is not strict JSON', cause);
  }
  const members = ['algorithm', 'context', 'format', 'name', 'version', 'wrapped'] as const;
  if (!isRecord(value, members) || value.format !== FORMAT) throw refused('it does not follow the format');
  const { context, wrapped } = value;
  if (typeof context === 'string' && typeof wrapped === 'string') return { context, wrapped };
  throw refused('it does not follow the format');
}

function padding(context: Uint8Array): { padding: number; oaepHash: string; oaepLabel: Buffer } {
  return {
    padding: constants.RSA_PKCS1_OAEP_PADDING,
    oaepHash: 'sha256',
    oaepLabel: Buffer.concat([Buffer.from(LABEL), context]),
  };
}

function refused(why: string, cause?: unknown): OwnerError {
  return new OwnerError('OWNER_RECOVERY_REFUSED', `The recovery file is refused: ${why}.`, cause);
}
