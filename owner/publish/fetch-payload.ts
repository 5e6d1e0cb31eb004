/** The payload by ranges, several at a time; each segment counts once it has the digest that the head holds. */
import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import type { Head } from '../../shared/sealed-model/head.ts';
import { expectNotStopped, PublishError } from './errors.ts';
import { type FetchSource, failureOf } from './fetch-source.ts';
import { type Segment, segmentsOf } from './segments.ts';

/** How often a segment is fetched anew that came with another digest. */
const SEGMENT_ATTEMPTS = 3;
/** Failures in a row without a byte in between. */
const STALLS_MAX = 5;
const SCAN_BYTES = 1 << 20;

export interface FetchPayload {
  readonly source: FetchSource;
  readonly model: string;
  readonly lanes: number;
  readonly signal: AbortSignal;
  readonly onProgress?: (phase: 'checking' | 'fetching', doneBytes: number, totalBytes: number) => void;
}

/** Resolves to the bytes that were there already. */
export async function fetchPayload(request: FetchPayload, head: Head, aside: string): Promise<number> {
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
  { signal, onProgress }: FetchPayload,
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
