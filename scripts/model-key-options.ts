/** How `verify`, `open` and `exec` are given the key of a model, sealed or legacy. */
import type { KeyObject } from 'node:crypto';
import type { LegacyKey } from '../owner/legacy/unlock.ts';
import type { ModelKey } from '../owner/model-key.ts';
import { readDataKeyFile, readPrivateKey, readPublicKey } from '../owner/secret-files.ts';
import { CommandError } from './errors.ts';
import { LEGACY_KEY_OPTIONS, readLegacyKey } from './legacy-options.ts';
import { expectPlaceUsed, kmsKeysOf, kmsPlaceOf } from './seal-options.ts';

/** For `parseArgs`. */
export const MODEL_KEY_OPTIONS = {
  'key-file': { type: 'string' },
  recovery: { type: 'string' },
  'recovery-file': { type: 'string' },
  'kms-key': { type: 'string' },
  'kms-endpoint': { type: 'string' },
  'kms-ca': { type: 'string' },
  aad: LEGACY_KEY_OPTIONS.aad,
  'aad-file': LEGACY_KEY_OPTIONS['aad-file'],
} as const;

export const MODEL_KEY_HELP = `
      --recovery PRIVATE    your private recovery key (mode 600), for the recovery wrap of a sealed model
      --recovery-file FILE  where that wrap lies; default: the model's path with ".recovery.json"
      --key-file FILE       the 32 raw bytes of the data key (mode 600), sealed or legacy
      --kms-key ARN         an AWS KMS key that lets you decrypt: a legacy ENVMODEL's, or that of a sealed model
                            whose policy says so (one by "strongroom policy generate" never does)
      --aad TEXT, --aad-file FILE  the associated data of a legacy ENCMODEL, for example name:version
`.trimEnd();

export interface ModelKeyValues {
  readonly 'key-file'?: string | undefined;
  readonly recovery?: string | undefined;
  readonly 'recovery-file'?: string | undefined;
  readonly 'kms-key'?: string | undefined;
  readonly 'kms-endpoint'?: string | undefined;
  readonly 'kms-ca'?: string | undefined;
  readonly aad?: string | undefined;
  readonly 'aad-file'?: string | undefined;
}

/** Undefined if no option names a key. Disposing wipes it or ends the KMS client. */
export async function readModelKey(values: ModelKeyValues): Promise<(ModelKey & Disposable) | undefined> {
  const keyFile = values['key-file'];
  const keyArn = values['kms-key'];
  const given = [keyFile, keyArn, values.recovery].filter((value) => value !== undefined);
  if (given.length > 1) {
    throw new CommandError(
      'USAGE',
      '--key-file, --recovery and --kms-key are three ways to the key; give one.',
    );
  }
  expectPlaceUsed(keyArn === undefined ? [] : [keyArn], kmsPlaceOf(values));
  expectOnlyWith(values.recovery, values['recovery-file'], '--recovery-file is for --recovery PRIVATE.');
  expectOnlyWith(undefined, values.aad ?? values['aad-file'], '--aad is for a legacy model.');
  if (keyFile !== undefined) {
    const dataKey = await readDataKeyFile(keyFile);
    return { kind: 'kept', dataKey, [Symbol.dispose]: () => void dataKey.fill(0) };
  }
  if (values.recovery !== undefined) {
    const privateKey = await readPrivateKey(values.recovery);
    return { kind: 'recovery', privateKey, file: values['recovery-file'], [Symbol.dispose]() {} };
  }
  if (keyArn === undefined) return undefined;
  const [kmsKey] = await kmsKeysOf([keyArn], kmsPlaceOf(values));
  if (kmsKey === undefined) throw new TypeError('one ARN gives one key');
  return { kind: 'kms', kmsKey, [Symbol.dispose]: () => kmsKey.client.destroy() };
}

export async function requireModelKey(
  command: string,
  values: ModelKeyValues,
): Promise<ModelKey & Disposable> {
  const key = await readModelKey(values);
  if (key !== undefined) return key;
  throw new CommandError('USAGE', `${command} needs --recovery PRIVATE, --key-file FILE or --kms-key ARN.`);
}

/** The same options for a legacy model. */
export async function readKeyOfLegacy(
  command: string,
  values: ModelKeyValues,
): Promise<(LegacyKey & Disposable) | undefined> {
  expectOnlyWith(
    undefined,
    values.recovery ?? values['recovery-file'],
    'A legacy model has no recovery wrap; give --key-file FILE or --kms-key ARN.',
  );
  const { 'key-file': keyFile, 'kms-key': keyArn, aad, 'aad-file': aadFile } = values;
  const place = kmsPlaceOf(values);
  expectPlaceUsed(keyArn === undefined ? [] : [keyArn], place);
  if (keyFile === undefined && keyArn === undefined) return undefined;
  if (keyFile !== undefined && keyArn !== undefined) {
    throw new CommandError('USAGE', '--key-file and --kms-key are two ways to the key; give one.');
  }
  return readLegacyKey(
    command,
    { 'legacy-key-file': keyFile, 'legacy-kms-key': keyArn, aad, 'aad-file': aadFile },
    place,
  );
}

export async function requireKeyOfLegacy(
  command: string,
  values: ModelKeyValues,
): Promise<LegacyKey & Disposable> {
  const key = await readKeyOfLegacy(command, values);
  if (key !== undefined) return key;
  throw new CommandError('USAGE', `${command} needs --key-file FILE or --kms-key ARN for a legacy model.`);
}

export async function readSigner(file: string | undefined): Promise<KeyObject | undefined> {
  return file === undefined ? undefined : readPublicKey(file);
}

/** A legacy model has no manifest, so nobody's signature can be expected of it. */
export function expectSealedOnly(
  values: Readonly<Record<string, unknown>>,
  options: readonly string[],
): void {
  for (const option of options) {
    if (values[option] === undefined) continue;
    throw new CommandError(
      'USAGE',
      `--${option} is for sealed models; a legacy model has nothing to check it with.`,
    );
  }
}

/** Throws CommandError USAGE if `value` is given without the one that it belongs to. */
function expectOnlyWith(owner: string | undefined, value: string | undefined, message: string): void {
  if (owner === undefined && value !== undefined) throw new CommandError('USAGE', message);
}
