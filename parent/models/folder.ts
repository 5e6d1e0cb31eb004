import { openBeneath } from '../files.ts';
import { changed } from './failure.ts';
import type { ModelStore } from './store.ts';

const READ_AHEAD_BYTES = 256 * 1024;

/** `<folder>/<model>.sealed/<file>`, regular files without a symbolic link below the folder. */
export function folderStore(folder: string): ModelStore {
  return {
    open: async (model, file) => {
      const found = await openBeneath(folder, [`${model}.sealed`, file]);
      if (found === undefined) return undefined;
      const { handle, sizeBytes } = found;
      return {
        sizeBytes,
        read: async ({ first, last }) => {
          const options = { start: first, end: last, highWaterMark: READ_AHEAD_BYTES, autoClose: false };
          return exactly(handle.createReadStream(options), last - first + 1);
        },
        [Symbol.asyncDispose]: () => handle.close(),
      };
    },
    close: () => {},
  };
}

/** A file that was cut short meanwhile ends in an error, so that nobody waits for the rest of it. */
async function* exactly(bytes: AsyncIterable<Uint8Array>, sizeBytes: number): AsyncGenerator<Uint8Array> {
  let leftBytes = sizeBytes;
  for await (const chunk of bytes) {
    leftBytes -= chunk.length;
    yield chunk;
  }
  if (leftBytes > 0) throw changed();
}
