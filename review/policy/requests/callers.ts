/**
 * Who may call: one representative for every kind of principal that these documents can tell apart
 * (docs/policy-review.md section 2).
 */
import { accountOfIdentityArn, accountOfRootArn, nameInArn } from '../../../shared/policy/arn.ts';
import type { CallerIdentity, Policy, Statement } from '../../../shared/policy/model.ts';
import { parsePolicy } from '../../../shared/policy/parse.ts';
import { instancesOf } from './domains.ts';
import type { World } from './world.ts';

export interface Caller {
  /** Short and unique, for people. */
  readonly name: string;
  readonly identity: CallerIdentity;
  readonly policies: readonly Policy[];
  readonly documents: readonly object[];
  readonly iamFrom: 'supplied' | 'assumed' | 'none';
  readonly isHost: boolean;
  /** In an account that no document names: what anybody in the world could be. */
  readonly isStranger: boolean;
  /** Named by the policy or a grant, and not one that merely could exist. */
  readonly isNamed: boolean;
}

export const STRANGER_ACCOUNT = '999988887777';
/** How a caller is named whose IAM policies are taken to allow everything. */
export const WITH_IAM = 'with kms:* in IAM';
const HOST_SESSION = 'i-0abcdef1234567890';
const ANY_ROLE = 'AnyRole';

const IAM_ALL_DOCUMENT = {
  Version: '2012-10-17',
  Statement: [{ Effect: 'Allow', Action: 'kms:*', Resource: '*' }],
};
const IAM_ALL = parsePolicy(Buffer.from(JSON.stringify(IAM_ALL_DOCUMENT)), 'identity');

/** More patterns than this are not followed; then nothing may be concluded from whom was not asked for. */
const PATTERNS_MAX = 24;

/** `isCut`: there are more patterns on aws:PrincipalArn than callers were made for. */
export function callersOf(
  world: World,
  deletedMayExist: boolean,
): { readonly callers: readonly Caller[]; readonly isCut: boolean } {
  const { accountId, keyArn } = world;
  const partition = keyArn.split(':')[1] ?? 'aws';
  const iam = (account: string, path: string) => `arn:${partition}:iam::${account}:${path}`;
  const found = new Map<string, Caller>();
  const add = (
    arn: string,
    how: { iam: 'own' | 'assumed'; session?: string; named?: boolean; stranger?: boolean },
  ) => {
    const caller = callerOf(world, arn, how);
    if (caller !== undefined && !found.has(caller.name)) found.set(caller.name, caller);
  };
  const named = (arn: string, session?: string) => {
    add(arn, { iam: 'own', named: true, ...(session === undefined ? {} : { session }) });
    add(arn, { iam: 'assumed', named: true, ...(session === undefined ? {} : { session }) });
  };

  for (const arn of world.hostArns) named(arn);
  for (const text of namedPrincipals(world.keyPolicy.statements)) {
    const session = /^arn:[^:]+:sts::(\d{12}):assumed-role\/([^/]+)\/(.+)$/.exec(text);
    if (session !== null) named(roleArnOf(world, session[1] ?? '', session[2] ?? '', iam), session[3]);
    else if (/^\d{12}$/.test(text)) {
      add(iam(text, 'root'), { iam: 'own', named: true });
      if (text !== accountId) add(iam(text, `role/${ANY_ROLE}`), { iam: 'assumed', named: true });
    } else if (accountOfIdentityArn(text) !== undefined) named(text);
  }
  for (const { granteePrincipal } of world.grants) {
    if (accountOfIdentityArn(granteePrincipal) !== undefined) named(granteePrincipal);
    else if (accountOfRootArn(granteePrincipal) !== undefined)
      add(granteePrincipal, { iam: 'own', named: true });
  }
  for (const name of world.iamPolicies.keys()) {
    const arn = name.startsWith('arn:') ? name : roleArnOf(world, accountId, name, iam);
    add(arn, { iam: 'own', named: true });
  }
  const patterns = patternsOfPrincipals(world);
  for (const arn of patterns.slice(0, PATTERNS_MAX)) {
    for (const account of [accountId, STRANGER_ACCOUNT]) {
      for (const instance of instancesOf(withAccount(arn, account))) {
        const stranger = accountOfIdentityArn(instance) === STRANGER_ACCOUNT;
        add(instance, { iam: 'own', stranger });
        add(instance, { iam: 'assumed', stranger });
      }
    }
  }
  add(iam(accountId, `role/${ANY_ROLE}`), { iam: 'assumed' });
  add(iam(accountId, `role/${ANY_ROLE}`), { iam: 'own' });
  add(iam(accountId, 'user/AnyUser'), { iam: 'assumed' });
  add(iam(accountId, 'user/AnyUser'), { iam: 'own' });
  add(iam(accountId, 'root'), { iam: 'own' });
  add(iam(STRANGER_ACCOUNT, 'role/Stranger'), { iam: 'assumed', stranger: true });
  add(iam(STRANGER_ACCOUNT, 'user/Stranger'), { iam: 'assumed', stranger: true });
  if (deletedMayExist) {
    for (const [index, uniqueId] of deletedPrincipals(world.keyPolicy.statements).entries()) {
      const kind = uniqueId.startsWith('AIDA') ? 'user' : 'role';
      const caller = callerOf(world, iam(accountId, `${kind}/Holder${index}`), { iam: 'own', named: true });
      if (caller !== undefined) {
        const name = `${uniqueId} (should it exist)`;
        found.set(name, { ...caller, name, identity: { ...caller.identity, uniqueId } });
      }
    }
  }
  return { callers: [...found.values()], isCut: patterns.length > PATTERNS_MAX };
}

/** Somebody whom a new grant would name. IAM of another account allows what that account wants. */
export function granteeCaller(arn: string, accountId: string, isOwn: boolean): Caller {
  return {
    name: `grantee ${nameInArn(arn)}`,
    identity: { arn, accountId },
    policies: isOwn ? [] : [IAM_ALL],
    documents: isOwn ? [] : [IAM_ALL_DOCUMENT],
    iamFrom: isOwn ? 'none' : 'assumed',
    isHost: false,
    isStranger: false,
    isNamed: true,
  };
}

function callerOf(
  world: World,
  arn: string,
  how: { iam: 'own' | 'assumed'; session?: string; named?: boolean; stranger?: boolean },
): Caller | undefined {
  const root = accountOfRootArn(arn);
  const accountId = accountOfIdentityArn(arn) ?? root;
  if (accountId === undefined) return undefined;
  const isHost = world.hostArns.includes(arn);
  const short = nameInArn(arn);
  const isRole = arn.includes(':role/');
  const session = how.session ?? (isHost ? HOST_SESSION : 'session');
  const own = accountId === world.accountId;
  const supplied = own ? (world.iamPolicies.get(short) ?? world.iamPolicies.get(arn)) : undefined;
  // IAM of another account is not ours to see: what it allows is its own choice.
  const assumed = root === undefined && (how.iam === 'assumed' || !own);
  if (assumed && supplied !== undefined) return undefined;
  const what =
    root !== undefined
      ? 'root user'
      : isRole
        ? `role ${short}`
        : arn.includes(':user/')
          ? `user ${short}`
          : short;
  return {
    name: [
      how.stranger ? 'any principal of any account, as' : '',
      what,
      own ? '' : `of account ${accountId}`,
      how.session === undefined ? '' : `in session ${how.session}`,
      assumed && own ? WITH_IAM : '',
    ]
      .filter((part) => part !== '')
      .join(' '),
    identity: {
      arn,
      accountId,
      ...(isRole
        ? {
            sessionArn: `${arn.split(':').slice(0, 2).join(':')}:sts::${accountId}:assumed-role/${short}/${session}`,
          }
        : {}),
    },
    policies: assumed ? [IAM_ALL] : (supplied ?? []).map(({ policy }) => policy),
    documents: assumed ? [IAM_ALL_DOCUMENT] : (supplied ?? []).map(({ document }) => document),
    iamFrom: assumed ? 'assumed' : supplied === undefined ? 'none' : 'supplied',
    isHost,
    isStranger: how.stranger ?? false,
    isNamed: how.named ?? false,
  };
}

/** Account ids, and ARNs of users, roles and sessions. */
export function namedPrincipals(statements: readonly Statement[]): string[] {
  const texts = statements.flatMap(({ principals }) =>
    (principals?.entries ?? []).flatMap((entry) =>
      entry.kind === 'account' ? [entry.accountId] : entry.kind === 'identity' ? [entry.text] : [],
    ),
  );
  return [...new Set(texts)];
}

export function deletedPrincipals(statements: readonly Statement[]): string[] {
  const texts = statements.flatMap(({ principals }) =>
    (principals?.entries ?? []).flatMap((entry) => (entry.kind === 'unique-id' ? [entry.text] : [])),
  );
  return [...new Set(texts)];
}

/** Values of aws:PrincipalArn in conditions, patterns included. */
function patternsOfPrincipals({ keyPolicy, iamPolicies }: World): string[] {
  const inIam = [...iamPolicies.values()].flat().flatMap(({ policy }) => policy.statements);
  const values = [...keyPolicy.statements, ...inIam].flatMap(({ conditions }) =>
    conditions.flatMap(({ key, values: texts }) => (/^aws:principalarn$/i.test(key) ? texts : [])),
  );
  return [...new Set(values)];
}

function withAccount(pattern: string, account: string): string {
  if (pattern === '*') return `arn:aws:iam::${account}:role/Other`;
  const parts = pattern.split(':');
  if (parts.length < 6) return pattern;
  if (/[*?]/.test(parts[4] ?? '')) parts[4] = account;
  if (/[*?]/.test(parts[1] ?? '')) parts[1] = 'aws';
  return parts.join(':');
}

function roleArnOf(
  { hostArns, keyPolicy }: World,
  account: string,
  name: string,
  iam: (account: string, path: string) => string,
): string {
  // The role's path is not in the session's ARN; another principal of this policy may show it.
  const known = [...hostArns, ...namedPrincipals(keyPolicy.statements)].find(
    (arn) => arn.includes(`:iam::${account}:role/`) && nameInArn(arn) === name,
  );
  return known ?? iam(account, name.includes('/') ? name : `role/${name}`);
}
