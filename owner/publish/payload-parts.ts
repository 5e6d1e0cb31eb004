/**
 * How a payload is cut for an upload in parts. A part is one segment wherever S3's bounds allow it (with production
 * sizes up to 625 GiB): its SHA-256, which S3 computes, compares and keeps, is then the digest that the head
 * commits to, and what the store must answer is known without reading the payload.
 */
import { createHash } from 'node:crypto';
import { altered, type LocalModel, readWhole } from './local-model.ts';
import { type Segment, segmentBytesOf, segmentsOf } from './segments.ts';

/** Amazon S3 User Guide, "Amazon S3 multipart upload limits": 5 MiB a part but for the last, 10,000 parts. */
const PART_MIN_BYTES = 5 << 20;
const PARTS_MAX = 10_000;
/** A part is held in memory while it is sent. */
const PART_PREFERRED_MAX_BYTES = 64 << 20;
const READ_BYTES = 1 << 20;

export interface PayloadParts {
  readonly sizeBytes: number;
  readonly partBytes: number;
  /** In order; part 1 first. A payload of 0 bytes has none. */
  readonly parts: readonly Segment[];
  /** The checksum by which S3 knows the whole: of all parts' digests, or of the bytes if they are sent at once. */
  readonly checksum: string;
}

/** Throws PUBLISH_INPUT_UNUSABLE if the payload had to be read and is not the head's. */
export async function cutPayload({ head, payload }: LocalModel): Promise<PayloadParts> {
  const sizeBytes = head.payloadSizeBytes;
  const segments = segmentsOf(head);
  const partBytes = partBytesFor(sizeBytes, segmentBytesOf(head));
  const parts =
    partBytes === segmentBytesOf(head) ? segments : await hashParts(payload, segments, sizeBytes, partBytes);
  return { sizeBytes, partBytes, parts, checksum: checksumOf(parts) };
}

function partBytesFor(sizeBytes: number, segmentBytes: number): number {
  let partBytes = segmentBytes;
  while (partBytes > PART_PREFERRED_MAX_BYTES) partBytes /= 2;
  while (partBytes < PART_MIN_BYTES || Math.ceil(sizeBytes / partBytes) > PARTS_MAX) partBytes *= 2;
  return partBytes;
}

/** Amazon S3 User Guide, "Checking object integrity": a composite is the digest of the digests and their number. */
function checksumOf(parts: readonly Segment[]): string {
  const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64');
  const only = parts.length === 1 ? parts[0]?.sha256 : undefined;
  if (only !== undefined) return base64(only);
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part.sha256);
  return parts.length === 0 ? hash.digest('base64') : `${hash.digest('base64')}-${parts.length}`;
}

/** One pass over the payload, where parts are no segments. */
async function hashParts(
  payload: LocalModel['payload'],
  segments: readonly Segment[],
  sizeBytes: number,
  partBytes: number,
): Promise<Segment[]> {
  const parts: Segment[] = [];
  const buffer = new Uint8Array(READ_BYTES);
  let inSegment = createHash('sha256');
  let inPart = createHash('sha256');
  let next = 0;
  for (let at = 0; at < sizeBytes; ) {
    const segment = segments[next] as Segment;
    const segmentEnd = segment.offsetBytes + segment.sizeBytes;
    const partEnd = Math.min((parts.length + 1) * partBytes, sizeBytes);
    const piece = buffer.subarray(0, Math.min(READ_BYTES, segmentEnd - at, partEnd - at));
    await readWhole(payload, at, piece);
    inSegment.update(piece);
    inPart.update(piece);
    at += piece.length;
    if (at === segmentEnd) {
      if (!inSegment.digest().equals(segment.sha256)) throw altered(`segment ${next} has another digest`);
      inSegment = createHash('sha256');
      next += 1;
    }
    if (at === partEnd) {
      const offsetBytes = parts.length * partBytes;
      parts.push({ offsetBytes, sizeBytes: at - offsetBytes, sha256: new Uint8Array(inPart.digest()) });
      inPart = createHash('sha256');
    }
  }
  return parts;
}
