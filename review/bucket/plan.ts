/** What would have to change for a bucket to be as a bucket of sealed models should be. Pure, and empty where it is. */

import { mergePolicy } from './policy-statements.ts';
import type { BucketSnapshot, Seen } from './snapshot.ts';

export interface BucketWish {
  /** ARN of the key for encryption at rest. */
  readonly kmsKey: string;
  readonly tls: '1.2' | '1.3';
  /** Undefined leaves Object Lock as it is. */
  readonly objectLock?: { readonly mode: 'GOVERNANCE' | 'COMPLIANCE'; readonly days: number };
}

/** One call that changes something. */
export interface PlanStep {
  readonly setting:
    | 'publicAccessBlock'
    | 'ownership'
    | 'versioning'
    | 'encryption'
    | 'lifecycle'
    | 'objectLock'
    | 'policy';
  readonly is: string;
  readonly wouldBe: string;
  /** The whole new policy. */
  readonly policy?: string;
}

export interface BucketPlan {
  readonly steps: readonly PlanStep[];
  /** Settings that could not be seen, and so cannot be planned. */
  readonly unseen: readonly { readonly setting: string; readonly why: string }[];
}

export const ABORT_UPLOADS_AFTER_DAYS = 7;
const UNFINISHED = `unfinished uploads end after ${ABORT_UPLOADS_AFTER_DAYS} days`;

/**
 * In the order in which the steps are to be made: what holds strangers off first; Object Lock after versioning, which
 * it needs; the policy last, because it is what others may trip over. Throws PolicyError.
 */
export function planBucket(snapshot: BucketSnapshot, wish: BucketWish): BucketPlan {
  const steps: PlanStep[] = [];
  const unseen: { setting: string; why: string }[] = [];
  const plan = <T>(
    setting: PlanStep['setting'],
    part: Seen<T>,
    step: (value: T) => Omit<PlanStep, 'setting'> | undefined,
  ): void => {
    if (!part.seen) {
      unseen.push({ setting, why: part.why });
      return;
    }
    const found = step(part.value);
    if (found !== undefined) steps.push({ setting, ...found });
  };

  plan('publicAccessBlock', snapshot.publicAccessBlock, (block) => {
    const off = Object.entries(block).filter(([, on]) => !on);
    return off.length === 0
      ? undefined
      : { is: `off: ${off.map(([name]) => name).join(', ')}`, wouldBe: 'all on' };
  });
  plan('ownership', snapshot.ownership, (ownership) =>
    ownership === 'BucketOwnerEnforced'
      ? undefined
      : { is: ownership ?? 'not set', wouldBe: 'BucketOwnerEnforced (access control lists off)' },
  );
  plan('versioning', snapshot.versioning, ({ enabled }) =>
    enabled ? undefined : { is: 'off or suspended', wouldBe: 'on' },
  );
  plan('encryption', snapshot.encryption, ({ algorithm, key, bucketKey, blocked }) => {
    const isSo = algorithm === 'aws:kms' && key === wish.kmsKey && bucketKey && blocked.includes('SSE-C');
    if (isSo) return undefined;
    const is = [
      key === undefined ? algorithm : `${algorithm} with ${key}`,
      `bucket key ${bucketKey ? 'on' : 'off'}`,
      blocked.length === 0 ? 'nothing blocked' : `${blocked.join(', ')} blocked`,
    ];
    return { is: is.join(', '), wouldBe: `aws:kms with ${wish.kmsKey}, bucket key on, SSE-C blocked` };
  });
  plan('lifecycle', snapshot.lifecycle, (rules) => {
    const covered = rules.some(
      ({ enabled, prefix, abortsUploadsAfterDays }) =>
        enabled && prefix === '' && abortsUploadsAfterDays !== undefined,
    );
    return covered
      ? undefined
      : { is: `${rules.length} rules, none for unfinished uploads`, wouldBe: UNFINISHED };
  });
  const lock = wish.objectLock;
  if (lock !== undefined) {
    plan('objectLock', snapshot.objectLock, (found) => {
      const retention = `${lock.days} days`;
      if (found?.mode === lock.mode && found.retention === retention) return undefined;
      return {
        is:
          found === undefined
            ? 'off'
            : `${found.mode ?? 'no default retention'} ${found.retention ?? ''}`.trim(),
        wouldBe: `${lock.mode} ${retention}; once on it cannot be turned off`,
      };
    });
  }
  plan('policy', snapshot.policy, (policy) => {
    const merge = mergePolicy(policy, { bucket: snapshot.bucket, kmsKey: wish.kmsKey, tls: wish.tls });
    if (merge.policy === undefined) return undefined;
    const changes = [
      ...(merge.added.length > 0 ? [`with ${merge.added.join(', ')}`] : []),
      ...(merge.replaced.length > 0 ? [`with another ${merge.replaced.join(', ')}`] : []),
      `${merge.kept} statements of yours stay`,
    ];
    return {
      is: policy === undefined ? 'none' : `${merge.kept + merge.replaced.length} statements`,
      wouldBe: changes.join('; '),
      policy: merge.policy,
    };
  });
  return { steps, unseen };
}
