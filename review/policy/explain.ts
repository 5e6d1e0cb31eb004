/**
 * One request, and every statement that has a say in it: what `decide` answers, and of each statement about the action
 * whether it applies and for the want of what not (docs/policy.md section 9).
 */
import { isGovernedByKeyPolicy, matchesActions } from '../../shared/policy/actions.ts';
import { contextOf } from '../../shared/policy/context.ts';
import { decide } from '../../shared/policy/decide.ts';
import { asciiLower } from '../../shared/policy/glob.ts';
import type {
  AppliedPolicies,
  Decision,
  Policy,
  PolicyRequest,
  Statement,
} from '../../shared/policy/model.ts';
import { evaluateStatement } from '../../shared/policy/statement.ts';

export interface Explained {
  readonly decision: Decision;
  /** Those about the action, in the order of the policies. */
  readonly statements: readonly ExplainedStatement[];
  /** Condition keys that these statements ask for and the request does not have: with them the answer may be another. */
  readonly absentKeys: readonly string[];
}

export interface ExplainedStatement {
  /** `key policy`, `identity policy 1` */
  readonly policy: string;
  /** Sid, or `#index`. */
  readonly statement: string;
  readonly line: number;
  readonly effect: 'Allow' | 'Deny';
  readonly applies: boolean;
  /** What holds, or what does not. */
  readonly why: string;
}

/** Throws PolicyError POLICY_REQUEST. */
export function explainRequest(request: PolicyRequest, applied: AppliedPolicies): Explained {
  const decision = decide(request, applied);
  const context = contextOf(request);
  const governed = isGovernedByKeyPolicy(request.action);
  const target = governed ? request.keyArn : '*';
  const policies: readonly (readonly [name: string, policy: Policy])[] = [
    ...(governed ? [['key policy', applied.keyPolicy] as const] : []),
    ...applied.identityPolicies.map((policy, index) => [`identity policy ${index + 1}`, policy] as const),
  ];
  const about = policies.flatMap(([name, policy]) =>
    policy.statements
      .filter((statement) => concerns(statement, request.action))
      .map((statement) => ({ name, policy, statement })),
  );
  const absent = new Map<string, string>();
  for (const { statement } of about) {
    for (const { key } of statement.conditions) {
      if (!context.has(asciiLower(key))) absent.set(asciiLower(key), key);
    }
  }
  return {
    decision,
    statements: about.map(({ name, policy, statement }) => {
      const outcome = evaluateStatement(statement, policy.version, request, target, context);
      return {
        policy: name,
        statement: statement.sid ?? `#${statement.index}`,
        line: statement.line,
        effect: statement.effect,
        applies: outcome.applies,
        why: outcome.describe(),
      };
    }),
    absentKeys: [...absent.values()].toSorted(),
  };
}

/** Statements without an Action have no effect, and are worth a line for just that. */
function concerns({ actions }: Statement, action: string): boolean {
  return actions === undefined || matchesActions(actions, action);
}
