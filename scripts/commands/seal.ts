import { parseArgs } from 'node:util';
import { formatOfName, guessFormat } from '../../owner/model-format.ts';
import { type SealToFolder, sealToFolder } from '../../owner/seal-model.ts';
import type { Command, CommandIo } from '../command.ts';
import { CommandError } from '../errors.ts';
import { progressLine } from '../progress.ts';
import { isLegacyLayout, SEAL_LEGACY_HELP, SEAL_LEGACY_OPTIONS, sealLegacyLayout } from '../seal-legacy.ts';
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
      --format FORMAT       for example onnx, gguf or safetensors; default: what the files begin with, or their
                            extension
      --as FILE             with "-": the name that the pipe's bytes get inside the model
  -o, --out OUT             the folder to create

${WHO_CAN_OPEN_HELP}

${KMS_PLACE_HELP}

${SEAL_LEGACY_HELP}

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
      options: { ...SEAL_OPTIONS, ...SEAL_LEGACY_OPTIONS },
    });
    expectPlaceUsed(values['kms-key'], kmsPlaceOf(values));
    if (isLegacyLayout(values.format)) {
      await sealLegacyLayout(values.format, values, onlyInput(positionals, io), io);
      return 0;
    }
    if ((values.aad ?? values['aad-file']) !== undefined || values.metadata.length > 0) {
      throw new CommandError('USAGE', '--aad and --metadata are for --format encmodel and envmodel.');
    }
    const input = inputOf(positionals, values.as, io);
    using options = await readSealOptions('seal', values, values.format ?? (await formatOf(input)));
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

type Input = Extract<SealToFolder['input'], { readonly kind: 'paths' | 'pipe' }>;

function inputOf(positionals: readonly string[], as: string | undefined, io: CommandIo): Input {
  if (positionals.length === 0) throw new CommandError('USAGE', 'seal needs files, one folder, or "-".');
  if (positionals.length === 1 && positionals[0] === '-') {
    return { kind: 'pipe', pipe: pipeOf(io), path: required('seal', as, '--as') };
  }
  if (positionals.includes('-')) {
    throw new CommandError('USAGE', 'A pipe ("-") is sealed alone, without files beside it.');
  }
  if (as !== undefined) throw new CommandError('USAGE', '--as is for sealing from a pipe ("-").');
  return { kind: 'paths', paths: positionals };
}

/** A legacy layout holds one file. */
function onlyInput(positionals: readonly string[], io: CommandIo): Parameters<typeof sealLegacyLayout>[2] {
  const [path, ...rest] = positionals;
  if (path === undefined || rest.length > 0) {
    throw new CommandError('USAGE', 'A legacy layout holds one file: seal needs one file, or "-".');
  }
  return path === '-' ? { kind: 'pipe', pipe: pipeOf(io) } : { kind: 'file', path };
}

function pipeOf(io: CommandIo): CommandIo['stdin'] {
  if (io.stdin.isTTY !== true) return io.stdin;
  throw new CommandError(
    'USAGE',
    '"-" reads a pipe, and standard input is a terminal: TRAINING | strongroom seal ... -',
  );
}

async function formatOf(input: Input): Promise<string> {
  const format = input.kind === 'pipe' ? formatOfName(input.path) : await guessFormat(input.paths);
  if (format !== undefined) return format;
  throw new CommandError('USAGE', 'seal needs --format: the files do not tell it, or tell several.');
}
