/**
 * The questions of a review, in order (docs/policy-review.md section 2): who gets plaintext without a document, who
 * with another document than the reviewed image's, whether the reviewed image gets it, and who reaches either in one
 * step of their own.
 */

import { asciiLower } from '../../shared/policy/glob.ts';
import type { Grant, Statement } from '../../shared/policy/model.ts';
import { isAttestationKey } from './attestation-keys.ts';
import { type Allowed, Asker, type Question, type Source } from './requests/ask.ts';
import { type Attestation, type AttestationKind, attestationsOf } from './requests/attestations.ts';
import { type Caller, callersOf, granteeCaller } from './requests/callers.ts';
import { keyUsage, type World } from './requests/world.ts';

/** Something that a principal reaches, and by what. */
export interface Access extends Allowed {
  readonly caller: Caller;
  /** Other principals that reach the same in the same way. */
  readonly alike: readonly Caller[];
}

export interface AttestedAccess extends Access {
  readonly attestation: Attestation;
  /** Only because a value can be copied into a tag or an encryption context. */
  readonly byCopy: boolean;
}

export interface GrantEscape extends Access {
  /** What the new grant would be used for. */
  readonly operation: string;
}

export interface Analysis {
  readonly world: World;
  readonly asker: Asker;
  readonly callers: readonly Caller[];
  readonly attestations: readonly Attestation[];
  /** The action that yields what this key protects; undefined for keys that sign. */
  readonly primaryAction: string | undefined;
  readonly unattested: readonly Access[];
  readonly throughService: readonly Access[];
  /** Allow statements that give plaintext to an AWS service itself, without a document. */
  readonly serviceStatements: readonly Statement[];
  readonly attested: readonly AttestedAccess[];
  /** The reviewed image gets it: on its host by name, or through IAM. */
  readonly reviewed: readonly Access[];
  readonly administrators: readonly Access[];
  readonly grantEscapes: readonly GrantEscape[];
  /** CreateGrant is allowed, but no grant gives plaintext without the image. */
  readonly grantsCovered: readonly Access[];
  readonly serviceGrants: readonly Access[];
  readonly reEncryptEscapes: readonly Access[];
  readonly reEncryptOnSameKey: readonly Access[];
  readonly replications: readonly Access[];
  readonly primaryRegionUpdates: readonly Access[];
  readonly imports: readonly Access[];
  readonly dataKeys: readonly Access[];
  readonly encryption: readonly Access[];
  readonly availability: readonly Access[];
}

/** Everything is asked of one representative of the callers that no statement tells apart. */
export interface CallerClass {
  readonly caller: Caller;
  readonly alike: readonly Caller[];
}

export function analyse(world: World, deletedMayExist = false): Analysis {
  const asker = new Asker(world);
  const { callers, isCut } = callersOf(world, deletedMayExist);
  if (isCut) asker.gaveUp = true;
  const classes = classesOf(world, callers);
  const attestations = attestationsOf(world);
  const primaryAction = primaryActionOf(world, asker);
  const administrators = administratorsOf(asker, classes);
  const trusted = new Set(administrators.map(({ caller }) => caller.identity.arn));
  const ask = (action: string, more: Partial<Question> = {}) =>
    everyWay(asker, classes, asker.sources, { action, ...more }, trusted);

  const unattested = isDecryptable(world) ? ask('kms:Decrypt') : [];
  const derived = ask('kms:DeriveSharedSecret').filter((access) => yieldsSecret(world, asker, access));
  const plaintext = [...unattested, ...derived];
  const plaintextActions = [
    ...new Set([isDecryptable(world) ? 'kms:Decrypt' : undefined, primaryAction]),
  ].filter((one) => one !== undefined);
  const services = plaintextActions
    .flatMap((action) => ask(action, { via: 'service' }))
    .filter((access) => !plaintext.some((one) => sameWay(one, access)));

  return {
    world,
    asker,
    callers,
    attestations,
    primaryAction,
    unattested: plaintext,
    serviceStatements: isDecryptable(world) ? serviceStatementsOf(world, asker) : [],
    throughService: primaryAction === undefined ? [] : services,
    attested:
      primaryAction === undefined
        ? []
        : attestedAccesses(asker, classes, attestations, primaryAction, plaintext),
    reviewed:
      primaryAction === undefined
        ? []
        : attestations
            .filter(({ kind }) => kind === 'reviewed')
            .flatMap((attestation) => ask(primaryAction, { attestation })),
    administrators,
    ...grantFacts(asker, classes, attestations, world, trusted),
    reEncryptEscapes: isDecryptable(world)
      ? ask('kms:ReEncryptFrom', { fixed: { 'kms:reencryptonsamekey': [['false']] } })
      : [],
    reEncryptOnSameKey: ask('kms:ReEncryptFrom', { fixed: { 'kms:reencryptonsamekey': [['true']] } }),
    replications: ask('kms:ReplicateKey'),
    primaryRegionUpdates: ask('kms:UpdatePrimaryRegion'),
    imports: ask('kms:ImportKeyMaterial'),
    dataKeys: [
      ...ask('kms:GenerateDataKey'),
      ...ask('kms:GenerateDataKeyPair'),
      ...ask('kms:DeriveSharedSecret').filter((access) => !derived.some((one) => sameWay(one, access))),
    ],
    encryption: [
      ...ask('kms:Encrypt'),
      ...ask('kms:GenerateDataKeyWithoutPlaintext'),
      ...ask('kms:GenerateDataKeyPairWithoutPlaintext'),
    ],
    availability: [
      ...ask('kms:ScheduleKeyDeletion'),
      ...ask('kms:DisableKey'),
      ...ask('kms:DeleteImportedKeyMaterial'),
      ...ask('kms:UpdateAlias'),
    ],
  };
}

/** No caller of the engine is a service, so these are read off: a Deny without a condition holds them back as well. */
function serviceStatementsOf({ keyPolicy }: World, asker: Asker): Statement[] {
  const covering = keyPolicy.statements.filter((statement) => asker.covers(statement, 'kms:Decrypt'));
  const isDenied = covering.some(
    ({ effect, principals, conditions }) =>
      effect === 'Deny' &&
      principals?.negated === false &&
      principals.entries.some(({ kind }) => kind === 'everyone') &&
      conditions.every(
        ({ key, operator }) => isAttestationKey(key) && operator.negated && operator.set !== 'any',
      ),
  );
  if (isDenied) return [];
  return covering.filter(
    ({ effect, principals, conditions, resources }) =>
      effect === 'Allow' &&
      resources !== undefined &&
      principals?.negated === false &&
      principals.entries.some(({ kind }) => kind === 'service') &&
      !conditions.some(({ key }) => isAttestationKey(key)),
  );
}

function administratorsOf(asker: Asker, classes: readonly CallerClass[]): Access[] {
  const found = new Map<string, Access>();
  for (const via of [undefined, 'service' as const]) {
    const question = { action: 'kms:PutKeyPolicy', ...(via === undefined ? {} : { via }) };
    // Each of them counts: who may write the policy is trusted anyway.
    const isLong = asker.sources.length > MANY_SOURCES;
    const known = new Set<string>();
    for (const source of asker.sources) {
      const left = isLong ? classes.filter(({ caller }) => !known.has(caller.name)) : classes;
      if (left.length === 0) break;
      for (const access of everyWay(asker, left, [source], question, new Set())) {
        const key = `${sourceKey(source)} ${access.caller.name}`;
        known.add(access.caller.name);
        if (!found.has(key)) found.set(key, access);
      }
    }
  }
  return [...found.values()];
}

/** In a long policy, as many accesses of one kind are looked for as anybody would read. */
const MANY_SOURCES = 40;
const OF_ONE_KIND_MAX = 40;

/** Counts what was found of each kind, and says when a kind has enough. */
class Quota {
  readonly #isLong: boolean;
  readonly #counts = new Map<string, number>();

  constructor(asker: Asker) {
    this.#isLong = asker.sources.length > MANY_SOURCES;
  }

  isFull(kind: string): boolean {
    return this.#isLong && (this.#counts.get(kind) ?? 0) >= OF_ONE_KIND_MAX;
  }

  count(kind: string): void {
    this.#counts.set(kind, (this.#counts.get(kind) ?? 0) + 1);
  }
}

/** Accesses of one kind make for the same verdict. */
function kindOf(
  asker: Asker,
  source: Source,
  caller: Caller,
  action: string,
  administrators: ReadonlySet<string>,
): string {
  const { isHost, isNamed, isStranger, iamFrom, identity } = caller;
  const reach = asker.reachOf(source, caller, action);
  return JSON.stringify([reach, isHost, isNamed, isStranger, iamFrom, administrators.has(identity.arn)]);
}

function everyWay(
  asker: Asker,
  classes: readonly CallerClass[],
  sources: readonly Source[],
  question: Omit<Question, 'caller'>,
  administrators: ReadonlySet<string>,
): Access[] {
  const quota = new Quota(asker);
  const found = sources.flatMap((source) => {
    if (source.kind === 'statement' && !asker.covers(source.statement, question.action)) return [];
    return asker.concerned(source, classes).flatMap(({ caller, alike }) => {
      const kind = kindOf(asker, source, caller, question.action, administrators);
      if (quota.isFull(kind)) return [];
      const allowed = asker.findVia(source, { ...question, caller });
      if (allowed === undefined) return [];
      quota.count(kind);
      return [{ ...allowed, caller, alike }];
    });
  });
  // Whom the key policy lets in by name needs no IAM policy: the same principal with one is no second finding.
  return found.filter(
    (access) =>
      access.reach !== 'direct' ||
      access.caller.iamFrom !== 'assumed' ||
      !found.some(
        (other) =>
          other.caller.iamFrom !== 'assumed' &&
          other.caller.identity.arn === access.caller.identity.arn &&
          sourceKey(other.source) === sourceKey(access.source),
      ),
  );
}

export function sameWay(a: Allowed & { caller: Caller }, b: Allowed & { caller: Caller }): boolean {
  return sourceKey(a.source) === sourceKey(b.source) && a.caller.name === b.caller.name;
}

export function sourceKey(source: Source): string {
  return source.kind === 'statement' ? `#${source.statement.index}` : `grant ${source.grant.grantId}`;
}

function attestedAccesses(
  asker: Asker,
  classes: readonly CallerClass[],
  attestations: readonly Attestation[],
  action: string,
  plaintext: readonly Access[],
): AttestedAccess[] {
  const others = attestations.filter(({ kind }) => kind !== 'reviewed');
  const open = new Set(plaintext.map(({ caller }) => caller.name));
  const quota = new Quota(asker);
  return asker.sources.flatMap((source) => {
    if (source.kind === 'statement' && !asker.covers(source.statement, action)) return [];
    return others.flatMap((attestation) => {
      const found: AttestedAccess[] = [];
      for (const { caller, alike } of asker.concerned(source, classes)) {
        const isOpen = open.has(caller.name);
        const kind = `${attestation.kind} ${isOpen} ${kindOf(asker, source, caller, action, NOBODY)}`;
        if (quota.isFull(kind)) continue;
        const question = { action, caller, attestation };
        const allowed = asker.findVia(source, question);
        if (allowed !== undefined) {
          quota.count(kind);
          found.push({ ...allowed, caller, alike, attestation, byCopy: false });
          continue;
        }
        // A value that a tag administrator can make equal to any measurement pins nothing.
        if (!isBuildable(attestation.kind) || isOpen) continue;
        const copied = asker.findVia(source, { ...question, mayCopy: true });
        if (copied !== undefined) found.push({ ...copied, caller, alike, attestation, byCopy: true });
      }
      return found;
    });
  });
}

const NOBODY: ReadonlySet<string> = new Set();

/** Images that anybody can make. */
export function isBuildable(kind: AttestationKind): boolean {
  return kind === 'any-image' || kind === 'same-kernel' || kind === 'same-application';
}

/** What a grant would be used for, by the use of the key. */
const GRANT_OPERATIONS: readonly (readonly [operation: string, usage: string])[] = [
  ['Decrypt', 'ENCRYPT_DECRYPT'],
  ['ReEncryptFrom', 'ENCRYPT_DECRYPT'],
  ['DeriveSharedSecret', 'KEY_AGREEMENT'],
  ['Sign', 'SIGN_VERIFY'],
  ['GenerateMac', 'GENERATE_VERIFY_MAC'],
];

/** Asked for beside, they slip past a Deny with ForAllValues: its list does not name all that is asked for. */
const HARMLESS_OPERATIONS = ['DescribeKey', 'Encrypt', 'GetPublicKey', 'RetireGrant', 'Verify'] as const;

function grantFacts(
  asker: Asker,
  classes: readonly CallerClass[],
  attestations: readonly Attestation[],
  world: World,
  administrators: ReadonlySet<string>,
): Pick<Analysis, 'grantEscapes' | 'grantsCovered' | 'serviceGrants'> {
  const quota = new Quota(asker);
  const escapes: GrantEscape[] = [];
  const covered: Access[] = [];
  const services: Access[] = [];
  const anyImage = attestations.filter(({ kind }) => kind === 'any-image');
  const operationValues = literalsOf(world, 'kms:grantoperations');
  const harmless = HARMLESS_OPERATIONS.filter((operation) => !operationValues.includes(operation));
  const grantees = granteesOf(world);
  const uses = usesOf(world);
  const operations = GRANT_OPERATIONS.flatMap(([operation, usage]) => (uses.has(usage) ? [operation] : []));
  for (const source of asker.sources) {
    if (source.kind === 'statement' && !asker.covers(source.statement, 'kms:CreateGrant')) continue;
    for (const { caller, alike } of asker.concerned(source, classes)) {
      const kind = kindOf(asker, source, caller, 'kms:CreateGrant', administrators);
      if (quota.isFull(kind)) continue;
      const create = (operation: string, grantee: string, forService: boolean) =>
        asker.findVia(source, {
          caller,
          action: 'kms:CreateGrant',
          ...(forService ? { via: 'service' as const } : {}),
          fixed: {
            'kms:grantoperations': [
              [operation],
              ...[...operationValues, ...harmless].map((value) => [operation, value]),
              [operation, ...operationValues],
            ],
            'kms:grantisforawsresource': [[String(forService)]],
            'kms:granteeprincipal': [[grantee]],
            'kms:granteeserviceprincipal': [[]],
            'kms:grantconstraintsourcearn': [[]],
          },
        });
      // A grant for what the caller may do itself adds nothing.
      const mayItself = (from: Source, who: Caller, operation: string) =>
        operation === 'ReEncryptFrom' &&
        asker.findVia(from, {
          caller: who,
          action: 'kms:ReEncryptFrom',
          fixed: { 'kms:reencryptonsamekey': [['false']] },
        }) !== undefined;
      let first: Allowed | undefined;
      let usable: GrantEscape | undefined;
      for (const operation of operations) {
        for (const grantee of [caller.identity.arn, ...grantees]) {
          const created = create(operation, grantee, false);
          if (created === undefined) continue;
          first ??= created;
          if (isUsable(asker, world, grantee, operation, anyImage) && !mayItself(source, caller, operation)) {
            usable = { ...created, caller, alike, operation };
            break;
          }
        }
        if (usable !== undefined) break;
      }
      if (first !== undefined) quota.count(kind);
      if (usable !== undefined) escapes.push(usable);
      else if (first !== undefined) covered.push({ ...first, caller, alike });
      if (first === undefined) {
        const created = create('Decrypt', caller.identity.arn, true);
        if (created !== undefined) services.push({ ...created, caller, alike });
      }
    }
  }
  return { grantEscapes: escapes, grantsCovered: covered, serviceGrants: services };
}

/** Whether the grantee could use such a grant without the reviewed image. */
function isUsable(
  asker: Asker,
  world: World,
  granteeArn: string,
  operation: string,
  anyImage: readonly Attestation[],
): boolean {
  const accountId = granteeArn.split(':')[4] ?? '';
  const grant: Grant = { grantId: 'new', granteePrincipal: granteeArn, operations: [operation] };
  const caller = granteeCaller(granteeArn, accountId, accountId === world.accountId);
  const question = {
    caller,
    action: `kms:${operation}`,
    newGrants: [grant],
    fixed: { 'kms:reencryptonsamekey': [['false']] },
  };
  const source: Source = { kind: 'grant', grant };
  if (asker.findVia(source, question) !== undefined) return true;
  return anyImage.some((attestation) => asker.findVia(source, { ...question, attestation }) !== undefined);
}

function granteesOf(world: World): string[] {
  const literals = literalsOf(world, 'kms:granteeprincipal').filter((value) =>
    /^arn:[^:]+:iam::\d{12}:(?:role|user)\/[^*?]+$/.test(value),
  );
  return [...literals, `arn:aws:iam::${world.accountId}:role/Grantee`];
}

function literalsOf({ keyPolicy, iamPolicies }: World, key: string): string[] {
  const iam = [...iamPolicies.values()].flat().flatMap(({ policy }) => policy.statements);
  const conditions = [...keyPolicy.statements, ...iam].flatMap((statement) => statement.conditions);
  return [...new Set(conditions.flatMap((one) => (asciiLower(one.key) === key ? one.values : [])))];
}

/** What the key can be used for; without metadata, what its policy treats it as. */
export function usesOf(world: World): ReadonlySet<string> {
  const usage = keyUsage(world);
  if (usage !== undefined) return new Set([usage]);
  const mixed = world.metadata.keySpec?.startsWith('RSA') ? ['ENCRYPT_DECRYPT', 'SIGN_VERIFY'] : undefined;
  if (mixed !== undefined) return new Set(mixed);
  const names = namedActions(world);
  const uses = new Set<string>();
  if (names.has('kms:decrypt') || !names.has('kms:derivesharedsecret')) uses.add('ENCRYPT_DECRYPT');
  if (names.has('kms:derivesharedsecret')) uses.add('KEY_AGREEMENT');
  return uses;
}

/** Actions that the Allow statements spell out, without a wildcard. */
function namedActions({ keyPolicy }: World): ReadonlySet<string> {
  return new Set(
    keyPolicy.statements
      .filter(({ effect, actions }) => effect === 'Allow' && actions?.negated === false)
      .flatMap(({ actions }) => actions?.entries ?? [])
      .map(asciiLower),
  );
}

export function isDecryptable(world: World): boolean {
  return usesOf(world).has('ENCRYPT_DECRYPT');
}

function primaryActionOf(world: World, asker: Asker): string | undefined {
  const uses = usesOf(world);
  const allows = world.keyPolicy.statements.filter(({ effect }) => effect === 'Allow');
  const isAllowed = (action: string) =>
    allows.some((statement) => asker.covers(statement, action)) || world.grants.length > 0;
  if (uses.has('ENCRYPT_DECRYPT') && uses.has('KEY_AGREEMENT')) {
    return isAllowed('kms:Decrypt') ? 'kms:Decrypt' : 'kms:DeriveSharedSecret';
  }
  if (uses.has('KEY_AGREEMENT')) return 'kms:DeriveSharedSecret';
  if (!uses.has('ENCRYPT_DECRYPT')) return undefined;
  // An image that only seals has data keys and nothing to decrypt.
  if (!isAllowed('kms:Decrypt') && isAllowed('kms:GenerateDataKey')) return 'kms:GenerateDataKey';
  return 'kms:Decrypt';
}

/**
 * Whether kms:DeriveSharedSecret without a document is plaintext here. Where nothing says what the key is for, it is,
 * if a statement spells the action out for a principal; a wildcard over all actions says nothing of the kind.
 */
function yieldsSecret(world: World, asker: Asker, access: Access): boolean {
  const usage = keyUsage(world);
  if (usage !== undefined) return usage === 'KEY_AGREEMENT';
  if (!usesOf(world).has('KEY_AGREEMENT')) return false;
  if (!usesOf(world).has('ENCRYPT_DECRYPT')) return true;
  return (
    access.source.kind === 'statement' &&
    access.reach !== 'account' &&
    asker.covers(access.source.statement, 'kms:DeriveSharedSecret')
  );
}

/** The callers that no statement and no IAM policy tells apart are asked for once. */
function classesOf(world: World, callers: readonly Caller[]): CallerClass[] {
  const iam = [...world.iamPolicies.values()].flat().map(({ policy }) => policy);
  const byArn = [world.keyPolicy, ...iam].some(({ statements }) =>
    statements.some(({ conditions, resources }) =>
      [...conditions.flatMap(({ key, values }) => [key, ...values]), ...(resources?.entries ?? [])].some(
        (text) => /aws:(?:principal|user)|\$\{/i.test(text),
      ),
    ),
  );
  const named = new Map(
    world.keyPolicy.statements.map((statement) => [statement, principalTexts(statement)]),
  );
  const classes = new Map<string, { caller: Caller; alike: Caller[] }>();
  for (const caller of callers) {
    const { arn, sessionArn = '', accountId, uniqueId = '' } = caller.identity;
    // What a caller gets by IAM, through the account, does not hang on the Allow statements that name it.
    const telling = [...named].filter(([{ effect }]) => caller.iamFrom !== 'assumed' || effect === 'Deny');
    const matches = telling.map(([, texts]) =>
      [arn, sessionArn, uniqueId].map((text) => (texts.has(text) ? '1' : '0')).join(''),
    );
    const isGrantee = world.grants.map(({ granteePrincipal }) =>
      [arn, sessionArn].includes(granteePrincipal),
    );
    const key = JSON.stringify([
      matches,
      isGrantee,
      byArn ? arn : [arn.includes(':user/'), arn.endsWith(':root')],
      accountId,
      caller.iamFrom,
      caller.iamFrom === 'supplied' ? caller.name : '',
      caller.isHost,
      caller.isStranger,
      // A principal that is named is asked for before one that merely could exist.
      caller.isNamed,
    ]);
    const known = classes.get(key);
    if (known === undefined) classes.set(key, { caller, alike: [] });
    else known.alike.push(caller);
  }
  // Somebody whom nothing names shows best that the account is let in.
  const weight = ({ caller }: CallerClass) =>
    caller.iamFrom === 'assumed' && !caller.isNamed && !caller.isStranger ? 0 : 1;
  return [...classes.values()].sort((a, b) => weight(a) - weight(b));
}

function principalTexts({ principals }: World['keyPolicy']['statements'][number]): ReadonlySet<string> {
  return new Set((principals?.entries ?? []).map(({ text }) => text));
}

/** Whether a source asks for a document at all, in a way that its text shows. */
export function mentionsAttestation(source: Source): boolean {
  return source.kind === 'statement' && source.statement.conditions.some(({ key }) => isAttestationKey(key));
}
