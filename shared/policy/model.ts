/**
 * The words of the policy engine (docs/policy.md).
 *
 * A policy is a list of statements. A statement allows or denies actions to principals under conditions. `decide`
 * (decide.ts) answers one request against the key policy, the caller's IAM policies and the live grants;
 * `evaluateBucketPolicy` (bucket.ts) says what the policy of an S3 bucket makes of one request.
 */
import type { Operator } from './operators.ts';

/** `bucket`: the resource policy of an S3 bucket. */
export type PolicyKind = 'key' | 'bucket' | 'identity';

/** The two versions of the policy language; without a Version element it is the older one (IAM user guide). */
export type PolicyVersion = '2008-10-17' | '2012-10-17';

/** A parsed document. Made by `parsePolicy` alone. */
export interface Policy {
  readonly kind: PolicyKind;
  readonly version: PolicyVersion;
  readonly versionGiven: boolean;
  readonly id?: string;
  readonly statements: readonly Statement[];
}

export interface Statement {
  readonly index: number;
  readonly sid?: string;
  /** Line of the statement's opening brace, from 1. */
  readonly line: number;
  readonly effect: 'Allow' | 'Deny';
  /** Absent in identity policies. */
  readonly principals?: Negatable<Principal>;
  /** Absent when the stored document has none: such a statement never applies. */
  readonly actions?: Negatable<string>;
  readonly resources?: Negatable<string>;
  readonly conditions: readonly Condition[];
}

/** `Action` or `NotAction`, `Principal` or `NotPrincipal`, `Resource` or `NotResource`. */
export interface Negatable<T> {
  readonly negated: boolean;
  readonly entries: readonly T[];
}

export type Principal =
  | { readonly kind: 'everyone'; readonly text: string }
  | { readonly kind: 'account'; readonly text: string; readonly accountId: string }
  | { readonly kind: 'identity'; readonly text: string }
  /** An `AROA…` or `AIDA…` id: what AWS shows in place of the ARN of a principal that was deleted. */
  | { readonly kind: 'unique-id'; readonly text: string }
  | { readonly kind: 'service'; readonly text: string }
  | { readonly kind: 'federated'; readonly text: string }
  /** An account by its canonical user id, as bucket policies may name it. */
  | { readonly kind: 'canonical-user'; readonly text: string };

/** One operator with one key: the blocks of a Condition element taken apart. All must hold. */
export interface Condition {
  readonly operator: Operator;
  /** As written. Names are compared without regard to case. */
  readonly key: string;
  readonly values: readonly string[];
  readonly line: number;
}

/** Who calls, as KMS authenticated it. */
export interface CallerIdentity {
  /** IAM role ARN (also for a session of it), user ARN, or account root ARN. */
  readonly arn: string;
  /** `arn:aws:sts::ACCOUNT:assumed-role/NAME/SESSION` for a role session, or a federated user's ARN. */
  readonly sessionArn?: string;
  readonly accountId: string;
  /** The unique id of role or user (`AROA…`, `AIDA…`), where known. */
  readonly uniqueId?: string;
  /** Principal tags. */
  readonly tags?: ReadonlyMap<string, string>;
}

export interface PolicyRequest {
  readonly principal: CallerIdentity;
  /** For example `kms:Decrypt`. */
  readonly action: string;
  /**
   * The key's own ARN; an alias's only for the right on the alias itself (kms:CreateAlias and its like), which is
   * IAM's alone. Ignored for actions without a key, such as kms:GenerateRandom.
   */
  readonly keyArn: string;
  /**
   * Condition keys of the request (aws:SecureTransport, kms:ViaService, attestation entries, ...). Names in any
   * case. What follows from caller, key and encryption context is added by the engine and cannot be overridden.
   */
  readonly context?: ReadonlyMap<string, readonly string[]>;
  readonly encryptionContext?: ReadonlyMap<string, string>;
}

/** A live grant, as far as it decides requests. */
export interface Grant {
  readonly grantId: string;
  readonly granteePrincipal: string;
  /** Operation names without prefix: `Decrypt`, `DescribeKey`. */
  readonly operations: readonly string[];
  readonly encryptionContextEquals?: ReadonlyMap<string, string>;
  readonly encryptionContextSubset?: ReadonlyMap<string, string>;
  readonly sourceArn?: string;
}

export interface AppliedPolicies {
  readonly keyPolicy: Policy;
  /** Every IAM policy of this caller, none of anybody else. */
  readonly identityPolicies: readonly Policy[];
  readonly grants: readonly Grant[];
}

export interface Decision {
  readonly allowed: boolean;
  readonly reason: 'allow' | 'explicit-deny' | 'implicit-deny';
  /** The text of AccessDeniedException, or a short confirmation. */
  readonly message: string;
  /** The statements or grants that decided. Empty for an implicit deny. */
  readonly decisive: readonly DecisiveStatement[];
  /** In words, for a person: what allowed it, or what is missing. KMS itself never says this. */
  readonly explanation: readonly string[];
}

export interface DecisiveStatement {
  /** `key policy`, `identity policy 1`, or `grant ID`. */
  readonly policy: string;
  /** Sid, or `#index` for a statement without one. Empty for a grant. */
  readonly statement: string;
  /** 0 for a grant. */
  readonly line: number;
  readonly why: string;
}
