/** The labelled policies, and a short way to review one. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Finding, PolicyReviewReport } from '../../../review/policy/report.ts';
import { type PolicyReviewRequest, reviewPolicy } from '../../../review/policy/review.ts';
import { parseSupplied } from '../../../review/policy/supplied.ts';

export const ACCOUNT = '111122223333';
export const KEY_ARN = `arn:aws:kms:us-east-1:${ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab`;
export const NOW = new Date('2026-11-30T12:00:00Z');

export interface LabelledFinding {
  readonly code: string;
  readonly severity: string;
  /** Sid or index; absent for the policy as a whole. */
  readonly statement?: string | number;
}

export interface LabelledPolicy {
  readonly id: string;
  readonly file: string;
  readonly title: string;
  readonly verdict: string;
  readonly severity: string;
  readonly findings: readonly LabelledFinding[];
}

export interface Labelled {
  readonly key: string;
  readonly reviewedImage: Readonly<Record<string, string>>;
  readonly vectors: readonly LabelledPolicy[];
}

export function labelled(folder: string): Labelled {
  return JSON.parse(readFileSync(join(folder, 'policies', 'expected.json'), 'utf8')) as Labelled;
}

export function registersOf(pcrs: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(pcrs).map(([name, value]) => [name.toLowerCase(), value]));
}

/** What the reviewer has of a labelled policy: its bytes, the reviewed image, and the context file if there is one. */
export function requestFor(
  folder: string,
  { key, reviewedImage }: Labelled,
  vector: LabelledPolicy,
): PolicyReviewRequest {
  const policies = join(folder, 'policies');
  const context = contextBytes(folder, vector);
  return {
    policy: { name: vector.file, bytes: readFileSync(join(policies, vector.file)) },
    reviewed: [{ name: 'the reviewed image', registers: registersOf(reviewedImage) }],
    keyArn: key,
    ...(context === undefined ? {} : { supplied: parseSupplied(context) }),
    now: NOW,
  };
}

export function contextBytes(folder: string, { id }: LabelledPolicy): Uint8Array | undefined {
  const path = join(folder, 'policies', 'context', `${id}.json`);
  return existsSync(path) ? readFileSync(path) : undefined;
}

/** Registers of an image that exists nowhere else. */
export const IMAGE = {
  pcr0: 'd9'.repeat(48),
  pcr1: 'db'.repeat(48),
  pcr2: 'f2'.repeat(48),
  pcr3: 'a4'.repeat(48),
  pcr4: 'a8'.repeat(48),
  pcr8: '56'.repeat(48),
} as const;

export type Review = Partial<Omit<PolicyReviewRequest, 'policy' | 'supplied'>> & {
  readonly version?: string | null;
  readonly context?: unknown;
  readonly image?: Readonly<Record<string, string>>;
};

/** Reviews a policy of these statements. */
export function review(
  statements: readonly object[] | object,
  { version = '2012-10-17', context, image = IMAGE, ...more }: Review = {},
): PolicyReviewReport {
  const document = { ...(version === null ? {} : { Version: version }), Statement: statements };
  return reviewText(JSON.stringify(document, null, 2), { context, image, ...more });
}

export function reviewText(
  text: string,
  { context, image = IMAGE, version: _, ...more }: Review = {},
): PolicyReviewReport {
  return reviewPolicy({
    policy: { name: 'policy.json', bytes: Buffer.from(text) },
    reviewed: [{ name: 'the reviewed image', registers: image }],
    keyArn: KEY_ARN,
    ...(context === undefined ? {} : { supplied: parseSupplied(Buffer.from(JSON.stringify(context))) }),
    now: NOW,
    ...more,
  });
}

export function codes(report: PolicyReviewReport, ...severities: readonly string[]): string[] {
  return report.findings
    .filter(({ severity }) => severities.length === 0 || severities.includes(severity))
    .map(({ code, statement }) => (statement === null ? code : `${code} @${statement}`));
}

export function isAt({ statement, location }: Finding, expected: string | number | undefined): boolean {
  if (expected === undefined) return location === null;
  return statement === expected || location?.index === expected;
}
