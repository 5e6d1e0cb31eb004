/**
 * Another wrap of a model's data key (docs/owner.md). Weights, head, content id, signature and PCR16 stay: key.json
 * alone changes, at once or not at all.
 *
 * Within a KMS key, KMS does it (`ReEncrypt`, on the same key, so that no policy has to let anybody carry data keys
 * elsewhere) and nobody sees the data key. To another KMS key, the owner does it with their own wrap of the data key,
 * which is held against the head's commitment first. The encryption context is computed from the head either way.
 */
import type { KeyObject } from 'node:crypto';
import { encryptionContextOf, type Head } from '../../shared/sealed-model/head.ts';
import {
  expectKeyFileOf,
  type KeyFile,
  type KeyWrap,
  parseKeyFile,
} from '../../shared/sealed-model/key-file.ts';
import { encodeKeyFile } from '../../shared/sealed-model/key-file-write.ts';
import { type DataKeySource, withDataKey } from '../data-key.ts';
import { checkKmsKey, expectWrappable, type KmsKey, reEncryptOnSameKey, wrapWithKms } from '../kms.ts';
import { expectNotAborted } from '../spool.ts';
import { DataKeyError } from './errors.ts';
import type { SealedPlace } from './sealed-place.ts';
import { type DeploymentVerdict, expectNotStranded, type NamedDeployment } from './stranding.ts';
import { noteWrap, readWrapNote, shortMaterial } from './wrap-label.ts';

/** What to do with the wraps. Those that are not named stay as they are. */
export type WrapChange =
  /** Under the same keys, to their newest material: all wraps, or those under the keys named. */
  | { readonly kind: 'renew'; readonly keyArns?: readonly string[] | undefined }
  /** Adds wraps made of the owner's own wrap, drops others, or both. */
  | {
      readonly kind: 'move';
      readonly to: readonly string[];
      readonly remove: readonly string[];
      /** Needed with `to`. */
      readonly key?: DataKeySource | undefined;
    };

export interface Rewrap {
  readonly place: SealedPlace;
  readonly change: WrapChange;
  /** Whose signature the manifest must bear, if anybody's. */
  readonly signer?: KeyObject | undefined;
  readonly kmsKey: (keyArn: string) => Promise<KmsKey>;
  /** Whatever runs or will run this model. `none` says that nothing does. */
  readonly deployments: readonly NamedDeployment[] | 'none';
  readonly now: () => Date;
  /** Also asks KMS where the label says that a wrap is of the newest material already. */
  readonly again?: boolean;
  readonly signal?: AbortSignal | undefined;
}

export interface WrapOutcome {
  readonly keyArn: string;
  /** `current`: its label says that it is of the key's newest material, so nothing was done. */
  readonly outcome: 'renewed' | 'added' | 'current' | 'kept' | 'removed';
  /** First digits of the ids of the KMS key's materials, as far as KMS told them. */
  readonly fromMaterial?: string;
  readonly toMaterial?: string;
}

export interface RewrapResult {
  /** A path, or s3://BUCKET/PREFIX/NAME.sealed. */
  readonly folder: string;
  readonly name: string;
  readonly version: number;
  /** The same before and after. */
  readonly contentId: string;
  /** Whether key.json was replaced. */
  readonly changed: boolean;
  readonly wraps: readonly WrapOutcome[];
  readonly deployments: readonly DeploymentVerdict[];
}

interface Changed {
  readonly wraps: readonly KeyWrap[];
  readonly outcomes: readonly WrapOutcome[];
}

/**
 * Throws DataKeyError, OwnerError, PublishError, SealedModelError, or the file system's error; then key.json is as it was,
 * but where a store lost the answer to the very last request.
 */
export async function rewrapModel(request: Rewrap): Promise<RewrapResult> {
  const { place, change, signal } = request;
  if (change.kind === 'move') expectWrappable([...change.to, ...change.remove]);
  if (change.kind === 'move' && change.remove.length > 0 && request.deployments !== 'none') {
    if (request.deployments.length === 0) {
      throw new DataKeyError('REWRAP_UNCHECKED', `Removing a wrap of ${place.name} needs its deployments.`);
    }
  }
  const head = await place.readHead(request.signer);
  await using claim = await place.claimKeyFile();
  const before = wrapsOf(await claim.read(), head);
  const planned = plannedKeys(change, before);
  const known = request.deployments === 'none' ? [] : request.deployments;
  // Before KMS is asked for anything: what would be refused in the end should leave no trace there.
  const deployments = expectNotStranded(
    head,
    { before: before.map(({ keyArn }) => keyArn), after: planned },
    known,
  );
  const { wraps, outcomes } = await (change.kind === 'renew'
    ? renewed(request, head, before)
    : moved(request, change, head, before));
  expectNotAborted(signal);
  const changed = outcomes.some(({ outcome }) => outcome !== 'current' && outcome !== 'kept');
  if (changed) await claim.replace(encodeKeyFile({ context: head.context, wraps }));
  return {
    folder: place.name,
    name: head.identity.name,
    version: head.identity.version,
    contentId: Buffer.from(head.contentId).toString('hex'),
    changed,
    wraps: outcomes,
    deployments,
  };
}

/** A model whose owner keeps the key need not have a key.json yet. */
function wrapsOf(bytes: Uint8Array | undefined, head: Head): KeyFile['wraps'] {
  if (bytes === undefined) return [];
  const keyFile = parseKeyFile(bytes);
  expectKeyFileOf(head, keyFile);
  return keyFile.wraps;
}

/** The keys that the model will have wraps under. Throws REWRAP_NO_SUCH_WRAP, REWRAP_WOULD_STRAND. */
function plannedKeys(change: WrapChange, before: readonly KeyWrap[]): readonly string[] {
  const own = before.map(({ keyArn }) => keyArn);
  const named = change.kind === 'renew' ? (change.keyArns ?? own) : change.remove;
  const absent = named.find((arn) => !own.includes(arn));
  if (absent !== undefined || (change.kind === 'renew' && own.length === 0)) {
    throw new DataKeyError(
      'REWRAP_NO_SUCH_WRAP',
      `Expected a wrap under ${absent ?? 'some KMS key'}, found ${own.join(', ') || 'none'}.`,
    );
  }
  if (change.kind === 'renew') return own;
  const after = [...new Set([...own, ...change.to])].filter((arn) => !change.remove.includes(arn));
  if (after.length === 0) {
    throw new DataKeyError(
      'REWRAP_WOULD_STRAND',
      'No wrap would be left, and no enclave could open the model. To shred it, delete the model and the recovery wrap.',
    );
  }
  expectWrappable(after);
  return after;
}

async function renewed(request: Rewrap, head: Head, before: readonly KeyWrap[]): Promise<Changed> {
  const keyArns = request.change.kind === 'renew' ? request.change.keyArns : undefined;
  const context = encryptionContextOf(head);
  const renew = async (wrap: KeyWrap): Promise<{ wrap: KeyWrap; outcome: WrapOutcome }> => {
    const { keyArn } = wrap;
    if (keyArns !== undefined && !keyArns.includes(keyArn)) {
      return { wrap, outcome: { keyArn, outcome: 'kept' } };
    }
    const kmsKey = await request.kmsKey(keyArn);
    const newest = await checkKmsKey(kmsKey, request.signal);
    if (isCurrent(request, wrap, newest)) return { wrap, outcome: { keyArn, outcome: 'current' } };
    const { ciphertextBlob, fromMaterial, toMaterial } = await reEncryptOnSameKey(
      kmsKey,
      wrap.ciphertextBlob,
      context,
      request.signal,
    );
    return {
      wrap: { ...wrap, ciphertextBlob, label: noteWrap(wrap.label, request.now(), toMaterial) },
      outcome: {
        keyArn,
        outcome: 'renewed',
        ...(fromMaterial === undefined ? {} : { fromMaterial: shortMaterial(fromMaterial) }),
        ...(toMaterial === undefined ? {} : { toMaterial: shortMaterial(toMaterial) }),
      },
    };
  };
  const done = await Promise.all(before.map(renew));
  return { wraps: done.map(({ wrap }) => wrap), outcomes: done.map(({ outcome }) => outcome) };
}

async function moved(
  request: Rewrap,
  { to, remove, key }: WrapChange & { readonly kind: 'move' },
  head: Head,
  before: readonly KeyWrap[],
): Promise<Changed> {
  const checked = await Promise.all(
    to.map(async (keyArn) => {
      const kmsKey = await request.kmsKey(keyArn);
      const newest = await checkKmsKey(kmsKey, request.signal);
      const old = before.find((wrap) => wrap.keyArn === keyArn);
      return { kmsKey, newest, old, isDone: old !== undefined && isCurrent(request, old, newest) };
    }),
  );
  const fresh = new Map<string, KeyWrap>();
  const wanted = checked.filter(({ isDone }) => !isDone);
  if (wanted.length > 0) {
    if (key === undefined) throw new TypeError('a wrap under another KMS key needs the data key');
    await withDataKey(request.place.recoveryBeside, head, key, async (dataKey) => {
      const context = encryptionContextOf(head);
      for (const { kmsKey, newest, old } of wanted) {
        const wrap = await wrapWithKms(kmsKey, dataKey, context, request.signal);
        fresh.set(kmsKey.keyArn, { ...wrap, label: noteWrap(old?.label, request.now(), newest) });
      }
    });
  }
  const kept = before.filter(({ keyArn }) => !remove.includes(keyArn));
  const added = [...fresh.values()].filter(({ keyArn }) => !kept.some((wrap) => wrap.keyArn === keyArn));
  const outcomeOf = ({ keyArn }: KeyWrap): WrapOutcome => {
    const toMaterial = readWrapNote(fresh.get(keyArn)?.label)?.material;
    return {
      keyArn,
      outcome: fresh.has(keyArn) ? 'added' : to.includes(keyArn) ? 'current' : 'kept',
      ...(toMaterial === undefined ? {} : { toMaterial }),
    };
  };
  const wraps = [...kept.map((wrap) => fresh.get(wrap.keyArn) ?? wrap), ...added];
  return {
    wraps,
    outcomes: [
      ...wraps.map(outcomeOf),
      ...remove.map((keyArn): WrapOutcome => ({ keyArn, outcome: 'removed' })),
    ],
  };
}

/** By its label, so by a claim: skipping a wrap wrongly only leaves it as old as it was. */
function isCurrent({ again }: Rewrap, { label }: KeyWrap, newestMaterial: string | undefined): boolean {
  if (again === true || newestMaterial === undefined) return false;
  return readWrapNote(label)?.material === shortMaterial(newestMaterial);
}
