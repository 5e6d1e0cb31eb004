import { parseArgs } from 'node:util';
import { reEncryptEnvmodel } from '../../owner/legacy/re-encrypt.ts';
import type { Command } from '../command.ts';
import { CommandError } from '../errors.ts';
import { bytes, progressLine } from '../progress.ts';
import { KMS_PLACE_HELP, kmsKeysOf, kmsPlaceOf, required, tellLeftover } from '../seal-options.ts';

export const command: Command = {
  name: 're-encrypt',
  summary: 'put a legacy ENVMODEL under another KMS key',
  help: `
Usage: strongroom re-encrypt LEGACY --legacy-kms-key ARN --to-kms-key ARN -o OUT

Unwraps the model's data key with one KMS key, wraps it with the other under the same encryption context (the
metadata), checks tag and SHA-256 of the whole model, and writes the file OUT. Ciphertext and metadata stay byte
for byte. LEGACY stays as it is; nothing is overwritten.

For a sealed model in its place, see "strongroom convert".

Options:
      --legacy-kms-key ARN  the AWS KMS key that opens LEGACY (kms:Decrypt)
      --to-kms-key ARN      the AWS KMS key that opens OUT (kms:DescribeKey, kms:Encrypt); may be the same
  -o, --out OUT             the file to create

${KMS_PLACE_HELP}

      --json                print what OUT says of itself as JSON

Example:
  strongroom re-encrypt iris.env --legacy-kms-key arn:aws:kms:eu-central-1:111122223333:key/OLD \\
    --to-kms-key arn:aws:kms:eu-central-1:111122223333:key/NEW -o iris-new.env

Exit codes: 0 re-encrypted, 1 refused (tag, digest, KMS), 2 usage or unusable input,
3 KMS not reachable, or stopped before the end.
`,
  async run(args, io) {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        'legacy-kms-key': { type: 'string' },
        'to-kms-key': { type: 'string' },
        out: { type: 'string', short: 'o' },
        'kms-endpoint': { type: 'string' },
        'kms-ca': { type: 'string' },
        json: { type: 'boolean', default: false },
      },
    });
    const [legacy, ...rest] = positionals;
    if (legacy === undefined || rest.length > 0) {
      throw new CommandError('USAGE', 're-encrypt needs one LEGACY file.');
    }
    const out = required('re-encrypt', values.out, '-o OUT');
    const fromArn = required('re-encrypt', values['legacy-kms-key'], '--legacy-kms-key');
    const toArn = required('re-encrypt', values['to-kms-key'], '--to-kms-key');
    const place = kmsPlaceOf(values);
    const clients = [await kmsKeysOf([fromArn], place), await kmsKeysOf([toArn], place)].flat();
    const [from, to] = clients;
    if (from === undefined || to === undefined) throw new TypeError('two ARNs give two keys');
    const progress = progressLine(io.stderr, () => performance.now());
    try {
      const result = await reEncryptEnvmodel({
        legacy,
        from,
        to,
        out,
        signal: io.signal,
        onProgress: (doneBytes, totalBytes) => progress.show('re-encrypting', doneBytes, totalBytes),
        onLeftover: (leftover) => void io.stderr.write(tellLeftover(leftover)),
      });
      progress.end();
      io.stdout.write(
        values.json
          ? `${JSON.stringify({ file: out, ...result })}\n`
          : `re-encrypted ${bytes(result.plaintextSizeBytes)} into ${out}, under ${result.kmsKeyId}\n`,
      );
      return 0;
    } finally {
      progress.end();
      for (const { client } of clients) client.destroy();
    }
  },
};
