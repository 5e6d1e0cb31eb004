/**
 * The same weights under a new data key: for a data key that leaked, or may have (docs/owner.md). The old model is
 * opened strictly in memory and sealed anew as it comes, so no plaintext touches a disk; result is another content
 * id, and so another manifest to sign. The old model stays as it is until the new one is whole and on the disk.
 *
 * Whoever has the old data key could have made another model that it opens. So the old one must be vouched for by
 * something that the key does not give: its signature, or the content id that the owner wrote down. And the keys that
 * wrap the new data key are the caller's to name; key.json, which nobody signs, is not asked.
 */
import { type KeyObject, timingSafeEqual } from 'node:crypto';
import { resolve } from 'node:path';
import type { ChunkSizes } from '../../shared/sealed-model/format.ts';
import type { Head } from '../../shared/sealed-model/head.ts';
import type { ModelIdentity } from '../../shared/sealed-model/identity.ts';
import {
  expectHeadOf,
  expectStatementOf,
  type ManifestFields,
  parseEnvelope,
  parseStatement,
  verifyManifest,
} from '../../shared/sealed-model/manifest.ts';
import { type DataKeySource, withDataKey } from '../data-key.ts';
import type { KmsKey } from '../kms.ts';
import type { Leftover } from '../leftovers.ts';
import { nextOf, recoveryFileOf } from '../recovery.ts';
import { type SealResult, sealToFolder } from '../seal-model.ts';
import { readHead, readSealedPart } from '../sealed-folder.ts';
import { KeyFileClaim } from './claim.ts';
import { DataKeyError } from './errors.ts';
import { openedPlaintext } from './opened-plaintext.ts';
import { expectReplaceable, replaceByNext, settleReplacement } from './replace-folder.ts';

export interface Reseal {
  /** The old model. */
  readonly folder: string;
  readonly key: DataKeySource;
  /** Who or what says that it is the right one. */
  readonly vouchedBy:
    | { readonly kind: 'signer'; readonly publicKey: KeyObject }
    | { readonly kind: 'content'; readonly contentId: string };
  /** The folder to create, or `replace`: the new model takes the old one's place and the old one is deleted. */
  readonly out: string | 'replace';
  readonly kmsKeys: readonly KmsKey[];
  /** Public. */
  readonly recoveryKey?: KeyObject | undefined;
  /** 32 bytes that the owner keeps; fresh ones are made and wiped without it. */
  readonly dataKey?: Uint8Array | undefined;
  readonly signer?: KeyObject | undefined;
  /** The old one's, unless given. */
  readonly version?: number | undefined;
  readonly versionLabel?: string | undefined;
  readonly sizes?: ChunkSizes | undefined;
  readonly now: () => Date;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((doneBytes: number, totalBytes?: number) => void) | undefined;
  readonly onLeftover?: ((leftover: Leftover) => void) | undefined;
}

export interface ResealResult extends SealResult {
  readonly oldContentId: string;
  readonly replaced: boolean;
}

/** Throws DataKeyError, OwnerError, SealedModelError, or the file system's error; then the old model is as it was. */
export async function resealFolder(request: Reseal): Promise<ResealResult> {
  const { folder, out } = request;
  if (out !== 'replace') return await seal(request, out);
  await expectReplaceable(folder);
  await using _claim = await KeyFileClaim.make(folder, request.onLeftover); // goes with the old folder
  await settleReplacement(folder);
  const sealed = await seal(request, nextOf(folder));
  await replaceByNext(folder);
  const recoveryFile = sealed.recoveryFile === undefined ? undefined : recoveryFileOf(resolve(folder));
  return { ...sealed, folder, recoveryFile, replaced: true };
}

async function seal(request: Reseal, out: string): Promise<ResealResult> {
  const { folder, key, recoveryKey, dataKey, signer, onProgress } = request;
  const head = await readHead(folder);
  const old = await expectVouched(request, head);
  return withDataKey(folder, head, key, async (oldDataKey, unlocked) => {
    if (
      dataKey !== undefined &&
      dataKey.length === oldDataKey.length &&
      timingSafeEqual(dataKey, oldDataKey)
    ) {
      throw new DataKeyError('RESEAL_SAME_KEY', `${folder} is sealed under this very data key.`);
    }
    const sealed = await sealToFolder({
      identity: identityOf(request, head),
      input: { kind: 'opened', open: () => openedPlaintext(folder, unlocked) },
      out,
      kmsKeys: request.kmsKeys,
      ...(recoveryKey === undefined ? {} : { recoveryKey }),
      ...(dataKey === undefined ? {} : { dataKey }),
      ...(signer === undefined ? {} : { signer }),
      expectSealed: ({ files }) => expectSameFiles(old.files, files),
      now: request.now,
      ...(request.signal === undefined ? {} : { signal: request.signal }),
      onProgress: (_phase, doneBytes, totalBytes) => onProgress?.(doneBytes, totalBytes),
      ...(request.onLeftover === undefined ? {} : { onLeftover: request.onLeftover }),
      ...(request.sizes === undefined ? {} : { sizes: request.sizes }),
    });
    return { ...sealed, oldContentId: hex(head.contentId), replaced: false };
  });
}

/** Resolves to what the old manifest says. Throws RESEAL_NOT_THE_MODEL, and what reading the manifest throws. */
async function expectVouched({ folder, vouchedBy }: Reseal, head: Head): Promise<ManifestFields> {
  if (vouchedBy.kind === 'content') {
    if (hex(head.contentId) === vouchedBy.contentId) {
      const fields = parseStatement(parseEnvelope(await readSealedPart(folder, 'manifest.json')).payload);
      expectStatementOf(fields, head);
      return fields;
    }
    throw new DataKeyError(
      'RESEAL_NOT_THE_MODEL',
      `Expected content id ${vouchedBy.contentId}, found ${hex(head.contentId)} in ${folder}.`,
    );
  }
  const bytes = await readSealedPart(folder, 'manifest.json');
  try {
    const manifest = verifyManifest(bytes, vouchedBy.publicKey);
    expectHeadOf(manifest, head);
    return manifest;
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new DataKeyError('RESEAL_NOT_THE_MODEL', `${folder} is not what the signer signed: ${why}`, cause);
  }
}

/** The digests were computed when the old model was sealed: nothing between then and now can have gone wrong unseen. */
function expectSameFiles(old: ManifestFields['files'], now: ManifestFields['files']): void {
  const same = (file: ManifestFields['files'][number], index: number): boolean => {
    const other = now[index];
    return other?.path === file.path && other.sizeBytes === file.sizeBytes && other.sha256 === file.sha256;
  };
  if (old.length === now.length && old.every(same)) return;
  throw new DataKeyError(
    'RESEAL_DIFFERENT',
    'A file came out with another SHA-256 than the old manifest states for it; the new model was discarded.',
  );
}

function identityOf({ version, versionLabel }: Reseal, { identity }: Head): ModelIdentity {
  const label = versionLabel ?? (version === undefined ? identity.versionLabel : undefined);
  return {
    name: identity.name,
    format: identity.format,
    version: version ?? identity.version,
    ...(label === undefined ? {} : { versionLabel: label }),
  };
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
