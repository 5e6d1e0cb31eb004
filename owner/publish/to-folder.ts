/**
 * Publishing into a folder that the parent, a web server or a mount serves. A new model is written aside and
 * renamed, or swapped with the one that it replaces; of one that is there already only the small parts that differ are replaced, each by one rename.
 */
import { createHash } from 'node:crypto';
import { type FileHandle, mkdir, open, readdir, rename, rm, rmdir } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { removeMadeFolders, syncFolder } from '../aside.ts';
import { asideOf, type Leftover, removeLeftovers } from '../leftovers.ts';
import { exchange, renameNew } from '../rename.ts';
import { readSealedPartIfThere } from '../sealed-folder.ts';
import { writeNewFile } from '../secret-files.ts';
import { expectNotStopped, PublishError } from './errors.ts';
import { altered, type LocalModel, readWhole, SMALL_PARTS, sha256 } from './local-model.ts';
import { segmentsOf } from './segments.ts';
import type { PublishResult } from './to-bucket.ts';

const COPY_BYTES = 1 << 20;

export interface PublishToFolder {
  readonly model: LocalModel;
  /** The folder of the model itself, `…/NAME.sealed`. */
  readonly out: string;
  readonly replace: boolean;
  readonly signal?: AbortSignal;
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
  readonly onLeftover?: (leftover: Leftover) => void;
}

/** Throws PublishError, or the file system's error; then nothing is left behind. */
export async function publishToFolder(request: PublishToFolder): Promise<PublishResult> {
  const out = resolve(request.out);
  const made = await mkdir(dirname(out), { recursive: true });
  try {
    return await publishBeside({ ...request, out });
  } catch (error) {
    await removeMadeFolders(made, out);
    throw error;
  }
}

async function publishBeside(request: PublishToFolder): Promise<PublishResult> {
  const { model, out, replace, onLeftover } = request;
  for (const leftover of await removeLeftovers(out)) onLeftover?.(leftover);
  const published = await contentIdAt(out);
  if (published !== undefined && published !== model.contentId && !replace) {
    throw new PublishError(
      'PUBLISH_WOULD_REPLACE',
      `${out} has content id ${published}, this model ${model.contentId}.`,
    );
  }
  const written =
    published === model.contentId && (await payloadSize(out)) === model.head.payloadSizeBytes
      ? await replaceSmallParts(model, out)
      : await writeAside(request, published);
  return {
    contentId: model.contentId,
    destination: out,
    written,
    payloadSizeBytes: model.head.payloadSizeBytes,
    resumedBytes: 0,
    checksums: true,
  };
}

async function contentIdAt(out: string): Promise<string | undefined> {
  const head = await readSealedPartIfThere(out, 'head');
  if (head !== undefined) return Buffer.from(await sha256(head)).toString('hex');
  const found = await readdir(out).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  if (found.length === 0) return undefined;
  throw new PublishError(
    'PUBLISH_WOULD_REPLACE',
    `${out} is there and is no sealed model; it is left alone.`,
  );
}

async function payloadSize(out: string): Promise<number | undefined> {
  await using file = await open(join(out, 'payload'), 'r').catch(() => undefined);
  return (await file?.stat())?.size;
}

/** A rewrapped key.json, a manifest that was signed again: each appears at once or not at all. */
async function replaceSmallParts(model: LocalModel, out: string): Promise<string[]> {
  const written: string[] = [];
  for (const part of SMALL_PARTS) {
    const bytes = model.parts.get(part);
    if (bytes === undefined) continue;
    const there = await readSealedPartIfThere(out, part);
    if (there !== undefined && Buffer.compare(there, bytes) === 0) continue;
    const aside = asideOf(join(out, part));
    try {
      await writeNewFile(aside, bytes, 0o644);
      await rename(aside, join(out, part));
    } finally {
      await rm(aside, { force: true });
    }
    written.push(part);
  }
  await syncFolder(out);
  return written;
}

async function writeAside(
  { model, out, signal, onProgress }: PublishToFolder,
  published: string | undefined,
): Promise<string[]> {
  const aside = asideOf(out);
  await mkdir(aside);
  try {
    await using payload = await open(join(aside, 'payload'), 'wx', 0o644);
    await copyPayload(model, payload, signal, onProgress);
    await payload.sync();
    for (const [part, bytes] of model.parts) await writeNewFile(join(aside, part), bytes, 0o644);
    await syncFolder(aside);
    expectNotStopped(signal);
    await takePlace(aside, out, published !== undefined);
    await syncFolder(dirname(out));
    return ['payload', ...model.parts.keys()];
  } finally {
    await rm(aside, { recursive: true, force: true });
  }
}

/**
 * In one step, so that a reader finds the old model or the new one; what was there waits under the aside's name then.
 * A file system that swaps no names has a moment without a model.
 */
async function takePlace(aside: string, out: string, isReplacement: boolean): Promise<void> {
  if (!isReplacement) {
    await rmdir(out).catch(() => {}); // an empty folder; whatever else is there makes the next line refuse
    return renameNew(aside, out);
  }
  const refusal = await exchange(aside, out);
  if (refusal === undefined) return;
  const replaced = asideOf(out);
  await rename(out, replaced);
  await rename(aside, out).catch(async (error) => {
    await rename(replaced, out);
    throw error;
  });
  await rm(replaced, { recursive: true, force: true });
}

/** Each segment is compared with its digest on the way. */
async function copyPayload(
  { head, payload }: LocalModel,
  target: FileHandle,
  signal: AbortSignal | undefined,
  onProgress: PublishToFolder['onProgress'],
): Promise<void> {
  const buffer = new Uint8Array(COPY_BYTES);
  for (const [index, segment] of segmentsOf(head).entries()) {
    const hash = createHash('sha256');
    const end = segment.offsetBytes + segment.sizeBytes;
    for (let at = segment.offsetBytes; at < end; ) {
      expectNotStopped(signal);
      const piece = buffer.subarray(0, Math.min(COPY_BYTES, end - at));
      await readWhole(payload, at, piece);
      hash.update(piece);
      for (let done = 0; done < piece.length; ) {
        done += (await target.write(piece, done, piece.length - done, at + done)).bytesWritten;
      }
      at += piece.length;
      onProgress?.(at, head.payloadSizeBytes);
    }
    if (!hash.digest().equals(segment.sha256)) throw altered(`segment ${index} has another digest`);
  }
}
