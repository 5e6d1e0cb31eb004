/** What the image commands share: architectures, and their one file, read with a progress line. */
import { stat } from 'node:fs/promises';
import { fileStream } from '../../review/image/eif/file-stream.ts';
import type { Architecture } from '../../review/image/eif/format.ts';
import { type MeasuredEif, measureEif, type RamdiskVisitor } from '../../review/image/eif/measure-eif.ts';
import type { CommandIo } from '../command.ts';
import { CommandError } from '../errors.ts';
import { progressLine } from '../progress.ts';

const ARCHITECTURES: Readonly<Record<string, Architecture>> = {
  x86_64: 'x86_64',
  x64: 'x86_64',
  aarch64: 'aarch64',
  arm64: 'aarch64',
};

/** Node's names are taken too. */
export function architectureOf(name: string): Architecture {
  const architecture = Object.hasOwn(ARCHITECTURES, name) ? ARCHITECTURES[name] : undefined;
  if (architecture === undefined) {
    throw new CommandError('USAGE', `--arch must be x86_64 or aarch64, not ${JSON.stringify(name)}.`);
  }
  return architecture;
}

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
