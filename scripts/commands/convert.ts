import { extname } from 'node:path';
import { parseArgs } from 'node:util';
import { convertLegacy } from '../../owner/legacy/convert.ts';
import type { Command } from '../command.ts';
import { CommandError } from '../errors.ts';
import { LEGACY_KEY_HELP, LEGACY_KEY_OPTIONS, readLegacyKey } from '../legacy-options.ts';
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
  name: 'convert',
  summary: 'make a sealed model of a legacy one (ENCMODEL, ENVMODEL)',
  help: `
Usage: strongroom convert LEGACY --as FILE --name NAME --version N [OPTIONS] -o OUT

Reads LEGACY twice: first to check its tag and its plaintext's SHA-256, then to seal it into the folder OUT as
"strongroom seal" does. No plaintext touches the disk. LEGACY stays as it is; a conversion that fails or is
stopped leaves nothing behind.

${LEGACY_KEY_HELP}

What is sealed:
      --as FILE             the name that the model's bytes get inside the sealed model, for example model.onnx
      --name NAME           the model's name (letters, digits, ".", "_", "-")
      --version N           a positive integer; deployments state a minimum
      --label TEXT          a version label for people
      --format FORMAT       for example onnx or gguf; default: the extension of --as
  -o, --out OUT             the folder to create

${WHO_CAN_OPEN_HELP}

${KMS_PLACE_HELP}

      --json                print the result as JSON

Example:
  strongroom convert iris.enc --legacy-key-file iris.key --aad iris:3 --as model.onnx --name iris --version 3 \\
    --kms-key arn:aws:kms:eu-central-1:111122223333:key/KEY --recovery-key keys/recovery.pub.pem \\
    --sign keys/signing.key.pem -o iris.sealed

Exit codes: 0 converted, 1 refused (tag, digest, KMS, exposed key), 2 usage or unusable input,
3 KMS not reachable, or stopped before the end.
`,
  async run(args, io) {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: { ...SEAL_OPTIONS, ...LEGACY_KEY_OPTIONS },
    });
    const [legacy, ...rest] = positionals;
    if (legacy === undefined || rest.length > 0) {
      throw new CommandError('USAGE', 'convert needs one LEGACY file.');
    }
    const path = required('convert', values.as, '--as FILE');
    const place = kmsPlaceOf(values);
    expectPlaceUsed([values['kms-key'], values['legacy-kms-key'] ?? []].flat(), place);
    using seal = await readSealOptions('convert', values, values.format ?? formatOf(path));
    using legacyKey = await readLegacyKey('convert', values, place);
    const progress = progressLine(io.stderr, () => performance.now());
    try {
      const result = await convertLegacy({
        legacy,
        legacyKey,
        path,
        seal: {
          ...seal,
          signal: io.signal,
          onProgress: (phase, ...bytes) => progress.show(phase === 'reading' ? 'verifying' : phase, ...bytes),
          onLeftover: (leftover) => void io.stderr.write(tellLeftover(leftover)),
        },
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

function formatOf(path: string): string {
  const extension = extname(path).slice(1).toLowerCase();
  if (extension !== '') return extension;
  throw new CommandError('USAGE', `convert needs --format, since ${JSON.stringify(path)} has no extension.`);
}
