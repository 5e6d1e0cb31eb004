import { PolicyError } from '../../shared/policy/errors.ts';
import type { Policy } from '../../shared/policy/model.ts';
import { parsePolicy } from '../../shared/policy/parse.ts';
import { type Answer, unknown } from './finding.ts';
import { Prober, TooManyConditions } from './probes.ts';
import type { BucketSnapshot, Seen } from './snapshot.ts';

/** A snapshot with its policy read; what every check is given. */
export interface AuditContext {
  readonly snapshot: BucketSnapshot;
  /** Undefined while the policy could not be read or understood: `policyFault` says why. */
  readonly prober: Prober | undefined;
  readonly policyFault: string | undefined;
  readonly hasPolicy: boolean;
}

export function auditContext(snapshot: BucketSnapshot): AuditContext {
  const { policy, bucket, accountId } = snapshot;
  const broken = (policyFault: string): AuditContext => ({
    snapshot,
    prober: undefined,
    policyFault,
    hasPolicy: true,
  });
  if (!policy.seen) return broken(`the bucket policy could not be read: ${policy.why}`);
  let parsed: Policy | undefined;
  try {
    if (policy.value !== undefined) parsed = parsePolicy(Buffer.from(policy.value), 'bucket');
  } catch (error) {
    if (!(error instanceof PolicyError)) throw error;
    return broken(`the bucket policy cannot be understood without doubt: ${error.message}`);
  }
  const prober = new Prober(parsed, bucket, accountId);
  return { snapshot, prober, policyFault: undefined, hasPolicy: parsed !== undefined };
}

/** For checks that ask the policy engine. */
export function withPolicy({ prober, policyFault }: AuditContext, ask: (prober: Prober) => Answer): Answer {
  if (prober === undefined) return unknown(policyFault ?? 'the bucket policy could not be read');
  try {
    return ask(prober);
  } catch (error) {
    if (error instanceof TooManyConditions) return unknown(error.message);
    throw error;
  }
}

/** For checks of one part of the configuration. */
export function withSeen<T>(part: Seen<T>, judge: (value: T) => Answer): Answer {
  return part.seen ? judge(part.value) : unknown(`could not be read: ${part.why}`);
}
