import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';

const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK } = constants;

export interface OpenFile extends AsyncDisposable {
  readonly handle: FileHandle;
  readonly sizeBytes: number;
}

/**
 * Opens `<folder>/<names...>` for reading if every name below the folder is what it seems: no symbolic link on
 * the way, and a regular file at the end. Undefined if there is no such file.
 *
 * Each step opens relative to the descriptor before it (/proc/self/fd, proc(5)), so nothing can be swapped
 * between a check and its use. O_NONBLOCK keeps a FIFO from holding the open for ever.
 */
export async function openBeneath(folder: string, names: readonly string[]): Promise<OpenFile | undefined> {
  let at: FileHandle | undefined;
  try {
    at = await open(folder, O_RDONLY | O_DIRECTORY);
    for (const [index, name] of names.entries()) {
      const last = index === names.length - 1;
      const flags = O_RDONLY | O_NOFOLLOW | (last ? O_NONBLOCK : O_DIRECTORY);
      const next = await open(`/proc/self/fd/${at.fd}/${name}`, flags);
      await at.close();
      at = next;
    }
    const found = await at.stat();
    if (!found.isFile()) {
      await at.close();
      return undefined;
    }
    const handle = at;
    return { handle, sizeBytes: found.size, [Symbol.asyncDispose]: () => handle.close() };
  } catch (error) {
    await at?.close();
    if (isAbsence(error)) return undefined;
    throw error;
  }
}

function isAbsence(error: unknown): boolean {
  return error instanceof Error && 'code' in error && ABSENT.includes(String(error.code));
}

const ABSENT = ['ENOENT', 'ENOTDIR', 'ELOOP', 'ENXIO', 'ENAMETOOLONG', 'EACCES'];

/** Reads a file of at most `maxBytes`, wherever it is; undefined when it is longer or no regular file. */
export async function readBounded(path: string, maxBytes: number): Promise<Uint8Array | undefined> {
  await using handle = await open(path, O_RDONLY | O_NONBLOCK);
  const found = await handle.stat();
  if (!found.isFile() || found.size > maxBytes) return undefined;
  const bytes = Buffer.alloc(found.size);
  const { bytesRead } = await handle.read(bytes, 0, bytes.length, 0);
  return bytes.subarray(0, bytesRead);
}
