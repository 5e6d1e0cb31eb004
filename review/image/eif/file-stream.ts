/** A file in pieces of 1 MiB; the next is being read while one is used. */
import { open } from 'node:fs/promises';

const PIECE_BYTES = 1 << 20;

/** A piece is valid until the next one is asked for. Memory is two pieces, whatever the size of the file. */
export async function* fileStream(path: string): AsyncGenerator<Uint8Array> {
  const file = await open(path, 'r');
  let reading: Promise<{ bytesRead: number; buffer: Uint8Array }> | undefined;
  try {
    const read = (buffer: Uint8Array) => {
      reading = file.read(buffer, 0, PIECE_BYTES, null);
      // An error of a read that nobody waits for any more must not end the process.
      reading.catch(() => {});
      return reading;
    };
    let next = read(new Uint8Array(PIECE_BYTES));
    let spare = new Uint8Array(PIECE_BYTES);
    for (;;) {
      const { bytesRead, buffer } = await next;
      if (bytesRead === 0) return;
      next = read(spare);
      yield buffer.subarray(0, bytesRead);
      spare = buffer as Uint8Array<ArrayBuffer>;
    }
  } finally {
    await reading?.catch(() => {});
    await file.close();
  }
}
