/**
 * The simulated ciphertext blob. AWS does not publish its own; this one has the properties that callers rely on:
 * it names its key, is authenticated as a whole, and opens only under the very encryption context it was made
 * with.
 *
 *     "SRKMS" 2 | key id length (1) | key id (ASCII) | material id (32) | nonce (12) | AES-256-GCM ciphertext | tag (16)
 *
 * Associated data: all bytes before the nonce, then the encryption context (below). The material is named because a
 * key that was rotated still opens what its older materials sealed.
 */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { invalidCiphertext } from './exception.ts';

const MAGIC = Buffer.from('SRKMS\x02', 'latin1');
const MATERIAL_ID_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

export type EncryptionContext = ReadonlyMap<string, string>;

/** One version of a key's material; the id is 32 bytes in hexadecimal. */
export interface BlobMaterial {
  readonly id: string;
  readonly bytes: Uint8Array;
}

export function sealBlob(
  keyId: string,
  material: BlobMaterial,
  plaintext: Uint8Array,
  context: EncryptionContext,
): Uint8Array {
  const head = Buffer.concat([
    MAGIC,
    Buffer.of(keyId.length),
    Buffer.from(keyId, 'latin1'),
    Buffer.from(material.id, 'hex'),
  ]);
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv('aes-256-gcm', material.bytes, nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(Buffer.concat([head, encodeContext(context)]));
  return Buffer.concat([head, nonce, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
}

/** The key and its material that the blob names. They are authenticated only when the blob is opened. */
export function namedInBlob(blob: Uint8Array): { readonly keyId: string; readonly materialId: string } {
  const { keyId, materialId } = split(blob);
  return { keyId, materialId };
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
  const idEnd = MAGIC.length + 1 + idLength;
  const headBytes = idEnd + MATERIAL_ID_BYTES;
  if (!MAGIC.equals(blob.subarray(0, MAGIC.length)) || blob.length < headBytes + NONCE_BYTES + TAG_BYTES) {
    throw invalidCiphertext('The blob was not made by this simulated KMS, or it was cut.');
  }
  return {
    head: blob.subarray(0, headBytes),
    keyId: Buffer.from(blob.subarray(MAGIC.length + 1, idEnd)).toString('latin1'),
    materialId: Buffer.from(blob.subarray(idEnd, headBytes)).toString('hex'),
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
