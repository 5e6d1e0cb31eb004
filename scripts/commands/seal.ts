import { extname } from 'node:path';
import { parseArgs } from 'node:util';
import { type SealToFolder, sealToFolder } from '../../owner/seal-model.ts';
import type { Command, CommandIo } from '../command.ts';
import { CommandError } from '../errors.ts';
import { progressLine } from '../progress.ts';
import {
  describeSeal,
  expectPlaceUsed,
  KMS_PLACE_HELP,
  kmsPlaceOf,
  readSealOptions,
  required,
  SEAL_OPTIONS,
  tellLeftover,
  WHO_CAN_OPEN_HELP,
} from '../seal-options.ts';

export const command: Command = {
  name: 'seal',
  summary: 'seal model files, a folder or a pipe into NAME.sealed/',
  help: `
Usage: strongroom seal --name NAME --version N [OPTIONS] -o OUT FILE...
       strongroom seal --name NAME --version N [OPTIONS] -o OUT FOLDER
       TRAINING | strongroom seal --name NAME --version N --as FILE [OPTIONS] -o OUT -

Creates the folder OUT (usually NAME.sealed) with payload, head, key.json and manifest.json, and beside it
OUT.recovery.json with your own wrap of the data key. Nothing is overwritten; a seal that fails or is stopped
leaves nothing behind, and what a killed one left is removed by the next one to the same OUT. From a pipe, no
plaintext ever touches the disk; its end is taken for the model's end, so check that TRAINING succeeded.

What is sealed:
      --name NAME           the model's name (letters, digits, ".", "_", "-")
      --version N           a positive integer; deployments state a minimum
      --label TEXT          a version label for people
      --format FORMAT       for example onnx or gguf; default: the extension of the only file
      --as FILE             with "-": the name that the pipe's bytes get inside the model
  -o, --out OUT             the folder to create

${WHO_CAN_OPEN_HELP}

${KMS_PLACE_HELP}

      --json                print the result as JSON

Example:
  strongroom seal --name iris --version 1 --kms-key arn:aws:kms:eu-central-1:111122223333:key/KEY \\
    --recovery-key keys/recovery.pub.pem --sign keys/signing.key.pem -o iris.sealed model.onnx

Exit codes: 0 sealed, 1 refused (KMS, exposed key), 2 usage or unusable input,
3 KMS not reachable, or stopped before the end.
`,
  async run(args, io) {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: SEAL_OPTIONS,
    });
    const input = inputOf(positionals, values.as, io);
    expectPlaceUsed(values['kms-key'], kmsPlaceOf(values));
    using options = await readSealOptions('seal', values, values.format ?? formatOf(input));
    const progress = progressLine(io.stderr, () => performance.now());
    try {
      const result = await sealToFolder({
        ...options,
        input,
        signal: io.signal,
        onProgress: progress.show,
        onLeftover: (leftover) => void io.stderr.write(tellLeftover(leftover)),
      });
      progress.end();
      io.stdout.write(
        values.json ? `${JSON.stringify(result)}\n` : describeSeal(result, values.sign !== undefined),
      );
      return 0;
    } finally {
      progress.end();
    }
  },
};

type Input = Exclude<SealToFolder['input'], { readonly kind: 'source' }>;

function inputOf(positionals: readonly string[], as: string | undefined, io: CommandIo): Input {
  if (positionals.length === 0) throw new CommandError('USAGE', 'seal needs files, one folder, or "-".');
  if (positionals.length === 1 && positionals[0] === '-') {
    if (io.stdin.isTTY === true) {
      throw new CommandError(
        'USAGE',
        '"-" reads a pipe, and standard input is a terminal: TRAINING | strongroom seal ... -',
      );
    }
    return { kind: 'pipe', pipe: io.stdin, path: required('seal', as, '--as') };
  }
  if (positionals.includes('-')) {
    throw new CommandError('USAGE', 'A pipe ("-") is sealed alone, without files beside it.');
  }
  if (as !== undefined) throw new CommandError('USAGE', '--as is for sealing from a pipe ("-").');
  return { kind: 'paths', paths: positionals };
}

function formatOf(input: Input): string {
  const names = input.kind === 'pipe' ? [input.path] : input.paths;
  const extension = names.length === 1 ? extname(names[0] as string).slice(1) : '';
  if (extension === '') throw new CommandError('USAGE', 'seal needs --format for a folder or several files.');
  return extension.toLowerCase();
}
