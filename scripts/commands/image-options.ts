/** What the image commands share: the file with its progress line, and text from files that nobody vouches for. */
import { stat } from 'node:fs/promises';
import { fileStream } from '../../review/image/eif/file-stream.ts';
import { type MeasuredEif, measureEif, type RamdiskVisitor } from '../../review/image/eif/measure-eif.ts';
import type { CommandIo } from '../command.ts';
import { CommandError } from '../errors.ts';
import { progressLine } from '../progress.ts';

/** The file of a command that takes exactly one. */
export function onlyFile(positionals: readonly string[]): string {
  const [path, ...others] = positionals;
  if (path === undefined || others.length > 0) {
    throw new CommandError('USAGE', `Expected exactly one image file, found ${positionals.length}.`);
  }
  return path;
}

/** Reads and measures the file, with progress on a terminal. Throws EifError. */
export async function measureFile(
  path: string,
  io: CommandIo,
  ramdisks?: RamdiskVisitor,
): Promise<MeasuredEif> {
  if (!(await stat(path)).isFile()) {
    throw new CommandError('INPUT_UNREADABLE', `${path} is not a regular file.`);
  }
  const progress = progressLine(io.stderr, () => performance.now());
  try {
    return await measureEif(fileStream(path), {
      at: new Date(),
      onProgress: (done, total) => {
        io.signal.throwIfAborted();
        progress.show('measuring', done, total);
      },
      ...(ramdisks === undefined ? {} : { ramdisks }),
    });
  } catch (error) {
    if (io.signal.aborted) throw new CommandError('INTERRUPTED', 'Interrupted.', error);
    throw error;
  } finally {
    progress.end();
  }
}

/**
 * As it stands if it is plain; otherwise in quotes with escapes, so that no text in a file moves a terminal's
 * cursor, hides what follows, or reads right to left.
 */
export function shown(text: string): string {
  return /^[\p{L}\p{N}\p{P}\p{S} ]*$/u.test(text) && !text.startsWith('"') ? text : quoted(text);
}

function quoted(text: string): string {
  return JSON.stringify(text).replace(/[^\x20-\x7e]/gu, (character) =>
    [...Array(character.length).keys()]
      .map((at) => `\\u${character.charCodeAt(at).toString(16).padStart(4, '0')}`)
      .join(''),
  );
}

export const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
