/**
 * The bytes of a payload against what the head says of them, segment by segment: without a key by the digest table,
 * with one strictly (every tag and every digest), releasing nothing. Both name every segment that is wrong, where
 * opening would stop at the first.
 */
import { createHash, type Hash } from 'node:crypto';
import { availableParallelism } from 'node:os';
import type { SealedFile } from '../../shared/sealed-model/core-header.ts';
import { SealedModelError } from '../../shared/sealed-model/errors.ts';
import { DIGEST_BYTES } from '../../shared/sealed-model/format.ts';
import type { Head } from '../../shared/sealed-model/head.ts';
import { SealedModelReader, wipeAndFree } from '../../shared/sealed-model/reader.ts';
import type { PayloadSource } from '../../shared/sealed-model/source.ts';
import type { UnlockedHead } from '../../shared/sealed-model/unlock.ts';
import { expectNotAborted } from '../spool.ts';

export interface Observe {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined;
}

export type SegmentFault = 'digest' | 'tag' | 'gap';

export interface SegmentReport {
  readonly checkedBytes: number;
  /** Wrong segments, ascending; one may have several faults. */
  readonly faults: readonly { readonly segment: number; readonly fault: SegmentFault }[];
}

const PIECE_BYTES = 4 << 20;
/** A range of the reader is shared by its workers, one segment each. */
const SEGMENTS_AT_ONCE = Math.min(availableParallelism(), 4);

/** Distinct numbers below `count`, ascending. `random(n)` gives a whole number from 0 to n - 1. */
export function drawSegments(count: number, howMany: number, random: (below: number) => number): number[] {
  const drawn = new Set<number>();
  // Floyd's: every set of this size is equally likely.
  for (let below = count - Math.min(howMany, count); below < count; below++) {
    const candidate = random(below + 1);
    drawn.add(drawn.has(candidate) ? below : candidate);
  }
  return [...drawn].sort((a, b) => a - b);
}

export async function checkDigests(
  head: Head,
  source: PayloadSource,
  segments: readonly number[],
  { signal, onProgress }: Observe = {},
): Promise<SegmentReport> {
  const totalBytes = bytesOf(head, segments);
  const faults: { segment: number; fault: SegmentFault }[] = [];
  let checkedBytes = 0;
  for (const segment of segments) {
    const matches = await hasItsDigest(head, source, segment, (bytes) => {
      expectNotAborted(signal);
      checkedBytes += bytes;
      onProgress?.(checkedBytes, totalBytes);
    });
    if (!matches) faults.push({ segment, fault: 'digest' });
  }
  return { checkedBytes, faults };
}

/** Plaintext passes through memory and is wiped. `files` gets SHA-256 of each file whose segments were all right. */
export async function checkStrictly(
  unlocked: UnlockedHead,
  source: PayloadSource,
  segments: readonly number[],
  { signal, onProgress }: Observe = {},
): Promise<SegmentReport & { readonly files: ReadonlyMap<string, string> }> {
  const { head } = unlocked;
  const totalBytes = bytesOf(head, segments);
  const faults: { segment: number; fault: SegmentFault }[] = [];
  const hashes = new FileHashes(head);
  let checkedBytes = 0;
  await using reader = new SealedModelReader(unlocked, source);
  const read = ({ first, end }: Range): Promise<Uint8Array<ArrayBuffer> | { error: unknown }> => {
    const { start, length } = placeOf(head, first, end);
    // A fault is a result here, so that reading ahead leaves no rejection unheard.
    return reader.read(start, length).catch((error: unknown) => ({ error }));
  };
  const take = async (range: Range, result: Awaited<ReturnType<typeof read>>): Promise<void> => {
    expectNotAborted(signal);
    const { start, length } = placeOf(head, range.first, range.end);
    if (result instanceof Uint8Array) {
      hashes.update(start, result);
      wipeAndFree(result);
      checkedBytes += length;
      onProgress?.(checkedBytes, totalBytes);
      return;
    }
    if (range.end - range.first > 1) {
      for (const single of rangesOf([...segmentsOf(range)], 1)) await take(single, await read(single));
      return;
    }
    const fault = faultOf(result.error);
    faults.push({ segment: range.first, fault });
    // A chunk that fails its tag hides whether it is the ciphertext that the head names.
    if (fault === 'tag' && !(await hasItsDigest(head, source, range.first))) {
      faults.push({ segment: range.first, fault: 'digest' });
    }
    hashes.miss(start, length);
    checkedBytes += length;
    onProgress?.(checkedBytes, totalBytes);
  };
  const ranges = rangesOf(segments, SEGMENTS_AT_ONCE);
  let ahead: ReturnType<typeof read> | undefined;
  for (const [index, range] of ranges.entries()) {
    const result = await (ahead ?? read(range));
    const next = ranges[index + 1];
    ahead = next === undefined ? undefined : read(next); // decrypted while this one is hashed
    await take(range, result);
  }
  return { checkedBytes, faults, files: hashes.digests() };
}

interface Range {
  readonly first: number;
  readonly end: number;
}

/** Neighbours together, at most so many. */
function rangesOf(segments: readonly number[], atMost: number): Range[] {
  const ranges: { first: number; end: number }[] = [];
  for (const segment of segments) {
    const last = ranges.at(-1);
    if (last !== undefined && last.end === segment && last.end - last.first < atMost) last.end++;
    else ranges.push({ first: segment, end: segment + 1 });
  }
  return ranges;
}

function* segmentsOf({ first, end }: Range): Iterable<number> {
  for (let segment = first; segment < end; segment++) yield segment;
}

function faultOf(error: unknown): SegmentFault {
  const code = error instanceof SealedModelError ? error.code : undefined;
  if (code === 'SEALED_CHUNK_REFUSED') return 'tag';
  if (code === 'SEALED_SEGMENT_REFUSED') return 'digest';
  if (code === 'SEALED_GAP_NOT_ZERO') return 'gap';
  throw error;
}

async function hasItsDigest(
  head: Head,
  source: PayloadSource,
  segment: number,
  onBytes: (bytes: number) => void = () => {},
): Promise<boolean> {
  const { start, length } = placeOf(head, segment, segment + 1);
  const digest = await sha256Of(source, start, length, onBytes);
  const expected = head.parts.digests.subarray(segment * DIGEST_BYTES, (segment + 1) * DIGEST_BYTES);
  return digest.equals(expected);
}

/** SHA-256 of a range. Throws SEALED_SOURCE_FAILED. */
export async function sha256Of(
  source: PayloadSource,
  start: number,
  length: number,
  onBytes: (bytes: number) => void = () => {},
): Promise<Buffer> {
  const hash = createHash('sha256');
  const buffers = [0, 1].map(() => new Uint8Array(new ArrayBuffer(Math.min(PIECE_BYTES, length)))) as [
    Uint8Array,
    Uint8Array,
  ];
  const read = async (at: number, turn: number): Promise<Uint8Array | { readonly error: unknown }> => {
    const target = (buffers[turn % 2] as Uint8Array).subarray(0, Math.min(PIECE_BYTES, length - at));
    try {
      await source.read(start + at, target);
      return target;
    } catch (error) {
      return { error };
    }
  };
  let ahead = length === 0 ? undefined : read(0, 0);
  for (let at = 0, turn = 0; ahead !== undefined; turn++) {
    const piece: Uint8Array | { readonly error: unknown } = await ahead;
    if (!(piece instanceof Uint8Array)) throw sourceFailed(piece.error);
    at += piece.length;
    ahead = at < length ? read(at, turn + 1) : undefined; // read while this one is hashed
    hash.update(piece);
    onBytes(piece.length);
  }
  return hash.digest();
}

function sourceFailed(cause: unknown): SealedModelError {
  if (cause instanceof SealedModelError) return cause;
  const why = cause instanceof Error ? cause.message : String(cause);
  return new SealedModelError('SEALED_SOURCE_FAILED', `The payload could not be read: ${why}`, cause);
}

function placeOf({ geometry }: Head, first: number, end: number): { start: number; length: number } {
  const segmentBytes = geometry.chunkBytes * geometry.chunksPerSegment;
  const start = first * segmentBytes;
  return { start, length: Math.min(end * segmentBytes, geometry.payloadSizeBytes) - start };
}

function bytesOf(head: Head, segments: readonly number[]): number {
  return segments.reduce((sum, segment) => sum + placeOf(head, segment, segment + 1).length, 0);
}

/** SHA-256 of each file, from pieces of the payload that come in order. */
class FileHashes {
  readonly #files: readonly { readonly file: SealedFile; readonly hash: Hash }[];
  readonly #missed = new Set<string>();
  #next = 0;

  constructor({ files }: Head) {
    this.#files = files.map((file) => ({ file, hash: createHash('sha256') }));
  }

  update(start: number, bytes: Uint8Array): void {
    this.#each(start, bytes.length, ({ file, hash }, from, to) => {
      if (!this.#missed.has(file.path)) hash.update(bytes.subarray(from - start, to - start));
    });
  }

  miss(start: number, length: number): void {
    this.#each(start, length, ({ file }) => this.#missed.add(file.path));
  }

  digests(): ReadonlyMap<string, string> {
    const right = this.#files.filter(({ file }) => !this.#missed.has(file.path));
    return new Map(right.map(({ file, hash }) => [file.path, hash.digest('hex')]));
  }

  #each(
    start: number,
    length: number,
    visit: (entry: { readonly file: SealedFile; readonly hash: Hash }, from: number, to: number) => void,
  ): void {
    const end = start + length;
    for (let index = this.#next; index < this.#files.length; index++) {
      const entry = this.#files[index] as { readonly file: SealedFile; readonly hash: Hash };
      const { offset, sizeBytes } = entry.file;
      if (offset >= end) break;
      const [from, to] = [Math.max(start, offset), Math.min(end, offset + sizeBytes)];
      if (from < to) visit(entry, from, to);
      if (offset + sizeBytes <= end) this.#next = index + 1;
    }
  }
}
