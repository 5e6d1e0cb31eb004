import { open, stat } from 'node:fs/promises';
import { CommandError } from './errors.ts';

/** Told before it is read, and by name. Throws CommandError INPUT_UNREADABLE, or what the file system throws. */
export async function expectFile(path: string, maxBytes = Number.POSITIVE_INFINITY): Promise<void> {
  const found = await stat(path);
  if (found.isDirectory()) throw unreadable(`Expected a file, found the folder ${path}.`);
  // A shell's <(...) is a FIFO, and ends; a device may have no end.
  if (!found.isFile() && !found.isFIFO())
    throw unreadable(`Expected a file, found a device or socket at ${path}.`);
  if (found.size > maxBytes) {
    throw unreadable(`Expected a file of at most ${maxBytes} bytes, found ${found.size} in ${path}.`);
  }
}

function unreadable(message: string): CommandError {
  return new CommandError('INPUT_UNREADABLE', message);
}

/**
 * The bytes of a file that must be small. Reads one byte more than allowed, so that whoever parses it sees a longer one
 * as too long. Throws CommandError INPUT_UNREADABLE, or what the file system throws.
 */
export async function readSmallFile(path: string, maxBytes: number): Promise<Uint8Array> {
  await expectFile(path, maxBytes);
  await using file = await open(path);
  const parts: Buffer[] = [];
  for await (const part of file.createReadStream({ end: maxBytes, autoClose: false })) parts.push(part);
  return Buffer.concat(parts);
}
