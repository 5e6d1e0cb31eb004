/**
 * Sealing from a pipe, for a training job whose weights should never lie on a disk in the clear.
 *
 * A head names its files' sizes before the first byte is sealed, and a pipe tells its size at its end. So the
 * pipe is first written, chunk by chunk, into the very payload file under a key that exists only in this process;
 * then each chunk is read back and replaced by its sealed form. One file, no plaintext on disk, constant memory.
 */
import {
  createCipheriv,
  createDecipheriv,
  createSecretKey,
  type KeyObject,
  randomFillSync,
} from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { SealedModelError } from '../shared/sealed-model/errors.ts';
import { PAYLOAD_MAX_BYTES } from '../shared/sealed-model/format.ts';
import type { PayloadSource } from '../shared/sealed-model/source.ts';
import { OwnerError } from './errors.ts';

const TAG_BYTES = 16;

/** Reads the pipe to its end. `chunkBytes` must be that of the seal: chunk for chunk they trade places. */
export async function spoolPipe(
  pipe: NodeJS.ReadableStream,
  payload: FileHandle,
  chunkBytes: number,
  observe: { readonly signal?: AbortSignal | undefined; readonly onBytes?: (bytes: number) => void } = {},
): Promise<PayloadSource> {
  const key = temporaryKey();
  const tags: Uint8Array[] = [];
  const chunk = new Uint8Array(new ArrayBuffer(chunkBytes));
  let filled = 0;
  let sizeBytes = 0;
  const store = async (): Promise<void> => {
    const cipher = createCipheriv('aes-256-gcm', key, nonceOf(tags.length));
    const ciphertext = cipher.update(chunk.subarray(0, filled));
    cipher.final();
    for (let done = 0; done < filled; ) {
      const at = tags.length * chunkBytes + done;
      done += (await payload.write(ciphertext, done, filled - done, at)).bytesWritten;
    }
    tags.push(new Uint8Array(cipher.getAuthTag()));
    filled = 0;
  };
  // A pipe may be silent for hours; only destroying it wakes the loop.
  const onAbort = (): void => {
    if ('destroy' in pipe && typeof pipe.destroy === 'function') pipe.destroy();
  };
  observe.signal?.addEventListener('abort', onAbort);
  try {
    for await (const piece of pipe) {
      expectNotAborted(observe.signal);
      if (!(piece instanceof Uint8Array)) throw unusable('the pipe must carry bytes');
      for (let at = 0; at < piece.length; ) {
        const taken = Math.min(piece.length - at, chunkBytes - filled);
        chunk.set(piece.subarray(at, at + taken), filled);
        at += taken;
        filled += taken;
        if (filled === chunkBytes) await store();
      }
      sizeBytes += piece.length;
      if (sizeBytes > PAYLOAD_MAX_BYTES) throw unusable(`it is longer than ${PAYLOAD_MAX_BYTES} bytes`);
      piece.fill(0);
      observe.onBytes?.(sizeBytes);
    }
    expectNotAborted(observe.signal);
    if (filled > 0) await store();
  } catch (error) {
    expectNotAborted(observe.signal); // destroying the pipe ends it with an error of its own
    throw error;
  } finally {
    observe.signal?.removeEventListener('abort', onAbort);
    chunk.fill(0);
  }
  return {
    sizeBytes,
    async read(offsetBytes, target) {
      const index = offsetBytes / chunkBytes;
      const tag = tags[index];
      if (tag === undefined || target.length > chunkBytes) throw unusable('it is read by whole chunks only');
      await readWhole(payload, target, offsetBytes);
      const decipher = createDecipheriv('aes-256-gcm', key, nonceOf(index), { authTagLength: TAG_BYTES });
      decipher.setAuthTag(tag);
      const plaintext = decipher.update(target);
      decipher.final();
      target.set(plaintext);
      plaintext.fill(0);
    },
  };
}

export function expectNotAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new SealedModelError('SEALED_ABORTED', 'The work was stopped.', signal.reason);
}

async function readWhole(file: FileHandle, target: Uint8Array, offsetBytes: number): Promise<void> {
  for (let done = 0; done < target.length; ) {
    const { bytesRead } = await file.read(target, done, target.length - done, offsetBytes + done);
    if (bytesRead === 0) throw unusable('the spool ended early');
    done += bytesRead;
  }
}

function temporaryKey(): KeyObject {
  const bytes = randomFillSync(new Uint8Array(new ArrayBuffer(32)));
  try {
    return createSecretKey(bytes);
  } finally {
    bytes.fill(0);
  }
}

/** A counter: the key serves one spool. */
function nonceOf(chunk: number): Uint8Array {
  const nonce = new Uint8Array(12);
  new DataView(nonce.buffer).setBigUint64(4, BigInt(chunk));
  return nonce;
}

function unusable(why: string): OwnerError {
  return new OwnerError('OWNER_INPUT_UNUSABLE', `The pipe cannot be sealed: ${why}.`);
}
