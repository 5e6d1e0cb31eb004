/** Where the bytes of a payload come from: memory, a file, or anything that can be asked for ranges. */
import { open } from 'node:fs/promises';
import { SealedModelError } from './errors.ts';

export interface PayloadSource {
  readonly sizeBytes: number;
  /** Fills `target` whole from this offset, or rejects. Called for several ranges at once, in any order. */
  read(offsetBytes: number, target: Uint8Array): Promise<void>;
  /**
   * The bytes themselves, where a worker thread can reach them without the main thread copying: shared memory
   * or a descriptor that stays open meanwhile. Asking again then reads again, as `read` would.
   */
  readonly direct?: DirectBytes;
}

export type DirectBytes =
  | { readonly kind: 'memory'; readonly buffer: SharedArrayBuffer }
  | { readonly kind: 'file'; readonly fd: number };

export interface FileSource extends PayloadSource {
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

export async function fileSource(path: string): Promise<FileSource> {
  const file = await open(path, 'r');
  const close = (): Promise<void> => file.close();
  try {
    const { size } = await file.stat();
    return {
      sizeBytes: size,
      direct: { kind: 'file', fd: file.fd },
      async read(offsetBytes, target) {
        for (let done = 0; done < target.length; ) {
          const { bytesRead } = await file.read(target, done, target.length - done, offsetBytes + done);
          if (bytesRead === 0) throw endedEarly(path, offsetBytes + done);
          done += bytesRead;
        }
      },
      close,
      [Symbol.asyncDispose]: close,
    };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** For bytes that are in memory already: not copied, so they must stay as they are until the model is open. */
export function memorySource(buffer: SharedArrayBuffer): PayloadSource {
  const bytes = new Uint8Array(buffer);
  return {
    sizeBytes: buffer.byteLength,
    direct: { kind: 'memory', buffer },
    async read(offsetBytes, target) {
      if (offsetBytes + target.length > bytes.length) throw endedEarly('memory', bytes.length);
      target.set(bytes.subarray(offsetBytes, offsetBytes + target.length));
    },
  };
}

function endedEarly(what: string, atBytes: number): SealedModelError {
  return new SealedModelError('SEALED_SOURCE_FAILED', `${what} ended early, at byte ${atBytes}.`);
}
