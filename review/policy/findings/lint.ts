/** Checks A and G: how the document reads, and what in it can never apply. These explain; they decide no verdict. */
import { expandActions, isAttestable, isGovernedByKeyPolicy } from '../../../shared/policy/actions.ts';
import { parseKeyArn } from '../../../shared/policy/arn.ts';
import { PolicyError } from '../../../shared/policy/errors.ts';
import { asciiLower } from '../../../shared/policy/glob.ts';
import { KMS_CONDITION_KEYS } from '../../../shared/policy/kms-data.ts';
import type { Condition, Statement } from '../../../shared/policy/model.ts';
import { checkKeyPolicyWrite } from '../../../shared/policy/write-rules.ts';
import { type Access, type Analysis, mentionsAttestation } from '../analysis.ts';
import { isAttestationKey, isDigest } from '../attestation-keys.ts';
import type { Severity } from '../report.ts';
import type { Question } from '../requests/ask.ts';
import type { Caller } from '../requests/callers.ts';
import { isKnownKmsKey } from '../requests/domains.ts';
import type { FindingContext } from './access.ts';
import { witnessOf } from './witness.ts';

export function lintFindings(context: FindingContext, policyBytes: Uint8Array): void {
  documentFindings(context, policyBytes);
  const { statements } = context.analysis.world.keyPolicy;
  for (const statement of statements) {
    elementFindings(context, statement);
    actionFindings(context, statement);
    for (const condition of statement.conditions) conditionFindings(context, statement, condition);
  }
  for (const statement of statements) deadFindings(context, statement);
  identityPolicyFindings(context);
  excludedFindings(context);
}

function documentFindings({ analysis, findings, remedies }: FindingContext, bytes: Uint8Array): void {
  const { keyPolicy } = analysis.world;
  if (keyPolicy.version !== '2012-10-17') {
    const usesVariables = keyPolicy.statements.some(({ conditions }) =>
      conditions.some(({ values }) => values.some((value) => value.includes('${'))),
    );
    findings.add('old-version', 'medium', undefined, {
      why: `${keyPolicy.versionGiven ? 'Version is 2008-10-17' : 'Version is missing, which means 2008-10-17'}${usesVariables ? '; policy variables are literal text there' : ''}.`,
      remedy: remedies.version('Set Version to 2012-10-17.'),
    });
  }
  try {
    checkKeyPolicyWrite(bytes, keyPolicy);
  } catch (error) {
    if (!(error instanceof PolicyError)) throw error;
    const incomplete = keyPolicy.statements.filter(
      ({ actions, resources }) => actions === undefined || resources === undefined,
    );
    const target = incomplete.length > 0 ? incomplete : [undefined];
    for (const statement of target) {
      findings.add('malformed-policy', statement === undefined ? 'medium' : 'high', statement?.index, {
        why: `KMS would not store this policy today: ${error.message}.`,
        remedy: remedies.none('Correct it; a stored policy of this kind has no effect in that place.'),
      });
    }
  }
  const sids = keyPolicy.statements.flatMap(({ sid }) => sid ?? []);
  for (const statement of keyPolicy.statements) {
    if (statement.sid === undefined || sids.indexOf(statement.sid) === sids.lastIndexOf(statement.sid))
      continue;
    findings.add('repeated-sid', 'low', statement.index, {
      why: `The Sid ${JSON.stringify(statement.sid)} is there more than once, so it names no statement.`,
      remedy: remedies.none('Give each statement a Sid of its own.'),
    });
  }
}

function elementFindings({ analysis, findings, remedies }: FindingContext, statement: Statement): void {
  const { principals, resources, effect, index } = statement;
  if (principals?.negated && effect === 'Deny') {
    findings.add('notprincipal', 'medium', index, {
      why: 'NotPrincipal with Deny exempts a role only if account, role and session are all listed; AWS advises against it.',
      remedy: remedies.none('Use Principal "*" and a condition on aws:PrincipalArn.'),
    });
  }
  if (resources?.negated) {
    findings.add('notresource', 'medium', index, {
      why: 'NotResource in a key policy matches unless it names this very key.',
      remedy: remedies.none('Use Resource "*".'),
    });
  }
  for (const entry of resources?.negated === false ? resources.entries : []) {
    if (entry === '*' || entry === analysis.world.keyArn) continue;
    const isArn = /^arn:/.test(entry) || /^[*?]/.test(entry);
    if (parseKeyArn(entry) !== undefined && !analysis.world.keyIsGiven) continue;
    findings.add(isArn ? 'resource-form' : 'malformed-policy', isArn ? 'medium' : 'high', index, {
      why: isArn
        ? `Resource ${JSON.stringify(entry)} is not this key, or not written as "*", the only value that AWS announced to accept.`
        : `Resource ${JSON.stringify(entry)} is no ARN, so the statement never applies through it.`,
      remedy: remedies.none('Write Resource "*": a key policy is about its own key.'),
    });
  }
  for (const principal of principals?.entries ?? []) {
    if (principal.kind === 'identity' && /:sts:.*:assumed-role\//.test(principal.text)) {
      findings.add('session-principal', 'medium', index, {
        why: `${principal.text} is one session; its name is chosen by whoever assumes the role, for an instance it is the instance id.`,
        remedy: remedies.none('Name the role, and pin PCR3 or PCR4.'),
      });
    }
    if (principal.kind === 'unique-id') {
      findings.add('deleted-principal', 'medium', index, {
        why: `${principal.text} is what AWS shows for a principal that was deleted; one made again with the old name is another.`,
        remedy: remedies.none('Name the principal by its ARN, or remove it.'),
      });
    }
  }
}

function actionFindings({ findings, remedies }: FindingContext, statement: Statement): void {
  const { actions, conditions, effect, index } = statement;
  if (actions === undefined || actions.negated) return;
  const asks = conditions.filter((condition) => isAttestationKey(condition.key) && demands(condition));
  const broad = actions.entries.every((entry) => /^(?:\*|kms:\*|\*:\*)$/i.test(entry));
  const named = broad ? [] : expandActions(actions);
  const ungoverned = named.filter((action) => !isGovernedByKeyPolicy(action));
  const explicit = ungoverned.filter((action) =>
    actions.entries.some((entry) => asciiLower(entry) === asciiLower(action)),
  );
  if (explicit.length > 0) {
    findings.add('no-effect-action', 'info', index, {
      why: `${explicit.join(', ')} has no key as its resource: IAM policies alone govern it.`,
      remedy: remedies.none('Leave it out.'),
    });
  }
  if (asks.length === 0) return;
  const governed = named.filter((action) => isGovernedByKeyPolicy(action));
  const without = governed.filter((action) => !isAttestable(action));
  const attestable = governed.filter((action) => isAttestable(action));
  if (effect === 'Deny') {
    const always = without.filter(() => asks.length === conditions.length && conditions.every(firesWithout));
    if (always.length > 0) {
      findings.add('unsupported-action-attested', 'low', index, {
        why: `${always.join(', ')} can carry no document, so this Deny always fires for it.`,
        conditions: asks,
        remedy: remedies.none('That may be meant; a Deny without a condition says it more plainly.'),
      });
    }
    return;
  }
  if (without.length > 0 && attestable.length > 0) {
    findings.add('dead-action', 'low', index, {
      why: `${without.join(', ')} can carry no document, so it is never allowed here.`,
      conditions: asks,
      remedy: remedies.none('Allow it in a statement of its own, without attestation, if it is needed.'),
    });
  }
  if (without.length > 0 && attestable.length === 0) {
    findings.add('unsupported-action-attested', 'medium', index, {
      why: `${without.join(', ')} has no Recipient parameter: the attestation condition can never be true.`,
      conditions: asks,
      remedy: remedies.none(
        'Wrap the secret with a key that the enclave decrypts; these calls cannot be attested.',
      ),
    });
  }
}

/** Fails when the request has no such key. */
function demands({ operator, values }: Condition): boolean {
  if (operator.comparison === 'null') return values.every((value) => asciiLower(value) === 'false');
  return !operator.negated && !operator.ifExists && operator.set !== 'all';
}

function firesWithout(condition: Condition): boolean {
  const { operator, values } = condition;
  if (operator.comparison === 'null') return values.some((value) => asciiLower(value) === 'true');
  return operator.ifExists || operator.set === 'all' || (operator.negated && operator.set !== 'any');
}

function conditionFindings(context: FindingContext, statement: Statement, condition: Condition): void {
  const { findings, remedies } = context;
  const { key, operator } = condition;
  const { index } = statement;
  const detail = { conditions: [condition] };
  if (!isKnownKey(key)) {
    const matters = /attest|pcr|image/i.test(key) || yields(context, statement);
    findings.add('unknown-condition-key', matters ? 'high' : 'medium', index, {
      ...detail,
      why: `${JSON.stringify(key)} is no condition key of KMS${/[^\x20-\x7e]/.test(key) ? '; it has a letter that only looks like the real one' : ''}: no request ever has it.`,
      remedy: remedies.none('Spell it kms:RecipientAttestation:PCR0.'),
    });
    return;
  }
  const type = typeOf(key);
  if (!fits(operator.comparison, type, isAttestationKey(key))) {
    findings.add('operator-type', 'medium', index, {
      ...detail,
      why: `${operator.name} compares ${operator.comparison.replace('-', ' ')} values, and ${key} is of type ${type}: ${operator.negated ? 'it always holds' : 'it never holds'}.`,
      remedy: remedies.none(
        isAttestationKey(key) ? 'Use StringEqualsIgnoreCase.' : `Use an operator for ${type}.`,
      ),
    });
  }
  if (operator.set !== undefined && !/^ArrayOf/.test(type)) {
    findings.add('set-operator-single-value', 'low', index, {
      ...detail,
      why: `${key} has one value; ${operator.name} ${operator.set === 'all' ? 'also holds when it has none' : 'is false when it has none'}.`,
      remedy: remedies.none('Leave the set operator out.'),
    });
  }
  if (statement.effect === 'Allow' && isVacuous(condition)) {
    findings.add('ineffective-condition', 'medium', index, {
      ...detail,
      why: `${operator.name} on ${key} holds for every request.`,
      remedy: remedies.none('Remove it, or write what is meant.'),
    });
  }
  if (/^aws:principalarn$/i.test(key)) principalArnFindings(context, statement, condition);
  if (isAttestationKey(key) && fits(operator.comparison, type, true))
    valueFindings(context, statement, condition);
}

function isVacuous({ operator, values }: Condition): boolean {
  if (operator.comparison === 'null') {
    return values.some((value) => /^true$/i.test(value)) && values.some((value) => /^false$/i.test(value));
  }
  if (operator.negated) return false;
  const anything = operator.comparison === 'string-like' && values.includes('*');
  return anything && operator.ifExists;
}

function principalArnFindings(
  { analysis, findings, remedies }: FindingContext,
  statement: Statement,
  condition: Condition,
): void {
  const wrong = condition.values.filter((value) => /:sts:/.test(value) || /:assumed-role\//.test(value));
  if (wrong.length === 0) return;
  const matters = wrong.length === condition.values.length && analysis.reviewed.length === 0;
  findings.add('principalarn-form', matters ? 'high' : 'medium', statement.index, {
    conditions: [condition],
    why: `aws:PrincipalArn holds the role's ARN also for its sessions, so ${wrong.join(', ')} never equals it${condition.operator.negated ? ': the statement hits the exempted role as well' : ''}.`,
    remedy: remedies.none('Compare with the ARN of the role: arn:aws:iam::ACCOUNT:role/NAME.'),
  });
}

function valueFindings(context: FindingContext, statement: Statement, condition: Condition): void {
  const { analysis, findings, remedies } = context;
  const { operator, values, key } = condition;
  const { index } = statement;
  if (operator.comparison === 'null') return;
  const isNew = analysis.world.keyPolicy.version === '2012-10-17';
  const remedy = remedies.value(
    statement,
    condition,
    'Write the 96 lower-case hexadecimal digits of the measurement.',
  );
  const good = values.filter((value) => isGood(operator.comparison, value));
  const lower = new Set(values.filter(isDigest));
  for (const value of values) {
    if (isGood(operator.comparison, value)) continue;
    if (isNew && /\$\{[^}]+\}/.test(value) && !UNFILLED.test(value)) continue;
    // The same value in both cases: clumsy, and meant.
    const isTwin = lower.has(asciiLower(value));
    const severity: Severity = isTwin ? 'info' : good.length > 0 ? 'medium' : 'high';
    const hasWildcard = /[*?]/.test(value);
    if (hasWildcard && operator.comparison !== 'string-like') {
      findings.add('literal-wildcard', 'medium', index, {
        conditions: [condition],
        why: `${operator.name} does not expand wildcards: ${JSON.stringify(value)} is literal text, which no register has.`,
        remedy,
      });
    } else if (hasWildcard) {
      // A pattern: whether it takes anything is what the requests show.
    } else if (isPlaceholder(value)) {
      const decides = analysis.reviewed.length === 0 && analysis.unattested.length === 0;
      findings.add('placeholder-value', decides && good.length === 0 ? 'high' : 'medium', index, {
        conditions: [condition],
        why: `${JSON.stringify(value)} is a placeholder of a template that was never filled in.`,
        remedy,
      });
    } else {
      findings.add('bad-measurement-value', severity, index, {
        conditions: [condition],
        why: `${key}: ${faultOf(value)}, so no document can match ${shortened(value)}.`,
        remedy,
      });
    }
  }
}

/** Values that no register has, in the supplied IAM policies. */
function identityPolicyFindings({ analysis, findings, remedies }: FindingContext): void {
  for (const [name, documents] of analysis.world.iamPolicies) {
    const conditions = documents.flatMap(({ policy }) => policy.statements.flatMap((one) => one.conditions));
    for (const { key, operator, values } of conditions) {
      if (!isAttestationKey(key) || operator.comparison === 'null') continue;
      for (const value of values) {
        if (isGood(operator.comparison, value) || value.includes('${')) continue;
        const hasWildcard = /[*?]/.test(value);
        if (hasWildcard && operator.comparison === 'string-like') continue;
        findings.add(hasWildcard ? 'literal-wildcard' : 'bad-measurement-value', 'medium', undefined, {
          why: `The IAM policy of ${name} compares ${key} with ${shortened(value)}, which no document can match.`,
          remedy: remedies.none('Correct the IAM policy; and demand the image in the key policy.'),
        });
      }
    }
  }
}

function isGood(comparison: Condition['operator']['comparison'], value: string): boolean {
  return comparison === 'string-equals-ignore-case' ? isDigest(asciiLower(value)) : isDigest(value);
}

/** Names no condition key, as every key has a service's prefix: `${PCR0}` is a template's, not a policy variable. */
const UNFILLED = /\$\{(?![*?$]\})[^{}:,]*\}/;

function isPlaceholder(value: string): boolean {
  if (UNFILLED.test(value)) return true;
  if (value.includes('${')) return false;
  const text = value.replace(/^0x/i, '');
  return /[g-z_<>[\]{}%]/i.test(text) && /[a-z]{3}|[<[{%_]/i.test(text);
}

function faultOf(value: string): string {
  if (value === '') return 'the value is empty';
  if (/^0x/i.test(value)) return 'the value has a 0x prefix';
  if (/\s/.test(value)) return 'the value has a blank';
  if (value.includes('${')) return 'policy variables are literal text under this Version';
  if (/^[0-9a-f]{96}$/i.test(value)) return 'KMS compares lower-case digits, and this operator regards case';
  if (/^[0-9a-f]+$/i.test(value)) return `the value has ${value.length} hexadecimal digits and not 96`;
  return 'the value is not hexadecimal';
}

function shortened(value: string): string {
  return JSON.stringify(value.length > 24 ? `${value.slice(0, 20)}…` : value);
}

/** Allow statements that no caller, document or context brings to apply. */
function deadFindings(context: FindingContext, statement: Statement): void {
  const { analysis, findings, remedies } = context;
  const { asker, callers, primaryAction, reviewed, unattested } = analysis;
  if (statement.effect !== 'Allow' || statement.actions === undefined) return;
  const { index } = statement;
  const covered = expandActions(statement.actions).filter((action) => isGovernedByKeyPolicy(action));
  const source = { kind: 'statement', statement } as const;
  // Where callers were left out, that nobody is let in means nothing.
  if (asker.gaveUp) return;
  const matching = callers.filter((caller) => asker.isFor(source, caller));
  if (matching.length === 0) {
    const kinds = (statement.principals?.entries ?? []).map(({ kind }) => kind);
    if (
      statement.principals?.negated === false &&
      kinds.every((kind) => kind === 'identity') &&
      statement.conditions.some(({ key }) =>
        /^aws:principal(?:arn|account|type)$|^kms:calleraccount$/i.test(key),
      )
    ) {
      findings.add('dead-statement', 'medium', index, {
        why: 'None of the principals that it names meets its own conditions on the caller.',
        remedy: remedies.remove(statement, 'Remove it, or correct the conditions.'),
      });
      return;
    }
    if (!statement.conditions.some(({ key }) => isAttestationKey(key))) return;
    findings.add('dead-statement', kinds.includes('service') ? 'high' : 'medium', index, {
      why: 'No enclave calls as a service or a deleted principal, so this statement lets nobody in.',
      remedy: remedies.none('Name the role of the parent instance.'),
    });
    return;
  }
  let isShadowed = false;
  let asked = 0;
  for (const question of questionsFor(analysis, matching, covered)) {
    asked += 1;
    // So long a list is not searched to its end, and then nothing is said.
    if (asked > QUESTIONS_MAX || asker.findVia(source, question) !== undefined) return;
    isShadowed ||= asker.couldApply(statement, question);
  }
  const isExplained = EXPLANATIONS.some((code) => findings.has(code, index));
  const decides =
    primaryAction !== undefined &&
    asker.covers(statement, primaryAction) &&
    reviewed.length === 0 &&
    unattested.length === 0 &&
    analysis.attested.length === 0;
  findings.add('dead-statement', isExplained || isShadowed || !decides ? 'medium' : 'high', index, {
    why: isShadowed
      ? 'A Deny of this policy holds back all that this statement allows, or IAM has to allow it as well and does not.'
      : 'No caller, document and context make this statement apply.',
    remedy: remedies.remove(statement, 'Remove it, or correct what keeps it from applying.'),
  });
}

const EXPLANATIONS = [
  'bad-measurement-value',
  'placeholder-value',
  'literal-wildcard',
  'malformed-policy',
  'unknown-condition-key',
  'operator-type',
  'principalarn-form',
  'unsupported-action-attested',
  'resource-form',
  'session-principal',
  'deleted-principal',
] as const;

const QUESTIONS_MAX = 4_000;

function* questionsFor(
  { attestations }: Analysis,
  callers: readonly Caller[],
  actions: readonly string[],
): Generator<Question> {
  for (const action of actions) {
    const documents = isAttestable(action) ? [undefined, ...attestations] : [undefined];
    for (const caller of callers) {
      for (const attestation of documents) {
        const question = {
          caller,
          action,
          mayCopy: true,
          ...(attestation === undefined ? {} : { attestation }),
        };
        yield question;
        yield { ...question, via: 'service' };
      }
    }
  }
}

/** The reviewed image is refused, at least on the host that the policy means. */
function excludedFindings({ analysis, judgement, findings, remedies }: FindingContext): void {
  const { world, reviewed, primaryAction, asker, callers, attestations } = analysis;
  if (primaryAction === undefined || world.reviewed.length === 0) return;
  const noHost = world.hostArns.length === 0;
  const isMeant = ({ caller, reach, source }: Access) =>
    noHost ||
    ((caller.isHost || mentionsAttestation(source)) && reach !== 'account') ||
    (reach === 'account' && (caller.iamFrom === 'supplied' || mentionsAttestation(source)));
  if (reviewed.some(isMeant)) return;
  const statements = world.keyPolicy.statements.filter(
    (statement) =>
      statement.effect === 'Allow' &&
      asker.covers(statement, primaryAction) &&
      statement.conditions.some(({ key }) => isAttestationKey(key)),
  );
  const document = attestations.find(({ kind }) => kind === 'reviewed');
  const host = callers.find(({ isHost }) => isHost) ?? callers[0];
  const severity: Severity = judgement.verdict === 'WRONG_IMAGE' ? 'high' : 'medium';
  const detail = {
    why:
      reviewed.length > 0
        ? 'The host that the policy names cannot use the key with the reviewed image.'
        : 'The reviewed image is refused.',
    witness:
      document === undefined || host === undefined
        ? undefined
        : witnessOf(asker.answer({ caller: host, action: primaryAction, attestation: document })),
    remedy: remedies.none('Pin the measurements of the reviewed image.'),
  };
  findings.add('reviewed-image-excluded', severity, undefined, detail);
  for (const { index } of statements) findings.add('reviewed-image-excluded', severity, index, detail);
}

function yields({ analysis }: FindingContext, statement: Statement): boolean {
  return [
    'kms:Decrypt',
    'kms:DeriveSharedSecret',
    'kms:CreateGrant',
    'kms:ReEncryptFrom',
    'kms:PutKeyPolicy',
  ].some((action) => analysis.asker.covers(statement, action));
}

/** Prefixes of condition keys of other services and of identity providers. */
const OTHER_PREFIXES =
  /^(?:saml|sts|ec2|iam|s3|lambda|ssm|rds|glue|sns|sqs|dynamodb|ecs|eks|cognito-identity\.amazonaws\.com|accounts\.google\.com|graph\.facebook\.com|www\.amazon\.com|[a-z0-9-]+(?:\.[a-z0-9-]+)+[^:]*):/i;

const GLOBAL_KEYS =
  /^aws:(?:PrincipalArn|PrincipalAccount|PrincipalOrgPaths|PrincipalOrgID|PrincipalTag\/.+|PrincipalIsAWSService|PrincipalServiceName|PrincipalServiceNamesList|PrincipalType|userid|username|AssumedRoot|FederatedProvider|TokenIssueTime|MultiFactorAuthAge|MultiFactorAuthPresent|ChatbotSourceArn|Ec2InstanceSourceVpc|Ec2InstanceSourcePrivateIPv4|SourceIdentity|SourceIp|SourceVpc|SourceVpcArn|SourceVpce|VpceAccount|VpceOrgID|VpceOrgPaths|VpcSourceIp|ResourceAccount|ResourceOrgID|ResourceOrgPaths|ResourceTag\/.+|CalledVia|CalledViaFirst|CalledViaLast|ViaAWSService|CalledViaAWSMCP|ViaAWSMCPService|CurrentTime|EpochTime|referer|RequestedRegion|RequestTag\/.+|TagKeys|SecureTransport|SourceAccount|SourceArn|SourceOrgID|SourceOrgPaths|SourceOwner|SignInSessionArn|UserAgent|IsMcpServiceAction)$/i;

function isKnownKey(key: string): boolean {
  const lower = asciiLower(key);
  if (/[^\x20-\x7e]/.test(key)) return /^(?:kms:EncryptionContext:|aws:PrincipalTag\/)/i.test(key);
  if (lower.startsWith('kms:')) return isKnownKmsKey(key);
  if (lower.startsWith('aws:')) return GLOBAL_KEYS.test(key);
  return OTHER_PREFIXES.test(key);
}

const TYPES: ReadonlyMap<string, string> = new Map([
  ...KMS_CONDITION_KEYS.map(([name, type]) => [asciiLower(name), type] as const),
  ['aws:principalarn', 'ARN'],
  ['aws:sourcearn', 'ARN'],
  ['aws:securetransport', 'Bool'],
  ['aws:multifactorauthpresent', 'Bool'],
  ['aws:viaawsservice', 'Bool'],
  ['aws:principalisawsservice', 'Bool'],
  ['aws:multifactorauthage', 'Numeric'],
  ['aws:currenttime', 'Date'],
  ['aws:tokenissuetime', 'Date'],
  ['aws:epochtime', 'Date'],
  ['aws:sourceip', 'IPAddress'],
  ['aws:vpcsourceip', 'IPAddress'],
  ['aws:tagkeys', 'ArrayOfString'],
  ['aws:calledvia', 'ArrayOfString'],
  ['aws:principalorgpaths', 'ArrayOfString'],
  ['aws:principalservicenameslist', 'ArrayOfString'],
  ['aws:resourceorgpaths', 'ArrayOfString'],
  ['aws:sourceorgpaths', 'ArrayOfString'],
  ['aws:vpceorgpaths', 'ArrayOfString'],
]);

function typeOf(key: string): string {
  const lower = asciiLower(key);
  return TYPES.get(lower) ?? 'String';
}

/** String operators work on every key; the others only on their own type. */
function fits(comparison: Condition['operator']['comparison'], type: string, isRegister: boolean): boolean {
  const bare = type.replace('ArrayOf', '');
  switch (comparison) {
    case 'numeric':
      return bare === 'Numeric' || bare === 'Date';
    case 'date':
      return bare === 'Date';
    case 'bool':
      return bare === 'Bool';
    case 'ip':
      return bare === 'IPAddress';
    case 'arn':
      // Grantees, encryption contexts and tags hold ARNs too.
      return (bare === 'ARN' || bare === 'String') && !isRegister;
    case 'binary':
      return false;
    default:
      return true;
  }
}
