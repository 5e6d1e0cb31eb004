import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { layOut } from '../../review/image/root-filesystem.ts';
import type { Command } from '../command.ts';
import { CommandError } from '../errors.ts';
import { DEBIAN_PACKAGES_FOLDER } from '../image/debian-lock.ts';
import { architectureOf } from '../image/options.ts';
import { checkoutRamdisk } from '../image/ramdisks.ts';

const PROJECT = join(import.meta.dirname, '..', '..');

export const command: Command = {
  name: 'image root',
  summary: 'Lay the root file system of the enclave image out in a folder',
  help: `
Usage: strongroom image root -o FOLDER [--arch x86_64|aarch64] [--packages FOLDER]

Writes what "image build" puts into the application ramdisk to a new folder: rootfs, and the files cmd and env.
It is there to be looked at, and for Dockerfile.enclave, which copies it (docs/image.md section 9).

Options:
  -o, --out FOLDER   where it goes; made if it is missing, and must be empty
  --arch NAME        x86_64 or aarch64; default: of this machine
  --packages FOLDER  Debian packages of deploy/debian-packages.lock.json; default: where
                     "node scripts/debian-packages.ts download" puts them

Example:
  strongroom image root -o .strongroom/enclave
  docker build -f Dockerfile.enclave -t strongroom .strongroom/enclave

Exit codes: 0 written; 1 the checkout holds what an image must not; 2 unusable inputs, or usage.
`,
  run: async (args, io) => {
    const { values } = parseArgs({
      args: [...args],
      options: {
        out: { type: 'string', short: 'o' },
        arch: { type: 'string', default: process.arch },
        packages: { type: 'string', default: join(PROJECT, DEBIAN_PACKAGES_FOLDER) },
      },
    });
    const { out } = values;
    if (out === undefined) throw new CommandError('USAGE', 'image root needs --out FOLDER.');
    const entries = checkoutRamdisk(PROJECT, values.packages, architectureOf(values.arch));
    const made = emptyFolder(out);
    try {
      await layOut(entries, out);
    } catch (error) {
      // Half a tree must not pass for a whole one.
      for (const name of readdirSync(out)) rmSync(join(out, name), { recursive: true, force: true });
      if (made !== undefined) rmSync(made, { recursive: true, force: true });
      throw error;
    }
    io.stdout.write(`${entries.length} files and folders are in ${out}.\n`);
    return 0;
  },
};

/** Makes the folder if it is missing; then the first folder that was made, else undefined. */
function emptyFolder(path: string): string | undefined {
  const made = mkdirSync(path, { recursive: true });
  if (readdirSync(path).length > 0) {
    throw new CommandError('OUTPUT_UNWRITABLE', `${path} is not empty.`);
  }
  return made;
}
