/** What `seal` and `convert` share: the options that say who the sealed model is and who can open it. */
import { expectWrappable, type KmsKey } from '../owner/kms.ts';
import type { Leftover } from '../owner/leftovers.ts';
import type { SealResult, SealToFolder } from '../owner/seal-model.ts';
import { readDataKeyFile, readPrivateKey, readPublicKey } from '../owner/secret-files.ts';
import { CommandError } from './errors.ts';
import { type KmsPlace, kmsClient } from './kms-client.ts';
import { bytes } from './progress.ts';

/** For `parseArgs`. */
export const SEAL_OPTIONS = {
  name: { type: 'string' },
  version: { type: 'string' },
  label: { type: 'string' },
  format: { type: 'string' },
  as: { type: 'string' },
  out: { type: 'string', short: 'o' },
  'kms-key': { type: 'string', multiple: true, default: [] as string[] },
  'recovery-key': { type: 'string' },
  'key-file': { type: 'string' },
  sign: { type: 'string' },
  'kms-endpoint': { type: 'string' },
  'kms-ca': { type: 'string' },
  json: { type: 'boolean', default: false },
} as const;

export const WHO_CAN_OPEN_HELP = `
Who can open it:
      --kms-key ARN         AWS KMS key that releases the data key to enclaves; may be given several times
      --recovery-key FILE   public recovery key (PEM, from "strongroom keygen")
      --key-file FILE       use these 32 raw bytes as data key (mode 600) and keep them yourself
      --sign FILE           sign the manifest with this private key; otherwise "strongroom sign" later
`.trim();

export const KMS_PLACE_HELP = `
KMS is reached with your standard AWS environment. For a simulation:
      --kms-endpoint URL    another endpoint, https://HOST:PORT
      --kms-ca FILE         its certificate authority (PEM); the certificate may name HOST or the region's KMS
`.trim();

export interface SealOptionValues {
  readonly name?: string | undefined;
  readonly version?: string | undefined;
  readonly label?: string | undefined;
  readonly out?: string | undefined;
  readonly 'kms-key': readonly string[];
  readonly 'recovery-key'?: string | undefined;
  readonly 'key-file'?: string | undefined;
  readonly sign?: string | undefined;
  readonly 'kms-endpoint'?: string | undefined;
  readonly 'kms-ca'?: string | undefined;
}

export type SealOptions = Pick<
  SealToFolder,
  'identity' | 'out' | 'kmsKeys' | 'recoveryKey' | 'signer' | 'dataKey' | 'now'
> &
  Disposable;

/** Keys are read from their files; disposing wipes the data key and ends the KMS clients. */
export async function readSealOptions(
  command: string,
  values: SealOptionValues,
  format: string,
): Promise<SealOptions> {
  const identity = {
    name: required(command, values.name, '--name'),
    version: versionOf(required(command, values.version, '--version')),
    format,
    ...(values.label === undefined ? {} : { versionLabel: values.label }),
  };
  const out = required(command, values.out, '-o OUT');
  const { 'recovery-key': recoveryFile, sign: signerFile, 'key-file': keyFile } = values;
  const kmsKeys = await kmsKeysOf(values['kms-key'], kmsPlaceOf(values));
  const recoveryKey = recoveryFile === undefined ? undefined : await readPublicKey(recoveryFile);
  const signer = signerFile === undefined ? undefined : await readPrivateKey(signerFile);
  const dataKey = keyFile === undefined ? undefined : await readDataKeyFile(keyFile);
  return {
    identity,
    out,
    kmsKeys,
    now: () => new Date(),
    ...(dataKey === undefined ? {} : { dataKey }),
    ...(recoveryKey === undefined ? {} : { recoveryKey }),
    ...(signer === undefined ? {} : { signer }),
    [Symbol.dispose]() {
      dataKey?.fill(0);
      for (const { client } of kmsKeys) client.destroy();
    },
  };
}

export function required(command: string, value: string | undefined, option: string): string {
  if (value === undefined) throw new CommandError('USAGE', `${command} needs ${option}.`);
  return value;
}

export function versionOf(text: string): number {
  if (/^[1-9][0-9]{0,14}$/.test(text)) return Number(text);
  throw new CommandError('USAGE', `--version must be a positive integer, not ${JSON.stringify(text)}.`);
}

export function kmsPlaceOf(values: Pick<SealOptionValues, 'kms-endpoint' | 'kms-ca'>): KmsPlace {
  return { endpoint: values['kms-endpoint'], caFile: values['kms-ca'] };
}

export type OwnKmsKey = KmsKey & { readonly client: Awaited<ReturnType<typeof kmsClient>> };

/** Throws CommandError USAGE if KMS is placed and no key asks for it. */
export function expectPlaceUsed(keyArns: readonly string[], { endpoint, caFile }: KmsPlace): void {
  if (keyArns.length === 0 && (endpoint ?? caFile) !== undefined) {
    throw new CommandError('USAGE', '--kms-endpoint and --kms-ca need --kms-key ARN beside them.');
  }
}

/** Each key is asked for in its own region. The caller destroys the clients. */
export async function kmsKeysOf(keyArns: readonly string[], place: KmsPlace): Promise<OwnKmsKey[]> {
  expectWrappable(keyArns);
  return Promise.all(
    keyArns.map(async (keyArn) => ({ keyArn, client: await kmsClient(keyArn.split(':')[3] ?? '', place) })),
  );
}

/** One line about what a killed run left; `kind` is what it wrote. */
export function tellLeftover({ path, outcome }: Leftover, kind = 'ciphertext'): string {
  if (outcome === 'removed') return `removed ${path}, which a killed seal had left (${kind})\n`;
  if (outcome === 'running') return `note: another seal is writing ${path}\n`;
  return `note: ${path} (${kind}) was left by a seal elsewhere or before a restart; if none runs, remove it\n`;
}

export function describeSeal(
  { folder, recoveryFile, payloadSizeBytes, manifest }: SealResult,
  signed: boolean,
): string {
  const lines = [
    `sealed ${manifest.name} version ${manifest.version} into ${folder} (${bytes(payloadSizeBytes)})`,
    `content id ${manifest.contentId}`,
    ...(recoveryFile === undefined ? [] : [`recovery wrap ${recoveryFile}: keep it, never publish it`]),
    ...(signed ? [] : [`not signed yet: strongroom sign ${folder} --key FILE`]),
  ];
  return `${lines.join('\n')}\n`;
}
