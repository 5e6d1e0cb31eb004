/**
 * The order of decision for one request to a KMS key (KMS developer guide, "Determining access"; docs/policy.md
 * section 2). Start from refused; an explicit Deny anywhere ends it, grants included; then somebody must allow it:
 * the key policy to the caller itself, the key policy to the account together with IAM, or a grant. A caller of
 * another account needs its own account's IAM besides.
 */
import { isGovernedByKeyPolicy, kmsAction } from './actions.ts';
import { accountOfIdentityArn, accountOfRootArn, isAliasArn, parseKeyArn } from './arn.ts';
import { contextOf } from './context.ts';
import { PolicyError } from './errors.ts';
import { deniedMessage, explainDenial, labelOf } from './explain.ts';
import { asciiLower } from './glob.ts';
import { evaluateGrant } from './grants.ts';
import type { AppliedPolicies, Decision, DecisiveStatement, Policy, PolicyRequest } from './model.ts';
import { evaluateStatement, type StatementOutcome } from './statement.ts';

/** The same for every request: an evaluated statement and the policy that it stands in. */
export interface Evaluated {
  readonly policy: string;
  readonly outcome: StatementOutcome;
}

/** Decides the request. Throws POLICY_REQUEST when the request itself is not well formed. */
export function decide(request: PolicyRequest, applied: AppliedPolicies): Decision {
  checkRequest(request);
  const context = contextOf(request);
  const onAlias = concernsAlias(request);
  const governed = isGovernedByKeyPolicy(request.action) && !onAlias;
  const target = governed || onAlias ? request.keyArn : '*';
  const evaluate = (policy: Policy, name: string): Evaluated[] =>
    policy.statements.map((statement) => ({
      policy: name,
      outcome: evaluateStatement(statement, policy.version, request, target, context),
    }));

  const inKeyPolicy = governed ? evaluate(applied.keyPolicy, 'key policy') : [];
  const inIam = applied.identityPolicies.flatMap((policy, index) =>
    evaluate(policy, `identity policy ${index + 1}`),
  );

  const denies = applying([...inKeyPolicy, ...inIam], 'Deny');
  if (denies.length > 0) {
    const byResource = denies.some((deny) => deny.policy === 'key policy');
    return {
      allowed: false,
      reason: 'explicit-deny',
      message: deniedMessage(
        request,
        `with an explicit deny in ${byResource ? 'a resource' : 'an identity'}-based policy`,
      ),
      decisive: denies.map((deny) => decisive(deny, 'denies it')),
      explanation: denies.map((deny) => `${labelOf(deny)} denies it: ${deny.outcome.describe()}.`),
    };
  }

  const caller = request.principal;
  const isRootUser = accountOfRootArn(caller.arn) !== undefined;
  const iamAllows = applying(inIam, 'Allow');
  // The root user holds every right of its own account; no IAM policy can be attached to it.
  const iamAllowed = isRootUser || iamAllows.length > 0;
  const ownAccount = !governed || parseKeyArn(request.keyArn)?.accountId === caller.accountId;

  const allows = applying(inKeyPolicy, 'Allow');
  const direct = allows.filter((allow) => allow.outcome.principal === 'direct');
  const grants = governed
    ? applied.grants.map((grant) => ({ grant, outcome: evaluateGrant(grant, request, context) }))
    : [];
  const liveGrants = grants.filter(({ outcome }) => outcome.applies);
  const directGrants = liveGrants.filter(({ outcome }) => outcome.applies && outcome.how === 'direct');

  const iamDecisive = iamAllows.map((allow) => decisive(allow, 'the IAM policy allows it'));
  const grantDecisive = (list: typeof grants): DecisiveStatement[] =>
    list.map(({ grant }) => ({
      policy: `grant ${grant.grantId}`,
      statement: '',
      line: 0,
      why: 'a live grant allows it',
    }));

  if (!governed) {
    if (iamAllowed) return allowed(request, iamDecisive, isRootUser);
  } else if (ownAccount && direct.length > 0) {
    return allowed(
      request,
      direct.map((allow) => decisive(allow, 'the key policy names the caller')),
    );
  } else if (ownAccount && directGrants.length > 0) {
    return allowed(request, grantDecisive(directGrants));
  } else if (iamAllowed && (allows.length > 0 || liveGrants.length > 0)) {
    const why = ownAccount
      ? 'the key policy hands it to the account'
      : 'the key policy admits the other account';
    const statements = allows.map((allow) => decisive(allow, why));
    return allowed(request, [...statements, ...grantDecisive(liveGrants), ...iamDecisive], isRootUser);
  }

  const resourceSide = governed && allows.length === 0 && liveGrants.length === 0 ? 'resource' : 'identity';
  return {
    allowed: false,
    reason: 'implicit-deny',
    message: deniedMessage(
      request,
      `because no ${resourceSide}-based policy allows the ${request.action} action`,
    ),
    decisive: [],
    explanation: explainDenial({ request, context, inKeyPolicy, inIam, grants, governed, ownAccount }),
  };
}

const ALIAS_ACTIONS: ReadonlySet<string> = new Set(['kms:createalias', 'kms:updatealias', 'kms:deletealias']);

/** An alias has no policy of its own: the right on it is IAM's, beside the right on each key that it names. */
function concernsAlias({ action, keyArn }: PolicyRequest): boolean {
  return ALIAS_ACTIONS.has(asciiLower(action)) && isAliasArn(keyArn);
}

function applying(list: readonly Evaluated[], effect: 'Allow' | 'Deny'): Evaluated[] {
  return list.filter(({ outcome }) => outcome.applies && outcome.statement.effect === effect);
}

function decisive(item: Evaluated, why: string): DecisiveStatement {
  const { sid, index, line } = item.outcome.statement;
  return { policy: item.policy, statement: sid ?? `#${index}`, line, why };
}

function allowed(request: PolicyRequest, list: readonly DecisiveStatement[], isRootUser = false): Decision {
  const rootOnly =
    list.length === 0 && isRootUser ? ['The account root user may do it without any policy.'] : [];
  return {
    allowed: true,
    reason: 'allow',
    message: `${request.principal.sessionArn ?? request.principal.arn} may ${request.action}`,
    decisive: list,
    explanation: [
      ...list.map(({ policy, statement, line, why }) =>
        line === 0 ? `${policy}: ${why}.` : `${policy}, statement "${statement}" (line ${line}): ${why}.`,
      ),
      ...rootOnly,
    ],
  };
}

function checkRequest(request: PolicyRequest): void {
  const { principal, action, keyArn } = request;
  const account = accountOfIdentityArn(principal.arn) ?? accountOfRootArn(principal.arn);
  if (account === undefined || account !== principal.accountId) {
    throw new PolicyError(
      'POLICY_REQUEST',
      `caller: expected a whole ARN in account ${principal.accountId}, found ${JSON.stringify(principal.arn)}`,
    );
  }
  if (principal.sessionArn !== undefined && accountOfIdentityArn(principal.sessionArn) !== account) {
    throw new PolicyError(
      'POLICY_REQUEST',
      `caller: expected a session in account ${account}, found ${JSON.stringify(principal.sessionArn)}`,
    );
  }
  if (!/^kms:[A-Za-z]+$/.test(action)) {
    throw new PolicyError('POLICY_REQUEST', `action: expected kms:Name, found ${JSON.stringify(action)}`);
  }
  if (concernsAlias(request)) return;
  if ((kmsAction(action)?.onKey ?? true) && parseKeyArn(keyArn) === undefined) {
    throw new PolicyError('POLICY_REQUEST', `key: expected a key ARN, found ${JSON.stringify(keyArn)}`);
  }
}
