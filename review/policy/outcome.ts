/** What a report comes to, as an exit code (docs/policy-review.md section 3). */
import { rank } from './findings/collect.ts';
import type { PolicyReviewReport, Severity } from './report.ts';

/** 0: only this image. 1: findings. 2: the document must be refused. 3: cannot be decided. */
export function exitCodeOf(report: PolicyReviewReport, failOn: Severity): 0 | 1 | 2 | 3 {
  const { verdict, findings, suppressions } = report;
  if (verdict === 'MALFORMED') return 2;
  if (verdict === 'AMBIGUOUS') return 3;
  const holds = verdict === 'ONLY_IMAGE' || verdict === 'ONLY_IMAGE_IF_ADMINS_TRUSTED';
  const failing = findings.some(({ severity }) => rank(severity) <= rank(failOn));
  const expired = suppressions.some(({ state }) => state === 'expired');
  return holds && !failing && !expired ? 0 : 1;
}
