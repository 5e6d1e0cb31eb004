/** Writing one AES-GCM message in one pass: its size and digest are known at its end, as is its tag. */
import { createCipheriv, createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { secretKeyOf } from '../../shared/sealed-model/chunk-cipher.ts';
import { expectNotAborted } from '../spool.ts';
import { expectWithinCipher, PLAINTEXT_MAX_BYTES, TAG_BYTES } from './layout.ts';
import { type Observe, PIECE_BYTES, SLAB_BYTES } from './message.ts';

export interface WrittenMessage {
  readonly sizeBytes: number;
  /** Of the plaintext, hexadecimal. */
  readonly sha256: string;
}

export interface MessageKeys {
  /** 32 bytes; the caller wipes them. */
  readonly dataKey: Uint8Array;
  /** 12 bytes that were never used with this key. */
  readonly nonce: Uint8Array;
  readonly associatedData: Uint8Array;
}

/**
 * Writes ciphertext and tag from `offsetBytes` on. Plaintext comes in pieces of any size, and is wiped piece by
 * piece. Throws LEGACY_TOO_LARGE as soon as there is more than `maxBytes`.
 */
export async function writeMessage(
  file: FileHandle,
  offsetBytes: number,
  plaintext: AsyncIterable<Uint8Array>,
  { dataKey, nonce, associatedData }: MessageKeys,
  observe: Pick<Observe, 'signal'> & { readonly onBytes?: (doneBytes: number) => void } = {},
  maxBytes = PLAINTEXT_MAX_BYTES,
): Promise<WrittenMessage> {
  const cipher = createCipheriv('aes-256-gcm', secretKeyOf(dataKey), nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(associatedData);
  const hash = createHash('sha256');
  const waiting = new Uint8Array(new ArrayBuffer(PIECE_BYTES)); // ciphertext: few writes, however small the pieces
  let filled = 0;
  let written = offsetBytes;
  let sizeBytes = 0;
  const flush = async (): Promise<void> => {
    await writeAt(file, written, waiting.subarray(0, filled));
    written += filled;
    filled = 0;
  };
  for await (const piece of plaintext) {
    expectNotAborted(observe.signal);
    sizeBytes += piece.length;
    expectWithinCipher(sizeBytes, maxBytes);
    hash.update(piece);
    for (let at = 0; at < piece.length; at += SLAB_BYTES) {
      const slab = cipher.update(piece.subarray(at, at + SLAB_BYTES));
      if (filled + slab.length > waiting.length) await flush();
      waiting.set(slab, filled);
      filled += slab.length;
    }
    piece.fill(0);
    observe.onBytes?.(sizeBytes);
  }
  expectNotAborted(observe.signal);
  cipher.final();
  await flush();
  await writeAt(file, written, cipher.getAuthTag());
  return { sizeBytes, sha256: hash.digest('hex') };
}

export async function writeAt(file: FileHandle, offsetBytes: number, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    done += (await file.write(bytes, done, bytes.length - done, offsetBytes + done)).bytesWritten;
  }
}
