/**
 * The simulated ciphertext blob. AWS does not publish its own; this one has the properties that callers rely on:
 * it names its key, is authenticated as a whole, and opens only under the very encryption context it was made
 * with.
 *
 *     "SRKMS" 1 | key id length (1) | key id (ASCII) | nonce (12) | AES-256-GCM ciphertext | tag (16)
 *
 * Associated data: all bytes before the nonce, then the encryption context (below).
 */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { invalidCiphertext } from './exception.ts';

const MAGIC = Buffer.from('SRKMS\x01', 'latin1');
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

export type EncryptionContext = ReadonlyMap<string, string>;

export function sealBlob(
  key: { readonly id: string; readonly material: Uint8Array },
  plaintext: Uint8Array,
  context: EncryptionContext,
): Uint8Array {
  const head = Buffer.concat([MAGIC, Buffer.of(key.id.length), Buffer.from(key.id, 'latin1')]);
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv('aes-256-gcm', key.material, nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(Buffer.concat([head, encodeContext(context)]));
  return Buffer.concat([head, nonce, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
}

/** The key id that the blob names. It is authenticated only when the blob is opened. */
export function keyIdOfBlob(blob: Uint8Array): string {
  return split(blob).keyId;
}

/** The caller wipes the result. Throws InvalidCiphertextException without saying which part was wrong. */
export function openBlob(
  material: Uint8Array,
  blob: Uint8Array,
  context: EncryptionContext,
): Uint8Array<ArrayBuffer> {
  const { head, nonce, ciphertext, tag } = split(blob);
  const decipher = createDecipheriv('aes-256-gcm', material, nonce, { authTagLength: TAG_BYTES });
  decipher.setAAD(Buffer.concat([head, encodeContext(context)]));
  decipher.setAuthTag(tag);
  const opened = decipher.update(ciphertext);
  try {
    decipher.final();
    return Uint8Array.from(opened);
  } catch {
    throw invalidCiphertext(
      'The ciphertext was altered, or the encryption context is not the one it was made with.',
    );
  } finally {
    opened.fill(0);
  }
}

function split(blob: Uint8Array) {
  const idLength = blob[MAGIC.length] ?? 0;
  const headBytes = MAGIC.length + 1 + idLength;
  if (!MAGIC.equals(blob.subarray(0, MAGIC.length)) || blob.length < headBytes + NONCE_BYTES + TAG_BYTES) {
    throw invalidCiphertext('The blob was not made by this simulated KMS, or it was cut.');
  }
  return {
    head: blob.subarray(0, headBytes),
    keyId: Buffer.from(blob.subarray(MAGIC.length + 1, headBytes)).toString('latin1'),
    nonce: blob.subarray(headBytes, headBytes + NONCE_BYTES),
    ciphertext: blob.subarray(headBytes + NONCE_BYTES, blob.length - TAG_BYTES),
    tag: blob.subarray(blob.length - TAG_BYTES),
  };
}

/** One encoding for each context, whatever the order of its members: sorted, each string with its length. */
function encodeContext(context: EncryptionContext): Buffer {
  const pairs = [...context].map((pair) => pair.map((text) => Buffer.from(text, 'utf8')) as [Buffer, Buffer]);
  pairs.sort(([a], [b]) => Buffer.compare(a, b));
  return Buffer.concat(pairs.flat().flatMap((text) => [lengthOf(text), text]));
}

function lengthOf(text: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(text.length);
  return length;
}
