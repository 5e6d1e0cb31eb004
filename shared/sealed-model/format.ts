/**
 * The sealed model's numbers: sizes, limits, and where everything lies (docs/sealed-model.md sections 2, 6, 7).
 *
 * A sealed model is a `head` and a `payload`. The payload is the plaintext image of the model, cut into
 * chunks that are each encrypted in place, and nothing else: ciphertext offsets are plaintext offsets. All that
 * authenticates it (one tag a chunk, one digest a segment) is in the head. Three powers of two rule it:
 *
 *   chunk    what one GCM call encrypts, and what can be fetched again alone     1 MiB in production
 *   segment  what one SHA-256 of the digest table covers                        64 MiB in production
 *   epoch    what one payload key encrypts, so GCM stays far from its limits    64 GiB in production
 */

export const MAGIC = Uint8Array.of(0x89, 0x53, 0x52, 0x4d, 0x0d, 0x0a, 0x1a, 0x0a); // \x89 S R M CR LF ^Z LF
export const FORMAT_VERSION = 1;
/** AES-256-GCM chunks, HKDF-SHA512 keys, HMAC-SHA-256 over the head, SHA-256 digests. */
export const SUITE_AES256GCM_HKDFSHA512 = 1;

export const PRELUDE_BYTES = 64;
export const COMMITMENT_BYTES = 32;
export const MAC_BYTES = 32;
export const TAG_BYTES = 16;
export const DIGEST_BYTES = 32;
export const KEY_BYTES = 32;
export const SALT_BYTES = 32;
export const CONTEXT_BYTES = 32;

export const CORE_MAX_BYTES = 1 << 20;
/** Room for the tags of 1 TiB in production chunks (16.5 MiB) with as much again to spare. */
export const HEAD_MAX_BYTES = 32 << 20;
export const PAYLOAD_MAX_BYTES = 2 ** 40;
export const FILES_MAX = 4096;
/** 1 TiB in production epochs makes 16; the bound keeps a hostile head from asking for millions of keys. */
export const EPOCHS_MAX = 1024;

export const CHUNK_LOG2_MIN = 8;
export const CHUNK_LOG2_MAX = 22;
export const SEGMENT_LOG2_MAX = 30;
/** 2^36 bytes are 2^32 GCM blocks a key (docs/sealed-model.md section 5.4). */
export const EPOCH_LOG2_MAX = 36;

export interface ChunkSizes {
  readonly chunkLog2: number;
  readonly segmentLog2: number;
  readonly epochLog2: number;
}

export const PRODUCTION_SIZES: ChunkSizes = { chunkLog2: 20, segmentLog2: 26, epochLog2: 36 };

export function validChunkSizes({ chunkLog2, segmentLog2, epochLog2 }: ChunkSizes): boolean {
  return (
    CHUNK_LOG2_MIN <= chunkLog2 &&
    chunkLog2 <= Math.min(segmentLog2, CHUNK_LOG2_MAX) &&
    segmentLog2 <= Math.min(epochLog2, SEGMENT_LOG2_MAX) &&
    epochLog2 <= EPOCH_LOG2_MAX
  );
}

/** Everything that follows from the sizes and the payload's length. Plain data, so that workers can have it. */
export interface Geometry {
  readonly payloadSizeBytes: number;
  readonly chunkBytes: number;
  readonly chunkCount: number;
  readonly chunksPerSegment: number;
  readonly segmentCount: number;
  readonly chunksPerEpoch: number;
  readonly epochCount: number;
}

export function geometryOf(sizes: ChunkSizes, payloadSizeBytes: number): Geometry {
  return {
    payloadSizeBytes,
    chunkBytes: 2 ** sizes.chunkLog2,
    chunkCount: Math.ceil(payloadSizeBytes / 2 ** sizes.chunkLog2),
    chunksPerSegment: 2 ** (sizes.segmentLog2 - sizes.chunkLog2),
    segmentCount: Math.ceil(payloadSizeBytes / 2 ** sizes.segmentLog2),
    chunksPerEpoch: 2 ** (sizes.epochLog2 - sizes.chunkLog2),
    epochCount: Math.ceil(payloadSizeBytes / 2 ** sizes.epochLog2),
  };
}

/** Files begin at multiples of two chunks (2 MiB in production), so huge pages can map them. */
export function fileAlignmentBytes(sizes: ChunkSizes): number {
  return 2 ** (sizes.chunkLog2 + 1);
}

export function chunkLengthBytes(geometry: Geometry, chunk: number): number {
  return Math.min(geometry.chunkBytes, geometry.payloadSizeBytes - chunk * geometry.chunkBytes);
}

/** The chunks of one segment: `first` up to but without `end`. */
export function chunksOfSegment(geometry: Geometry, segment: number): { first: number; end: number } {
  const first = segment * geometry.chunksPerSegment;
  return { first, end: Math.min(first + geometry.chunksPerSegment, geometry.chunkCount) };
}

const NONCE_BYTES = 12;

/** final (1) || zero (3) || index (8): unique per key, and only the true last chunk opens as the last. */
export function chunkNonce(geometry: Geometry, chunk: number): Uint8Array {
  const nonce = new Uint8Array(NONCE_BYTES);
  nonce[0] = chunk === geometry.chunkCount - 1 ? 1 : 0;
  new DataView(nonce.buffer).setBigUint64(4, BigInt(chunk));
  return nonce;
}

/** ctx (32) || index (8) || length (4). */
export function chunkAssociatedData(context: Uint8Array, geometry: Geometry, chunk: number): Uint8Array {
  const data = new Uint8Array(CONTEXT_BYTES + 12);
  data.set(context, 0);
  const view = new DataView(data.buffer);
  view.setBigUint64(CONTEXT_BYTES, BigInt(chunk));
  view.setUint32(CONTEXT_BYTES + 8, chunkLengthBytes(geometry, chunk));
  return data;
}

export interface FileRange {
  readonly offset: number;
  readonly sizeBytes: number;
}

export interface FilePart {
  /** Which file, in the head's order. */
  readonly index: number;
  /** Where the chunk's bytes lie in that file. */
  readonly position: number;
  /** How many bytes of the chunk are the file's; the rest is gap. */
  readonly length: number;
}

/**
 * Which file a chunk belongs to: files begin at chunk boundaries, so it is one file and then zeros. It is the last
 * file that begins at or before the chunk. `chunkLength` is the chunk's own length in bytes.
 */
export function filePartOf(
  files: readonly FileRange[],
  geometry: Geometry,
  chunk: number,
  chunkLength: number,
): FilePart {
  const offset = chunk * geometry.chunkBytes;
  let index = 0;
  for (let high = files.length - 1; index < high; ) {
    const middle = Math.ceil((index + high) / 2);
    if ((files[middle] as FileRange).offset <= offset) index = middle;
    else high = middle - 1;
  }
  const file = files[index] as FileRange;
  const position = offset - file.offset;
  return { index, position, length: Math.max(0, Math.min(chunkLength, file.sizeBytes - position)) };
}
