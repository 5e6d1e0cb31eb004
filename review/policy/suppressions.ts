/**
 * Findings that somebody decided to live with (docs/policy-review.md section 6): in a file of their own, with a reason, an
 * owner and a day on which they end. They never change the verdict, and every report repeats them.
 */
import { codeOf } from '../../shared/errors.ts';
import { type JsonObject, parseStrictJson } from '../../shared/json.ts';
import { ReviewError } from '../errors.ts';
import { FINDING_RULES, type FindingCode } from './codes.ts';
import type { AppliedSuppression, Finding } from './report.ts';

export interface Suppression {
  readonly code: FindingCode;
  /** Sid or index; absent: wherever the code is found. */
  readonly statement?: string | number;
  readonly reason: string;
  readonly owner: string;
  /** `2027-01-31`: the last day on which it counts. */
  readonly expires: string;
}

const MAX_BYTES = 1024 * 1024;
const MEMBERS = ['code', 'statement', 'reason', 'owner', 'expires'];

/** `{"suppressions": [...]}`. Throws ReviewError REVIEW_SUPPRESSIONS. */
export function parseSuppressions(bytes: Uint8Array): Suppression[] {
  let value: unknown;
  try {
    value = parseStrictJson(bytes, { maxBytes: MAX_BYTES }).value;
  } catch (cause) {
    if (codeOf(cause) === undefined) throw cause;
    throw refused((cause as Error).message, cause);
  }
  const { suppressions, ...others } = (isObject(value) ? value : {}) as JsonObject;
  if (!Array.isArray(suppressions) || Object.keys(others).length > 0) {
    throw refused('expected {"suppressions": […]} and nothing else');
  }
  return suppressions.map(readSuppression);
}

function readSuppression(entry: unknown, index: number): Suppression {
  const where = `suppression ${index + 1}`;
  if (!isObject(entry)) throw refused(`${where}: expected an object`);
  const unknown = Object.keys(entry).find((name) => !MEMBERS.includes(name));
  if (unknown !== undefined) throw refused(`${where}: unknown member ${JSON.stringify(unknown)}`);
  const { code, statement, reason, owner, expires } = entry;
  if (typeof code !== 'string' || !Object.hasOwn(FINDING_RULES, code)) {
    throw refused(`${where}: expected the code of a finding, found ${JSON.stringify(code)}`);
  }
  for (const [name, text] of Object.entries({ reason, owner })) {
    if (typeof text !== 'string' || text.trim() === '') throw refused(`${where}: expected a ${name}`);
  }
  if (typeof expires !== 'string' || !isDay(expires)) {
    throw refused(`${where}: expected the day on which it expires, such as "2027-01-31"`);
  }
  if (statement !== undefined && typeof statement !== 'string' && !Number.isSafeInteger(statement)) {
    throw refused(`${where}: expected a Sid or an index as statement`);
  }
  return {
    code: code as FindingCode,
    ...(statement === undefined ? {} : { statement: statement as string | number }),
    reason: reason as string,
    owner: owner as string,
    expires,
  };
}

function isDay(text: string): boolean {
  if (!/^\d{4}-\d\d-\d\d$/.test(text)) return false;
  const at = new Date(`${text}T00:00:00Z`);
  return !Number.isNaN(at.getTime()) && at.toISOString().startsWith(text);
}

export function applySuppressions(
  findings: readonly Finding[],
  suppressions: readonly Suppression[],
  now: Date,
): { readonly findings: readonly Finding[]; readonly suppressions: readonly AppliedSuppression[] } {
  const day = now.toISOString().slice(0, 10);
  const suppressed = new Set<Finding>();
  const applied = suppressions.map(({ code, statement, reason, owner, expires }): AppliedSuppression => {
    const base = { code, statement: statement ?? null, reason, owner, expires };
    if (expires < day) return { ...base, state: 'expired', findings: [] };
    const matching = findings.filter(
      (finding) =>
        finding.code === code &&
        (statement === undefined || finding.statement === statement || finding.location?.index === statement),
    );
    for (const finding of matching) suppressed.add(finding);
    return { ...base, state: matching.length > 0 ? 'applied' : 'unused', findings: matching };
  });
  return { findings: findings.filter((finding) => !suppressed.has(finding)), suppressions: applied };
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function refused(message: string, cause?: unknown): ReviewError {
  return new ReviewError('REVIEW_SUPPRESSIONS', message, cause);
}
