/**
 * Writing the legacy layouts, for interchange with tools that read nothing else (docs/legacy.md section 6). One pass
 * over the plaintext: what stands before the ciphertext is written last, when size and digest are known.
 */
import { randomFillSync } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { writeFileAside } from '../aside-file.ts';
import { OwnerError } from '../errors.ts';
import { checkKmsKey, type KmsKey, wrapWithKms } from '../kms.ts';
import type { Leftover } from '../leftovers.ts';
import { plaintextOf } from '../plaintext.ts';
import { expectNotAborted } from '../spool.ts';
import { encodeEncmodel } from './encmodel.ts';
import { encryptionContextOf } from './encryption-context.ts';
import { associatedDataToWrite, encodeEnvmodel } from './envmodel.ts';
import { expectWithinCipher, KEY_BYTES, NONCE_BYTES } from './layout.ts';
import { PIECE_BYTES } from './message.ts';
import { type WrittenMessage, writeAt, writeMessage } from './message-write.ts';
import type { PythonDict } from './python-loads.ts';

interface SealAnyLegacy {
  /** One file, since these layouts hold one, or a pipe. */
  readonly input:
    | { readonly kind: 'file'; readonly path: string }
    | { readonly kind: 'pipe'; readonly pipe: NodeJS.ReadableStream };
  /** The file to create. */
  readonly out: string;
  readonly signal?: AbortSignal;
  /** `totalBytes` is unknown while a pipe is being read. */
  readonly onProgress?: (doneBytes: number, totalBytes?: number) => void;
  readonly onLeftover?: (leftover: Leftover) => void;
}

export interface SealEncmodel extends SealAnyLegacy {
  /** 32 bytes that the owner keeps. */
  readonly dataKey: Uint8Array;
  /** For example `name:version`; whoever opens the file must give the same. */
  readonly associatedData?: Uint8Array;
}

export interface SealEnvmodel extends SealAnyLegacy {
  readonly kmsKey: KmsKey;
  /** The KMS encryption context and the associated data: strings alone, in this order. */
  readonly metadata: PythonDict;
}

/** Throws LEGACY_TOO_LARGE, OwnerError, or the file system's error; then nothing is left behind. */
export async function sealEncmodel(request: SealEncmodel): Promise<WrittenMessage> {
  const { dataKey, associatedData } = request;
  if (dataKey.length !== KEY_BYTES) {
    throw new OwnerError('OWNER_KEY_UNUSABLE', `A data key has ${KEY_BYTES} bytes, not ${dataKey.length}.`);
  }
  const nonce = randomFillSync(new Uint8Array(NONCE_BYTES));
  const hasAssociatedData = associatedData !== undefined;
  return writeLegacy(
    request,
    { dataKey, nonce, associatedData: associatedData ?? new Uint8Array(0) },
    (plaintext) => encodeEncmodel(nonce, hasAssociatedData, plaintext),
  );
}

/** Throws LEGACY_CONTEXT_IMPOSSIBLE as well, before KMS is asked or anything is read. */
export async function sealEnvmodel(request: SealEnvmodel): Promise<WrittenMessage> {
  const { kmsKey, metadata, signal } = request;
  const context = encryptionContextOf(metadata);
  await checkKmsKey(kmsKey, signal);
  const dataKey = randomFillSync(new Uint8Array(new ArrayBuffer(KEY_BYTES)));
  try {
    const nonce = randomFillSync(new Uint8Array(NONCE_BYTES));
    const { ciphertextBlob } = await wrapWithKms(kmsKey, dataKey, context, signal);
    const associatedData = associatedDataToWrite(metadata);
    return await writeLegacy(request, { dataKey, nonce, associatedData }, (plaintext) =>
      encodeEnvmodel({
        kmsKeyId: kmsKey.keyArn,
        wrappedKey: ciphertextBlob,
        nonce,
        metadata,
        plaintextSha256: plaintext === 'unknown' ? '0'.repeat(64) : plaintext.sha256,
      }),
    );
  } finally {
    dataKey.fill(0);
  }
}

/** `preamble` must be as long for an unknown plaintext as for any. */
async function writeLegacy(
  request: SealAnyLegacy,
  keys: Parameters<typeof writeMessage>[3],
  preamble: (plaintext: WrittenMessage | 'unknown') => Uint8Array,
): Promise<WrittenMessage> {
  const { out, signal, onProgress, onLeftover } = request;
  return writeFileAside({ path: out, mode: 0o644, onLeftover }, async (file) => {
    const offsetBytes = preamble('unknown').length;
    const write = (plaintext: AsyncIterable<Uint8Array>, totalBytes?: number): Promise<WrittenMessage> =>
      writeMessage(file, offsetBytes, plaintext, keys, {
        signal,
        onBytes: (doneBytes) => onProgress?.(doneBytes, totalBytes),
      });
    const written = await encryptInput(request, write);
    if (written.sizeBytes === 0) {
      throw new OwnerError('OWNER_INPUT_UNUSABLE', 'The input cannot be sealed: it has 0 bytes.');
    }
    await finish(file, preamble(written), offsetBytes);
    return written;
  });
}

async function encryptInput(
  { input, signal }: SealAnyLegacy,
  write: (plaintext: AsyncIterable<Uint8Array>, totalBytes?: number) => Promise<WrittenMessage>,
): Promise<WrittenMessage> {
  if (input.kind === 'pipe') return whileAlive(input.pipe, signal, () => write(bytesOf(input.pipe)));
  await using plaintext = await plaintextOf([input.path]);
  const [source] = plaintext.inputs;
  if (source === undefined || plaintext.inputs.length !== 1) {
    throw new OwnerError(
      'OWNER_INPUT_UNUSABLE',
      `The input cannot be sealed: a legacy layout holds one file, and ${input.path} is a folder of ${plaintext.inputs.length}.`,
    );
  }
  expectWithinCipher(source.sizeBytes);
  const pieces = async function* (): AsyncIterable<Uint8Array> {
    const buffer = new Uint8Array(new ArrayBuffer(Math.min(PIECE_BYTES, source.sizeBytes)));
    for (let done = 0; done < source.sizeBytes; done += buffer.length) {
      const piece = buffer.subarray(0, Math.min(buffer.length, source.sizeBytes - done));
      await source.read(done, piece);
      yield piece;
    }
  };
  const written = await write(pieces(), source.sizeBytes);
  await plaintext.expectUnchanged();
  return written;
}

/** A pipe may be silent for hours; only destroying it wakes its reader. */
async function whileAlive<T>(
  pipe: NodeJS.ReadableStream,
  signal: AbortSignal | undefined,
  read: () => Promise<T>,
): Promise<T> {
  const onAbort = (): void => {
    if ('destroy' in pipe && typeof pipe.destroy === 'function') pipe.destroy();
  };
  signal?.addEventListener('abort', onAbort);
  try {
    return await read();
  } catch (error) {
    expectNotAborted(signal); // destroying the pipe ends it with an error of its own
    throw error;
  } finally {
    signal?.removeEventListener('abort', onAbort);
  }
}

async function* bytesOf(pipe: NodeJS.ReadableStream): AsyncIterable<Uint8Array> {
  for await (const piece of pipe) {
    if (!(piece instanceof Uint8Array)) {
      throw new OwnerError('OWNER_INPUT_UNUSABLE', 'The pipe cannot be sealed: the pipe must carry bytes.');
    }
    yield piece;
  }
}

/** Last, so that what a killed run leaves never looks like a model. */
async function finish(file: FileHandle, preamble: Uint8Array, offsetBytes: number): Promise<void> {
  if (preamble.length !== offsetBytes) throw new TypeError('the preamble changed its length');
  await writeAt(file, 0, preamble);
}
