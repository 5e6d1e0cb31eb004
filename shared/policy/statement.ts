/** Whether one statement applies to one request, and if not, for the want of what. */
import { matchesActions } from './actions.ts';
import { type ConditionOutcome, describeOutcome, evaluateCondition } from './conditions.ts';
import { partsMatch } from './glob.ts';
import type { PolicyRequest, PolicyVersion, Statement } from './model.ts';
import { describePrincipals, matchPrincipals, type PrincipalMatch } from './principals.ts';
import { expandVariables, type RequestContext } from './variables.ts';

export interface StatementOutcome {
  readonly statement: Statement;
  readonly applies: boolean;
  readonly actionMatches: boolean;
  readonly principal: PrincipalMatch;
  readonly resourceMatches: boolean;
  readonly conditions: readonly ConditionOutcome[];
  /** What holds (when it applies) or what does not, in words. */
  readonly describe: () => string;
}

/** `target` is the key's ARN, or `*` for actions that have no key. */
export function evaluateStatement(
  statement: Statement,
  version: PolicyVersion,
  request: PolicyRequest,
  target: string,
  context: RequestContext,
): StatementOutcome {
  const { actions, resources, principals, effect } = statement;
  const actionMatches = actions !== undefined && matchesActions(actions, request.action);
  // Identity policies have no principal: they are only ever those of the caller.
  const principal =
    principals === undefined ? 'direct' : matchPrincipals(principals, request.principal, effect);
  const resourceMatches =
    resources !== undefined &&
    resources.entries.some((pattern) => {
      const parts = expandVariables(pattern, version, context);
      return parts !== undefined && partsMatch(parts, target);
    }) !== resources.negated;
  const conditions = statement.conditions.map((condition) => evaluateCondition(condition, version, context));
  const outcome = {
    statement,
    applies: actionMatches && principal !== 'none' && resourceMatches && conditions.every((one) => one.holds),
    actionMatches,
    principal,
    resourceMatches,
    conditions,
  };
  return { ...outcome, describe: () => describe(outcome, request, target) };
}

function describe(
  outcome: Omit<StatementOutcome, 'describe'>,
  request: PolicyRequest,
  target: string,
): string {
  const { statement, conditions } = outcome;
  if (outcome.applies) {
    return conditions.length === 0
      ? 'it has no condition'
      : `its conditions hold (${conditions.map(describeOutcome).join('; ')})`;
  }
  const missing: string[] = [];
  if (statement.actions === undefined) missing.push('it names no Action, so it has no effect');
  else if (!outcome.actionMatches) missing.push(`it does not cover ${request.action}`);
  if (outcome.principal === 'none' && statement.principals !== undefined) {
    const caller = request.principal.sessionArn ?? request.principal.arn;
    missing.push(`it is for ${describePrincipals(statement.principals)}, not for ${caller}`);
  }
  if (statement.resources === undefined) missing.push('it names no Resource, so it has no effect');
  else if (!outcome.resourceMatches) missing.push(`its Resource does not match ${target}`);
  missing.push(...conditions.filter((one) => !one.holds).map(describeOutcome));
  return missing.join('; ');
}
