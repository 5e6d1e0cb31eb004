/** Checks E and F: ways around the enclave in one step, and what lies outside of the policy. */
import { matchesActions } from '../../../shared/policy/actions.ts';
import type { Statement } from '../../../shared/policy/model.ts';
import type { Access, Analysis } from '../analysis.ts';
import { isAttestationKey } from '../attestation-keys.ts';
import type { Severity } from '../report.ts';
import { isMultiRegion } from '../requests/world.ts';
import { isOutside } from '../verdict.ts';
import { type FindingContext, whoOf } from './access.ts';
import { witnessOf } from './witness.ts';

export function escapeFindings(context: FindingContext): void {
  grantFindings(context);
  reEncryptFindings(context);
  replicaFindings(context);
  administratorFindings(context);
  chainFindings(context);
  materialFindings(context);
  delegationFindings(context);
  iamOnlyFindings(context);
  notActionFindings(context);
}

function indexOf({ source }: Access): number | undefined {
  return source.kind === 'statement' ? source.statement.index : undefined;
}

/** Critical for a principal that is not trusted with the policy anyway. */
function severityOf({ reach }: Access, byAdministrator: boolean): Severity {
  return reach === 'account' || byAdministrator ? 'high' : 'critical';
}

function grantFindings({ analysis, judgement, findings, remedies }: FindingContext): void {
  for (const { kind, access, byAdministrator } of judgement.escapes) {
    if (kind !== 'grant') continue;
    const operation = 'operation' in access ? access.operation : 'Decrypt';
    findings.add('grant-escape', severityOf(access, byAdministrator), indexOf(access), {
      why: `${whoOf(access)} may create a grant for ${operation}; a grant carries no attestation condition, so its grantee needs no enclave.`,
      witness: witnessOf(access, `The grantee calls kms:${operation} without a document.`),
      remedy: remedies.denyActions('Deny kms:CreateGrant for everyone.', ['kms:CreateGrant']),
    });
  }
  for (const access of analysis.grantsCovered) {
    if (
      !judgement.escapes.some(
        ({ kind, access: other }) => kind === 'grant' && indexOf(other) === indexOf(access),
      )
    ) {
      findings.add('grant-covered', 'info', indexOf(access), {
        why: 'Grants may be created, but a Deny holds back what they would permit without the image.',
        witness: witnessOf(access),
        remedy: remedies.denyActions('Deny kms:CreateGrant all the same.', ['kms:CreateGrant']),
      });
    }
  }
  for (const access of analysis.serviceGrants) {
    findings.add('aws-service-grant', 'low', indexOf(access), {
      why: `${whoOf(access)} may create grants for AWS services that use the key for it.`,
      witness: witnessOf(access),
      remedy: remedies.none('Leave it out unless a service needs this very key.'),
    });
  }
  const live = analysis.world.grants.filter(({ operations }) =>
    operations.some((name) => /^(?:Decrypt|ReEncryptFrom|DeriveSharedSecret)$/.test(name)),
  );
  const open = new Set(
    [...analysis.unattested, ...analysis.reEncryptEscapes, ...analysis.grantEscapes].flatMap(({ source }) =>
      source.kind === 'grant' ? [source.grant.grantId] : [],
    ),
  );
  const covered = live.filter(({ grantId }) => !open.has(grantId));
  if (covered.length > 0) {
    findings.add('grant-covered', 'info', undefined, {
      why: `The live grant ${covered.map(({ grantId }) => grantId).join(', ')} is held back by a Deny.`,
      remedy: remedies.none('Revoke grants that nothing needs.'),
    });
  }
  for (const access of [...analysis.reEncryptEscapes, ...analysis.grantEscapes]) {
    if (access.source.kind !== 'grant') continue;
    findings.add('grant-existing', 'critical', undefined, {
      why: `The live grant ${access.source.grant.grantId} lets ${access.caller.name} around the enclave with ${access.request.action}.`,
      witness: witnessOf(access),
      remedy: remedies.none(
        `Revoke the grant: aws kms revoke-grant --grant-id ${access.source.grant.grantId}.`,
      ),
    });
  }
  const services = live.filter(({ granteePrincipal }) => !granteePrincipal.startsWith('arn:'));
  for (const { grantId, granteePrincipal } of services) {
    findings.add('grant-existing', 'medium', undefined, {
      why: `The live grant ${grantId} lets ${granteePrincipal} decrypt.`,
      remedy: remedies.none('Revoke it unless that service needs this very key.'),
    });
  }
}

function reEncryptFindings({ analysis, judgement, findings, remedies }: FindingContext): void {
  for (const { kind, access, byAdministrator } of judgement.escapes) {
    if (kind !== 'reencrypt' || access.source.kind === 'grant') continue;
    findings.add('reencrypt-escape', severityOf(access, byAdministrator), indexOf(access), {
      why: `${whoOf(access)} may re-encrypt every ciphertext under another key, and decrypt it there.`,
      witness: witnessOf(access, 'It names a key of its own as destination and decrypts there.'),
      remedy: remedies.denyActions('Deny it unless the destination is this key.', ['kms:ReEncryptFrom'], {
        BoolIfExists: { 'kms:ReEncryptOnSameKey': 'false' },
      }),
    });
  }
  const escaping = new Set(analysis.reEncryptEscapes.map(indexOf));
  for (const access of analysis.reEncryptOnSameKey) {
    if (escaping.has(indexOf(access))) continue;
    findings.add('reencrypt-context', 'low', indexOf(access), {
      why: `${whoOf(access)} may re-encrypt under the same key with another encryption context, so the context separates nothing from it.`,
      witness: witnessOf(access),
      remedy: remedies.none('Keep what must stay apart under different keys.'),
    });
  }
}

function replicaFindings({ analysis, judgement, findings, remedies }: FindingContext): void {
  const multiRegion = isMultiRegion(analysis.world);
  const unknown = multiRegion === undefined;
  const remedy = remedies.denyActions('Deny it for everyone.', [
    'kms:ReplicateKey',
    'kms:UpdatePrimaryRegion',
  ]);
  const escapes = new Map(judgement.escapes.map(({ access, byAdministrator }) => [access, byAdministrator]));
  for (const access of analysis.replications) {
    const severity: Severity =
      multiRegion === true
        ? severityOf(access, escapes.get(access) ?? true)
        : unknown && access.reach !== 'account'
          ? 'medium'
          : 'info';
    findings.add('replica-escape', severity, indexOf(access), {
      why:
        multiRegion === false
          ? 'Replication is allowed, without effect: the key is a single-Region key.'
          : `${whoOf(access)} may replicate the key: the copy has the same material and a policy of its own${unknown ? ', should the key be multi-Region' : ''}.`,
      witness: witnessOf(
        access,
        'It gives a policy of its choosing to the replica and decrypts in that Region.',
      ),
      remedy,
    });
  }
  for (const access of analysis.primaryRegionUpdates) {
    findings.add('replica-escape', multiRegion === true ? 'medium' : 'info', indexOf(access), {
      why: 'The primary Region may be changed; this matters for multi-Region keys only, whose replicas have policies of their own.',
      witness: witnessOf(access),
      remedy,
    });
  }
}

export function administratorFindings({ analysis, judgement, findings, remedies }: FindingContext): void {
  const own = new Set(judgement.selfAdministrators);
  for (const access of analysis.administrators) {
    const index = indexOf(access);
    const witness = witnessOf(access, 'It writes a policy that lets it decrypt.');
    if (own.has(access)) {
      findings.add('self-admin', 'critical', index, {
        why: `${whoOf(access)} may change the key policy, and so lets itself in without an enclave.`,
        witness,
        remedy: remedies.none('Give kms:PutKeyPolicy to a dedicated administrator, or to nobody.'),
      });
      if (access.reach !== 'account') continue;
    }
    if (access.caller.isStranger) {
      findings.add('public-principal', 'critical', index, {
        why: 'Every AWS account may change the key policy.',
        witness,
        remedy: remedies.none('Name the administrator that is meant.'),
      });
      continue;
    }
    const external = access.reach === 'other-account';
    if (external) {
      findings.add('external-account', 'high', index, {
        why: `A principal of account ${access.caller.identity.accountId} may change the key policy.`,
        witness,
        remedy: remedies.none('Keep administration inside the account of the key.'),
      });
    }
    const broad = (access.reach === 'account' && !needsMfa(analysis, access)) || external;
    findings.add('policy-admin', broad ? 'high' : 'medium', index, {
      why:
        access.reach === 'account'
          ? 'The account may change the key policy: any principal whose IAM policy allows kms:PutKeyPolicy can let itself in.'
          : `${whoOf(access)} may change the key policy and so let itself in; it must be trusted, and watched.`,
      witness,
      remedy: remedies.none(
        'Name one dedicated administrator, with MFA, and review the trail for PutKeyPolicy.',
      ),
    });
  }
}

/** Whether the right is lost without multi-factor authentication. */
function needsMfa({ asker }: Analysis, access: Access): boolean {
  const withoutMfa = asker.findVia(access.source, {
    ...access.question,
    fixed: { 'aws:multifactorauthpresent': [[], ['false']] },
  });
  return withoutMfa === undefined;
}

function chainFindings({ judgement, findings, remedies }: FindingContext): void {
  for (const { roles, opens, what } of judgement.chains) {
    findings.add('role-chain', opens === 'somebody' ? 'medium' : 'critical', undefined, {
      why: `${opens === 'anybody' ? 'Anybody' : roles[0]} can become ${roles.slice(1).join(', then ')}, who ${what}.`,
      remedy: remedies.none(`Narrow the trust policy of ${roles.at(-1)}.`),
    });
  }
}

function materialFindings({ analysis, findings, remedies }: FindingContext): void {
  const { origin = 'AWS_KMS', customKeyStoreId } = analysis.world.metadata;
  if (isOutside(analysis)) {
    findings.add('imported-material', 'high', undefined, {
      why:
        origin === 'EXTERNAL'
          ? 'The key material was imported, so somebody had it outside of KMS; no policy keeps them from it.'
          : `The key is in a custom key store (${origin}${customKeyStoreId === undefined ? '' : `, ${customKeyStoreId}`}): whoever runs that store can use it without KMS.`,
      remedy: remedies.none('Use a key whose material KMS made and keeps.'),
    });
  }
  for (const access of analysis.imports) {
    findings.add('imported-material', origin === 'EXTERNAL' ? 'high' : 'info', indexOf(access), {
      why:
        origin === 'EXTERNAL'
          ? `${whoOf(access)} may import key material that is known outside of KMS.`
          : 'Importing key material is allowed; this matters for keys of origin EXTERNAL only.',
      witness: witnessOf(access),
      remedy: remedies.denyActions('Deny it for everyone.', ['kms:ImportKeyMaterial']),
    });
  }
}

/** An account statement that hands over an escape, also where plain Decrypt is covered. */
function delegationFindings({ judgement, findings, remedies }: FindingContext): void {
  for (const { access, kind } of judgement.escapes) {
    const index = indexOf(access);
    if (access.reach !== 'account' || kind !== 'grant') continue;
    findings.add('account-delegation', 'high', index, {
      why: 'The account is allowed a way around the enclave, so IAM decides who takes it.',
      witness: witnessOf(access),
      remedy: remedies.denyActions('Deny the ways around the enclave for everyone.'),
    });
  }
}

/** The document is asked for where the next IAM policy undoes it. */
function iamOnlyFindings({ analysis, findings, remedies }: FindingContext): void {
  const { world, unattested } = analysis;
  if (
    world.keyPolicy.statements.some(({ conditions }) => conditions.some(({ key }) => isAttestationKey(key)))
  )
    return;
  const inIam = [...world.iamPolicies.values()]
    .flat()
    .some(({ policy }) =>
      policy.statements.some(({ conditions }) => conditions.some(({ key }) => isAttestationKey(key))),
    );
  if (!inIam) return;
  for (const access of unattested) {
    if (access.reach !== 'account') continue;
    findings.add('attestation-in-iam-only', 'high', indexOf(access), {
      why: 'The image is pinned in an IAM policy only; the key policy demands nothing, so every other IAM policy that allows kms:Decrypt opens the key.',
      witness: witnessOf(access),
      remedy: remedies.denyOthers('Demand the image in the key policy.'),
    });
  }
}

const WATCHED = [
  'kms:Decrypt',
  'kms:ReEncryptFrom',
  'kms:CreateGrant',
  'kms:PutKeyPolicy',
  'kms:ReplicateKey',
  'kms:GenerateDataKey',
];

function notActionFindings({ analysis, judgement, findings, remedies }: FindingContext): void {
  for (const statement of analysis.world.keyPolicy.statements) {
    if (statement.effect !== 'Allow' || statement.actions?.negated !== true) continue;
    const through = WATCHED.filter((action) =>
      matchesActions(statement.actions ?? { negated: false, entries: [] }, action),
    );
    if (through.length === 0) continue;
    const effective = reaches(statement, [
      ...analysis.unattested,
      ...judgement.escapes.filter(({ byAdministrator }) => !byAdministrator).map(({ access }) => access),
    ]);
    findings.add('notaction-gap', effective ? 'high' : 'medium', statement.index, {
      why: `NotAction lets in everything else: ${through.join(', ')}.`,
      remedy: remedies.none('List the actions that are meant.'),
    });
  }
}

function reaches(statement: Statement, list: readonly Access[]): boolean {
  return list.some(({ source }) => source.kind === 'statement' && source.statement === statement);
}
