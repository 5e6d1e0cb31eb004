/** The recorded review, as far as it is compared: the rest of it is for people. */
import { parseStrictJson } from '../../shared/json.ts';
import { EvidenceBundleError } from './errors.ts';
import { largestOf } from './members.ts';

export interface RecordedReview {
  readonly verdict: string;
  readonly severity: string;
  readonly policySha256: string;
}

/** Throws EvidenceBundleError BUNDLE_MALFORMED. */
export function readRecordedReview(bytes: Uint8Array): RecordedReview {
  const report = record(readJson(bytes), 'it is no JSON object');
  const schema = record(report.schema, 'it names no schema');
  if (schema.name !== 'strongroom-policy-review') throw malformed('its schema is not that of a review');
  const policy = record(report.policy, 'it names no policy');
  const { verdict, severity } = report;
  if (typeof verdict !== 'string' || typeof severity !== 'string' || typeof policy.sha256 !== 'string') {
    throw malformed('it lacks a verdict, a severity, or the digest of the policy');
  }
  return { verdict, severity, policySha256: policy.sha256 };
}

function record(value: unknown, why: string): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw malformed(why);
  return value as Readonly<Record<string, unknown>>;
}

function readJson(bytes: Uint8Array): unknown {
  try {
    return parseStrictJson(bytes, { maxBytes: largestOf('policy-review.json') as number }).value;
  } catch (cause) {
    throw malformed(cause instanceof Error ? cause.message : 'it is not strict JSON', cause);
  }
}

function malformed(why: string, cause?: unknown): EvidenceBundleError {
  return new EvidenceBundleError('BUNDLE_MALFORMED', `policy-review.json is refused: ${why}.`, cause);
}
