/**
 * What an owner does with a legacy model and its key: verify it, and open it to a file or a pipe. Nothing is
 * released before tag and digest of the whole have been checked (docs/legacy.md section 5).
 */
import type { Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { writeFileAside } from '../aside-file.ts';
import { type KmsKey, unwrapWithKms } from '../kms.ts';
import type { Leftover } from '../leftovers.ts';
import { expectNotAborted } from '../spool.ts';
import { encryptionContextOf } from './encryption-context.ts';
import type { Envmodel } from './envmodel.ts';
import { LegacyError } from './errors.ts';
import { describeLegacy, type LegacyDescription, type LegacyFile, openLegacyFile } from './legacy-file.ts';
import { type Observe, type VerifiedMessage, verifyMessage } from './message.ts';
import { writeAt } from './message-write.ts';

/** KMS opens an ENVMODEL; a data key of 32 bytes that the caller has, and wipes, opens either. */
export type LegacyKey =
  | { readonly kind: 'kms'; readonly kmsKey: KmsKey }
  | {
      readonly kind: 'data-key';
      readonly dataKey: Uint8Array;
      /** Of an ENCMODEL that says it has some. An ENVMODEL's is its metadata. */
      readonly associatedData?: Uint8Array | undefined;
    };

export interface UnlockOptions extends Observe {
  /** Told of what killed runs left beside the output: plaintext. */
  readonly onLeftover?: (leftover: Leftover) => void;
}

/** Resolves to what the file says of itself, once tag and digest of the whole file matched. */
export async function verifyLegacy(
  path: string,
  key: LegacyKey,
  observe: Observe = {},
): Promise<LegacyDescription> {
  await using file = await openLegacyFile(path);
  await verifyLegacyFile(file, key, observe);
  return describeLegacy(file);
}

/** Plaintext into a new file that its owner alone can read; it appears whole or not at all. */
export async function openLegacyToFile(
  path: string,
  key: LegacyKey,
  out: string,
  { onLeftover, ...observe }: UnlockOptions = {},
): Promise<LegacyDescription> {
  await using file = await openLegacyFile(path);
  const verified = await verifyLegacyFile(file, key, observe);
  await writeFileAside({ path: out, mode: 0o600, onLeftover }, async (target) => {
    let written = 0;
    for await (const piece of verified.plaintext(observe)) {
      await writeAt(target, written, piece);
      written += piece.length;
    }
  });
  return describeLegacy(file);
}

/** Plaintext into a pipe, which is ended. Its reader sees a first byte only if the whole file was verified. */
export async function openLegacyToPipe(
  path: string,
  key: LegacyKey,
  pipe: Writable,
  observe: Observe = {},
): Promise<LegacyDescription> {
  await using file = await openLegacyFile(path);
  const verified = await verifyLegacyFile(file, key, observe);
  const copies = async function* (): AsyncIterable<Buffer> {
    // A pipe keeps what it is given, and the buffer is used again.
    for await (const piece of verified.plaintext(observe)) yield Buffer.from(piece);
  };
  const { signal } = observe;
  await pipeline(copies, pipe, signal === undefined ? {} : { signal }).catch((error: unknown) => {
    expectNotAborted(signal); // aborting ends the pipe with an error of its own
    throw error;
  });
  return describeLegacy(file);
}

/** The file stays its caller's, and must stay open for as long as the message is read. */
export async function verifyLegacyFile(
  file: LegacyFile,
  key: LegacyKey,
  observe: Observe = {},
): Promise<VerifiedMessage> {
  if (key.kind === 'data-key') {
    return verifyMessage(file.message, key.dataKey, associatedDataFor(file, key.associatedData), observe);
  }
  if (file.format !== 'envmodel') {
    throw new LegacyError('LEGACY_KEY_FOREIGN', `${file.path} is an ENCMODEL: KMS does not know its key.`);
  }
  const dataKey = await unwrapEnvmodel(file, key.kmsKey, observe.signal);
  try {
    return await verifyMessage(file.message, dataKey, file.associatedData, observe);
  } finally {
    dataKey.fill(0);
  }
}

/** The data key, which the caller wipes. KMS is asked with the caller's key, never with the one that the file names. */
export async function unwrapEnvmodel(
  file: Envmodel,
  kmsKey: KmsKey,
  signal: AbortSignal | undefined,
): Promise<Uint8Array> {
  const context = encryptionContextOf(file.metadata);
  const { kmsKeyId } = file;
  // An alias says nothing about its key; KMS will.
  const claim = kmsKeyId.includes('alias/') ? undefined : kmsKeyId;
  if (claim !== undefined && claim !== kmsKey.keyArn && claim !== kmsKey.keyArn.split('/').at(-1)) {
    throw new LegacyError(
      'LEGACY_KEY_FOREIGN',
      `The file says its data key is under ${kmsKeyId}; the key given is ${kmsKey.keyArn}.`,
    );
  }
  return unwrapWithKms(kmsKey, file.wrappedKey, context, signal);
}

function associatedDataFor(file: LegacyFile, given: Uint8Array | undefined): readonly Uint8Array[] {
  if (file.format === 'envmodel') {
    if (given === undefined) return file.associatedData;
    throw mismatch(`${file.path} is an ENVMODEL: its metadata is its associated data, and none can be given`);
  }
  if (file.hasAssociatedData === (given !== undefined)) return [given ?? new Uint8Array(0)];
  throw mismatch(
    file.hasAssociatedData
      ? `${file.path} was encrypted with associated data, and none was given`
      : `associated data was given, and ${file.path} says it has none`,
  );
}

function mismatch(why: string): LegacyError {
  return new LegacyError('LEGACY_AAD_MISMATCH', `${why}.`);
}
