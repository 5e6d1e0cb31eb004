/**
 * What the policy of an S3 bucket makes of one request (Amazon S3 User Guide, "How Amazon S3 authorizes a request").
 * Statements, principals and conditions are those of key policies; two things differ. S3 takes requests of nobody in
 * particular (anonymous), whom `Principal: "*"` means too. And the caller's own IAM policies, which nobody can read
 * off a bucket, may allow what the bucket policy does not mention: so this says what the bucket policy does, and only
 * an explicit Deny or an Allow to a stranger is the last word.
 */
import { matchesActions } from './actions.ts';
import { contextOf } from './context.ts';
import { globMatches } from './glob.ts';
import type { CallerIdentity, Policy, Statement } from './model.ts';
import { matchPrincipals } from './principals.ts';
import { evaluateStatement } from './statement.ts';
import type { RequestContext } from './variables.ts';

export interface BucketRequest {
  readonly principal: CallerIdentity | 'anonymous';
  /** For example `s3:PutObject`. */
  readonly action: string;
  /** `arn:aws:s3:::BUCKET` or `arn:aws:s3:::BUCKET/KEY`. */
  readonly resourceArn: string;
  /** Condition keys of the request, names in any case. What follows from the caller is added. */
  readonly context?: ReadonlyMap<string, readonly string[]>;
}

export interface BucketEvaluation {
  /** `denied` beats `allowed`; `silent` leaves it to the caller's IAM policies, and refuses callers without. */
  readonly effect: 'denied' | 'allowed' | 'silent';
  /** The statements that decide: Sid, or `#index`. */
  readonly statements: readonly { readonly name: string; readonly line: number }[];
}

const NOBODY: CallerIdentity = { arn: '', accountId: '' };

export function evaluateBucketPolicy(request: BucketRequest, policy: Policy | undefined): BucketEvaluation {
  const { action, resourceArn } = request;
  const principal = request.principal === 'anonymous' ? NOBODY : request.principal;
  const context = contextOfBucketRequest(request);
  const applying = (policy?.statements ?? []).filter(
    (statement) =>
      evaluateStatement(
        statement,
        policy?.version ?? '2012-10-17',
        { principal, action, keyArn: resourceArn },
        resourceArn,
        context,
      ).applies,
  );
  const denies = applying.filter(({ effect }) => effect === 'Deny');
  const deciding = denies.length > 0 ? denies : applying;
  return {
    effect: denies.length > 0 ? 'denied' : applying.length > 0 ? 'allowed' : 'silent',
    statements: deciding.map(({ sid, index, line }) => ({ name: sid ?? `#${index}`, line })),
  };
}

/** The statements that concern the caller, the action and the resource, whatever their conditions. */
export function statementsConcerning(request: BucketRequest, policy: Policy | undefined): Statement[] {
  const { action, resourceArn } = request;
  const principal = request.principal === 'anonymous' ? NOBODY : request.principal;
  return (policy?.statements ?? []).filter(({ actions, principals, resources, effect }) => {
    if (actions === undefined || !matchesActions(actions, action)) return false;
    if (principals !== undefined && matchPrincipals(principals, principal, effect) === 'none') return false;
    if (resources === undefined) return false;
    // What a variable stands for is not known here, so such a statement may concern anything.
    if (resources.entries.some((pattern) => pattern.includes('${'))) return true;
    return resources.entries.some((pattern) => globMatches(pattern, resourceArn)) !== resources.negated;
  });
}

function contextOfBucketRequest({ principal, action, resourceArn, context }: BucketRequest): RequestContext {
  const given = context ?? new Map<string, readonly string[]>();
  if (principal !== 'anonymous') {
    return contextOf({ principal, action, keyArn: resourceArn, context: given });
  }
  const lower = new Map([...given].map(([name, values]) => [name.toLowerCase(), values] as const));
  // An anonymous request has no principal keys but these two (IAM user guide, "aws:PrincipalType", "aws:userid").
  return new Map([
    ...lower,
    ['aws:principaltype', ['Anonymous']],
    ['aws:userid', ['anonymous']],
    ['aws:viaawsservice', ['false']],
  ]);
}
