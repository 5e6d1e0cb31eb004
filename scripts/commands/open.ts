import type { Writable } from 'node:stream';
import { parseArgs } from 'node:util';
import type { Leftover } from '../../owner/leftovers.ts';
import { recogniseModelFile } from '../../owner/model-file.ts';
import { openToFolder, openToPipe } from '../../owner/open-model.ts';
import type { Command, CommandIo } from '../command.ts';
import { CommandError } from '../errors.ts';
import {
  expectSealedOnly,
  MODEL_KEY_HELP,
  MODEL_KEY_OPTIONS,
  type ModelKeyValues,
  readSigner,
  requireKeyOfLegacy,
  requireModelKey,
} from '../model-key-options.ts';
import { bytes, type ProgressLine, progressLine } from '../progress.ts';
import { KMS_PLACE_HELP, required } from '../seal-options.ts';

interface Opening extends ModelKeyValues {
  readonly model: string;
  readonly out: string;
  readonly file?: string | undefined;
  readonly signer?: string | undefined;
}

/** What was written, for people and for `--json`. */
interface Opened {
  readonly name: string;
  readonly version?: number;
  readonly files: readonly { readonly path: string; readonly sizeBytes: number }[];
}

export const command: Command = {
  name: 'open',
  summary: 'open a sealed or legacy model, for its owner: to a folder or a pipe',
  help: `
Usage: strongroom open NAME.sealed -o FOLDER [KEY OPTIONS] [--signer PUBLIC]
       strongroom open NAME.sealed [--file NAME] -o - [KEY OPTIONS] | COMMAND
       strongroom open LEGACY -o FILE [KEY OPTIONS]        (or -o - for a pipe)

Plaintext on a disk is what sealing is there to avoid: prefer a pipe, or "strongroom exec", or a tmpfs.

FOLDER is created (mode 700, its files 600) and appears whole or not at all; nothing is overwritten. Every tag and
every digest is checked before a byte is released. To a pipe, a sealed model's file is released segment by segment
(64 MiB), each once it is authentic, so a command that reads it must look at the outcome ("set -o pipefail"); a
legacy model is released only once the whole of it was checked.

Options:
  -o, --out OUT             where to: a folder (sealed), a file (legacy), or "-" for a pipe
      --file NAME           with "-": which file of a sealed model; needless if it has one
      --signer PUBLIC       refuse a sealed model whose manifest does not bear this key's signature

The key, one of:
${MODEL_KEY_HELP}

${KMS_PLACE_HELP}

      --json                print what was opened as JSON (not with "-")

Example:
  strongroom open iris.sealed -o /dev/shm/iris --recovery keys/recovery.key.pem --signer keys/signing.pub.pem

Exit codes: 0 opened, 1 refused (key, signature, altered), 2 usage, unusable input or no room,
3 not readable to the end, or stopped before it.
`,
  async run(args, io) {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        ...MODEL_KEY_OPTIONS,
        out: { type: 'string', short: 'o' },
        file: { type: 'string' },
        signer: { type: 'string' },
        json: { type: 'boolean', default: false },
      },
    });
    const [model, ...rest] = positionals;
    if (model === undefined || rest.length > 0) throw new CommandError('USAGE', 'open needs one model.');
    const out = required('open', values.out, '-o FOLDER, or -o - for a pipe');
    expectUsable(values, out, io);
    const progress = progressLine(io.stderr, () => performance.now());
    try {
      const opened = await openModel({ ...values, model, out }, io, progress);
      progress.end();
      if (out === '-') return 0;
      io.stdout.write(values.json ? `${JSON.stringify({ out, ...opened })}\n` : describe(opened, out));
      io.stderr.write(`warning: plaintext weights now lie in ${out}; remove them when you are done\n`);
      return 0;
    } finally {
      progress.end();
    }
  },
};

async function openModel(opening: Opening, io: CommandIo, progress: ProgressLine): Promise<Opened> {
  const { model, out } = opening;
  const { signal } = io;
  const onProgress = (doneBytes: number, totalBytes: number): void =>
    progress.show('opening', doneBytes, totalBytes);
  const onLeftover = (leftover: Leftover): void => void io.stderr.write(tellPlaintext(leftover));
  if ((await recogniseModelFile(model)) === 'sealed-model') {
    using key = await requireModelKey('open', opening);
    const signer = await readSigner(opening.signer);
    const request = { sealed: model, key, signer, signal, onProgress };
    if (out === '-') {
      const file = await openToPipe({ ...request, file: opening.file, pipe: io.stdout as Writable });
      return { name: file.path, files: [file] };
    }
    const { identity, files } = await openToFolder({ ...request, out, onLeftover });
    return {
      name: identity.name,
      version: identity.version,
      files: files.map(({ path, sizeBytes }) => ({ path, sizeBytes })),
    };
  }
  expectSealedOnly({ ...opening }, ['file', 'signer']);
  using key = await requireKeyOfLegacy('open', opening);
  const { openLegacyToFile, openLegacyToPipe } = await import('../../owner/legacy/unlock.ts');
  const { plaintextSizeBytes } =
    out === '-'
      ? await openLegacyToPipe(model, key, io.stdout as Writable, { signal, onProgress })
      : await openLegacyToFile(model, key, out, { signal, onProgress, onLeftover });
  return { name: model, files: [{ path: out, sizeBytes: plaintextSizeBytes }] };
}

function expectUsable(
  { file, json }: { readonly file?: string | undefined; readonly json: boolean },
  out: string,
  io: CommandIo,
): void {
  if (out !== '-') {
    if (file !== undefined) throw new CommandError('USAGE', '--file NAME is for a pipe (-o -).');
    return;
  }
  if (json)
    throw new CommandError('USAGE', 'With -o - the model itself goes to standard output; leave out --json.');
  if (io.stdout.isTTY === true) {
    throw new CommandError('USAGE', '"-o -" writes a pipe, and standard output is a terminal.');
  }
}

function describe({ name, version, files }: Opened, out: string): string {
  const total = files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  const what = version === undefined ? name : `${name} version ${version}`;
  return `opened ${what} into ${out} (${files.length} file${files.length === 1 ? '' : 's'}, ${bytes(total)})\n`;
}

function tellPlaintext({ path, outcome }: Leftover): string {
  if (outcome === 'removed') return `removed ${path}, which a killed run had left (plaintext)\n`;
  if (outcome === 'running') return `note: another run is writing ${path} (plaintext)\n`;
  return `warning: ${path} (plaintext) was left by a run elsewhere or before a restart; if none runs, remove it\n`;
}
