/** The ways in which an owner has the data key of a sealed model: those of data-key.ts, or KMS. */
import type { KeyObject } from 'node:crypto';
import { encryptionContextOf, type Head } from '../shared/sealed-model/head.ts';
import { expectHeadOf, verifyManifest } from '../shared/sealed-model/manifest.ts';
import type { UnlockedHead } from '../shared/sealed-model/unlock.ts';
import { type DataKeySource, withDataKey } from './data-key.ts';
import { OwnerError } from './errors.ts';
import { type KmsKey, unwrapWithKms } from './kms.ts';
import { readHead, readKeyFile, readSealedPart } from './sealed-folder.ts';

export type ModelKey =
  | DataKeySource
  /** Only where the key's policy lets its owner decrypt; a generated one does not. */
  | { readonly kind: 'kms'; readonly kmsKey: KmsKey };

/**
 * Runs `use` with the head that the key unlocks, and wipes all keys. Throws OWNER_WRAP_ABSENT, OWNER_KMS_REFUSED and its
 * kin, and what `withDataKey` throws.
 */
export async function withModelKey<T>(
  folder: string,
  head: Head,
  key: ModelKey,
  signal: AbortSignal | undefined,
  use: (unlocked: UnlockedHead) => Promise<T>,
): Promise<T> {
  if (key.kind !== 'kms') return withDataKey(folder, head, key, (_dataKey, unlocked) => use(unlocked));
  const { kmsKey } = key;
  const { wraps } = await readKeyFile(folder, head);
  const wrap = wraps.find(({ keyArn }) => keyArn === kmsKey.keyArn);
  if (wrap === undefined) {
    throw new OwnerError(
      'OWNER_WRAP_ABSENT',
      `key.json has no wrap under ${kmsKey.keyArn}; it has ${wraps.map(({ keyArn }) => keyArn).join(', ')}.`,
    );
  }
  const dataKey = await unwrapWithKms(kmsKey, wrap.ciphertextBlob, encryptionContextOf(head), signal);
  try {
    return await withDataKey(folder, head, { kind: 'kept', dataKey }, (_dataKey, unlocked) => use(unlocked));
  } finally {
    dataKey.fill(0);
  }
}

/** The same for a folder whose head is read here and, if a signer is expected, held against the signed manifest. */
export async function withSealedFolder<T>(
  folder: string,
  key: ModelKey,
  { signer, signal }: { readonly signer?: KeyObject | undefined; readonly signal?: AbortSignal | undefined },
  use: (unlocked: UnlockedHead) => Promise<T>,
): Promise<T> {
  const head = await readHead(folder);
  if (signer !== undefined) {
    const manifest = await readSealedPart(folder, 'manifest.json');
    expectHeadOf(verifyManifest(manifest, signer), head);
  }
  return withModelKey(folder, head, key, signal, use);
}
