import { parseArgs } from 'node:util';
import {
  hasPlaceholder,
  type InMemory,
  openLegacyToMemory,
  openToMemory,
  runCommand,
  withPlaces,
} from '../../owner/exec.ts';
import { MEMORY_FOLDER } from '../../owner/memory-files.ts';
import { recogniseModelFile } from '../../owner/model-file.ts';
import { expectNotAborted } from '../../owner/spool.ts';
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
import { progressLine } from '../progress.ts';
import { KMS_PLACE_HELP } from '../seal-options.ts';

interface ExecValues extends ModelKeyValues {
  readonly signer?: string | undefined;
  readonly tmpfs: string;
}

export const command: Command = {
  name: 'exec',
  summary: 'run a command with an opened model that lies in memory alone',
  help: `
Usage: strongroom exec MODEL [KEY OPTIONS] [--signer PUBLIC] -- COMMAND [ARGS with {file} or {file:NAME}]

For owners who serve outside an enclave, on a development box: opens a sealed or legacy model into files without a
name on a tmpfs, and runs COMMAND with the paths in place of {file} (the only file) or {file:NAME} (a named one). The
files are read-only and vanish with the command, whatever way it ends; nothing is left on any file system.

The paths look like /proc/PID/fd/N: COMMAND and what it starts can open them, as often as they like, while this runs
and as long as they keep the same user. They have no extension, and files do not lie beside one another: a program
that looks for one beside another (ONNX with external data) needs "strongroom open" to a tmpfs. Whoever is root or the
same user on this machine can read them, and memory may be swapped out: this is no enclave.

SIGTERM, SIGHUP, SIGQUIT, SIGUSR2 and, without a terminal, SIGINT go on to COMMAND; its exit code is passed on.

Options:
      --signer PUBLIC       refuse a sealed model whose manifest does not bear this key's signature
      --tmpfs FOLDER        where the files are; default: ${MEMORY_FOLDER}

The key, one of:
${MODEL_KEY_HELP}

${KMS_PLACE_HELP}

Example:
  strongroom exec iris.sealed --recovery keys/recovery.key.pem -- python3 serve.py --model {file:model.onnx}

Exit codes: COMMAND's own, 128 + N if signal N ended it; before COMMAND runs: 1 refused (key, signature, altered),
2 usage, unusable input or no room, 3 not readable to the end, or stopped before it.
`,
  async run(args, io) {
    const { values, positionals, tokens } = parseArgs({
      args: [...args],
      allowPositionals: true,
      tokens: true,
      options: {
        ...MODEL_KEY_OPTIONS,
        signer: { type: 'string' },
        tmpfs: { type: 'string', default: MEMORY_FOLDER },
      },
    });
    const end = tokens.find(({ kind }) => kind === 'option-terminator')?.index ?? args.length;
    const command = args.slice(end + 1);
    const [model, ...rest] = positionals.slice(0, positionals.length - command.length);
    if (model === undefined || rest.length > 0 || command.length === 0) {
      throw new CommandError('USAGE', 'exec needs one model, "--", and a command.');
    }
    if (!hasPlaceholder(command)) {
      throw new CommandError(
        'USAGE',
        'COMMAND has neither {file} nor {file:NAME}, so it would not see the model.',
      );
    }
    using opened = await openModel(model, values, io);
    const placed = withPlaces(command, opened);
    expectNotAborted(io.signal);
    const interruptToo = ![io.stdin, io.stdout, io.stderr].some((stream) => stream.isTTY === true);
    return await runCommand({ command: placed, interruptToo, signals: process });
  },
};

async function openModel(model: string, values: ExecValues, io: CommandIo): Promise<InMemory> {
  const progress = progressLine(io.stderr, () => performance.now());
  const observe = {
    signal: io.signal,
    onProgress: (doneBytes: number, totalBytes: number) => progress.show('opening', doneBytes, totalBytes),
  };
  const room = { folder: values.tmpfs };
  try {
    if ((await recogniseModelFile(model)) === 'sealed-model') {
      using key = await requireModelKey('exec', values);
      const signer = await readSigner(values.signer);
      return await openToMemory({ sealed: model, key, signer, ...observe }, room);
    }
    expectSealedOnly({ ...values }, ['signer']);
    using key = await requireKeyOfLegacy('exec', values);
    return await openLegacyToMemory(model, key, observe, room);
  } finally {
    progress.end();
  }
}
