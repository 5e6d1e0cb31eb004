import { openBeneath } from '../files.ts';
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
        read: async ({ first, last }) =>
          handle.createReadStream({
            start: first,
            end: last,
            highWaterMark: READ_AHEAD_BYTES,
            autoClose: false,
          }),
        [Symbol.asyncDispose]: () => handle.close(),
      };
    },
    close: () => {},
  };
}
