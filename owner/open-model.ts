/**
 * A sealed model in the clear again, for its owner. Opening is strict: every tag and every digest, and nothing is
 * released before. What lies under the final name is the whole model or nothing.
 */
import type { KeyObject } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Writable } from 'node:stream';
import type { SealedFile } from '../shared/sealed-model/core-header.ts';
import type { Head } from '../shared/sealed-model/head.ts';
import { openSealedModel } from '../shared/sealed-model/open.ts';
import { SealedModelReader, wipeAndFree } from '../shared/sealed-model/reader.ts';
import { fileSource } from '../shared/sealed-model/source.ts';
import type { UnlockedHead } from '../shared/sealed-model/unlock.ts';
import { Aside, syncFolder } from './aside.ts';
import { OwnerError } from './errors.ts';
import type { Leftover } from './leftovers.ts';
import { type ModelKey, withSealedFolder } from './model-key.ts';
import { expectAbsent } from './rename.ts';
import { expectRoomBeside } from './room.ts';
import { expectNotAborted } from './spool.ts';

export interface OpenSealed {
  /** NAME.sealed. */
  readonly sealed: string;
  readonly key: ModelKey;
  /** Whose signature the manifest must bear; without it, only the key vouches for the model. */
  readonly signer?: KeyObject | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined;
}

export interface OpenToFolder extends OpenSealed {
  /** The folder to create (0700, its files 0600). */
  readonly out: string;
  /** Told of the plaintext that killed runs left beside `out`. */
  readonly onLeftover?: ((leftover: Leftover) => void) | undefined;
}

/** Throws OwnerError, SealedModelError, or the file system's error (ENOSPC); then nothing is left behind. */
export async function openToFolder(request: OpenToFolder): Promise<Head> {
  const { sealed, key, out } = request;
  await expectAbsent(out); // before KMS is asked
  return withSealedFolder(sealed, key, request, (unlocked) => openUnlocked(request, unlocked));
}

async function openUnlocked(
  { sealed, out, signal, onProgress, onLeftover }: OpenToFolder,
  unlocked: UnlockedHead,
): Promise<Head> {
  const { head } = unlocked;
  await expectRoomBeside(
    out,
    head.files.map(({ sizeBytes }) => sizeBytes),
  );
  await using source = await fileSource(join(sealed, 'payload'));
  await using aside = await Aside.create(out, [], onLeftover, 0o700);
  const folders = new Set<string>();
  for (const folder of head.files.flatMap(({ path }) => foldersOf(path))) {
    folders.add(await aside.makeFolder(folder, 0o700));
  }
  await using files = new Opened();
  for (const { path } of head.files) await files.add(aside.openFile(path, 0o600));
  await openSealedModel(
    unlocked,
    source,
    { kind: 'files', fds: files.fds },
    {
      ...(signal === undefined ? {} : { signal }),
      onProgress: (openedBytes) => onProgress?.(openedBytes, head.payloadSizeBytes),
    },
  );
  await files.sync();
  for (const folder of folders) await syncFolder(folder);
  expectNotAborted(signal);
  await aside.publish();
  return head;
}

/** Several descriptors that are closed together. */
class Opened {
  readonly #files: FileHandle[] = [];

  async add(opening: Promise<FileHandle>): Promise<void> {
    this.#files.push(await opening);
  }

  get fds(): readonly number[] {
    return this.#files.map(({ fd }) => fd);
  }

  async sync(): Promise<void> {
    for (const file of this.#files) await file.sync();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#files.map((file) => file.close()));
  }
}

export interface OpenToPipe extends OpenSealed {
  /** A path inside the model; may be left out where it has one file. */
  readonly file: string | undefined;
  /** Not ended: it may be standard output. */
  readonly pipe: Writable;
}

/**
 * Writes one file, segment by segment, each after its tags and its digest matched. A model that is refused in its
 * middle ends this with an error after an authentic beginning, so a reader must look at the outcome.
 */
export async function openToPipe(request: OpenToPipe): Promise<SealedFile> {
  const { sealed, key } = request;
  return withSealedFolder(sealed, key, request, (unlocked) => pipeUnlocked(request, unlocked));
}

async function pipeUnlocked(
  { sealed, file: name, pipe, signal, onProgress }: OpenToPipe,
  unlocked: UnlockedHead,
): Promise<SealedFile> {
  const { head } = unlocked;
  const file = fileOf(head, name);
  await using source = await fileSource(join(sealed, 'payload'));
  await using reader = new SealedModelReader(unlocked, source);
  const segmentBytes = head.geometry.chunkBytes * head.geometry.chunksPerSegment;
  const end = file.offset + file.sizeBytes;
  for (let at = file.offset; at < end; ) {
    expectNotAborted(signal);
    const pieceEnd = Math.min(end, (Math.floor(at / segmentBytes) + 1) * segmentBytes);
    const piece = await reader.read(at, pieceEnd - at);
    try {
      await writeWhole(pipe, piece, signal);
    } catch (error) {
      piece.fill(0); // and not freed: the stream may not be done with it
      throw error;
    }
    wipeAndFree(piece);
    at = pieceEnd;
    onProgress?.(at - file.offset, file.sizeBytes);
  }
  expectNotAborted(signal);
  return file;
}

/** The named file, or the only one. Throws OWNER_NO_SUCH_FILE. */
export function fileOf<File extends { readonly path: string }>(
  { files }: { readonly files: readonly File[] },
  path: string | undefined,
): File {
  const [only, ...more] = files;
  const found =
    path === undefined ? (more.length === 0 ? only : undefined) : files.find((file) => file.path === path);
  if (found !== undefined) return found;
  const shown = files
    .slice(0, 20)
    .map((file) => file.path)
    .join(', ');
  throw new OwnerError(
    'OWNER_NO_SUCH_FILE',
    `${path === undefined ? 'One file must be named' : `There is no file ${JSON.stringify(path)}`}; the model has ${shown}${files.length > 20 ? ', ...' : ''}.`,
  );
}

/** Every folder above a path inside the model, outermost first. */
function foldersOf(path: string): readonly string[] {
  const folder = dirname(path);
  return folder === '.' ? [] : [...foldersOf(folder), folder];
}

/** Resolves when the pipe has passed the bytes on, so that they can be wiped; a silent reader is waited for. */
async function writeWhole(pipe: Writable, bytes: Uint8Array, signal: AbortSignal | undefined): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const onAbort = (): void => reject(signal?.reason);
  signal?.addEventListener('abort', onAbort);
  pipe.once('error', reject);
  try {
    pipe.write(bytes, (error) => (error ? reject(error) : resolve()));
    await promise;
  } catch (error) {
    expectNotAborted(signal);
    throw error;
  } finally {
    signal?.removeEventListener('abort', onAbort);
    pipe.removeListener('error', reject);
  }
}
