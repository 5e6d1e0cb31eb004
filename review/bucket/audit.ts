/** The audit of a bucket: every check, asked of one snapshot. Pure; docs/publishing.md has the table of checks. */
import { accessChecks } from './checks-access.ts';
import { encryptionChecks } from './checks-encryption.ts';
import { keepingChecks } from './checks-keeping.ts';
import { objectChecks } from './checks-objects.ts';
import { transportChecks } from './checks-transport.ts';
import { auditContext } from './context.ts';
import type { Check, Finding, Outcome } from './finding.ts';
import type { BucketSnapshot } from './snapshot.ts';

const ASKED = [...transportChecks, ...encryptionChecks, ...accessChecks, ...keepingChecks, ...objectChecks];

export const BUCKET_CHECKS: readonly Check[] = ASKED;

export interface AuditReport {
  readonly format: 'strongroom-bucket-audit/1';
  readonly bucket: string;
  readonly accountId: string;
  readonly verdict: string;
  readonly counts: Readonly<Record<Outcome, number>>;
  readonly findings: readonly Finding[];
}

export function auditBucket(snapshot: BucketSnapshot): AuditReport {
  const context = auditContext(snapshot);
  const findings = ASKED.map(({ judge, ...check }): Finding => ({ ...check, ...judge(context) }));
  const count = (outcome: Outcome): number => findings.filter((one) => one.outcome === outcome).length;
  const counts = {
    PASS: count('PASS'),
    FAIL: count('FAIL'),
    WARNING: count('WARNING'),
    MANUAL: count('MANUAL'),
    UNKNOWN: count('UNKNOWN'),
  };
  return {
    format: 'strongroom-bucket-audit/1',
    bucket: snapshot.bucket,
    accountId: snapshot.accountId,
    verdict: verdictOf(snapshot.bucket, counts),
    counts,
    findings,
  };
}

function verdictOf(bucket: string, { FAIL, WARNING, UNKNOWN }: AuditReport['counts']): string {
  const checks = (count: number) => `${count} ${count === 1 ? 'check' : 'checks'}`;
  const undecided = UNKNOWN === 0 ? '' : ` ${checks(UNKNOWN)} could not be decided.`;
  if (FAIL > 0) return `${bucket} is not as it should be: ${checks(FAIL)} failed.${undecided}`;
  if (UNKNOWN > 0) return `Whether ${bucket} is as it should be cannot be said.${undecided}`;
  const warnings = WARNING === 0 ? '' : `, with ${WARNING} ${WARNING === 1 ? 'warning' : 'warnings'}`;
  return `${bucket} passed every check that can be made from outside${warnings}.`;
}

/** 0 nothing failed, 1 something did, 3 something could not be decided (and nothing failed). */
export function exitCodeOf({ counts }: AuditReport, failOnWarning: boolean): 0 | 1 | 3 {
  if (counts.FAIL > 0 || (failOnWarning && counts.WARNING > 0)) return 1;
  return counts.UNKNOWN > 0 ? 3 : 0;
}
