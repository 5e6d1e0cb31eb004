/**
 * Questions to the decision engine: is there a request of this caller, for this action, with this document, that is
 * allowed? The search (solve.ts) proposes a request, and `decide`, which the simulated KMS asks too, has the last word.
 */
import { expandActions, isAttestable } from '../../../shared/policy/actions.ts';
import { evaluateCondition } from '../../../shared/policy/conditions.ts';
import { contextOf, timeContext } from '../../../shared/policy/context.ts';
import { decide } from '../../../shared/policy/decide.ts';
import { asciiLower, partsMatch } from '../../../shared/policy/glob.ts';
import type {
  Condition,
  Decision,
  Grant,
  Policy,
  PolicyRequest,
  PolicyVersion,
  Statement,
} from '../../../shared/policy/model.ts';
import { matchPrincipals } from '../../../shared/policy/principals.ts';
import { expandVariables } from '../../../shared/policy/variables.ts';
import { ATTESTATION_PREFIX, isAttestationKey } from '../attestation-keys.ts';
import type { Attestation } from './attestations.ts';
import type { Caller } from './callers.ts';
import {
  ABSENT,
  actionHasKey,
  type Choice,
  choiceOf,
  ENCRYPTION_CONTEXT,
  isOfOthers,
  isOfServices,
  type Values,
  valuesFor,
} from './domains.ts';
import { type Assignment, type Budget, type Clause, SearchTooLarge, solve } from './solve.ts';
import { instantsOf, isTimeKey, readsTime, TIME, TIME_KEYS, toSecond } from './time.ts';
import { isMultiRegion, keyUsage, type World } from './world.ts';

export interface Question {
  readonly caller: Caller;
  readonly action: string;
  readonly attestation?: Attestation;
  /** `service`: an AWS service calls for the caller (kms:ViaService). */
  readonly via?: 'service';
  /** Keys that the question itself fixes, such as kms:GrantOperations; names in lower case. */
  readonly fixed?: Readonly<Record<string, readonly Values[]>>;
  /** Grants that would exist then, beside the live ones. */
  readonly newGrants?: readonly Grant[];
  /** May tags and the like be made equal to a measurement? */
  readonly mayCopy?: boolean;
}

/** What allows the request: an Allow of the key policy (perhaps with IAM), or a grant. */
export type Source =
  | { readonly kind: 'statement'; readonly statement: Statement }
  | { readonly kind: 'grant'; readonly grant: Grant };

/**
 * How a request gets in: the key policy or a grant answers for the caller itself, hands it to IAM of the key's account,
 * or admits another account.
 */
export type Reach = 'direct' | 'account' | 'other-account';

export interface Allowed {
  readonly source: Source;
  readonly reach: Reach;
  readonly question: Question;
  readonly request: PolicyRequest;
  readonly decision: Decision;
  /** Registers of the document, for the witness. */
  readonly registers: Readonly<Record<string, string>>;
}

interface Denies {
  readonly inKeyPolicy: readonly Statement[];
  readonly clauses: readonly Clause[];
}

type KeyIndex = ReadonlyMap<string, readonly Condition[]>;

export class Asker {
  readonly world: World;
  readonly #sources: readonly Source[];
  readonly #index: KeyIndex;
  readonly #sourcesOf = new Map<Caller, readonly Source[]>();
  readonly #concerned = new WeakMap<object, Map<Source, readonly unknown[]>>();
  readonly #deniesOfCaller = new Map<Caller, readonly Statement[]>();
  readonly #deniesOf = new Map<string, Denies>();
  readonly #contexts = new Map<string, ReadonlyMap<string, Values>>();
  readonly #domains = new Map<string, readonly Choice[]>();
  readonly #actions = new Map<Statement, ReadonlySet<string>>();
  /** How many questions were asked and how much was tried, for tests and the benchmark. */
  questions = 0;
  steps = 0;
  /** Set when a search was given up: then nothing may be concluded from "no request found". */
  gaveUp = false;

  constructor(world: World) {
    this.world = world;
    this.#sources = [
      ...world.keyPolicy.statements
        .filter(({ effect }) => effect === 'Allow')
        .map((statement): Source => ({ kind: 'statement', statement })),
      ...world.grants.map((grant): Source => ({ kind: 'grant', grant })),
    ];
    const iam = [...world.iamPolicies.values()].flat().flatMap(({ policy }) => policy.statements);
    const index = new Map<string, Condition[]>();
    for (const condition of [...world.keyPolicy.statements, ...iam].flatMap(({ conditions }) => conditions)) {
      const key = asciiLower(condition.key);
      index.set(key, [...(index.get(key) ?? []), condition]);
    }
    this.#index = index;
    // A text that is compared as such may come up some day. Of a key policy that is a contested point.
    if (iam.some(({ conditions }) => conditions.some((one) => isTimeKey(one.key) && !readsTime(one))))
      this.gaveUp = true;
  }

  get sources(): readonly Source[] {
    return this.#sources;
  }

  /** Whether a statement covers the action, by name alone. */
  covers(statement: Statement, action: string): boolean {
    const known = this.#actions.get(statement);
    if (known !== undefined) return known.has(action);
    const { actions } = statement;
    const expanded = new Set(actions === undefined ? [] : expandActions(actions));
    this.#actions.set(statement, expanded);
    return expanded.has(action);
  }

  /** The first source that allows it, or undefined. */
  find(question: Question): Allowed | undefined {
    for (const source of this.#all(question)) {
      const found = this.findVia(source, question);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  #all({ caller, newGrants = [] }: Question): readonly Source[] {
    const known = this.#sourcesOf.get(caller) ?? this.#sources.filter((source) => this.isFor(source, caller));
    this.#sourcesOf.set(caller, known);
    if (newGrants.length === 0) return known;
    return [...known, ...newGrants.map((grant): Source => ({ kind: 'grant', grant }))];
  }

  /** The callers whom the source can concern, whatever the action. */
  concerned<T extends { readonly caller: Caller }>(source: Source, list: readonly T[]): readonly T[] {
    const bySource = this.#concerned.get(list) ?? new Map<Source, readonly T[]>();
    this.#concerned.set(list, bySource);
    const known = bySource.get(source) as readonly T[] | undefined;
    if (known !== undefined) return known;
    const found = list.filter(({ caller }) => this.isFor(source, caller));
    bySource.set(source, found);
    return found;
  }

  /** Whether the source can concern the caller at all. */
  isFor(source: Source, caller: Caller): boolean {
    if (source.kind === 'grant') return true;
    const { principals, effect } = source.statement;
    return (
      principals !== undefined &&
      matchPrincipals(principals, caller.identity, effect) !== 'none' &&
      this.#mayHold(source.statement, caller)
    );
  }

  /** False when a condition on who calls fails, whatever the request is. */
  #mayHold({ conditions }: Statement, caller: Caller): boolean {
    const about = conditions.filter(isAboutCaller);
    if (about.length === 0) return true;
    const base = { principal: caller.identity, action: 'kms:Decrypt', keyArn: this.world.keyArn };
    const context = this.#derived(base, caller);
    const { version } = this.world.keyPolicy;
    return about.every((condition) => evaluateCondition(condition, version, context).holds);
  }

  /** Denies of the key policy that can fire for the caller at all. */
  #deniesFor(caller: Caller): readonly Statement[] {
    const known = this.#deniesOfCaller.get(caller);
    if (known !== undefined) return known;
    const found = this.world.keyPolicy.statements.filter(
      (one) =>
        one.effect === 'Deny' &&
        (one.principals === undefined ||
          matchPrincipals(one.principals, caller.identity, 'Deny') !== 'none') &&
        this.#mayHold(one, caller),
    );
    this.#deniesOfCaller.set(caller, found);
    return found;
  }

  /** Denies of the key policy and of IAM that name caller, action and key; their conditions are yet to be seen. */
  #denies(caller: Caller, action: string, context: ReadonlyMap<string, Values>): Denies {
    const key = `${caller.name} ${action}`;
    const known = this.#deniesOf.get(key);
    if (known !== undefined) return known;
    const { keyPolicy } = this.world;
    const inKeyPolicy = this.#deniesFor(caller).filter((one) =>
      this.#matches(keyPolicy, one, caller, action, context),
    );
    const clauses: Clause[] = [
      // What they ask of the caller holds: else they were not among these.
      ...inKeyPolicy.map(({ conditions }) => ({
        conditions: conditions.filter((one) => !isAboutCaller(one)),
        version: keyPolicy.version,
      })),
      ...caller.policies.flatMap((policy) =>
        policy.statements
          .filter((one) => one.effect === 'Deny' && this.#matches(policy, one, caller, action, context))
          .map(({ conditions }) => ({ conditions, version: policy.version })),
      ),
    ].sort((a, b) => a.conditions.length - b.conditions.length);
    const denies = { inKeyPolicy, clauses };
    this.#deniesOf.set(key, denies);
    return denies;
  }

  #matches(
    policy: Policy,
    statement: Statement,
    caller: Caller,
    action: string,
    context: ReadonlyMap<string, Values>,
  ): boolean {
    return (
      this.covers(statement, action) &&
      resourceMatches(statement, policy.version, this.world.keyArn, context) &&
      (statement.principals === undefined ||
        matchPrincipals(statement.principals, caller.identity, statement.effect) !== 'none')
    );
  }

  /** Whether the statement could apply to some request, were there no Deny. */
  couldApply(statement: Statement, question: Question): boolean {
    const base = baseRequest(this.world, question);
    const context = contextOf(base);
    const { keyPolicy, keyArn } = this.world;
    if (
      !this.covers(statement, question.action) ||
      !resourceMatches(statement, keyPolicy.version, keyArn, context)
    ) {
      return false;
    }
    const clause = { conditions: statement.conditions, version: keyPolicy.version };
    return this.#solve([clause], [], question, context, { kind: 'statement', statement }) !== undefined;
  }

  /** A request that this source allows and nothing denies, or undefined. */
  findVia(source: Source, question: Question): Allowed | undefined {
    this.questions += 1;
    const { caller, action } = question;
    if (source.kind === 'statement' && !this.covers(source.statement, action)) return undefined;
    const reach = this.reachOf(source, caller, action);
    if (reach === undefined) return undefined;
    const base = baseRequest(this.world, question);
    const context = this.#derived(base, caller);
    const keyPolicy = this.world.keyPolicy;
    if (source.kind === 'statement' && !this.#matches(keyPolicy, source.statement, caller, action, context)) {
      return undefined;
    }
    const { clauses: denies } = this.#denies(caller, action, context);
    if (denies[0]?.conditions.length === 0) return undefined;
    const clause = (policy: Policy, statement: Statement): Clause => ({
      conditions: statement.conditions,
      version: policy.version,
    });
    const own = source.kind === 'statement' ? [clause(keyPolicy, source.statement)] : [];
    const isRoot = caller.identity.arn.endsWith(':root');
    const needsIam = reach !== 'direct' && !isRoot;
    const iamWays: (Clause | undefined)[] = needsIam
      ? caller.policies.flatMap((policy) =>
          policy.statements
            .filter((one) => one.effect === 'Allow' && this.#matches(policy, one, caller, action, context))
            .map((one) => clause(policy, one)),
        )
      : [undefined];
    for (const iam of iamWays) {
      const allows = iam === undefined ? own : [...own, iam];
      const found = this.#solve(allows, denies, question, context, source);
      if (found !== undefined) return this.#confirm(found, source, reach, question, base);
    }
    return undefined;
  }

  /** What follows from the caller and the key, once for each of them. */
  #derived(base: PolicyRequest, caller: Caller): ReadonlyMap<string, Values> {
    const key = `${caller.name} ${base.action}`;
    const known = this.#contexts.get(key) ?? contextOf(base);
    this.#contexts.set(key, known);
    return known;
  }

  reachOf(source: Source, caller: Caller, action: string): Reach | undefined {
    const ownAccount = caller.identity.accountId === this.world.accountId;
    if (source.kind === 'grant') {
      const { grant } = source;
      const covered = grant.operations.some((name) => asciiLower(`kms:${name}`) === asciiLower(action));
      const { arn, sessionArn, uniqueId } = caller.identity;
      if (!covered) return undefined;
      if (grant.granteePrincipal === `${arn.split(':').slice(0, 5).join(':')}:root`) {
        return ownAccount ? 'account' : 'other-account';
      }
      const isGrantee = [arn, sessionArn, uniqueId].includes(grant.granteePrincipal);
      return isGrantee ? (ownAccount ? 'direct' : 'other-account') : undefined;
    }
    const { principals, effect } = source.statement;
    if (principals === undefined) return undefined;
    const match = matchPrincipals(principals, caller.identity, effect);
    if (match === 'none') return undefined;
    if (!ownAccount) return 'other-account';
    // The root user is covered by a statement for the account, which is one that delegates.
    const namesAccount = principals.entries.every((entry) => entry.kind === 'account') && !principals.negated;
    return match === 'account' || namesAccount ? 'account' : 'direct';
  }

  #solve(
    allows: readonly Clause[],
    denies: readonly Clause[],
    question: Question,
    context: ReadonlyMap<string, Values>,
    source: Source,
  ): Assignment | undefined {
    const budget: Budget = { steps: 0 };
    try {
      return solve(allows, denies, (variable) => this.#choices(variable, question, context, source), budget);
    } catch (error) {
      if (!(error instanceof SearchTooLarge)) throw error;
      this.gaveUp = true;
      return undefined;
    } finally {
      this.steps += budget.steps;
    }
  }

  #choices(
    variable: string,
    question: Question,
    context: ReadonlyMap<string, Values>,
    source: Source,
  ): readonly Choice[] {
    const { fixed, attestation, via, caller, action, mayCopy } = question;
    const given = fixed?.[variable];
    if (given !== undefined) return given.map((values) => choiceOf(variable, values));
    if (isAttestationKey(variable)) {
      if (attestation === undefined || !isAttestable(action)) return [choiceOf(variable, ABSENT)];
      const values = attestation.registers.get(variable.slice(ATTESTATION_PREFIX.length));
      return values === undefined
        ? [choiceOf(variable, ABSENT)]
        : values.map((value) => choiceOf(variable, [value]));
    }
    if (variable === ENCRYPTION_CONTEXT) return this.#encryptionContexts(question, source);
    if (variable === TIME) return this.#instants();
    if (!actionHasKey(action, variable)) return [choiceOf(variable, ABSENT)];
    if (variable.startsWith('aws:principaltag/')) {
      const copies = mayCopy ? copyable(attestation) : [];
      return [...this.#domain(variable), ...copies.map((value) => choiceOf(variable, [value], true))];
    }
    if (variable === 'aws:viaawsservice') return [choiceOf(variable, [via === 'service' ? 'true' : 'false'])];
    const derived = context.get(variable);
    if (derived !== undefined) return [choiceOf(variable, derived)];
    if (DERIVED_OR_ABSENT.test(variable)) return [choiceOf(variable, ABSENT)];
    const fact = this.#fact(variable);
    if (fact !== undefined) return fact;
    if (variable === 'kms:viaservice') {
      if (via !== 'service') return [choiceOf(variable, ABSENT)];
      const region = this.world.region || 'us-east-1';
      return [
        ...this.#domain(variable).filter(({ entries }) => (entries.get(variable) ?? []).length > 0),
        choiceOf(variable, [`s3.${region}.amazonaws.com`]),
      ];
    }
    if (isOfServices(variable)) {
      return via === 'service' ? this.#domain(variable) : [choiceOf(variable, ABSENT)];
    }
    if (caller.isStranger && isOfOthers(variable)) {
      return [
        choiceOf(variable, ABSENT),
        choiceOf(variable, ['93.184.216.34']),
        choiceOf(variable, ['o-stranger']),
      ];
    }
    const copies = mayCopy ? copyable(attestation) : [];
    return [...this.#domain(variable), ...copies.map((value) => choiceOf(variable, [value], true))];
  }

  /** What every request to this key has. */
  #fact(variable: string): readonly Choice[] | undefined {
    const { metadata, region, keyIsGiven } = this.world;
    const either = (known: string | undefined, others: readonly string[]) =>
      (known === undefined ? others : [known]).map((value) => choiceOf(variable, [value]));
    switch (variable) {
      case 'aws:securetransport':
        return [choiceOf(variable, ['true'])];
      case 'aws:requestedregion':
        return keyIsGiven && region !== '' ? [choiceOf(variable, [region])] : undefined;
      case 'kms:multiregion':
        return either(isMultiRegion(this.world)?.toString(), ['false', 'true']);
      case 'kms:keyorigin':
        return either(metadata.origin, ['AWS_KMS']);
      case 'kms:keyusage':
        return either(keyUsage(this.world), ['ENCRYPT_DECRYPT']);
      case 'kms:keyspec':
        return either(metadata.keySpec, ['SYMMETRIC_DEFAULT']);
      default:
        return undefined;
    }
  }

  #instants(): readonly Choice[] {
    const known =
      this.#domains.get(TIME) ??
      instantsOf(
        TIME_KEYS.flatMap((key) => this.#index.get(key) ?? []),
        this.world.now,
      );
    this.#domains.set(TIME, known);
    return known;
  }

  /** Absent, what the policies name, and something else. */
  #domain(variable: string): readonly Choice[] {
    const known = this.#domains.get(variable);
    if (known !== undefined) return known;
    const conditions = this.#index.get(variable) ?? [];
    const values = valuesFor(conditions);
    const lists =
      conditions.some(({ operator }) => operator.set !== undefined) && values.length > 1 ? [values] : [];
    const domain = [ABSENT, ...values.map((value) => [value]), ...lists, [freshValue(values)]].map((one) =>
      choiceOf(variable, one),
    );
    this.#domains.set(variable, domain);
    return domain;
  }

  /** Encryption contexts: none, a strange one, and those that satisfy a statement or a grant. */
  #encryptionContexts({ action, attestation, mayCopy }: Question, source: Source): readonly Choice[] {
    if (!actionHasKey(action, `${ENCRYPTION_CONTEXT}:x`)) return [{ entries: new Map() }];
    const copies = mayCopy ? copyable(attestation) : [];
    const fixed = source.kind === 'grant' ? grantContext(source.grant) : undefined;
    const cacheKey = `${ENCRYPTION_CONTEXT} ${fixed === undefined ? '' : JSON.stringify([...fixed])}`;
    const known = this.#domains.get(cacheKey);
    const plain = known ?? this.#plainContexts(fixed);
    this.#domains.set(cacheKey, plain);
    if (copies.length === 0) return plain;
    const names = this.#contextNames();
    return [
      ...plain,
      ...copies.map((value) => ({
        ...contextChoice(new Map(names.map((name) => [name, value]))),
        copied: true as const,
      })),
    ];
  }

  #contextNames(): string[] {
    const prefix = `${ENCRYPTION_CONTEXT}:`;
    const names = new Set<string>();
    for (const [key, conditions] of this.#index) {
      if (key.startsWith(prefix)) names.add(conditions[0]?.key.slice(prefix.length) ?? '');
      for (const { values } of conditions) {
        for (const value of values) {
          for (const match of value.matchAll(/\$\{kms:EncryptionContext:([^{},]+)/gi))
            names.add(match[1] ?? '');
        }
      }
    }
    return [...names];
  }

  #plainContexts(base: ReadonlyMap<string, string> | undefined): Choice[] {
    const prefix = `${ENCRYPTION_CONTEXT}:`;
    const contexts: ReadonlyMap<string, string>[] = [new Map(), new Map([['other', 'other']])];
    const statements = [
      ...this.world.keyPolicy.statements,
      ...[...this.world.iamPolicies.values()].flat().flatMap(({ policy }) => policy.statements),
    ];
    for (const { conditions } of statements) {
      let partial: ReadonlyMap<string, string>[] = [new Map()];
      const extra = new Set<string>();
      for (const condition of conditions) {
        const lower = asciiLower(condition.key);
        if (lower === `${ENCRYPTION_CONTEXT}keys`)
          for (const value of valuesFor([condition])) extra.add(value);
        if (!lower.startsWith(prefix)) continue;
        const name = condition.key.slice(prefix.length);
        const values = [...valuesFor([condition]), 'other'];
        partial = partial
          .flatMap((one) => values.map((value) => new Map([...one, [name, value]])))
          .slice(0, CONTEXTS_MAX);
      }
      contexts.push(...partial);
      if (extra.size > 0) {
        for (const one of partial)
          contexts.push(new Map([...[...extra].map((name) => [name, 'x'] as const), ...one]));
        for (const name of extra) contexts.push(new Map([[name, 'x']]));
      }
    }
    const merged =
      base === undefined ? contexts : [base, ...contexts.map((one) => new Map([...one, ...base]))];
    const unique = new Map(merged.map((one) => [JSON.stringify([...one].sort()), one]));
    return [...unique.values()].map(contextChoice);
  }

  #confirm(
    found: Assignment,
    source: Source,
    reach: Reach,
    question: Question,
    base: PolicyRequest,
  ): Allowed | undefined {
    const { request, registers } = requestOf(this.world, question, base, found);
    const { caller, action } = question;
    const { keyPolicy } = this.world;
    const { inKeyPolicy } = this.#denies(caller, action, this.#derived(base, caller));
    // The other Allow statements could only allow it once more.
    const statements = source.kind === 'statement' ? [source.statement, ...inKeyPolicy] : inKeyPolicy;
    const decision = decide(request, {
      keyPolicy: { ...keyPolicy, statements },
      identityPolicies: caller.policies,
      grants: source.kind === 'grant' ? [source.grant] : [],
    });
    // The engine has the last word; where it disagrees, nothing may be concluded from the search.
    if (!decision.allowed) {
      this.gaveUp = true;
      return undefined;
    }
    return { source, reach, question, request, decision, registers };
  }

  /** The answer to the request with these picks and nothing else, for the matrix and for refusals. */
  answer(question: Question, picks: Assignment = new Map()): Omit<Allowed, 'source' | 'reach'> {
    const base = baseRequest(this.world, question);
    const { request, registers } = requestOf(this.world, question, base, picks);
    const decision = decide(request, {
      keyPolicy: this.world.keyPolicy,
      identityPolicies: question.caller.policies,
      grants: [...this.world.grants, ...(question.newGrants ?? [])],
    });
    return { question, request, decision, registers };
  }
}

const CONTEXTS_MAX = 32;
/** Keys whose value hangs on the caller alone. */
const CALLER_KEY =
  /^(?:aws:principalarn|aws:principalaccount|aws:principaltype|aws:username|kms:calleraccount)$/i;
const DERIVED_OR_ABSENT =
  /^(?:aws:principalarn|aws:principalaccount|aws:principaltype|aws:principalisawsservice|aws:userid|aws:username|aws:resourceaccount|kms:calleraccount|kms:resourcealiases|(?:aws|kms):resourcetag\/.*)$/;

function isAboutCaller({ key, values }: Condition): boolean {
  return CALLER_KEY.test(key) && !values.some((value) => value.includes('${'));
}

export function freshValue(values: readonly string[]): string {
  let value = 'something-else';
  while (values.includes(value)) value += '-';
  return value;
}

function contextChoice(context: ReadonlyMap<string, string>): Choice {
  const entries = new Map<string, Values>();
  for (const [name, value] of context) entries.set(asciiLower(`${ENCRYPTION_CONTEXT}:${name}`), [value]);
  if (context.size > 0) entries.set(`${ENCRYPTION_CONTEXT}keys`, [...context.keys()]);
  return { entries, context } as Choice;
}

function grantContext(grant: Grant): ReadonlyMap<string, string> | undefined {
  return grant.encryptionContextEquals ?? grant.encryptionContextSubset;
}

/** Values that somebody could copy from a document into a tag or an encryption context. */
function copyable(attestation: Attestation | undefined): string[] {
  if (attestation === undefined) return [];
  return [...new Set([...attestation.registers.values()].flatMap((values) => values.slice(0, 1)))];
}

function baseRequest({ keyArn }: World, { caller, action }: Question): PolicyRequest {
  return { principal: caller.identity, action, keyArn };
}

/** The request with the picks of a search; registers that no condition asks about take their first value. */
function requestOf(
  world: World,
  question: Question,
  base: PolicyRequest,
  picks: Assignment,
): { readonly request: PolicyRequest; readonly registers: Readonly<Record<string, string>> } {
  const { attestation, action, via } = question;
  const context = new Map<string, Values>([['aws:SecureTransport', ['true']]]);
  const tags = new Map(base.principal.tags);
  let encryptionContext: ReadonlyMap<string, string> = new Map();
  for (const [name, values] of timeContext(toSecond(world.now))) {
    context.set(name, picks.get(TIME)?.entries.get(asciiLower(name)) ?? values);
  }
  for (const [variable, choice] of picks) {
    if (isAttestationKey(variable) || variable === TIME) continue;
    if (variable === ENCRYPTION_CONTEXT) {
      encryptionContext = (choice as Choice & { context?: ReadonlyMap<string, string> }).context ?? new Map();
      continue;
    }
    const values = choice.entries.get(variable) ?? [];
    const tag = /^aws:principaltag\/(.*)$/s.exec(variable)?.[1];
    if (tag !== undefined) {
      if (values[0] !== undefined) tags.set(tag, values[0]);
    } else if (values.length > 0 && !DERIVED_OR_ABSENT.test(variable)) context.set(variable, values);
  }
  for (const [variable, choices] of Object.entries(question.fixed ?? {})) {
    if (!picks.has(variable) && (choices[0]?.length ?? 0) > 0) context.set(variable, choices[0] ?? []);
  }
  if (via === 'service' && !picks.has('kms:viaservice')) {
    context.set('kms:viaservice', [`s3.${world.region || 'us-east-1'}.amazonaws.com`]);
  }
  for (const [variable, value] of Object.entries(factsOf(world))) {
    if (!context.has(variable) && actionHasKey(action, variable)) context.set(variable, [value]);
  }
  const registers = attestation === undefined ? {} : pickRegisters(attestation, picks);
  if (isAttestable(action)) {
    for (const [register, value] of Object.entries(registers))
      context.set(`${ATTESTATION_PREFIX}${register}`, [value]);
    if (registers.pcr0 !== undefined) context.set(`${ATTESTATION_PREFIX}imagesha384`, [registers.pcr0]);
  }
  const principal = tags.size === 0 ? base.principal : { ...base.principal, tags };
  return { request: { ...base, principal, context, encryptionContext }, registers };
}

function factsOf(world: World): Record<string, string> {
  const { metadata, region } = world;
  return {
    'kms:keyorigin': metadata.origin ?? 'AWS_KMS',
    'kms:keyusage': keyUsage(world) ?? 'ENCRYPT_DECRYPT',
    'kms:keyspec': metadata.keySpec ?? 'SYMMETRIC_DEFAULT',
    'kms:multiregion': String(isMultiRegion(world) ?? false),
    ...(region === '' ? {} : { 'aws:requestedregion': region }),
  };
}

function pickRegisters(attestation: Attestation, picks: Assignment): Record<string, string> {
  const registers: Record<string, string> = {};
  for (const [register, values] of attestation.registers) {
    const key = `${ATTESTATION_PREFIX}${register}`;
    const value = picks.get(key)?.entries.get(key)?.[0] ?? values[0];
    if (value !== undefined) registers[register] = value;
  }
  return registers;
}

function resourceMatches(
  { resources }: Statement,
  version: PolicyVersion,
  keyArn: string,
  context: ReadonlyMap<string, Values>,
): boolean {
  if (resources === undefined) return false;
  const matched = resources.entries.some((pattern) => {
    const parts = expandVariables(pattern, version, context);
    return parts !== undefined && partsMatch(parts, keyArn);
  });
  return matched !== resources.negated;
}
