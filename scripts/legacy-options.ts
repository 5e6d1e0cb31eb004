/** How a command is given the key of a legacy model. */
import { readFile } from 'node:fs/promises';
import type { LegacyKey } from '../owner/legacy/unlock.ts';
import { readDataKeyFile } from '../owner/secret-files.ts';
import { CommandError } from './errors.ts';
import { expectFile } from './input-file.ts';
import type { KmsPlace } from './kms-client.ts';
import { kmsKeysOf } from './seal-options.ts';

/** For `parseArgs`. */
export const LEGACY_KEY_OPTIONS = {
  'legacy-key-file': { type: 'string' },
  'legacy-kms-key': { type: 'string' },
  aad: { type: 'string' },
  'aad-file': { type: 'string' },
} as const;

export const LEGACY_KEY_HELP = `
How LEGACY is opened:
      --legacy-key-file FILE  ENCMODEL: its key, 32 raw bytes (mode 600). Opens an ENVMODEL too, if you have its key
      --legacy-kms-key ARN    ENVMODEL: the AWS KMS key that wrapped its key; the metadata is the encryption context
      --aad TEXT              ENCMODEL: the associated data that it was encrypted with, for example name:version
      --aad-file FILE         the same, as the bytes of a file
`.trim();

export interface LegacyKeyValues {
  readonly 'legacy-key-file'?: string | undefined;
  readonly 'legacy-kms-key'?: string | undefined;
  readonly aad?: string | undefined;
  readonly 'aad-file'?: string | undefined;
}

/** Disposing wipes the key or ends the KMS client. */
export async function readLegacyKey(
  command: string,
  values: LegacyKeyValues,
  place: KmsPlace,
): Promise<LegacyKey & Disposable> {
  const { 'legacy-key-file': keyFile, 'legacy-kms-key': keyArn } = values;
  if ((keyFile === undefined) === (keyArn === undefined)) {
    throw new CommandError('USAGE', `${command} needs --legacy-key-file FILE or --legacy-kms-key ARN.`);
  }
  const associatedData = await readAssociatedData(values);
  if (keyArn !== undefined) {
    if (associatedData !== undefined) {
      throw new CommandError('USAGE', 'An ENVMODEL’s associated data is its metadata; leave out --aad.');
    }
    const [kmsKey] = await kmsKeysOf([keyArn], place);
    if (kmsKey === undefined) throw new TypeError('one ARN gives one key');
    return { kind: 'kms', kmsKey, [Symbol.dispose]: () => kmsKey.client.destroy() };
  }
  const dataKey = await readDataKeyFile(keyFile as string);
  return { kind: 'data-key', dataKey, associatedData, [Symbol.dispose]: () => void dataKey.fill(0) };
}

const ASSOCIATED_DATA_MAX_BYTES = 1 << 20;

export async function readAssociatedData({
  aad,
  'aad-file': file,
}: Pick<LegacyKeyValues, 'aad' | 'aad-file'>): Promise<Buffer | undefined> {
  if (aad !== undefined && file !== undefined) {
    throw new CommandError('USAGE', '--aad and --aad-file are two ways to say the same; give one.');
  }
  if (file === undefined) return aad === undefined ? undefined : Buffer.from(aad);
  await expectFile(file, ASSOCIATED_DATA_MAX_BYTES);
  return readFile(file);
}
