/** Who can become somebody else: role trust policies, as far as they were supplied (docs/policy-review.md section 2). */

import { matchesActions } from '../../shared/policy/actions.ts';
import { accountOfIdentityArn, nameInArn } from '../../shared/policy/arn.ts';
import { evaluateCondition } from '../../shared/policy/conditions.ts';
import { contextOf } from '../../shared/policy/context.ts';
import { asciiLower } from '../../shared/policy/glob.ts';
import type { Condition, Policy } from '../../shared/policy/model.ts';
import { matchPrincipals } from '../../shared/policy/principals.ts';
import type { Analysis } from './analysis.ts';
import { type Caller, granteeCaller, namedPrincipals } from './requests/callers.ts';
import { isOfOthers } from './requests/domains.ts';
import { instantsOf, isTimeKey, readsTime } from './requests/time.ts';
import type { World } from './requests/world.ts';
import type { Escape } from './verdict.ts';

export interface Chain {
  /** Names of roles, from the one who starts to the one that opens the key. */
  readonly roles: readonly string[];
  readonly from: Caller;
  readonly to: Caller;
  /** Whom it opens the key to: the enclave's host, a principal that was meant for something else, or the world. */
  readonly opens: 'host' | 'somebody' | 'anybody';
  readonly what: string;
}

/** Roles that can be assumed, from each principal that is known, to those that can open the key. */
export function chainsOf(analysis: Analysis, escapes: readonly Escape[]): Chain[] {
  const { world, callers } = analysis;
  const { trustPolicies } = world;
  if (trustPolicies.size === 0) return [];
  const targets = targetsOf(analysis, escapes);
  const known = callers.filter(({ isNamed, isHost, isStranger }) => isNamed || isHost || isStranger);
  const starts = [...known, ...trustedByName(analysis)];
  const chains = new Map<string, Chain>();
  for (const from of starts) {
    for (const roles of pathsFrom(from, world)) {
      const last = roles.at(-1) ?? '';
      for (const target of targets) {
        const { arn, accountId } = target.caller.identity;
        if (accountId !== world.accountId || !arn.includes(':role/') || nameInArn(arn) !== last) continue;
        if (arn === from.identity.arn) continue;
        const opens = from.isStranger ? 'anybody' : from.isHost ? 'host' : 'somebody';
        const chain = {
          roles: [nameInArn(from.identity.arn), ...roles],
          from,
          to: target.caller,
          opens,
          what: target.what,
        } as const;
        const key = `${opens} ${chain.roles.join(' ')}`;
        if (!chains.has(key)) chains.set(key, chain);
      }
    }
  }
  return [...chains.values()];
}

/** Principals of the account whom only a trust policy names. */
function trustedByName({ world, callers }: Analysis): Caller[] {
  const arns = [...world.trustPolicies.values()].flatMap(({ statements }) => namedPrincipals(statements));
  return [...new Set(arns)]
    .filter((arn) => accountOfIdentityArn(arn) === world.accountId && arn.includes(':iam:'))
    .filter((arn) => !callers.some(({ identity }) => identity.arn === arn))
    .map((arn) => granteeCaller(arn, world.accountId, true));
}

interface Target {
  readonly caller: Caller;
  readonly what: string;
}

function targetsOf({ administrators, unattested }: Analysis, escapes: readonly Escape[]): Target[] {
  const own = ({ caller, reach }: { caller: Caller; reach: string }) =>
    reach === 'direct' || caller.iamFrom === 'supplied';
  return [
    ...administrators.filter(own).map(({ caller }) => ({ caller, what: 'may change the key policy' })),
    ...unattested.filter(own).map(({ caller }) => ({ caller, what: 'may decrypt without an enclave' })),
    ...escapes
      .map(({ access }) => access)
      .filter(own)
      .map(({ caller }) => ({ caller, what: 'may reach plaintext around the enclave' })),
  ];
}

/** Names of roles along every way of at most six steps that visits no role twice. */
function pathsFrom(from: Caller, { trustPolicies, accountId, now }: World): string[][] {
  const paths: string[][] = [];
  const seen = new Set<string>();
  let edge: { caller: Caller; path: string[] }[] = [{ caller: from, path: [] }];
  for (let step = 0; step < 6 && edge.length > 0; step += 1) {
    const next: typeof edge = [];
    for (const { caller, path } of edge) {
      for (const [name, policy] of trustPolicies) {
        if (seen.has(name) || !mayAssume(caller, policy, now)) continue;
        seen.add(name);
        const longer = [...path, name];
        paths.push(longer);
        const arn = `arn:aws:iam::${accountId}:role/${name}`;
        const session = `arn:aws:sts::${accountId}:assumed-role/${name}/session`;
        next.push({ caller: { ...from, identity: { arn, accountId, sessionArn: session } }, path: longer });
      }
    }
    edge = next;
  }
  return paths;
}

/**
 * Whether the trust policy names the caller. What its conditions ask of the caller's identity and of the time is checked;
 * the others can be met, so a Deny holds back only without them. That it trusts the whole account leaves it to IAM, which then is
 * what has to be looked at.
 */
function mayAssume({ identity, isStranger }: Caller, { statements, version }: Policy, now: Date): boolean {
  const context = contextOf({ principal: identity, action: 'kms:Decrypt', keyArn: '*' });
  const possible = (condition: Condition): boolean => {
    const key = asciiLower(condition.key);
    if (context.has(key)) return evaluateCondition(condition, version, context).holds;
    return !(isStranger && isOfOthers(key)) || evaluateCondition(condition, version, context).holds;
  };
  const someDay = (conditions: readonly Condition[]): boolean => {
    const about = conditions.filter((one) => isTimeKey(one.key) && readsTime(one));
    return instantsOf(about, now).some(({ entries }) =>
      about.every((one) => evaluateCondition(one, version, entries).holds),
    );
  };
  const matching = statements.filter(
    ({ actions, principals, effect }) =>
      actions !== undefined &&
      matchesActions(actions, 'sts:AssumeRole') &&
      principals !== undefined &&
      matchPrincipals(principals, identity, effect) === 'direct' &&
      accountOfIdentityArn(identity.arn) !== undefined,
  );
  if (matching.some(({ effect, conditions }) => effect === 'Deny' && conditions.length === 0)) return false;
  return matching.some(
    ({ effect, conditions }) => effect === 'Allow' && conditions.every(possible) && someDay(conditions),
  );
}
