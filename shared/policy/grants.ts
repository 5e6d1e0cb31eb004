/**
 * Grants (KMS developer guide, "Grants in AWS KMS"). A grant allows operations to one principal, perhaps only with a
 * given encryption context. It knows no attestation: only a Deny in a policy holds a grant back.
 */
import { accountOfIdentityArn, accountOfRootArn } from './arn.ts';
import { PolicyError } from './errors.ts';
import { asciiLower } from './glob.ts';
import type { CallerIdentity, Grant, PolicyRequest } from './model.ts';
import { isUniqueId } from './principals.ts';
import type { RequestContext } from './variables.ts';

/** Operations that carry an encryption context; constraints on it do not concern the others. */
const WITH_ENCRYPTION_CONTEXT: ReadonlySet<string> = new Set([
  'Encrypt',
  'Decrypt',
  'ReEncryptFrom',
  'ReEncryptTo',
  'GenerateDataKey',
  'GenerateDataKeyWithoutPlaintext',
  'GenerateDataKeyPair',
  'GenerateDataKeyPairWithoutPlaintext',
]);

export type GrantOutcome =
  | { readonly applies: true; readonly how: 'direct' | 'account' }
  /** `why` is empty when the grant is for somebody else or for other operations. */
  | { readonly applies: false; readonly why: string };

export function evaluateGrant(grant: Grant, request: PolicyRequest, context: RequestContext): GrantOutcome {
  const how = grantee(grant.granteePrincipal, request.principal);
  const operation = grant.operations.find((name) => asciiLower(`kms:${name}`) === asciiLower(request.action));
  if (how === 'none' || operation === undefined) return { applies: false, why: '' };
  if (grant.sourceArn !== undefined && !(context.get('aws:sourcearn') ?? []).includes(grant.sourceArn)) {
    return { applies: false, why: `its source ARN ${grant.sourceArn} is not that of the request` };
  }
  if (!WITH_ENCRYPTION_CONTEXT.has(operation)) return { applies: true, how };
  const actual = request.encryptionContext ?? new Map<string, string>();
  if (grant.encryptionContextEquals && !isEqual(grant.encryptionContextEquals, actual)) {
    return { applies: false, why: 'the encryption context is not equal to its constraint' };
  }
  if (grant.encryptionContextSubset && !isSubset(grant.encryptionContextSubset, actual)) {
    return { applies: false, why: 'the encryption context does not contain its constraint' };
  }
  return { applies: true, how };
}

function grantee(arn: string, caller: CallerIdentity): 'direct' | 'account' | 'none' {
  if (arn === caller.arn || arn === caller.sessionArn || arn === caller.uniqueId) return 'direct';
  return accountOfRootArn(arn) === caller.accountId ? 'account' : 'none';
}

function isSubset(part: ReadonlyMap<string, string>, whole: ReadonlyMap<string, string>): boolean {
  return [...part].every(([key, value]) => whole.get(key) === value);
}

function isEqual(a: ReadonlyMap<string, string>, b: ReadonlyMap<string, string>): boolean {
  return a.size === b.size && isSubset(a, b);
}

/**
 * A grant from an entry of kms:ListGrants (its JSON, parsed). Throws POLICY_GRANT on a missing member or on a
 * constraint that is not known here: a narrower grant read as a wider one, or the reverse, would be a wrong answer.
 */
export function parseGrant(entry: unknown): Grant {
  const { GrantId, GranteePrincipal, Operations, Constraints = {} } = asObject(entry, 'a grant');
  if (typeof GrantId !== 'string' || typeof GranteePrincipal !== 'string')
    throw bad('GrantId and GranteePrincipal');
  if (
    !Array.isArray(Operations) ||
    !Operations.every((name): name is string => typeof name === 'string' && /^[A-Za-z]+$/.test(name))
  ) {
    throw bad('Operations, a list of names');
  }
  const isService = /^[a-z0-9-]+(\.[a-z0-9-]+)+$/.test(GranteePrincipal);
  if (
    !isService &&
    !isUniqueId(GranteePrincipal) &&
    accountOfIdentityArn(GranteePrincipal) === undefined &&
    accountOfRootArn(GranteePrincipal) === undefined
  ) {
    throw bad('a whole principal ARN, or the id of a deleted principal, as GranteePrincipal');
  }
  const constraints = asObject(Constraints, 'Constraints');
  const {
    EncryptionContextEquals: equals,
    EncryptionContextSubset: subset,
    SourceArn: source,
    ...unknown
  } = constraints;
  if (Object.keys(unknown).length > 0)
    throw bad(`known constraints only, not ${Object.keys(unknown).join(', ')}`);
  if (source !== undefined && typeof source !== 'string') throw bad('SourceArn, a string');
  return {
    grantId: GrantId,
    granteePrincipal: GranteePrincipal,
    operations: Operations,
    ...(equals === undefined ? {} : { encryptionContextEquals: stringMap(equals) }),
    ...(subset === undefined ? {} : { encryptionContextSubset: stringMap(subset) }),
    ...(source === undefined ? {} : { sourceArn: source }),
  };
}

function stringMap(value: unknown): Map<string, string> {
  return new Map(
    Object.entries(asObject(value, 'an encryption context')).map(([key, one]) => {
      if (typeof one !== 'string') throw bad('strings in an encryption context');
      return [key, one];
    }),
  );
}

function asObject(value: unknown, what: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw bad(`${what} as an object`);
  return value as Record<string, unknown>;
}

function bad(expected: string): PolicyError {
  return new PolicyError('POLICY_GRANT', `grant: expected ${expected}`);
}
