/** Whether what is about to be opened fits where it should go; told with the numbers, before anything is opened. */
import { statfs } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { OwnerError } from './errors.ts';

/** A file takes whole blocks. */
export function roomFor(sizes: readonly number[], blockBytes: number): number {
  return sizes.reduce((sum, sizeBytes) => sum + Math.ceil(sizeBytes / blockBytes) * blockBytes, 0);
}

/** `out` need not exist. Throws OWNER_NO_ROOM. */
export async function expectRoomBeside(out: string, sizes: readonly number[]): Promise<void> {
  const { bavail, bsize, folder } = await statfsOfParent(resolve(out));
  expectRoom(folder, roomFor(sizes, bsize), bavail * bsize);
}

/** Throws OWNER_NO_ROOM. */
export function expectRoom(where: string, neededBytes: number, freeBytes: number): void {
  if (neededBytes <= freeBytes) return;
  throw new OwnerError(
    'OWNER_NO_ROOM',
    `The opened model needs ${neededBytes} bytes; ${where} has ${freeBytes} free, ${neededBytes - freeBytes} too few.`,
  );
}

async function statfsOfParent(path: string): Promise<{ bavail: number; bsize: number; folder: string }> {
  for (let folder = dirname(path); ; folder = dirname(folder)) {
    const found = await statfs(folder).catch((cause: NodeJS.ErrnoException) => {
      if (cause.code === 'ENOENT' && folder !== '/') return undefined;
      throw cause;
    });
    if (found !== undefined) return { bavail: found.bavail, bsize: found.bsize, folder };
  }
}
