/** The segments of a payload: what one digest of the head's table covers (docs/sealed-model.md section 7.2). */
import { DIGEST_BYTES } from '../../shared/sealed-model/format.ts';
import type { Head } from '../../shared/sealed-model/head.ts';

export interface Segment {
  readonly offsetBytes: number;
  readonly sizeBytes: number;
  readonly sha256: Uint8Array;
}

export function segmentBytesOf({ geometry }: Head): number {
  return geometry.chunkBytes * geometry.chunksPerSegment;
}

export function segmentsOf(head: Head): Segment[] {
  const bytes = segmentBytesOf(head);
  return Array.from({ length: head.geometry.segmentCount }, (_, index) => ({
    offsetBytes: index * bytes,
    sizeBytes: Math.min(bytes, head.payloadSizeBytes - index * bytes),
    sha256: head.parts.digests.subarray(index * DIGEST_BYTES, (index + 1) * DIGEST_BYTES),
  }));
}
