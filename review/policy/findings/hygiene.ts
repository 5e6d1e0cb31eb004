/** Checks H and I: data keys, integrity, availability, and what a careful policy has besides. */

import { type Access, type Analysis, mentionsAttestation } from '../analysis.ts';
import { isAttestationKey } from '../attestation-keys.ts';
import type { Severity } from '../report.ts';
import { type FindingContext, whoOf } from './access.ts';
import { witnessOf } from './witness.ts';

export function hygieneFindings(context: FindingContext): void {
  dataKeyFindings(context);
  encryptionFindings(context);
  availabilityFindings(context);
  otherReleaseFindings(context);
  backstopFinding(context);
  hostBindingFinding(context);
  lockoutFinding(context);
  rotationFinding(context);
}

function indexOf({ source }: Access): number | undefined {
  return source.kind === 'statement' ? source.statement.index : undefined;
}

function dataKeyFindings({ analysis, findings, remedies }: FindingContext): void {
  for (const access of analysis.dataKeys) {
    const broad = access.request.action === 'kms:DeriveSharedSecret';
    const byHost = access.caller.isHost && access.reach !== 'account';
    const severity: Severity = byHost || broad ? 'high' : 'medium';
    const detail = {
      why: `${whoOf(access)} gets plaintext of ${access.request.action} without a document: data sealed under such a key is open to it.`,
      witness: witnessOf(access),
      remedy: remedies.denyOthers('Demand the image for every action that can carry a document.'),
    };
    // A secret that is derived without an enclave matters for key-agreement keys, whose metadata then says so.
    if (broad && access.reach !== 'account') continue;
    findings.add('unattested-datakey', severity, indexOf(access), detail);
    if (access.reach === 'account' && access.caller.iamFrom === 'supplied') {
      findings.add('unattested-datakey', 'medium', undefined, {
        ...detail,
        why: `The supplied IAM policy of ${access.caller.name} allows ${access.request.action} without a document.`,
      });
    }
  }
}

function encryptionFindings({ analysis, findings, remedies }: FindingContext): void {
  for (const access of analysis.encryption) {
    if (access.reach === 'account') continue;
    const { caller, request, source } = access;
    const bound =
      source.kind === 'statement' &&
      source.statement.conditions.some(({ key }) => /^kms:encryptioncontext/i.test(key));
    const severity: Severity =
      request.action !== 'kms:Encrypt' ? 'info' : caller.isHost && !bound ? 'medium' : 'low';
    findings.add('integrity-encrypt', severity, indexOf(access), {
      why: `${whoOf(access)} can make ciphertexts that the enclave accepts: ${request.action} takes no document.`,
      witness: witnessOf(access),
      remedy: remedies.none(
        'Give it to the one who seals, bind it to an encryption context, and let the enclave check signatures.',
      ),
    });
  }
}

function availabilityFindings({ analysis, judgement, findings, remedies }: FindingContext): void {
  const administrators = new Set(analysis.administrators.map(({ caller }) => caller.identity.arn));
  for (const access of analysis.availability) {
    const { caller, reach, request } = access;
    if (administrators.has(caller.identity.arn) && !caller.isHost) continue;
    if (reach === 'account' && judgement.verdict.startsWith('DELEGATED')) continue;
    findings.add('availability', caller.isHost && reach !== 'account' ? 'medium' : 'low', indexOf(access), {
      why: `${whoOf(access)} may stop the service with ${request.action}.`,
      witness: witnessOf(access),
      remedy: remedies.none('Give it to the administrator alone.'),
    });
  }
}

/** Another release that may seal, though not open. */
function otherReleaseFindings({ analysis, judgement, findings, remedies }: FindingContext): void {
  const { asker, callers, attestations, primaryAction } = analysis;
  if (primaryAction === undefined || primaryAction === 'kms:GenerateDataKey') return;
  const others = attestations.filter(({ kind }) => kind === 'named-image');
  for (const source of asker.sources) {
    if (source.kind === 'grant' || !mentionsAttestation(source)) continue;
    if (!asker.covers(source.statement, 'kms:GenerateDataKey')) continue;
    if (judgement.otherImages.some((one) => one.source === source)) continue;
    for (const attestation of others) {
      const found = firstOf(callers, (caller) =>
        asker.findVia(source, { caller, action: 'kms:GenerateDataKey', attestation }),
      );
      if (found === undefined) continue;
      findings.add('extra-image', 'info', source.statement.index, {
        why: `${attestation.name} may make data keys, and not open what is sealed.`,
        witness: witnessOf(found),
        remedy: remedies.none('Leave it out once nothing is sealed by it any more.'),
      });
      break;
    }
  }
}

function firstOf<T, R>(list: readonly T[], find: (one: T) => R | undefined): R | undefined {
  for (const one of list) {
    const found = find(one);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** Whether the next Allow, IAM policy or grant would undo it all. */
function backstopFinding({ analysis, findings, remedies }: FindingContext): void {
  const { world, primaryAction, asker } = analysis;
  const { statements } = world.keyPolicy;
  if (primaryAction === undefined) return;
  if (!statements.some(({ conditions }) => conditions.some(({ key }) => isAttestationKey(key)))) return;
  const isBacked = statements.some(
    (statement) =>
      statement.effect === 'Deny' &&
      asker.covers(statement, primaryAction) &&
      statement.conditions.length > 0 &&
      statement.conditions.every(({ key }) => isAttestationKey(key)) &&
      statement.principals?.negated === false &&
      statement.principals.entries.some(({ kind }) => kind === 'everyone'),
  );
  if (isBacked) return;
  const exploited = analysis.unattested.some(({ source }) => source.kind === 'grant');
  findings.add('no-deny-backstop', exploited ? 'high' : 'info', undefined, {
    why: 'The document is asked for in Allow statements only, so a grant or a later Allow lets others in.',
    remedy: remedies.denyOthers('Add one Deny per register for everyone.'),
  });
}

function hostBindingFinding({ analysis, findings, remedies }: FindingContext): void {
  const unbound = analysis.attested.find(
    ({ attestation }) =>
      attestation.kind === 'reviewed-elsewhere' && attestation.name.endsWith('another host'),
  );
  if (unbound === undefined) return;
  findings.add('no-host-binding', 'info', undefined, {
    why: 'Neither PCR3 nor PCR4 is pinned: the image may run on any instance that gets the role.',
    witness: witnessOf(unbound),
    remedy: remedies.none('Pin PCR3 of the role of the parent instance.'),
  });
}

const MANAGEMENT = [
  'kms:ScheduleKeyDeletion',
  'kms:DisableKey',
  'kms:EnableKey',
  'kms:CancelKeyDeletion',
  'kms:EnableKeyRotation',
];

function lockoutFinding({ analysis, judgement, findings, remedies }: FindingContext): void {
  const { administrators, world, asker, callers } = analysis;
  if (administrators.length > 0) return;
  const intended = world.keyPolicy.statements.some(
    (statement) =>
      statement.effect === 'Allow' &&
      asker.covers(statement, 'kms:PutKeyPolicy') &&
      !statement.conditions.some(({ key }) => isAttestationKey(key)),
  );
  const isManaged = MANAGEMENT.some((action) => isAllowed(analysis, action));
  const severity: Severity =
    judgement.verdict === 'DEAD' || intended ? 'high' : isManaged ? 'info' : 'medium';
  const somebody = callers.find(({ isNamed }) => isNamed) ?? callers[0];
  findings.add('lockout', severity, undefined, {
    why: intended
      ? 'The statement that was meant for an administrator lets nobody change the policy.'
      : 'Nobody can change the policy: the key cannot be repaired but by AWS Support. That may be deliberate.',
    witness:
      somebody === undefined
        ? undefined
        : witnessOf(asker.answer({ caller: somebody, action: 'kms:PutKeyPolicy' })),
    remedy: remedies.none('Name a dedicated administrator, unless the policy is meant to be final.'),
  });
}

function isAllowed({ asker, callers }: Analysis, action: string): boolean {
  return callers.some((caller) => asker.find({ caller, action }) !== undefined);
}

function rotationFinding({ analysis, findings, remedies }: FindingContext): void {
  if (analysis.world.metadata.keyRotationEnabled !== false) return;
  findings.add('rotation-off', 'info', undefined, {
    why: 'The key material is never rotated.',
    remedy: remedies.none('Turn rotation on; it changes nothing for what is sealed already.'),
  });
}
