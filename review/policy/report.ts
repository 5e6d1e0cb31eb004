/**
 * The report of a key policy's review (docs/policy-review.md section 7): what `policy review --json` prints, and what
 * every other form of it (text, SARIF, HTML) is made from. Plain data: JSON.parse of the JSON gives the same value back.
 */
import type { FindingCode } from './codes.ts';

export const REPORT_SCHEMA = { name: 'strongroom-policy-review', version: 1 } as const;

/** Worst first (docs/policy-review.md section 3). */
export const VERDICTS = [
  'MALFORMED',
  'AMBIGUOUS',
  'PUBLIC',
  'BYPASS',
  'ANY_IMAGE',
  'DEBUG',
  'WEAK_PIN',
  'VARIABLE_PIN',
  'DELEGATED_BYPASS',
  'SERVICE_PATH',
  'DEAD',
  'DELEGATED_ESCAPE',
  'SIGNER_ONLY',
  'WRONG_IMAGE',
  'EXTRA_IMAGE',
  'OUT_OF_BAND',
  'ONLY_IMAGE_ANY_ACCOUNT',
  'ONLY_IMAGE_IF_ADMINS_TRUSTED',
  'ONLY_IMAGE',
] as const;
export type Verdict = (typeof VERDICTS)[number];

/** Worst first. */
export const SEVERITIES = ['critical', 'high', 'medium', 'low', 'info'] as const;
export type Severity = (typeof SEVERITIES)[number];

export interface PolicyReviewReport {
  readonly schema: typeof REPORT_SCHEMA;
  readonly verdict: Verdict;
  /** Of the whole policy, for somebody who relies on "only this image gets the key". */
  readonly severity: Severity;
  /** One sentence for somebody who does not read policies. */
  readonly sentence: string;
  /** Worst first, then in the order of the policy. Suppressed findings are in `suppressions`. */
  readonly findings: readonly Finding[];
  readonly matrix: Matrix;
  /** Every check, also those that found nothing. */
  readonly checks: readonly CheckPerformed[];
  readonly notSupplied: readonly NotSupplied[];
  readonly contested: readonly ContestedPoint[];
  readonly suppressions: readonly AppliedSuppression[];
  /** The document itself, for code frames. */
  readonly policy: ReviewedDocument;
  readonly reviewed: ReviewedImage;
  readonly inputs: readonly ReviewInput[];
}

export interface Finding {
  readonly code: FindingCode;
  readonly severity: Severity;
  /** Sid, or index where there is none or it is repeated; null when it is about no statement of the key policy. */
  readonly statement: string | number | null;
  readonly location: StatementLocation | null;
  /** What is wrong and what follows from it, in a sentence or two. */
  readonly why: string;
  /** A concrete request that shows it; null for what no request can show, such as spelling. */
  readonly witness: Witness | null;
  readonly remedy: Remedy;
  /** The same for the same finding in the next version of the file: rule and statement content, no line numbers. */
  readonly fingerprint: string;
}

/** Lines and columns from 1 (columns in UTF-16 units); the end is the last character's place. */
export interface StatementLocation {
  readonly index: number;
  readonly sid: string | null;
  readonly line: number;
  readonly column: number;
  readonly endLine: number;
  readonly endColumn: number;
  /** Lines of the conditions that it is about, inside the statement. */
  readonly conditionLines: readonly number[];
}

/** A request and the answer that KMS gives to it. */
export interface Witness {
  readonly principal: WitnessPrincipal;
  /** For example `kms:Decrypt`. */
  readonly action: string;
  readonly keyArn: string;
  /** Null: the call has no Recipient. */
  readonly attestation: WitnessAttestation | null;
  /** Condition keys of the request beside those that KMS derives from caller, key, document and encryption context. */
  readonly context: Readonly<Record<string, readonly string[]>>;
  readonly encryptionContext: Readonly<Record<string, string>>;
  readonly answer: 'allow' | 'deny';
  /** Which statements or grants give that answer; empty when nothing allows it. */
  readonly decidedBy: readonly DecidedBy[];
  /** What the caller does with it, where this request alone is not yet plaintext. */
  readonly then: string | null;
}

export interface WitnessPrincipal {
  /** Short, unique in the report: `role EnclaveHost`, `any role of the account with kms:* in IAM`. */
  readonly name: string;
  readonly arn: string;
  readonly sessionArn: string | null;
  readonly accountId: string;
  readonly tags: Readonly<Record<string, string>>;
  /** The IAM policies that the caller is taken to have. */
  readonly identityPolicies: readonly object[];
  /** Whether these were supplied, or are what some principal may have. */
  readonly identityPoliciesFrom: 'supplied' | 'assumed' | 'none';
}

export interface WitnessAttestation {
  /** Short, unique in the report: `the reviewed image`, `debug enclave`. */
  readonly name: string;
  readonly platform: 'enclave' | 'nitro-tpm';
  /** `PCR0` and so on (of a NitroTPM document without the prefix), lower-case hex. Registers that are not there are zero. */
  readonly registers: Readonly<Record<string, string>>;
}

export interface DecidedBy {
  /** `key policy`, `identity policy 1`, `grant ID`. */
  readonly policy: string;
  readonly statement: string | null;
  readonly line: number | null;
}

export interface Remedy {
  readonly text: string;
  /** JSON Patch (RFC 6902) of the policy document; empty where the remedy lies outside of it. */
  readonly patch: readonly PatchOperation[];
}

export type PatchOperation =
  | { readonly op: 'add' | 'replace'; readonly path: string; readonly value: unknown }
  | { readonly op: 'remove'; readonly path: string };

/** Who gets what with which evidence: rows x columns x actions. */
export interface Matrix {
  readonly principals: readonly string[];
  /** The first is `none`. */
  readonly attestations: readonly string[];
  readonly actions: readonly string[];
  /** Every combination, in that order of nesting. */
  readonly cells: readonly MatrixCell[];
}

export interface MatrixCell {
  readonly principal: string;
  readonly attestation: string;
  readonly action: string;
  readonly answer: 'allow' | 'deny';
  /** `explicit`: a Deny. `implicit`: nothing allows it. */
  readonly because: 'allow' | 'explicit-deny' | 'implicit-deny';
  readonly decidedBy: readonly DecidedBy[];
}

export interface CheckPerformed {
  /** `A` to `J` (docs/policy-review.md section 5). */
  readonly group: string;
  readonly id: string;
  readonly title: string;
  /**
   * `skipped`: not possible with what was supplied; `notSupplied` says what is missing. `failed`: of the report itself,
   * whose verdict then is AMBIGUOUS.
   */
  readonly outcome: 'passed' | 'findings' | 'skipped' | 'failed';
  /** Codes of the findings, in the order of `findings`. */
  readonly codes: readonly FindingCode[];
  /** What else came of it; may be empty. */
  readonly detail: string;
}

export interface NotSupplied {
  /** `iam-policies`, `grants`, `key-metadata`, `trust-policies`, `key-arn`, `host-role`, `deployment`, ... */
  readonly what: string;
  /** What therefore was assumed or cannot be said. */
  readonly consequence: string;
}

/** Where AWS's behaviour is not documented, or sources disagree. */
export interface ContestedPoint {
  readonly point: string;
  /** What is assumed here. */
  readonly held: string;
  readonly statement: string | number | null;
  /** The verdict under the other reading, where it differs. */
  readonly otherwise: Verdict | null;
}

export interface AppliedSuppression {
  readonly code: string;
  readonly statement: string | number | null;
  readonly reason: string;
  readonly owner: string;
  /** ISO 8601 date, the last day on which it counts. */
  readonly expires: string;
  /** `expired` and `unused` suppress nothing. */
  readonly state: 'applied' | 'expired' | 'unused';
  readonly findings: readonly Finding[];
}

export interface ReviewedDocument {
  /** As the caller named it: a file, or a key's ARN. */
  readonly name: string;
  readonly text: string;
  readonly sha256: string;
}

export interface ReviewedImage {
  /** `PCR0` and so on, lower-case hex, as far as they are known. */
  readonly registers: Readonly<Record<string, string>>;
  readonly hostRoleArns: readonly string[];
  readonly keyArn: string;
  /** Whether role and key were given or are read out of the policy. */
  readonly hostRoleFrom: 'given' | 'inferred' | 'unknown';
  readonly keyArnFrom: 'given' | 'inferred';
  /** ISO 8601. Requests of this time and of any later are asked for. */
  readonly at: string;
}

export interface ReviewInput {
  /** `policy`, `image`, `pcrs`, `deployment`, `context`, `releases`, `suppressions`, `live`. */
  readonly kind: string;
  readonly name: string;
  /** Of the bytes that were read. */
  readonly sha256: string;
}
