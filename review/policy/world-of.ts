/** Builds the world of a review from what was supplied, and says what had to be assumed. */

import { pcrOfText } from '../../shared/pcr.ts';
import { expandActions } from '../../shared/policy/actions.ts';
import { accountOfIdentityArn, parseKeyArn } from '../../shared/policy/arn.ts';
import type { Policy, Statement } from '../../shared/policy/model.ts';
import { isAttestationKey, type KnownRegisters } from './attestation-keys.ts';
import { namedPrincipals } from './requests/callers.ts';
import { type ReviewedRegisters, regionOf, type World } from './requests/world.ts';
import type { Supplied } from './supplied.ts';

export interface WorldInput {
  readonly keyPolicy: Policy;
  readonly reviewed: readonly ReviewedRegisters[];
  readonly hostRoleArns: readonly string[];
  readonly keyArn?: string;
  readonly supplied?: Supplied;
  readonly releases?: ReadonlyMap<string, KnownRegisters>;
  readonly now: Date;
}

/** The account and key that examples of AWS's documentation have. */
const UNKNOWN_ACCOUNT = '111122223333';
const UNKNOWN_KEY = '1234abcd-12ab-34cd-56ef-1234567890ab';

export function worldOf(input: WorldInput): World {
  const { keyPolicy, reviewed, hostRoleArns, supplied, releases, now } = input;
  const given = input.keyArn ?? supplied?.keyMetadata?.arn;
  const keyArn = given ?? inferKeyArn(keyPolicy, hostRoleArns);
  const hostArns = hostRoleArns.length > 0 ? hostRoleArns : inferHosts(keyPolicy);
  return {
    keyPolicy,
    keyArn,
    accountId: parseKeyArn(keyArn)?.accountId ?? UNKNOWN_ACCOUNT,
    region: given === undefined ? '' : regionOf(keyArn),
    keyIsGiven: given !== undefined,
    reviewed,
    hostArns,
    hostPcr3: hostRoleArns.map((arn) => Buffer.from(pcrOfText(arn)).toString('hex')),
    iamPolicies: supplied?.iamPolicies ?? new Map(),
    trustPolicies: supplied?.trustPolicies ?? new Map(),
    grants: supplied?.grants ?? [],
    metadata: supplied?.keyMetadata ?? {},
    releases: releases ?? new Map(),
    now,
  };
}

/** A Resource may name the key; otherwise it is in the account that the policy speaks of most. */
function inferKeyArn({ statements }: Policy, hostRoleArns: readonly string[]): string {
  const named = statements
    .flatMap(({ resources }) => resources?.entries ?? [])
    .find((entry) => parseKeyArn(entry) !== undefined);
  if (named !== undefined) return named;
  const account = accountOfIdentityArn(hostRoleArns[0] ?? '') ?? inferAccount(statements);
  return `arn:aws:kms:us-east-1:${account}:key/${UNKNOWN_KEY}`;
}

/** The account whose principals hold most rights: an external partner is given few. */
function inferAccount(statements: readonly Statement[]): string {
  const weights = new Map<string, number>();
  for (const { effect, principals, actions } of statements) {
    if (effect !== 'Allow' || principals === undefined || principals.negated) continue;
    const weight = actions === undefined ? 0 : expandActions(actions).length;
    for (const entry of principals.entries) {
      const account =
        entry.kind === 'account'
          ? entry.accountId
          : entry.kind === 'identity'
            ? accountOfIdentityArn(entry.text)
            : undefined;
      if (account !== undefined) weights.set(account, (weights.get(account) ?? 0) + weight);
    }
  }
  const [heaviest] = [...weights].sort((a, b) => b[1] - a[1]);
  if (heaviest !== undefined) return heaviest[0];
  const conditions = statements.flatMap((statement) => statement.conditions);
  const named = conditions.find(
    ({ key, values }) =>
      /^(?:kms:calleraccount|aws:principalaccount)$/i.test(key) && /^\d{12}$/.test(values[0] ?? ''),
  );
  const [first = UNKNOWN_ACCOUNT] = namedPrincipals(statements).flatMap(
    (text) => accountOfIdentityArn(text) ?? [],
  );
  return named?.values[0] ?? first;
}

/** Roles and users of whom the policy asks for a document: one of them starts the enclave. */
function inferHosts({ statements }: Policy): string[] {
  const hosts = statements
    .filter(({ conditions }) => conditions.some(({ key }) => isAttestationKey(key)))
    .flatMap(({ principals }) =>
      principals === undefined || principals.negated
        ? []
        : principals.entries.flatMap((entry) => (entry.kind === 'identity' ? [roleOf(entry.text)] : [])),
    );
  return [...new Set(hosts)];
}

/** A session's role, as far as its ARN shows it. */
function roleOf(arn: string): string {
  const session = /^(arn:[^:]+):sts::(\d{12}):assumed-role\/([^/]+)\//.exec(arn);
  return session === null ? arn : `${session[1]}:iam::${session[2]}:role/${session[3]}`;
}
