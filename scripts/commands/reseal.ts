import { parseArgs } from 'node:util';
import type { DataKeySource } from '../../owner/data-key.ts';
import { type Reseal, type ResealResult, resealFolder } from '../../owner/key-life/reseal.ts';
import { publicHalfOf, readDataKeyFile, readPrivateKey, readPublicKey } from '../../owner/secret-files.ts';
import type { Command } from '../command.ts';
import { CommandError } from '../errors.ts';
import { progressLine } from '../progress.ts';
import {
  describeSeal,
  expectPlaceUsed,
  KMS_PLACE_HELP,
  kmsKeysOf,
  kmsPlaceOf,
  tellLeftover,
  versionOf,
} from '../seal-options.ts';

const OPTIONS = {
  recovery: { type: 'string' },
  'recovery-file': { type: 'string' },
  'key-file': { type: 'string' },
  signer: { type: 'string' },
  'content-id': { type: 'string' },
  out: { type: 'string', short: 'o' },
  replace: { type: 'boolean', default: false },
  version: { type: 'string' },
  label: { type: 'string' },
  'kms-key': { type: 'string', multiple: true, default: [] as string[] },
  'recovery-key': { type: 'string' },
  'new-key-file': { type: 'string' },
  sign: { type: 'string' },
  'kms-endpoint': { type: 'string' },
  'kms-ca': { type: 'string' },
  json: { type: 'boolean', default: false },
} as const;

export const command: Command = {
  name: 'reseal',
  summary: 'seal a sealed model again under a new data key',
  help: `
Usage: strongroom reseal FOLDER --recovery PRIVATE --kms-key ARN [--sign KEY] [OPTIONS] -o OUT
       strongroom reseal FOLDER --recovery PRIVATE --kms-key ARN [--sign KEY] [OPTIONS] --replace

For a data key that leaked, or may have. FOLDER is opened in memory, every byte checked, and sealed under a new
data key as it comes: no plaintext touches the disk. The result has a new content id, so its manifest is signed
anew, and callers and deployments that pin the old content id must learn the new one. Raise --version as well, and the
minimum version in deployments, or a host could go on serving the old model.

FOLDER stays as it is until the new model is whole and on the disk.

Who has the old data key could have forged FOLDER, so something else must vouch for it:
      --signer PUBLIC       whose signature its manifest must bear; default: that of --sign
      --content-id ID       or the content id that you noted when you sealed it

The old data key:
      --recovery PRIVATE    your private recovery key (mode 600)
      --recovery-file FILE  where the recovery wrap lies; default: FOLDER.recovery.json
      --key-file FILE       or the 32 raw bytes of the data key (mode 600), if you keep it yourself

The new model:
  -o, --out OUT             the folder to create
      --replace             take FOLDER's place instead, in one step, and delete the old model and its recovery wrap
      --version N           default: as FOLDER's
      --label TEXT          a version label for people; default: FOLDER's, unless --version is given
      --kms-key ARN         AWS KMS key that releases the new data key to enclaves; may be given several times
      --recovery-key FILE   public recovery key for the new recovery wrap; default: that of --recovery
      --new-key-file FILE   use these 32 raw bytes as the new data key (mode 600) and keep them yourself
      --sign FILE           sign the manifest with this private key; otherwise "strongroom sign" later

${KMS_PLACE_HELP}

      --json                print the result as JSON

Example:
  strongroom reseal iris.sealed --recovery keys/recovery.key.pem --version 4 --sign keys/signing.key.pem \\
    --kms-key arn:aws:kms:eu-central-1:111122223333:key/KEY -o iris-4.sealed

Exit codes: 0 resealed, 1 refused (KMS, signature, recovery key, damaged model), 2 usage or unusable input,
3 KMS not reachable, busy, or stopped before the end.
`,
  async run(args, io) {
    const { values, positionals } = parseArgs({ args: [...args], allowPositionals: true, options: OPTIONS });
    const [folder, ...rest] = positionals;
    if (folder === undefined || rest.length > 0) throw new CommandError('USAGE', 'reseal needs one FOLDER.');
    const place = kmsPlaceOf(values);
    expectPlaceUsed(values['kms-key'], place);
    const out = outOf(values.out, values.replace);
    const version = values.version === undefined ? undefined : versionOf(values.version);
    using key = await readOldKey(values);
    const signer = values.sign === undefined ? undefined : await readPrivateKey(values.sign);
    const vouchedBy = await vouchedByOf(values, signer);
    const recoveryKey =
      values['recovery-key'] !== undefined
        ? await readPublicKey(values['recovery-key'])
        : key.source.kind === 'recovery'
          ? publicHalfOf(key.source.privateKey)
          : undefined;
    const newKeyFile = values['new-key-file'];
    const dataKey = newKeyFile === undefined ? undefined : await readDataKeyFile(newKeyFile);
    const kmsKeys = await kmsKeysOf(values['kms-key'], place);
    const progress = progressLine(io.stderr, () => performance.now());
    try {
      const result = await resealFolder({
        folder,
        key: key.source,
        vouchedBy,
        out,
        kmsKeys,
        recoveryKey,
        dataKey,
        signer,
        version,
        versionLabel: values.label,
        now: () => new Date(),
        signal: io.signal,
        onProgress: (doneBytes, totalBytes) => progress.show('resealing', doneBytes, totalBytes),
        onLeftover: (leftover) => void io.stderr.write(tellLeftover(leftover)),
      });
      progress.end();
      io.stdout.write(
        values.json ? `${JSON.stringify(result)}\n` : describe(result, folder, signer !== undefined),
      );
      return 0;
    } finally {
      progress.end();
      dataKey?.fill(0);
      for (const { client } of kmsKeys) client.destroy();
    }
  },
};

function describe(result: ResealResult, folder: string, signed: boolean): string {
  const old = result.replaced
    ? `the old model (content id ${result.oldContentId}) was deleted\n`
    : `the old model stays in ${folder} (content id ${result.oldContentId})\n`;
  return (
    describeSeal(result, signed) +
    old +
    'deployments that pin a content id need the new one: a new document, PCR16 and policy statement\n'
  );
}

function outOf(out: string | undefined, replace: boolean): Reseal['out'] {
  if ((out === undefined) === replace) return replace ? 'replace' : (out ?? 'replace');
  throw new CommandError('USAGE', 'reseal needs either -o OUT or --replace.');
}

interface KeyValues {
  readonly recovery?: string | undefined;
  readonly 'recovery-file'?: string | undefined;
  readonly 'key-file'?: string | undefined;
}

async function readOldKey(values: KeyValues): Promise<{ readonly source: DataKeySource } & Disposable> {
  const { recovery, 'recovery-file': file, 'key-file': keyFile } = values;
  if ((recovery === undefined) === (keyFile === undefined)) {
    throw new CommandError(
      'USAGE',
      'reseal needs the old data key: either --recovery PRIVATE or --key-file FILE.',
    );
  }
  if (recovery !== undefined) {
    const privateKey = await readPrivateKey(recovery);
    return { source: { kind: 'recovery', privateKey, file }, [Symbol.dispose]() {} };
  }
  if (file !== undefined)
    throw new CommandError('USAGE', '--recovery-file needs --recovery PRIVATE beside it.');
  const dataKey = await readDataKeyFile(keyFile as string);
  return { source: { kind: 'kept', dataKey }, [Symbol.dispose]: () => void dataKey.fill(0) };
}

async function vouchedByOf(
  values: { readonly signer?: string | undefined; readonly 'content-id'?: string | undefined },
  signer: Reseal['signer'],
): Promise<Reseal['vouchedBy']> {
  const { signer: signerFile, 'content-id': contentId } = values;
  if (signerFile !== undefined && contentId !== undefined) {
    throw new CommandError('USAGE', '--signer and --content-id are two ways to vouch for FOLDER; give one.');
  }
  if (contentId !== undefined) {
    if (/^[0-9a-f]{64}$/.test(contentId)) return { kind: 'content', contentId };
    throw new CommandError('USAGE', '--content-id must be 64 lower-case hex digits.');
  }
  if (signerFile !== undefined) return { kind: 'signer', publicKey: await readPublicKey(signerFile) };
  if (signer !== undefined) return { kind: 'signer', publicKey: publicHalfOf(signer) };
  throw new CommandError(
    'USAGE',
    'reseal needs somebody to vouch for FOLDER: --signer, --content-id, or --sign.',
  );
}
