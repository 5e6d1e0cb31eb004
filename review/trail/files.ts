/** Files of a trail, one after the other and piece by piece, compressed or not. Nothing is held but one piece. */
import { createReadStream, type Dirent } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { codeOf } from '../../shared/errors.ts';
import { TrailError } from './errors.ts';

const PIECE_BYTES = 1024 * 1024;
/**
 * Text of records compresses to a tenth, a trail of one repeated event to a fiftieth; gzip itself ends at a thousandth.
 * What grows further, beyond a size that cannot hurt, is no trail.
 */
const GROWTH_MAX = 250;
const GROWTH_CHECKED_FROM_BYTES = 256 * 1024 * 1024;
const NAMES = /\.(json|jsonl|ndjson|log|gz)$/i;

export interface TrailFile {
  readonly path: string;
  readonly sizeBytes: number;
}

/**
 * The files that paths name: files as they are, folders with every file in them whose name is that of a trail. Symbolic
 * links inside of folders are not followed. Throws TrailError TRAIL_EMPTY, or what the file system throws.
 */
export async function findTrailFiles(paths: readonly string[]): Promise<readonly TrailFile[]> {
  const files: TrailFile[] = [];
  for (const path of paths) {
    const found = await stat(path);
    if (found.isDirectory()) await collect(path, files);
    else if (found.isFile() || found.isFIFO()) files.push({ path, sizeBytes: found.size });
    else
      throw new TrailError('TRAIL_EMPTY', `expected a file or folder, found a device or socket at ${path}`);
  }
  if (files.length === 0) throw new TrailError('TRAIL_EMPTY', `no file of a trail in ${paths.join(', ')}`);
  return files;
}

async function collect(folder: string, files: TrailFile[]): Promise<void> {
  const entries: Dirent[] = await readdir(folder, { withFileTypes: true });
  for (const entry of entries.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) await collect(path, files);
    else if (entry.isFile() && NAMES.test(entry.name))
      files.push({ path, sizeBytes: (await stat(path)).size });
  }
}

/**
 * The file's text. `onRead` is told how many bytes of the file itself were taken. Throws TrailError TRAIL_TRUNCATED or
 * TRAIL_COMPRESSION, or what the file system throws.
 */
export async function* trailText(path: string, onRead: (bytes: number) => void): AsyncGenerator<Uint8Array> {
  const file = createReadStream(path, { highWaterMark: PIECE_BYTES });
  try {
    const pieces = counted(file, onRead);
    const first = await pieces.next();
    if (first.done === true) return;
    const whole = follow(first.value, pieces);
    if (first.value[0] === 0x1f && first.value[1] === 0x8b) yield* gunzipped(whole, path);
    else yield* whole;
  } finally {
    file.destroy();
  }
}

async function* counted(file: Readable, onRead: (bytes: number) => void): AsyncGenerator<Uint8Array> {
  for await (const piece of file as AsyncIterable<Buffer>) {
    onRead(piece.length);
    yield piece;
  }
}

async function* follow(first: Uint8Array, rest: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  yield first;
  yield* rest;
}

async function* gunzipped(compressed: AsyncIterable<Uint8Array>, path: string): AsyncGenerator<Uint8Array> {
  const gunzip = createGunzip({ chunkSize: PIECE_BYTES });
  let takenBytes = 0;
  let givenBytes = 0;
  const source = Readable.from(compressed, { objectMode: true, highWaterMark: 2 });
  source.on('data', (piece: Uint8Array) => {
    takenBytes += piece.length;
  });
  source.on('error', (error) => gunzip.destroy(error));
  source.pipe(gunzip);
  try {
    for await (const piece of gunzip as AsyncIterable<Buffer>) {
      givenBytes += piece.length;
      if (givenBytes > GROWTH_CHECKED_FROM_BYTES && givenBytes > GROWTH_MAX * takenBytes) {
        throw new TrailError(
          'TRAIL_COMPRESSION',
          `${path}: ${takenBytes} bytes have become more than ${GROWTH_MAX} times as many`,
        );
      }
      yield piece;
    }
  } catch (cause) {
    if (codeOf(cause) !== undefined) throw cause;
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'Z_BUF_ERROR') {
      throw new TrailError('TRAIL_TRUNCATED', `${path}: the compressed stream ends too early`, cause);
    }
    if (code?.startsWith('Z_') !== true) throw cause;
    throw new TrailError('TRAIL_COMPRESSION', `${path}: ${(cause as Error).message}`, cause);
  } finally {
    source.destroy();
    gunzip.destroy();
  }
}
