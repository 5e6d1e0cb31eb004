import { extname } from 'node:path';
import { parseArgs } from 'node:util';
import { expectWrappable, type KmsKey } from '../../owner/kms.ts';
import type { Leftover } from '../../owner/leftovers.ts';
import { type SealResult, type SealToFolder, sealToFolder } from '../../owner/seal-model.ts';
import { readDataKeyFile, readPrivateKey, readPublicKey } from '../../owner/secret-files.ts';
import type { Command, CommandIo } from '../command.ts';
import { CommandError } from '../errors.ts';
import { type KmsPlace, kmsClient } from '../kms-client.ts';
import { bytes, progressLine } from '../progress.ts';

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

Who can open it:
      --kms-key ARN         AWS KMS key that releases the data key to enclaves; may be given several times
      --recovery-key FILE   public recovery key (PEM, from "strongroom keygen")
      --key-file FILE       use these 32 raw bytes as data key (mode 600) and keep them yourself
      --sign FILE           sign the manifest with this private key; otherwise "strongroom sign" later

KMS is reached with your standard AWS environment. For a simulation:
      --kms-endpoint URL    another endpoint, https://HOST:PORT
      --kms-ca FILE         its certificate authority (PEM); the certificate may name HOST or the region's KMS

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
      options: {
        name: { type: 'string' },
        version: { type: 'string' },
        label: { type: 'string' },
        format: { type: 'string' },
        as: { type: 'string' },
        out: { type: 'string', short: 'o' },
        'kms-key': { type: 'string', multiple: true, default: [] },
        'recovery-key': { type: 'string' },
        'key-file': { type: 'string' },
        sign: { type: 'string' },
        'kms-endpoint': { type: 'string' },
        'kms-ca': { type: 'string' },
        json: { type: 'boolean', default: false },
      },
    });
    const input = inputOf(positionals, values.as, io);
    const identity = {
      name: required(values.name, '--name'),
      version: versionOf(required(values.version, '--version')),
      format: values.format ?? formatOf(input),
      ...(values.label === undefined ? {} : { versionLabel: values.label }),
    };
    const out = required(values.out, '-o OUT');
    const kms = { endpoint: values['kms-endpoint'], caFile: values['kms-ca'] };
    const kmsKeys = await kmsKeysOf(values['kms-key'], kms);
    const { 'recovery-key': recoveryFile, sign: signerFile, 'key-file': keyFile } = values;
    const recoveryKey = recoveryFile === undefined ? undefined : await readPublicKey(recoveryFile);
    const signer = signerFile === undefined ? undefined : await readPrivateKey(signerFile);
    const dataKey = keyFile === undefined ? undefined : await readDataKeyFile(keyFile);
    const progress = progressLine(io.stderr, () => performance.now());
    try {
      const result = await sealToFolder({
        identity,
        input,
        out,
        kmsKeys,
        signal: io.signal,
        onProgress: progress.show,
        onLeftover: (leftover) => void io.stderr.write(`${tell(leftover)}\n`),
        ...(dataKey === undefined ? {} : { dataKey }),
        ...(recoveryKey === undefined ? {} : { recoveryKey }),
        ...(signer === undefined ? {} : { signer }),
      });
      progress.end();
      io.stdout.write(
        values.json ? `${JSON.stringify(result)}\n` : describe(result, values.sign !== undefined),
      );
      return 0;
    } finally {
      progress.end();
      dataKey?.fill(0);
      for (const { client } of kmsKeys) client.destroy();
    }
  },
};

function inputOf(
  positionals: readonly string[],
  as: string | undefined,
  io: CommandIo,
): SealToFolder['input'] {
  if (positionals.length === 0) throw new CommandError('USAGE', 'seal needs files, one folder, or "-".');
  if (positionals.length === 1 && positionals[0] === '-') {
    if (io.stdin.isTTY === true) {
      throw new CommandError(
        'USAGE',
        '"-" reads a pipe, and standard input is a terminal: TRAINING | strongroom seal ... -',
      );
    }
    return { kind: 'pipe', pipe: io.stdin, path: required(as, '--as') };
  }
  if (positionals.includes('-')) {
    throw new CommandError('USAGE', 'A pipe ("-") is sealed alone, without files beside it.');
  }
  if (as !== undefined) throw new CommandError('USAGE', '--as is for sealing from a pipe ("-").');
  return { kind: 'paths', paths: positionals };
}

function required(value: string | undefined, option: string): string {
  if (value === undefined) throw new CommandError('USAGE', `seal needs ${option}.`);
  return value;
}

function versionOf(text: string): number {
  if (/^[1-9][0-9]{0,14}$/.test(text)) return Number(text);
  throw new CommandError('USAGE', `--version must be a positive integer, not ${JSON.stringify(text)}.`);
}

function formatOf(input: SealToFolder['input']): string {
  const names = input.kind === 'pipe' ? [input.path] : input.paths;
  const extension = names.length === 1 ? extname(names[0] as string).slice(1) : '';
  if (extension === '') throw new CommandError('USAGE', 'seal needs --format for a folder or several files.');
  return extension.toLowerCase();
}

type OwnKmsKey = KmsKey & { readonly client: Awaited<ReturnType<typeof kmsClient>> };

async function kmsKeysOf(keyArns: readonly string[], place: KmsPlace): Promise<OwnKmsKey[]> {
  if (keyArns.length === 0 && (place.endpoint ?? place.caFile) !== undefined) {
    throw new CommandError('USAGE', '--kms-endpoint and --kms-ca need --kms-key ARN beside them.');
  }
  expectWrappable(keyArns);
  return Promise.all(
    keyArns.map(async (keyArn) => ({ keyArn, client: await kmsClient(keyArn.split(':')[3] ?? '', place) })),
  );
}

function tell({ path, outcome }: Leftover): string {
  if (outcome === 'removed') return `removed ${path}, which a killed seal had left (ciphertext)`;
  if (outcome === 'running') return `note: another seal is writing ${path}`;
  return `note: ${path} (ciphertext) was left by a seal elsewhere or before a restart; if none runs, remove it`;
}

function describe({ folder, recoveryFile, payloadSizeBytes, manifest }: SealResult, signed: boolean): string {
  const lines = [
    `sealed ${manifest.name} version ${manifest.version} into ${folder} (${bytes(payloadSizeBytes)})`,
    `content id ${manifest.contentId}`,
    ...(recoveryFile === undefined ? [] : [`recovery wrap ${recoveryFile}: keep it, never publish it`]),
    ...(signed ? [] : [`not signed yet: strongroom sign ${folder} --key FILE`]),
  ];
  return `${lines.join('\n')}\n`;
}
