/** CreateGrant, ListGrants, RevokeGrant (AWS KMS API reference, the pages of these names). */
import { randomBytes } from 'node:crypto';
import { codeOf } from '../../../shared/errors.ts';
import { parseGrant } from '../../../shared/policy/grants.ts';
import type { Grant } from '../../../shared/policy/model.ts';
import { isUniqueId } from '../../../shared/policy/principals.ts';
import { accessDenied, authorize, decideCall, type Question } from '../authorize.ts';
import { type Answer, type Call, keyOnly, wireTime } from '../call.ts';
import { KmsException, validation } from '../exception.ts';
import type { SimulatedKey, StoredGrant } from '../keys.ts';
import { pageOf, requireKnownGrantTokens, stopDryRun } from './common.ts';

/** Operations that a grant on a symmetric encryption key may name (KMS developer guide, "Grant operations"). */
const GRANTABLE: readonly string[] = [
  'CreateGrant',
  'Decrypt',
  'DescribeKey',
  'Encrypt',
  'GenerateDataKey',
  'GenerateDataKeyPair',
  'GenerateDataKeyPairWithoutPlaintext',
  'GenerateDataKeyWithoutPlaintext',
  'ReEncryptFrom',
  'ReEncryptTo',
  'RetireGrant',
];

export function createGrant(call: Call): Answer {
  const { input, note, caller } = call;
  const key = keyOnly(call, 'KeyId');
  const grantee = input.requiredString('GranteePrincipal', { max: 256 });
  const retiring = input.string('RetiringPrincipal', { max: 256 });
  const operations = readOperations(call);
  const constraints = readConstraints(call);
  const name = input.string('Name', { max: 256 });
  requireKnownGrantTokens(call);
  const dryRun = input.flag('DryRun');
  input.end();

  const wanted = {
    KeyId: key.arn,
    ...(name === undefined ? {} : { Name: name }),
    GranteePrincipal: grantee,
    ...(retiring === undefined ? {} : { RetiringPrincipal: retiring }),
    IssuingAccount: `arn:aws:iam::${caller.identity.accountId}:root`,
    Operations: operations,
    ...(constraints === undefined ? {} : { Constraints: constraints }),
  };
  note.requestParameters = {
    keyId: key.arn,
    granteePrincipal: grantee,
    ...(retiring === undefined ? {} : { retiringPrincipal: retiring }),
    operations,
    ...(constraints === undefined ? {} : { constraints: lowerFirst(constraints) }),
  };
  const id = randomBytes(32).toString('hex');
  const grant = readGrant({ ...wanted, GrantId: id });
  authorizeGrant(call, grant, {
    key,
    context: {
      'kms:GranteePrincipal': [grantee],
      ...(retiring === undefined ? {} : { 'kms:RetiringPrincipal': [retiring] }),
      'kms:GrantOperations': operations,
      'kms:GrantIsForAWSResource': ['false'],
      ...constraintContext(constraints),
    },
  });
  if (dryRun) stopDryRun();

  const stored = sameGrant(key, name, wanted) ?? {
    entry: { ...wanted, GrantId: id, CreationDate: wireTime(call.at) },
    token: randomBytes(96).toString('base64'),
    grant,
  };
  key.grants.set(stored.entry.GrantId, stored);
  note.responseElements = { grantId: stored.entry.GrantId };
  return { GrantId: stored.entry.GrantId, GrantToken: stored.token };
}

export function listGrants(call: Call): Answer {
  const { input, note } = call;
  const key = keyOnly(call, 'KeyId');
  const page = pageOf(call, { most: 100, usual: 50 });
  const grantId = input.string('GrantId', { max: 128 });
  const grantee = input.string('GranteePrincipal', { max: 256 });
  input.end();
  note.requestParameters = { keyId: key.arn };
  authorize(call, { key });
  const grants = [...key.grants.values()].filter(
    ({ entry, grant }) =>
      (grantId ?? entry.GrantId) === entry.GrantId &&
      (grantee ?? grant.granteePrincipal) === grant.granteePrincipal,
  );
  return page(
    'Grants',
    grants,
    ({ entry }) => entry.GrantId,
    ({ entry }) => entry,
  );
}

export function revokeGrant(call: Call): Answer {
  const { input, note } = call;
  const key = keyOnly(call, 'KeyId');
  const grantId = input.requiredString('GrantId', { max: 128 });
  const dryRun = input.flag('DryRun');
  input.end();
  note.requestParameters = { keyId: key.arn, grantId };
  authorize(call, { key, context: { 'kms:GrantIsForAWSResource': ['false'] } });
  if (!key.grants.has(grantId)) throw new KmsException('NotFoundException', `Grant ID ${grantId} not found`);
  if (dryRun) stopDryRun();
  key.grants.delete(grantId);
  return {};
}

/**
 * A caller whose only right to CreateGrant comes from a grant may hand on what that grant gives, as strict or
 * stricter, and no more (KMS developer guide, "Granting CreateGrant permission").
 */
function authorizeGrant(
  call: Call,
  wanted: Grant,
  question: Question & { readonly key: SimulatedKey },
): void {
  authorize(call, question);
  if (decideCall(call, question, { grants: 'ignored' }).allowed) return;
  const { identity } = call.caller;
  const parents = [...question.key.grants.values()]
    .map(({ grant }) => grant)
    .filter(
      ({ granteePrincipal, operations }) =>
        operations.includes('CreateGrant') &&
        (granteePrincipal === identity.arn || granteePrincipal === identity.sessionArn),
    );
  if (parents.some((parent) => isNoWider(wanted, parent))) return;
  const message = `User: ${identity.sessionArn ?? identity.arn} is not authorized to perform: kms:CreateGrant on resource: ${question.key.arn} because no resource-based policy allows the kms:CreateGrant action`;
  throw accessDenied({
    message,
    explanation: [
      'The right to CreateGrant comes from a grant, and the new grant would be wider than it: more operations or looser constraints.',
    ],
  });
}

function isNoWider(child: Grant, parent: Grant): boolean {
  if (!child.operations.every((operation) => parent.operations.includes(operation))) return false;
  if (parent.sourceArn !== undefined && child.sourceArn !== parent.sourceArn) return false;
  const { encryptionContextEquals: equals, encryptionContextSubset: subset } = parent;
  if (equals !== undefined) {
    const own = child.encryptionContextEquals;
    if (own === undefined || own.size !== equals.size || !holds(own, equals)) return false;
  }
  if (subset === undefined) return true;
  return [child.encryptionContextEquals, child.encryptionContextSubset].some(
    (own) => own !== undefined && holds(own, subset),
  );
}

function holds(whole: ReadonlyMap<string, string>, part: ReadonlyMap<string, string>): boolean {
  return [...part].every(([name, value]) => whole.get(name) === value);
}

function readOperations({ input }: Call): string[] {
  const operations = [...new Set(input.strings('Operations', { max: 64 }) ?? [])];
  if (operations.length === 0) throw validation('operations', 'Member must not be empty');
  const unknown = operations.filter((operation) => !GRANTABLE.includes(operation));
  if (unknown.length > 0) {
    throw validation('operations', `Member must satisfy enum value set: [${GRANTABLE.join(', ')}]`, [
      `Not grantable on a symmetric encryption key: ${unknown.join(', ')}.`,
    ]);
  }
  return operations;
}

interface Constraints {
  readonly EncryptionContextEquals?: Readonly<Record<string, string>>;
  readonly EncryptionContextSubset?: Readonly<Record<string, string>>;
  readonly SourceArn?: string;
}

function readConstraints({ input }: Call): Constraints | undefined {
  const member = input.object('Constraints');
  if (member === undefined) return undefined;
  const equals = member.stringMap('EncryptionContextEquals');
  const subset = member.stringMap('EncryptionContextSubset');
  const sourceArn = member.string('SourceArn', { max: 2048 });
  member.end();
  return {
    ...(equals === undefined ? {} : { EncryptionContextEquals: Object.fromEntries(equals) }),
    ...(subset === undefined ? {} : { EncryptionContextSubset: Object.fromEntries(subset) }),
    ...(sourceArn === undefined ? {} : { SourceArn: sourceArn }),
  };
}

function constraintContext(constraints: Constraints | undefined): Record<string, string[]> {
  const types = Object.keys(constraints ?? {}).filter((name) => name !== 'SourceArn');
  const sourceArn = constraints?.SourceArn;
  return {
    ...(types.length === 0 ? {} : { 'kms:GrantConstraintType': types }),
    ...(sourceArn === undefined ? {} : { 'kms:GrantConstraintSourceArn': [sourceArn] }),
  };
}

function readGrant(entry: unknown): Grant {
  let grant: Grant;
  try {
    grant = parseGrant(entry);
  } catch (error) {
    if (codeOf(error) !== 'POLICY_GRANT') throw error;
    throw invalidArn((error as Error).message);
  }
  // ListGrants shows the id of a deleted principal; nobody can be named by it.
  if (isUniqueId(grant.granteePrincipal)) throw invalidArn('grant: expected an ARN, found an id');
  return grant;
}

function invalidArn(explanation: string): KmsException {
  return new KmsException('InvalidArnException', 'ARN does not refer to a valid principal', {
    explanation: [explanation],
  });
}

/** A grant of the same name and content is not made twice (KMS API reference, CreateGrant, Name). */
function sameGrant(key: SimulatedKey, name: string | undefined, wanted: object): StoredGrant | undefined {
  if (name === undefined) return undefined;
  return [...key.grants.values()].find(({ entry }) => {
    const { GrantId: _id, CreationDate: _date, ...content } = entry;
    return JSON.stringify(content) === JSON.stringify(wanted);
  });
}

function lowerFirst(members: Constraints): Readonly<Record<string, unknown>> {
  return Object.fromEntries(
    Object.entries(members).map(([name, value]) => [
      `${name.charAt(0).toLowerCase()}${name.slice(1)}`,
      value,
    ]),
  );
}
