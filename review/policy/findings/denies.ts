/** Check D: what the Denies that speak of documents really hold back. */

import { contextOf } from '../../../shared/policy/context.ts';
import type { Condition, Statement } from '../../../shared/policy/model.ts';
import { matchPrincipals } from '../../../shared/policy/principals.ts';
import { evaluateStatement } from '../../../shared/policy/statement.ts';
import type { Access } from '../analysis.ts';
import { isAttestationKey } from '../attestation-keys.ts';
import type { Severity } from '../report.ts';
import { type FindingContext, whoOf } from './access.ts';
import { witnessOf } from './witness.ts';

/** As many accesses as are held against each Deny. */
const EXAMPLES_MAX = 100;

export function denyFindings(context: FindingContext): void {
  const { analysis, judgement } = context;
  const denies = analysis.world.keyPolicy.statements.filter(
    ({ effect, conditions }) => effect === 'Deny' && conditions.some(({ key }) => isAttestationKey(key)),
  );
  const bad = [...analysis.unattested, ...judgement.otherImages].slice(0, EXAMPLES_MAX);
  for (const deny of denies) {
    for (const access of bad) nearMiss(context, deny, access);
    coverage(context, deny);
    for (const condition of deny.conditions) setOperator(context, deny, condition);
  }
}

/** A Deny that names the request, and of whose conditions some hold and others do not. */
function nearMiss({ analysis, findings, remedies }: FindingContext, deny: Statement, access: Access): void {
  const { version } = analysis.world.keyPolicy;
  const { request } = access;
  const outcome = evaluateStatement(deny, version, request, request.keyArn, contextOf(request));
  if (!outcome.actionMatches || !outcome.resourceMatches || outcome.principal === 'none') return;
  const holding = outcome.conditions.filter(({ holds }) => holds);
  const failing = outcome.conditions.filter(({ holds }) => !holds);
  const about = ({ condition }: { condition: Condition }) => isAttestationKey(condition.key);
  const severity: Severity = access.reach === 'account' ? 'high' : 'critical';
  if (holding.some(about) && failing.length > 0) {
    findings.add('deny-conjunction', severity, deny.index, {
      why: `This Deny fires only when all of its conditions hold. ${whoOf(access)} passes because ${failing.map(({ condition }) => `${condition.operator.name} on ${condition.key}`).join(' and ')} does not hold.`,
      witness: witnessOf(access),
      conditions: deny.conditions,
      remedy: remedies.split(deny, 'Write one Deny per register, each with one condition.'),
    });
    return;
  }
  const silent = failing.filter(
    ({ condition, found }) => about({ condition }) && condition.operator.set === 'any' && found.length === 0,
  );
  if (silent.length > 0) {
    findings.add('deny-set-operator', severity, deny.index, {
      why: `${silent[0]?.condition.operator.name} is false when the request has no such key, so this Deny is silent without a document.`,
      witness: witnessOf(access),
      conditions: silent.map(({ condition }) => condition),
      remedy: remedies.split(deny, 'Leave the set operator out: the key has one value.'),
    });
  }
}

function setOperator({ findings, remedies }: FindingContext, deny: Statement, condition: Condition): void {
  const { operator, key } = condition;
  if (!isAttestationKey(key) || operator.set !== 'any' || findings.has('deny-set-operator', deny.index))
    return;
  findings.add('deny-set-operator', 'medium', deny.index, {
    why: `${operator.name} is false when the request has no ${key}, so this Deny is silent without a document.`,
    conditions: [condition],
    remedy: remedies.split(deny, 'Leave the set operator out: the key has one value.'),
  });
}

const YIELDING = [
  'kms:Decrypt',
  'kms:ReEncryptFrom',
  'kms:DeriveSharedSecret',
  'kms:GenerateDataKey',
  'kms:GenerateDataKeyPair',
];

/** A Deny that demands a document for some of the actions that yield plaintext, and leaves out others. */
function coverage({ analysis, judgement, findings, remedies }: FindingContext, deny: Statement): void {
  const { asker, world } = analysis;
  if (!YIELDING.some((action) => asker.covers(deny, action))) return;
  const denied = (action: string) =>
    world.keyPolicy.statements.some(
      (statement) =>
        statement.effect === 'Deny' &&
        asker.covers(statement, action) &&
        (statement.conditions.length === 0 ||
          statement.conditions.some(({ key }) => isAttestationKey(key) || /reencryptonsamekey/i.test(key))),
    );
  const left = YIELDING.filter((action) => !denied(action));
  const narrow = deny.principals !== undefined && !coversEverybody(deny);
  if (left.length === 0 && !narrow) return;
  const grantOf = (access: Access) =>
    'operation' in access ? `kms:${access.operation}` : access.request.action;
  const reached = judgement.escapes.filter(
    ({ access, byAdministrator, kind }) =>
      access.reach !== 'account' && !byAdministrator && kind !== 'replica' && left.includes(grantOf(access)),
  );
  const dataKeys = analysis.dataKeys.filter(
    ({ reach, request }) => reach !== 'account' && left.includes(request.action),
  );
  const misses = narrow && analysis.unattested.length > 0;
  const severity: Severity = reached.length > 0 ? 'high' : dataKeys.length > 0 || misses ? 'medium' : 'low';
  const example = reached[0]?.access ?? dataKeys[0];
  findings.add('deny-coverage', severity, deny.index, {
    why:
      left.length === 0
        ? 'This Deny is for some principals only; the others are not covered.'
        : `No Deny demands a document for ${left.join(', ')}${example === undefined ? ', which no Allow gives to a named principal without one' : ''}.`,
    witness: example === undefined ? undefined : witnessOf(example),
    remedy: left.includes('kms:ReEncryptFrom')
      ? remedies.denyActions(
          'Deny these as well, re-encryption unless on the same key.',
          ['kms:ReEncryptFrom'],
          {
            BoolIfExists: { 'kms:ReEncryptOnSameKey': 'false' },
          },
        )
      : remedies.denyOthers('Demand the image for every action that can carry a document.'),
  });
}

function coversEverybody({ principals }: Statement): boolean {
  const stranger = { arn: 'arn:aws:iam::999988887777:role/Stranger', accountId: '999988887777' };
  return principals === undefined || matchPrincipals(principals, stranger, 'Deny') !== 'none';
}
