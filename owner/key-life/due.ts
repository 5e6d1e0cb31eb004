/**
 * Which models rest on which KMS key, and on which of its materials. KMS does not tell the material of a ciphertext
 * that it is shown, so there are two ways to know: the note in the wrap's label, which is a claim and may be missing,
 * or to have KMS re-encrypt the wrap on the same key and throw the result away, which is exact and leaves a record in
 * CloudTrail.
 */
import { encryptionContextOf } from '../../shared/sealed-model/head.ts';
import type { KeyWrap } from '../../shared/sealed-model/key-file.ts';
import { type KmsKey, reEncryptOnSameKey } from '../kms.ts';
import { readHead, readKeyFile } from '../sealed-folder.ts';
import { newestMaterial } from './rotate.ts';
import { readWrapNote, shortMaterial } from './wrap-label.ts';

export interface WrapAge {
  readonly folder: string;
  readonly name: string;
  readonly version: number;
  readonly keyArn: string;
  /** When it was wrapped, by its label. */
  readonly wrappedAt?: string;
  /** First digits of the id of the material that it rests on. */
  readonly material?: string;
  readonly knownFrom: 'label' | 'kms' | 'nothing';
  readonly due: boolean | 'unknown';
}

/**
 * One entry a wrap, in the order of the folders. With `keyArn`, only wraps under that key. Throws what reading a sealed
 * folder throws, and OWNER_KMS_REFUSED and its kin.
 */
export async function agesOfWraps(
  folders: readonly string[],
  options: {
    readonly keyArn?: string | undefined;
    readonly kmsKey: (keyArn: string) => Promise<KmsKey>;
    /** Whether to have KMS re-encrypt each wrap. */
    readonly askKms: boolean;
    readonly signal?: AbortSignal | undefined;
  },
): Promise<readonly WrapAge[]> {
  const newest = new Map<string, string | undefined>();
  const ages: WrapAge[] = [];
  for (const folder of folders) {
    const head = await readHead(folder);
    const { wraps } = await readKeyFile(folder, head);
    const { name, version } = head.identity;
    for (const wrap of wraps) {
      const { keyArn } = wrap;
      if (options.keyArn !== undefined && options.keyArn !== keyArn) continue;
      const kmsKey = await options.kmsKey(keyArn);
      if (!newest.has(keyArn)) newest.set(keyArn, await newestMaterial(kmsKey, options.signal));
      const asked = options.askKms
        ? await reEncryptOnSameKey(kmsKey, wrap.ciphertextBlob, encryptionContextOf(head), options.signal)
        : undefined;
      ages.push({ folder, name, version, keyArn, ...ageOf(wrap, newest.get(keyArn), asked?.fromMaterial) });
    }
  }
  return ages;
}

function ageOf(
  { label }: KeyWrap,
  newest: string | undefined,
  told: string | undefined,
): Pick<WrapAge, 'wrappedAt' | 'material' | 'knownFrom' | 'due'> {
  const note = readWrapNote(label);
  const material = told === undefined ? note?.material : shortMaterial(told);
  return {
    ...(note === undefined ? {} : { wrappedAt: note.at.toISOString() }),
    ...(material === undefined ? {} : { material }),
    knownFrom: told !== undefined ? 'kms' : material !== undefined ? 'label' : 'nothing',
    due: material === undefined || newest === undefined ? 'unknown' : material !== shortMaterial(newest),
  };
}
