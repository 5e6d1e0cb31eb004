import { readFile } from 'node:fs/promises';
import { Agent } from 'node:https';
import { extname } from 'node:path';
import { parseArgs } from 'node:util';
import { KMSClient } from '@aws-sdk/client-kms';
import type { KmsKey } from '../../owner/kms.ts';
import { type SealResult, type SealToFolder, sealToFolder } from '../../owner/seal-model.ts';
import { readDataKeyFile, readPrivateKey, readPublicKey } from '../../owner/secret-files.ts';
import type { Command, CommandIo } from '../command.ts';
import { CommandError } from '../errors.ts';
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
leaves nothing behind. From a pipe, no plaintext ever touches the disk.

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
      --kms-endpoint URL    another endpoint
      --kms-ca FILE         its certificate authority (PEM)

      --json                print the result as JSON

Example:
  strongroom seal --name iris --version 1 --kms-key arn:aws:kms:eu-central-1:111122223333:key/KEY \\
    --recovery-key keys/recovery.pub.pem --sign keys/signing.key.pem -o iris.sealed model.onnx

Exit codes: 0 sealed, 1 refused (KMS, exposed key), 2 usage or unusable input, 3 stopped before the end.
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
    const kms = { endpoint: values['kms-endpoint'], caFile: values['kms-ca'] };
    const dataKey = values['key-file'] === undefined ? undefined : await readDataKeyFile(values['key-file']);
    const progress = progressLine(io.stderr, () => performance.now());
    try {
      const result = await sealToFolder({
        identity: {
          name: required(values.name, '--name'),
          version: versionOf(required(values.version, '--version')),
          format: values.format ?? formatOf(input),
          ...(values.label === undefined ? {} : { versionLabel: values.label }),
        },
        input,
        out: required(values.out, '-o'),
        kmsKeys: await Promise.all(values['kms-key'].map((keyArn) => kmsKeyOf(keyArn, kms))),
        signal: io.signal,
        onProgress: progress.show,
        ...(dataKey === undefined ? {} : { dataKey }),
        ...(values['recovery-key'] === undefined
          ? {}
          : { recoveryKey: await readPublicKey(values['recovery-key']) }),
        ...(values.sign === undefined ? {} : { signer: await readPrivateKey(values.sign) }),
      });
      progress.end();
      io.stdout.write(
        values.json ? `${JSON.stringify(result)}\n` : describe(result, values.sign !== undefined),
      );
      return 0;
    } finally {
      progress.end();
      dataKey?.fill(0);
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
    return { kind: 'pipe', pipe: io.stdin, path: required(as, '--as') };
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

async function kmsKeyOf(
  keyArn: string,
  { endpoint, caFile }: { endpoint: string | undefined; caFile: string | undefined },
): Promise<KmsKey> {
  const region = keyArn.split(':')[3];
  if (region === undefined || region === '') {
    throw new CommandError('USAGE', `--kms-key must be the ARN of a KMS key, not ${JSON.stringify(keyArn)}.`);
  }
  const client = new KMSClient({
    region,
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(caFile === undefined
      ? {}
      : { requestHandler: { httpsAgent: new Agent({ ca: await readFile(caFile) }) } }),
  });
  return { client, keyArn };
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
