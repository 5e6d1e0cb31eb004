/**
 * The data key of a sealed model, in its owner's hands: from the recovery wrap, or from the file that the owner keeps.
 * Either way it is held against the head's commitment, so that a key of another model is told at once.
 */
import type { KeyObject } from 'node:crypto';
import { constants, open } from 'node:fs/promises';
import { codeOf } from '../shared/errors.ts';
import { KEY_BYTES } from '../shared/sealed-model/format.ts';
import type { Head } from '../shared/sealed-model/head.ts';
import { type UnlockedHead, unlockHead } from '../shared/sealed-model/unlock.ts';
import { OwnerError } from './errors.ts';
import { openRecoveryWrap, recoveryFilesOf } from './recovery.ts';

export type DataKeySource =
  /** `file`: where the recovery wrap lies if not beside the folder. */
  | { readonly kind: 'recovery'; readonly privateKey: KeyObject; readonly file?: string | undefined }
  /** 32 bytes that the caller wipes. */
  | { readonly kind: 'kept'; readonly dataKey: Uint8Array };

const RECOVERY_FILE_MAX_BYTES = 65_536;

/**
 * Runs `use` with the data key and the head that it unlocks, and wipes both. Throws OWNER_RECOVERY_REFUSED,
 * OWNER_KEY_UNUSABLE, SEALED_KEY_MISMATCH, SEALED_HEAD_FORGED.
 */
export async function withDataKey<T>(
  folder: string,
  head: Head,
  source: DataKeySource,
  use: (dataKey: Uint8Array, unlocked: UnlockedHead) => Promise<T>,
): Promise<T> {
  const dataKey =
    source.kind === 'recovery' ? await fromRecovery(folder, head, source) : copyOf(source.dataKey);
  try {
    using unlocked = unlockHead(head, dataKey);
    return await use(dataKey, unlocked);
  } finally {
    dataKey.fill(0);
  }
}

async function fromRecovery(
  folder: string,
  head: Head,
  { privateKey, file }: DataKeySource & { readonly kind: 'recovery' },
): Promise<Uint8Array> {
  const [usual, waiting] = recoveryFilesOf(folder);
  try {
    return openRecoveryWrap(await readRecoveryFile(file ?? usual), head, privateKey);
  } catch (error) {
    if (file !== undefined || codeOf(error) !== 'OWNER_RECOVERY_REFUSED') throw error;
    const other = await readRecoveryFile(waiting).catch(() => undefined);
    if (other === undefined) throw error;
    return openRecoveryWrap(other, head, privateKey);
  }
}

/** Throws OWNER_RECOVERY_REFUSED if it is not there, no regular file, or too long. */
export async function readRecoveryFile(path: string): Promise<Uint8Array> {
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch(
    (cause: NodeJS.ErrnoException) => {
      if (cause.code !== 'ENOENT') throw cause;
      throw new OwnerError('OWNER_RECOVERY_REFUSED', `There is no recovery file ${path}.`, cause);
    },
  );
  try {
    const status = await file.stat();
    if (!status.isFile() || status.size > RECOVERY_FILE_MAX_BYTES) {
      throw new OwnerError('OWNER_RECOVERY_REFUSED', `${path} is not a recovery file.`);
    }
    return await file.readFile();
  } finally {
    await file.close();
  }
}

function copyOf(kept: Uint8Array): Uint8Array {
  if (kept.length !== KEY_BYTES) {
    throw new OwnerError('OWNER_KEY_UNUSABLE', `A data key has ${KEY_BYTES} bytes, not ${kept.length}.`);
  }
  const own = new Uint8Array(new ArrayBuffer(KEY_BYTES));
  own.set(kept);
  return own;
}
