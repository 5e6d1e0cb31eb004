/** Layers, unpacked into a folder of ours: what was checked is what is read from then on. */
import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { readBytes } from './blobs.ts';
import { ContainerImageError } from './errors.ts';
import { expectDigest, type SavedLayer } from './manifest.ts';
import type { Bytes } from './tar-scan.ts';

/** The memory of the largest enclaves that this is made for; a ramdisk lives in memory. */
export const EXPANDED_MAX_BYTES = 16 * 2 ** 30;
/** A layer that expands further than this, and beyond what is common, is made to fill a disk. */
const EXPANSION_MAX = 200;
const EXPANSION_FREE_BYTES = 64 << 20;

/** Writes the unpacked archive to `folder`. Throws ContainerImageError (CONTAINER_DIGEST, CONTAINER_LIMIT). */
export async function spoolLayer(
  layer: SavedLayer,
  options: {
    readonly folder: string;
    /** What all layers may still have together. */
    readonly leftBytes: number;
    readonly signal?: AbortSignal | undefined;
  },
): Promise<Bytes> {
  const { bytes, diffId } = layer;
  const path = join(options.folder, diffId);
  const maxBytes = Math.min(options.leftBytes, EXPANSION_FREE_BYTES + EXPANSION_MAX * bytes.sizeBytes);
  const packed = createHash('sha256');
  const unpacked = createHash('sha256');
  let sizeBytes = 0;
  async function* counted(pieces: AsyncIterable<Buffer>) {
    for await (const piece of pieces) {
      sizeBytes += piece.length;
      if (sizeBytes > maxBytes) {
        throw new ContainerImageError('CONTAINER_LIMIT', `A layer expands to more than ${maxBytes} bytes.`);
      }
      unpacked.update(piece);
      yield piece;
    }
  }
  async function* hashed(pieces: AsyncIterable<Buffer>) {
    for await (const piece of pieces) {
      packed.update(piece);
      yield piece;
    }
  }
  if (bytes.sizeBytes === 0) throw new ContainerImageError('CONTAINER_TAR', 'A layer is empty.');
  const source = createReadStream(bytes.path, {
    start: bytes.offsetBytes,
    end: bytes.offsetBytes + bytes.sizeBytes - 1,
  });
  // One layer may be there twice; then it is written twice, to the same end.
  const target = createWriteStream(path, { mode: 0o600 });
  const settings = options.signal === undefined ? {} : { signal: options.signal };
  try {
    const compression = layer.compression ?? compressionOf(bytes);
    if (compression === 'none') await pipeline(source, hashed, counted, target, settings);
    else {
      const expand =
        compression === 'gzip' ? createGunzip({ rejectGarbageAfterEnd: true }) : createZstdDecompress();
      await pipeline(source, hashed, expand, counted, target, settings);
    }
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const isOfZlib = /^(Z_|ZSTD_|ERR_.*(ZLIB|TRAILING_JUNK))/.test(code ?? '');
    if (!isOfZlib) throw cause;
    throw new ContainerImageError('CONTAINER_DIGEST', `A layer cannot be unpacked: ${code}.`, cause);
  }
  if (layer.sha256 !== undefined) expectDigest(packed.digest('hex'), layer.sha256, 'A layer');
  expectDigest(unpacked.digest('hex'), diffId, 'An unpacked layer');
  return { path, offsetBytes: 0, sizeBytes };
}

/** Where no media type says it, the first bytes do (RFC 1952 2.3.1, RFC 8878 3.1.1). */
function compressionOf(bytes: Bytes): 'none' | 'gzip' | 'zstd' {
  const start = Buffer.from(readBytes({ ...bytes, sizeBytes: Math.min(4, bytes.sizeBytes) })).toString('hex');
  if (start.startsWith('1f8b')) return 'gzip';
  return start === '28b52ffd' ? 'zstd' : 'none';
}
