/**
 * Fetching a published model into a folder. Everything comes from a store that nobody trusts: the small parts are
 * held against one another (and the manifest against its signer), each segment of the payload against the digest
 * that the head holds, before anything has the final name. What was fetched when the command stopped or was killed
 * is taken up by the next one; what of it counts, the digests say.
 */
import { createHash, type KeyObject } from 'node:crypto';
import { type FileHandle, mkdir, open, rename, rm } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { HEAD_MAX_BYTES, type Head, parseHead } from '../../shared/sealed-model/head.ts';
import { expectKeyFileOf, KEY_FILE_MAX_BYTES, parseKeyFile } from '../../shared/sealed-model/key-file.ts';
import {
  expectHeadOf,
  expectStatementOf,
  MANIFEST_MAX_BYTES,
  parseEnvelope,
  parseStatement,
  verifyManifest,
} from '../../shared/sealed-model/manifest.ts';
import { expectAbsent, syncFolder } from '../aside.ts';
import { adoptLeftover, asideOf, type Leftover, removeLeftovers } from '../leftovers.ts';
import { writeNewFile } from '../secret-files.ts';
import { expectNotStopped, PublishError } from './errors.ts';
import type { SmallPart } from './local-model.ts';
import { type Segment, segmentsOf } from './segments.ts';

/** Where a model lies. `open` looks for `<model>.sealed/<file>` and is undefined if there is no such file. */
export interface FetchSource {
  open(model: string, file: SmallPart | 'payload', signal: AbortSignal): Promise<SourceFile | undefined>;
}

export interface SourceFile extends AsyncDisposable {
  readonly sizeBytes: number;
  /** Exactly these bytes, or an error. */
  read(range: { readonly first: number; readonly last: number }): Promise<AsyncIterable<Uint8Array>>;
}

export interface FetchModel {
  readonly source: FetchSource;
  /** `NAME` of `NAME.sealed`. */
  readonly model: string;
  readonly out: string;
  /** Whose signature the manifest must have. */
  readonly signer?: KeyObject;
  /** Lower-case hex. */
  readonly contentId?: string;
  readonly lanes: number;
  readonly signal: AbortSignal;
  readonly onProgress?: (phase: 'checking' | 'fetching', doneBytes: number, totalBytes: number) => void;
  readonly onLeftover?: (leftover: Leftover) => void;
}

export interface FetchResult {
  readonly folder: string;
  readonly name: string;
  readonly version: number;
  readonly contentId: string;
  readonly signatureChecked: boolean;
  readonly payloadSizeBytes: number;
  readonly resumedBytes: number;
}

/** How often a segment is fetched anew that came with another digest. */
const SEGMENT_ATTEMPTS = 3;
/** Failures in a row without a byte in between. */
const STALLS_MAX = 5;
const SCAN_BYTES = 1 << 20;

/** Throws PublishError, OWNER_WOULD_OVERWRITE, SealedModelError. */
export async function fetchModel(request: FetchModel): Promise<FetchResult> {
  const out = resolve(request.out);
  await expectAbsent(out);
  const parts = await fetchSmallParts(request);
  await mkdir(dirname(out), { recursive: true });
  const adopted = await adoptLeftover(out);
  for (const leftover of await removeLeftovers(out)) {
    if (leftover.path !== adopted) request.onLeftover?.(leftover);
  }
  const aside = adopted ?? asideOf(out);
  if (adopted === undefined) await mkdir(aside);
  try {
    const resumedBytes = await fetchPayload(request, parts.head, aside);
    for (const [part, bytes] of parts.bytes) {
      await rm(join(aside, part), { force: true });
      await writeNewFile(join(aside, part), bytes, 0o644);
    }
    if (!parts.bytes.has('key.json')) await rm(join(aside, 'key.json'), { force: true });
    await syncFolder(aside);
    expectNotStopped(request.signal);
    await expectAbsent(out);
    await rename(aside, out);
    await syncFolder(dirname(out));
    const { identity, contentId, payloadSizeBytes } = parts.head;
    return {
      folder: request.out,
      name: identity.name,
      version: identity.version,
      contentId: hex(contentId),
      signatureChecked: request.signer !== undefined,
      payloadSizeBytes,
      resumedBytes,
    };
  } catch (error) {
    // What may pass later keeps what was fetched so far for the next run.
    if (!(error instanceof PublishError && error.exitCode === 3))
      await rm(aside, { recursive: true, force: true });
    throw error;
  }
}

interface SmallParts {
  readonly head: Head;
  readonly bytes: ReadonlyMap<SmallPart, Uint8Array>;
}

async function fetchSmallParts(request: FetchModel): Promise<SmallParts> {
  const { signer, contentId, model } = request;
  const headBytes = await readSmall(request, 'head', HEAD_MAX_BYTES);
  const manifest = await readSmall(request, 'manifest.json', MANIFEST_MAX_BYTES);
  if (headBytes === undefined || manifest === undefined) {
    throw new PublishError('FETCH_NOT_FOUND', `There is no head and manifest.json in ${model}.sealed.`);
  }
  const keyFile = await readSmall(request, 'key.json', KEY_FILE_MAX_BYTES);
  const head = parseHead(headBytes);
  if (contentId !== undefined && contentId !== hex(head.contentId)) {
    throw new PublishError(
      'FETCH_OTHER_MODEL',
      `Expected content id ${contentId}, found ${hex(head.contentId)}.`,
    );
  }
  if (signer !== undefined) expectHeadOf(verifyManifest(manifest, signer), head);
  else expectStatementOf(parseStatement(parseEnvelope(manifest).payload), head);
  if (keyFile !== undefined) expectKeyFileOf(head, parseKeyFile(keyFile));
  return {
    head,
    bytes: new Map<SmallPart, Uint8Array>([
      ['head', headBytes],
      ...(keyFile === undefined ? [] : [['key.json', keyFile] as const]),
      ['manifest.json', manifest],
    ]),
  };
}

async function readSmall(
  { source, model, signal }: FetchModel,
  part: SmallPart,
  maxBytes: number,
): Promise<Uint8Array | undefined> {
  const file = await failing(signal, () => source.open(model, part, signal));
  if (file === undefined) return undefined;
  await using _file = file;
  if (file.sizeBytes > maxBytes) {
    throw new PublishError(
      'FETCH_OTHER_MODEL',
      `${part} has ${file.sizeBytes} bytes, at most ${maxBytes} are read.`,
    );
  }
  const bytes = new Uint8Array(file.sizeBytes);
  if (bytes.length === 0) return bytes;
  return await failing(signal, async () => {
    let at = 0;
    for await (const chunk of await file.read({ first: 0, last: bytes.length - 1 })) {
      bytes.set(chunk, at);
      at += chunk.length;
    }
    if (at !== bytes.length) throw new RangeError(`${part} ended after ${at} bytes`);
    return bytes;
  });
}

/** Resolves to the bytes that were there already. */
async function fetchPayload(request: FetchModel, head: Head, aside: string): Promise<number> {
  const { source, model, lanes, signal, onProgress } = request;
  const file = await openPayloadAside(join(aside, 'payload'), head.payloadSizeBytes);
  try {
    const segments = segmentsOf(head);
    const missing = file.isNew ? segments : await missingSegments(file.handle, segments, head, request);
    const sum = missing.reduce((bytes, { sizeBytes }) => bytes + sizeBytes, 0);
    const resumedBytes = head.payloadSizeBytes - sum;
    let doneBytes = resumedBytes;
    if (missing.length > 0) onProgress?.('fetching', doneBytes, head.payloadSizeBytes);
    const onBytes = (count: number): void => {
      doneBytes += count;
      onProgress?.('fetching', doneBytes, head.payloadSizeBytes);
    };

    const queue = missing[Symbol.iterator]();
    const failed = new AbortController();
    const stop = AbortSignal.any([signal, failed.signal]);
    const lane = async (): Promise<void> => {
      for (const segment of queue) {
        await fetchSegment({ source, model, head, target: file.handle, segment, signal: stop, onBytes });
      }
    };
    const results = await Promise.allSettled(
      Array.from({ length: Math.min(lanes, missing.length) }, () =>
        lane().catch((error) => {
          failed.abort();
          throw error;
        }),
      ),
    );
    expectNotStopped(signal);
    // The first failure stopped the other lanes; theirs only say so.
    const failures = results.flatMap((result) => (result.status === 'rejected' ? [result.reason] : []));
    const first = failures.find((error) => error?.code !== 'PUBLISH_STOPPED') ?? failures[0];
    if (first !== undefined) throw first;
    await file.handle.sync();
    return resumedBytes;
  } finally {
    await file.handle.close();
  }
}

async function openPayloadAside(
  path: string,
  sizeBytes: number,
): Promise<{ handle: FileHandle; isNew: boolean }> {
  const existing = await open(path, 'r+').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  const handle = existing ?? (await open(path, 'wx+', 0o644));
  await handle.truncate(sizeBytes);
  return { handle, isNew: existing === undefined };
}

async function missingSegments(
  file: FileHandle,
  segments: readonly Segment[],
  head: Head,
  { signal, onProgress }: FetchModel,
): Promise<Segment[]> {
  const missing: Segment[] = [];
  const buffer = new Uint8Array(SCAN_BYTES);
  for (const segment of segments) {
    const hash = createHash('sha256');
    for (let done = 0; done < segment.sizeBytes; ) {
      expectNotStopped(signal);
      const length = Math.min(SCAN_BYTES, segment.sizeBytes - done);
      const { bytesRead } = await file.read(buffer, 0, length, segment.offsetBytes + done);
      if (bytesRead === 0) break;
      hash.update(buffer.subarray(0, bytesRead));
      done += bytesRead;
    }
    if (!hash.digest().equals(segment.sha256)) missing.push(segment);
    onProgress?.('checking', segment.offsetBytes + segment.sizeBytes, head.payloadSizeBytes);
  }
  return missing;
}

interface SegmentFetch {
  readonly source: FetchSource;
  readonly model: string;
  readonly head: Head;
  readonly target: FileHandle;
  readonly segment: Segment;
  readonly signal: AbortSignal;
  readonly onBytes: (count: number) => void;
}

async function fetchSegment(fetch: SegmentFetch): Promise<void> {
  const { target, segment, signal, onBytes } = fetch;
  const { offsetBytes, sizeBytes } = segment;
  for (let attempt = 1; ; attempt += 1) {
    const hash = createHash('sha256');
    let done = 0;
    for (let stalls = 0; done < sizeBytes; ) {
      const before = done;
      try {
        for await (const chunk of readPayload(fetch, offsetBytes + done, offsetBytes + sizeBytes - 1)) {
          expectNotStopped(signal);
          hash.update(chunk);
          await writeWhole(target, chunk, offsetBytes + done);
          done += chunk.length;
          onBytes(chunk.length);
        }
      } catch (error) {
        stalls = done > before ? 0 : stalls + 1;
        const failure = failureOf(error, signal);
        if (failure.code !== 'FETCH_SOURCE_FAILED' || stalls >= STALLS_MAX) throw failure;
      }
    }
    if (hash.digest().equals(segment.sha256)) return;
    onBytes(-done);
    if (attempt >= SEGMENT_ATTEMPTS) {
      throw new PublishError(
        'FETCH_ALTERED',
        `Bytes ${offsetBytes} to ${offsetBytes + sizeBytes - 1} of the payload do not have the digest that the head holds.`,
      );
    }
  }
}

/** Exactly these bytes, or an error. */
async function* readPayload(
  { source, model, head, signal }: SegmentFetch,
  first: number,
  last: number,
): AsyncGenerator<Uint8Array> {
  await using file = await source.open(model, 'payload', signal);
  if (file === undefined) {
    throw new PublishError('FETCH_NOT_FOUND', `There is no payload in ${model}.sealed.`);
  }
  if (file.sizeBytes !== head.payloadSizeBytes) {
    throw new PublishError(
      'FETCH_OTHER_MODEL',
      `The payload has ${file.sizeBytes} bytes, the head says ${head.payloadSizeBytes}.`,
    );
  }
  let at = first;
  for await (const chunk of await file.read({ first, last })) {
    at += chunk.length;
    if (at > last + 1) throw new RangeError('the source sent more than it was asked for');
    yield chunk;
  }
  if (at <= last) throw new RangeError(`the source ended at byte ${at}`);
}

async function writeWhole(file: FileHandle, bytes: Uint8Array, offsetBytes: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    done += (await file.write(bytes, done, bytes.length - done, offsetBytes + done)).bytesWritten;
  }
}

async function failing<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw failureOf(error, signal);
  }
}

/** Our own errors and those of writing to the disk stay what they are; all others are the source's. */
function failureOf(error: unknown, signal: AbortSignal): PublishError {
  if (error instanceof PublishError) return error;
  if (signal.aborted) return new PublishError('PUBLISH_STOPPED', 'The command was stopped.', signal.reason);
  if ((error as NodeJS.ErrnoException).syscall === 'write') throw error;
  const { code, message } = error as Error & { code?: unknown };
  const why = typeof code === 'string' ? `${code}: ${message}` : message;
  return new PublishError('FETCH_SOURCE_FAILED', `The source could not be read: ${why}`, error);
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
