/**
 * Principals of key policies: their forms, and whom each one means (docs/policy.md section 3).
 *
 * Who calls has up to three identities at once: the account, the role or user, and the session. Naming the account
 * only hands the question to the account's IAM policies; naming one of the others (or everyone) answers it.
 */
import { accountOfIdentityArn, accountOfRootArn } from './arn.ts';
import { PolicyError } from './errors.ts';
import type { CallerIdentity, Negatable, Principal } from './model.ts';

/** How a statement concerns a caller: by itself, by its account, or not at all. */
export type PrincipalMatch = 'direct' | 'account' | 'none';

/** An entry of `{"AWS": …}`. Throws POLICY_PRINCIPAL, wildcards inside an ARN included. */
export function parseAwsPrincipal(text: string, where: string): Principal {
  if (text === '*') return { kind: 'everyone', text };
  const accountId = /^\d{12}$/.test(text) ? text : accountOfRootArn(text);
  if (accountId !== undefined) return { kind: 'account', text, accountId };
  if (accountOfIdentityArn(text) !== undefined) return { kind: 'identity', text };
  if (isUniqueId(text)) return { kind: 'unique-id', text };
  throw new PolicyError(
    'POLICY_PRINCIPAL',
    `${where}: expected "*", an account, or the whole ARN of a user, role or session, found ${JSON.stringify(text)}`,
  );
}

/** `AROA…` of a role or `AIDA…` of a user: what AWS shows where a principal was deleted. */
export function isUniqueId(text: string): boolean {
  return /^A(?:RO|ID)A[A-Z0-9]{12,128}$/.test(text);
}

/** An entry of `{"Service": …}`, for example `lambda.amazonaws.com`. */
export function parseServicePrincipal(text: string, where: string): Principal {
  if (/^[a-z0-9-]+(\.[a-z0-9-]+)+$/.test(text)) return { kind: 'service', text };
  throw new PolicyError(
    'POLICY_PRINCIPAL',
    `${where}: expected a service name such as "s3.amazonaws.com", found ${JSON.stringify(text)}`,
  );
}

export function matchPrincipals(
  principals: Negatable<Principal>,
  caller: CallerIdentity,
  effect: 'Allow' | 'Deny',
): PrincipalMatch {
  const { negated, entries } = principals;
  if (!negated) {
    if (entries.some((entry) => names(entry, caller))) return 'direct';
    return entries.some((entry) => namesAccount(entry, caller)) ? 'account' : 'none';
  }
  if (effect === 'Allow') {
    return entries.some((entry) => names(entry, caller) || namesAccount(entry, caller)) ? 'none' : 'direct';
  }
  return isExempt(entries, caller) ? 'none' : 'direct';
}

function names(entry: Principal, caller: CallerIdentity): boolean {
  switch (entry.kind) {
    case 'everyone':
      return true;
    case 'identity':
      return entry.text === caller.arn || entry.text === caller.sessionArn;
    case 'unique-id':
      return entry.text === caller.uniqueId;
    // The root user is what an account ARN names without any IAM policy between.
    case 'account':
      return namesAccount(entry, caller) && accountOfRootArn(caller.arn) !== undefined;
    case 'service':
    case 'federated':
    // Which account a canonical id belongs to, no policy says.
    case 'canonical-user':
      return false;
  }
}

function namesAccount(entry: Principal, caller: CallerIdentity): boolean {
  return entry.kind === 'account' && entry.accountId === caller.accountId;
}

/**
 * NotPrincipal with Deny: AWS may check the account, the role and the session one after the other, and asks to list
 * all of them (IAM user guide, "NotPrincipal"). Whoever is not listed under each of their identities is denied.
 */
function isExempt(entries: readonly Principal[], caller: CallerIdentity): boolean {
  if (entries.some((entry) => entry.kind === 'everyone')) return true;
  const listed = (arn: string) => entries.some((entry) => entry.kind === 'identity' && entry.text === arn);
  if (!entries.some((entry) => namesAccount(entry, caller))) return false;
  if (accountOfRootArn(caller.arn) !== undefined) return true;
  return listed(caller.arn) && (caller.sessionArn === undefined || listed(caller.sessionArn));
}

/** For explanations: `arn:…:role/EnclaveHost and 2 more`. */
export function describePrincipals({ negated, entries }: Negatable<Principal>): string {
  const [first, ...more] = entries.map((entry) => (entry.kind === 'everyone' ? 'everyone' : entry.text));
  const list = more.length === 0 ? `${first}` : `${first} and ${more.length} more`;
  return negated ? `everyone but ${list}` : list;
}
