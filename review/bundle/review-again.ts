/** The review of the bundled policy: the same one for whoever makes a bundle and for whoever checks it. */
import { exitCodeOf } from '../policy/outcome.ts';
import type { PolicyReviewReport } from '../policy/report.ts';
import { reviewPolicy } from '../policy/review.ts';
import { parseSupplied } from '../policy/supplied.ts';
import { parseSuppressions } from '../policy/suppressions.ts';
import type { Registers } from '../registers.ts';
import { nameOfRelease, type Release } from '../releases.ts';
import { sha256Of } from './bundle-index.ts';

export interface AskedReview {
  readonly policy: Uint8Array;
  /** Of the image, and PCR16 of the deployment. */
  readonly registers: Registers;
  readonly hostRoleArn: string | undefined;
  readonly keyArn: string | undefined;
  readonly context: Uint8Array | undefined;
  readonly suppressions: Uint8Array | undefined;
  readonly release: Release | undefined;
  /** Suppressions have a last day, and conditions of a policy may have dates. */
  readonly at: Date;
}

export interface ReviewedAgain {
  readonly report: PolicyReviewReport;
  /** 0: a yes. */
  readonly exitCode: number;
}

/** Throws ReviewError for context and suppressions that it cannot read. */
export function reviewAgain(asked: AskedReview): ReviewedAgain {
  const { policy, registers, hostRoleArn, keyArn, context, suppressions, release, at } = asked;
  const files = { policy, context, suppressions };
  const report = reviewPolicy({
    policy: { name: 'policy.json', bytes: policy },
    reviewed: [{ name: 'the reviewed image', registers: named(registers) }],
    ...(hostRoleArn !== undefined && { hostRoleArns: [hostRoleArn] }),
    ...(keyArn !== undefined && { keyArn }),
    ...(context !== undefined && { supplied: parseSupplied(context) }),
    ...(suppressions !== undefined && { suppressions: parseSuppressions(suppressions) }),
    ...(release !== undefined && { releases: new Map([[nameOfRelease(release), pcrsOf(release)]]) }),
    now: at,
    inputs: Object.entries(files).flatMap(([kind, bytes]) =>
      bytes === undefined ? [] : [{ kind, name: `${kind}.json`, sha256: sha256Of(bytes) }],
    ),
  });
  return { report, exitCode: exitCodeOf(report, 'high') };
}

function named(registers: Registers): Record<string, string> {
  return Object.fromEntries([...registers].map(([index, value]) => [`pcr${index}`, value]));
}

function pcrsOf({ pcrs }: Release): Record<string, string> {
  return Object.fromEntries(Object.entries(pcrs).map(([index, value]) => [`pcr${index}`, String(value)]));
}
