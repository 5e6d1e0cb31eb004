/** Checks B and C: plaintext without a document, and with another document than the reviewed image's. */
import type { Condition, Statement } from '../../../shared/policy/model.ts';
import type { Access, Analysis, AttestedAccess } from '../analysis.ts';
import { mentionsAttestation } from '../analysis.ts';
import {
  CONSTANT_REGISTERS,
  isAttestationKey,
  registerOfKey,
  shownRegister,
  USER_REGISTERS,
} from '../attestation-keys.ts';
import type { Severity } from '../report.ts';
import { asksForImage, type Judgement } from '../verdict.ts';
import type { Findings } from './collect.ts';
import type { Remedies } from './remedies.ts';
import { witnessOf } from './witness.ts';

export interface FindingContext {
  readonly analysis: Analysis;
  readonly judgement: Judgement;
  readonly findings: Findings;
  readonly remedies: Remedies;
}

export function accessFindings(context: FindingContext): void {
  for (const access of context.analysis.unattested) unattestedFindings(context, access);
  for (const access of context.analysis.throughService) serviceFindings(context, access);
  for (const { index, principals } of context.analysis.serviceStatements) {
    context.findings.add('via-service-path', 'high', index, {
      why: `The service ${(principals?.entries ?? []).map(({ text }) => text).join(', ')} decrypts without an enclave, for whoever may use it.`,
      remedy: context.remedies.none('Use another key for the service than for the sealed models.'),
    });
  }
  for (const access of context.judgement.otherImages) imageFindings(context, access);
  for (const access of context.analysis.attested) {
    // A statement that speaks of documents and takes any of them, or none.
    const isAny = access.attestation.kind === 'any-image' && access.reach !== 'account';
    if (isAny && mentionsAttestation(access.source)) imageFindings(context, access);
  }
  contentPinFindings(context);
  identityPolicyImages(context);
  externalFindings(context);
  deploymentFindings(context);
}

/** Who it is, and who else gets the same. */
export function whoOf({ caller, alike }: Access): string {
  return alike.length === 0 ? `The ${caller.name}` : `The ${caller.name} (and ${alike.length} more like it)`;
}

function unattestedFindings(context: FindingContext, access: Access): void {
  const { findings, remedies } = context;
  const { source, reach, caller, request } = access;
  const witness = witnessOf(access);
  const verb = request.action === 'kms:Decrypt' ? 'decrypts' : 'gets the shared secret';
  if (source.kind === 'grant') {
    findings.add('grant-existing', 'critical', undefined, {
      why: `${whoOf(access)} ${verb} without an enclave through the live grant ${source.grant.grantId}: grants carry no attestation condition.`,
      witness,
      remedy: remedies.none(`Revoke the grant: aws kms revoke-grant --grant-id ${source.grant.grantId}.`),
    });
    return;
  }
  const { statement } = source;
  if (reach === 'account') {
    findings.add('account-delegation', 'high', statement.index, {
      why: 'The account is allowed this without a document, so IAM decides: any principal of the account whose IAM policy allows it decrypts with no enclave.',
      witness,
      remedy: remedies.denyOthers('Deny every request without the image, for everyone.'),
    });
    if (caller.identity.arn.endsWith(':root')) {
      findings.add('root-user', 'medium', statement.index, {
        why: 'The root user of the account decrypts without an enclave and without any IAM policy.',
        witness,
        remedy: remedies.denyOthers('Deny every request without the image, for everyone.'),
      });
    }
    return;
  }
  const holes = permissiveConditions(statement);
  findings.add('unattested-plaintext', 'critical', statement.index, {
    why: `${whoOf(access)} ${verb} without an enclave: ${reasonOf(statement, holes)}.`,
    witness,
    conditions: holes,
    remedy: remedies.pin(
      statement,
      'Pin the image here, and back it with one Deny per register for everyone.',
    ),
  });
  if (statement.principals?.negated) {
    findings.add('notprincipal', 'critical', statement.index, {
      why: 'NotPrincipal with Allow is everybody else in the world.',
      witness,
      remedy: remedies.remove(statement, 'Name the principals that are meant.'),
    });
  }
  if (caller.isStranger) {
    findings.add('public-principal', 'critical', statement.index, {
      why: 'Every principal of every AWS account gets plaintext without an enclave.',
      witness,
      remedy: remedies.remove(statement, 'Name the principals that are meant.'),
    });
  }
  for (const condition of holes) holeFindings(context, statement, condition, access);
}

function reasonOf(statement: Statement, holes: readonly Condition[]): string {
  if (holes.length > 0) {
    const names = [...new Set(holes.map(({ operator, key }) => `${operator.name} on ${key}`))];
    return `${names.join(', ')} holds for a request that has no such key`;
  }
  return statement.conditions.length === 0
    ? 'the statement has no condition'
    : 'no condition asks for a document';
}

/** Conditions on keys that an unattested request lacks, and that hold all the same. */
export function permissiveConditions({ conditions }: Statement): Condition[] {
  return conditions.filter(
    ({ key, operator, values }) =>
      (isAttestationKey(key) || /attest/i.test(key)) &&
      (operator.ifExists ||
        operator.set === 'all' ||
        (operator.negated && operator.set !== 'any') ||
        (operator.comparison === 'null' && values.some((value) => /^true$/i.test(value)))),
  );
}

function holeFindings(
  { findings, remedies }: FindingContext,
  statement: Statement,
  condition: Condition,
  access: Access,
): void {
  const { operator, key } = condition;
  const detail = {
    witness: witnessOf(access),
    conditions: [condition],
    remedy: remedies.pin(
      statement,
      'Use StringEqualsIgnoreCase without IfExists and without a set operator.',
    ),
  };
  if (operator.set !== undefined) {
    findings.add('set-operator-single-value', 'high', statement.index, {
      why: `${operator.name} holds when the request has no ${key} at all.`,
      ...detail,
    });
  }
  findings.add('ineffective-condition', 'high', statement.index, {
    why: `${operator.name} on ${key} lets a request without a document in, so it demands nothing.`,
    ...detail,
  });
}

function serviceFindings({ findings, remedies }: FindingContext, access: Access): void {
  const { source } = access;
  const statement = source.kind === 'statement' ? source.statement : undefined;
  const severity: Severity = access.caller.isStranger ? 'critical' : 'high';
  findings.add('via-service-path', severity, statement?.index, {
    why: `${whoOf(access)} gets plaintext through an AWS service without an enclave: whatever that service stores under this key.`,
    witness: witnessOf(access),
    conditions: statement?.conditions.filter(({ key }) => /viaservice|calledvia/i.test(key)) ?? [],
    remedy:
      statement === undefined
        ? remedies.none('Revoke the grant.')
        : remedies.remove(statement, 'Use another key for the service than for the sealed models.'),
  });
}

function imageFindings(context: FindingContext, access: AttestedAccess): void {
  const { findings, remedies, analysis } = context;
  const { source, attestation } = access;
  const statement = source.kind === 'statement' ? source.statement : undefined;
  const index = statement?.index;
  const witness = witnessOf(access);
  const remedy =
    statement === undefined
      ? remedies.none('Revoke the grant.')
      : remedies.pin(statement, 'Pin PCR0 of the reviewed image, one value, with StringEqualsIgnoreCase.');
  const about = statement?.conditions.filter(({ key }) => isAttestationKey(key)) ?? [];
  const add = (code: Parameters<Findings['add']>[0], severity: Severity, why: string) =>
    findings.add(code, severity, index, { why, witness, conditions: about, remedy });

  if (access.byCopy) {
    add('variable-pin', 'high', 'The value is a policy variable: whoever sets it chooses the image.');
    return;
  }
  switch (attestation.kind) {
    case 'any-image':
      if (attestation.platform === 'nitro-tpm') {
        add('other-platform', 'high', 'Any instance with a NitroTPM gets the key; it has an operator on it.');
      }
      add(
        'any-image',
        'critical',
        `${whoOf(access)} gets the key with any image that somebody builds: a document is required, the image is not.`,
      );
      if (statement !== undefined) registerOnlyFindings(statement, add);
      return;
    case 'same-kernel':
      partialFindings(context, access, add, 'PCR1', 'application');
      return;
    case 'same-application':
      partialFindings(context, access, add, 'PCR2', 'kernel');
      return;
    case 'same-signer':
      // Where any image passes, those of the signer are no news.
      if (!findings.has('any-image', index))
        add(
          'signer-only',
          'high',
          'Every image that was ever signed with this certificate passes, old and vulnerable ones too.',
        );
      return;
    case 'debug':
      add(
        'debug-image',
        'critical',
        'A debug enclave measures as zero and passes; its console is open to the host.',
      );
      return;
    case 'debug-populated':
      if (asksForImage(source)) {
        add(
          'debug-image',
          'critical',
          'A debug enclave measures as zero and passes; its console is open to the host.',
        );
      } else {
        add(
          'debug-unproven',
          'high',
          'Only PCR3, PCR4 or PCR8 is pinned. Whether these are zero in debug mode is contested, so debug mode is not excluded.',
        );
      }
      return;
    case 'pattern-image':
      add('weak-pin', 'critical', 'A pattern takes more than one digest, and a short one can be ground.');
      return;
    case 'other-platform':
      add(
        'other-platform',
        'high',
        'An EC2 instance that attests with NitroTPM gets the key as well; it has an operator on it.',
      );
      return;
    case 'named-image': {
      const excluded = analysis.reviewed.length === 0;
      add(
        'extra-image',
        'high',
        `${whoOf(access)} gets the key with ${attestation.name}, which is ${excluded ? 'not the reviewed image; the reviewed one is refused' : 'accepted beside the reviewed image'}.`,
      );
      if (statement !== undefined && isMixture(statement, access)) {
        add(
          'tuple-mixing',
          'high',
          'Each register has a list of its own, so parts of different images are accepted together.',
        );
      }
      return;
    }
    default:
      return;
  }
}

function isMixture({ conditions }: Statement, { registers }: AttestedAccess): boolean {
  const lists = conditions.filter(
    ({ key, values }) => /^pcr[12]$/.test(registerOfKey(key) ?? '') && values.length > 1,
  );
  return lists.length > 1 && Object.keys(registers).length > 0;
}

function registerOnlyFindings(
  statement: Statement,
  add: (code: 'constant-pcr-pin' | 'user-pcr-pin', severity: Severity, why: string) => void,
): void {
  const registers = statement.conditions
    .filter(({ operator }) => operator.comparison !== 'null' && !operator.negated)
    .flatMap(({ key }) => registerOfKey(key) ?? []);
  if (registers.some((name) => CONSTANT_REGISTERS.includes(name))) {
    add(
      'constant-pcr-pin',
      'critical',
      'The register is the same for all enclaves, so pinning it pins nothing.',
    );
  }
  if (registers.some((name) => USER_REGISTERS.includes(name))) {
    add(
      'user-pcr-pin',
      'critical',
      `${registers
        .filter((name) => USER_REGISTERS.includes(name))
        .map(shownRegister)
        .join(', ')} is what the application extends: any image can extend the same.`,
    );
  }
}

function partialFindings(
  { findings }: FindingContext,
  access: AttestedAccess,
  add: (code: 'partial-image-pin' | 'any-image', severity: Severity, why: string) => void,
  register: string,
  free: string,
): void {
  const statement = access.source.kind === 'statement' ? access.source.statement : undefined;
  if (findings.has('any-image', statement?.index)) return;
  add('any-image', 'critical', `Any image with another ${free} passes.`);
  if (statement !== undefined && mentionsAttestation(access.source)) {
    add('partial-image-pin', 'critical', `${register} alone says nothing about the ${free} of the image.`);
  }
}

/** Images that a supplied IAM policy lets in beside the reviewed one. */
function identityPolicyImages({ analysis, findings, remedies }: FindingContext): void {
  const open = new Set(analysis.unattested.map(({ caller }) => caller.name));
  for (const access of analysis.attested) {
    const { attestation, caller, reach } = access;
    if (caller.iamFrom !== 'supplied' || reach !== 'account' || open.has(caller.name)) continue;
    if (attestation.kind !== 'named-image') continue;
    findings.add('extra-image', 'high', undefined, {
      why: `The IAM policy of ${caller.name} accepts ${attestation.name} beside the reviewed image.`,
      witness: witnessOf(access),
      remedy: remedies.none('Narrow the IAM policy, and pin the image in the key policy.'),
    });
  }
}

/** PCR1 and PCR2 together are the content of PCR0, said less plainly. */
function contentPinFindings({ analysis, findings, remedies }: FindingContext): void {
  for (const { source } of analysis.reviewed) {
    if (source.kind === 'grant') continue;
    const { conditions, index } = source.statement;
    const registers = conditions.flatMap(({ key }) => registerOfKey(key) ?? []);
    if (registers.includes('pcr0') || !registers.includes('pcr1') || !registers.includes('pcr2')) continue;
    findings.add('partial-image-pin', 'info', index, {
      why: 'PCR1 and PCR2 together cover kernel, command line and both ramdisks; PCR0 says the same in one value.',
      conditions,
      remedy: remedies.pin(source.statement, 'Pin PCR0.'),
    });
  }
}

/** Other accounts, with or without the image. */
function externalFindings({ analysis, findings, remedies }: FindingContext): void {
  const { world, unattested, reviewed, asker } = analysis;
  for (const access of unattested) {
    if (access.reach !== 'other-account' || access.source.kind !== 'statement' || access.caller.isStranger)
      continue;
    findings.add('external-account', 'high', access.source.statement.index, {
      why: `A principal of account ${access.caller.identity.accountId} gets plaintext without an enclave; its own IAM policies decide there.`,
      witness: witnessOf(access),
      remedy: remedies.pin(access.source.statement, 'Pin the image here.'),
    });
  }
  for (const access of reviewed) {
    if (!access.caller.isStranger || access.source.kind !== 'statement') continue;
    findings.add('public-principal', 'medium', access.source.statement.index, {
      why: 'Any AWS account may run the reviewed image and get the key; its operator controls host, network and inputs.',
      witness: witnessOf(access),
      remedy: remedies.none('Name the role that is meant, or pin its PCR3.'),
    });
  }
  for (const statement of world.keyPolicy.statements) {
    if (statement.effect !== 'Allow' || statement.principals === undefined) continue;
    const { entries, negated } = statement.principals;
    const isEveryone = !negated && entries.some(({ kind }) => kind === 'everyone');
    const others = entries.flatMap((entry) =>
      entry.kind === 'account'
        ? [entry.accountId]
        : entry.kind === 'identity'
          ? [entry.text.split(':')[4] ?? '']
          : [],
    );
    const foreign = [...new Set(others)].filter((account) => account !== world.accountId);
    const letsIn = ['kms:Decrypt', 'kms:DeriveSharedSecret', 'kms:GenerateDataKey'].some((action) =>
      asker.covers(statement, action),
    );
    if (!negated && foreign.length > 0 && !findings.has('external-account', statement.index)) {
      findings.add('external-account', letsIn ? 'medium' : 'low', statement.index, {
        why: `Account ${foreign.join(', ')} is allowed: its own IAM policies decide who there may call.`,
        remedy: remedies.none('Check that this account is meant.'),
      });
    }
    if (!isEveryone) continue;
    const restricted = statement.conditions.some(
      ({ key, operator }) =>
        /^(?:aws:principalaccount|kms:calleraccount|aws:principalorgid|aws:principalarn)$/i.test(key) &&
        !operator.negated,
    );
    if (!restricted) {
      if (
        letsIn &&
        reviewed.some(({ source }) => source.kind === 'statement' && source.statement === statement)
      ) {
        findings.add('external-account', 'medium', statement.index, {
          why: 'Principal "*" admits callers of every account whose own IAM policies allow it.',
          remedy: remedies.none('Name the role that is meant.'),
        });
      }
      findings.add('public-principal', 'medium', statement.index, {
        why: 'Principal "*" means every AWS account; that nobody gets in rests on the conditions alone.',
        remedy: remedies.none('Name the principals that are meant.'),
      });
    }
  }
}

/** The image alone lets the host choose which deployment runs in it. */
function deploymentFindings({ analysis, findings, remedies }: FindingContext): void {
  for (const access of analysis.attested) {
    const { attestation, source } = access;
    if (attestation.kind !== 'reviewed-elsewhere' || !attestation.name.endsWith('another deployment'))
      continue;
    if (source.kind !== 'statement') continue;
    findings.add('deployment-not-pinned', 'high', source.statement.index, {
      why: 'PCR16 of the given deployment is not pinned together with PCR0: the host chooses which deployment the image runs.',
      witness: witnessOf(access),
      remedy: remedies.pin(
        source.statement,
        'Pin PCR0 and PCR16 together, one statement per release and deployment.',
      ),
    });
  }
}
