/** Which file a chunk belongs to. Files begin at chunk boundaries, so it is one file and then zeros. */
import type { Geometry } from './format.ts';

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

/** The last file that begins at or before the chunk. `chunkLength` is the chunk's own length in bytes. */
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
