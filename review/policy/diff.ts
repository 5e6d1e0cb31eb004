/**
 * Which requests get another answer under a new policy than under the old one (docs/policy.md section 10). Both are asked
 * the same requests: for every caller, action and document that the two can tell apart, one that each statement
 * allows, and its neighbours, in which one condition key has another of the values that the two mention. `decide` gives
 * both answers.
 */
import { isAttestable, kmsAction } from '../../shared/policy/actions.ts';
import { decide } from '../../shared/policy/decide.ts';
import { asciiLower } from '../../shared/policy/glob.ts';
import { KMS_ACTIONS } from '../../shared/policy/kms-data.ts';
import type { Condition, Decision, Policy, PolicyRequest } from '../../shared/policy/model.ts';
import { ATTESTATION_PREFIX, isAttestationKey } from './attestation-keys.ts';
import { witnessOf } from './findings/witness.ts';
import type { Witness } from './report.ts';
import { Asker, freshValue, type Question } from './requests/ask.ts';
import { type Attestation, attestationsOf } from './requests/attestations.ts';
import { type Caller, callersOf, WITH_IAM } from './requests/callers.ts';
import { ABSENT, actionHasKey, type Values, valuesFor } from './requests/domains.ts';
import { instantsOf, isTimeKey } from './requests/time.ts';
import type { World } from './requests/world.ts';
import { type WorldInput, worldOf } from './world-of.ts';

export interface PolicyChange {
  /** `gained`: the new policy allows what the old one denied. */
  readonly direction: 'gained' | 'lost';
  /** `all`: nothing of the kind was (is) possible under the other policy. `some`: only under other conditions. */
  readonly extent: 'all' | 'some';
  readonly principals: readonly string[];
  /** What the call carries; `none`: no document, or an action that cannot carry one. */
  readonly attestations: readonly string[];
  readonly actions: readonly string[];
  /** One of these requests, with both answers. `answer` and `decidedBy` in it are those of the new policy. */
  readonly witness: Witness;
  readonly before: Answer;
  readonly after: Answer;
}

export interface Answer {
  readonly answer: 'allow' | 'deny';
  readonly explanation: readonly string[];
}

export interface PolicyDiff {
  /** Gained before lost; plaintext without a document first. Empty: every request has the same answer. */
  readonly changes: readonly PolicyChange[];
  readonly requests: number;
  /** ISO 8601. Requests of this time and of any later were asked. */
  readonly at: string;
  readonly principals: readonly string[];
  readonly attestations: readonly string[];
  /** True if a search was given up: then "no change" is no answer. */
  readonly gaveUp: boolean;
}

export type DiffInput = Omit<WorldInput, 'keyPolicy'> & { readonly before: Policy; readonly after: Policy };

export function diffPolicies({ before, after, ...input }: DiffInput): PolicyDiff {
  // What the two tell apart together: their statements in one policy, which is asked nothing itself.
  const both = { ...after, statements: [...before.statements, ...after.statements] };
  const world = worldOf({ ...input, keyPolicy: both });
  const { callers, isCut } = callersOf(world, true);
  const attestations = attestationsOf(world);
  const comparer = new Comparer(world, before, after);
  for (const { name, onKey } of KMS_ACTIONS) {
    if (!onKey) continue;
    const action = `kms:${name}`;
    if (!comparer.concerns(action)) continue;
    const documents = [undefined, ...(isAttestable(action) ? attestations : [])];
    for (const caller of callers) {
      for (const attestation of documents) comparer.compare(caller, action, attestation);
    }
  }
  return {
    changes: grouped(comparer.found),
    requests: comparer.requests,
    at: input.now.toISOString(),
    principals: callers.map(({ name }) => name),
    attestations: attestations.map(({ name }) => name),
    gaveUp: comparer.gaveUp || isCut,
  };
}

interface Difference {
  readonly direction: 'gained' | 'lost';
  readonly extent: 'all' | 'some';
  readonly caller: Caller;
  readonly action: string;
  readonly attestation: Attestation | undefined;
  readonly witness: Witness;
  readonly before: Answer;
  readonly after: Answer;
}

class Comparer {
  readonly found: Difference[] = [];
  requests = 0;
  readonly #world: World;
  readonly #before: Asker;
  readonly #after: Asker;
  readonly #conditions: readonly Condition[];

  constructor(world: World, before: Policy, after: Policy) {
    this.#world = world;
    this.#before = new Asker({ ...world, keyPolicy: before });
    this.#after = new Asker({ ...world, keyPolicy: after });
    const iam = [...world.iamPolicies.values()].flat().flatMap(({ policy }) => policy.statements);
    this.#conditions = [...world.keyPolicy.statements, ...iam].flatMap(({ conditions }) => conditions);
  }

  get gaveUp(): boolean {
    return this.#before.gaveUp || this.#after.gaveUp;
  }

  concerns(action: string): boolean {
    const { statements } = this.#world.keyPolicy;
    const granted = this.#world.grants.some(({ operations }) =>
      operations.some((name) => `kms:${name}` === action),
    );
    return granted || statements.some((statement) => this.#after.covers(statement, action));
  }

  compare(caller: Caller, action: string, attestation: Attestation | undefined): void {
    const seen = new Set<string>();
    const kinds = new Set<string>();
    for (const fixed of this.#fixed(action)) {
      const question: Question = {
        caller,
        action,
        ...(attestation === undefined ? {} : { attestation }),
        ...(fixed === undefined ? {} : { fixed }),
      };
      const bases = [this.#before, this.#after].flatMap((asker) =>
        asker.sources.flatMap((source) => asker.findVia(source, question) ?? []),
      );
      for (const base of bases) {
        for (const request of [base.request, ...this.#neighbours(base.request, question)]) {
          const key = keyOf(request);
          if (seen.has(key)) continue;
          seen.add(key);
          const difference = this.#ask(request, question, base.registers);
          if (difference === undefined || kinds.has(difference.direction)) continue;
          kinds.add(difference.direction);
          this.found.push(difference);
        }
      }
    }
  }

  #ask(
    request: PolicyRequest,
    question: Question,
    registers: Readonly<Record<string, string>>,
  ): Difference | undefined {
    this.requests++;
    const { caller, action, attestation } = question;
    const decideUnder = (asker: Asker): Decision =>
      decide(request, {
        keyPolicy: asker.world.keyPolicy,
        identityPolicies: caller.policies,
        grants: asker.world.grants,
      });
    const before = decideUnder(this.#before);
    const after = decideUnder(this.#after);
    if (before.allowed === after.allowed) return undefined;
    const other = after.allowed ? this.#before : this.#after;
    const possible = this.#fixed(action).some(
      (fixed) =>
        other.find({ caller, action, ...(attestation && { attestation }), ...(fixed && { fixed }) }) !==
        undefined,
    );
    const shown = { ...registers, ...registersIn(request, registers) };
    return {
      direction: after.allowed ? 'gained' : 'lost',
      extent: possible ? 'some' : 'all',
      caller,
      action,
      attestation,
      witness: witnessOf({ question, request, decision: after, registers: shown }),
      before: answerOf(before),
      after: answerOf(after),
    };
  }

  /** Condition keys that every such call has, so that one without them would be no request. */
  #fixed(action: string): readonly (Readonly<Record<string, readonly Values[]>> | undefined)[] {
    if (/^kms:ReEncrypt(From|To)$/.test(action)) {
      return ['true', 'false'].map((same) => ({ 'kms:reencryptonsamekey': [[same]] }));
    }
    if (action === 'kms:CreateGrant') {
      const named = valuesFor(this.#about('kms:grantoperations')).map((operation) => [operation]);
      return [['Decrypt'], ['DescribeKey'], ...named].map((operations) => ({
        'kms:grantoperations': [operations],
        'kms:grantisforawsresource': [['false'], ['true']],
      }));
    }
    return [undefined];
  }

  #about(key: string): readonly Condition[] {
    return this.#conditions.filter((condition) => asciiLower(condition.key) === key);
  }

  /** The same request with one condition key changed to another value that the policies can tell apart. */
  *#neighbours(request: PolicyRequest, { action, attestation, fixed }: Question): Generator<PolicyRequest> {
    const keys = new Map(this.#conditions.map(({ key }) => [asciiLower(key), key]));
    for (const [lower, key] of keys) {
      if (isAttestationKey(lower)) {
        const register = lower.slice(ATTESTATION_PREFIX.length);
        for (const value of attestation?.registers.get(register) ?? []) {
          const pinned = register === 'pcr0' ? [lower, `${ATTESTATION_PREFIX}imagesha384`] : [lower];
          yield withKeys(request, pinned, [value]);
        }
        continue;
      }
      if (isTimeKey(lower)) {
        for (const { entries } of instantsOf(this.#conditions, this.#world.now)) {
          yield [...entries].reduce((one, [name, values]) => withKeys(one, [name], values), request);
        }
        continue;
      }
      if (DERIVED.test(lower) || fixed?.[lower] !== undefined || !actionHasKey(action, lower)) continue;
      const values = valuesFor(this.#about(lower));
      const context = ENCRYPTION_CONTEXT.exec(key)?.[1];
      if (context !== undefined) {
        for (const value of [undefined, ...values, 'other']) yield withContext(request, context, value);
        continue;
      }
      if (lower === 'kms:encryptioncontextkeys') {
        for (const name of [...values, 'other']) yield withContext(request, name, 'other');
        continue;
      }
      const tag = /^aws:principaltag\/(.*)$/i.exec(key)?.[1];
      for (const value of [ABSENT, ...values.map((one) => [one]), [freshValue(values)]]) {
        yield tag === undefined ? withKeys(request, [lower], value) : withTag(request, tag, value[0]);
      }
    }
  }
}

const DERIVED =
  /^(?:aws:principalarn|aws:principalaccount|aws:principaltype|aws:principalisawsservice|aws:userid|aws:username|aws:resourceaccount|aws:securetransport|aws:viaawsservice|kms:calleraccount|kms:resourcealiases|kms:keyorigin|kms:keyspec|kms:keyusage|kms:multiregion.*|(?:aws|kms):resourcetag\/.*)$/;
const ENCRYPTION_CONTEXT = /^kms:encryptioncontext:(.+)$/i;

function withKeys(request: PolicyRequest, keys: readonly string[], values: Values): PolicyRequest {
  const context = new Map(request.context);
  for (const name of context.keys()) if (keys.includes(asciiLower(name))) context.delete(name);
  if (values.length > 0) for (const key of keys) context.set(key, values);
  return { ...request, context };
}

function withContext(request: PolicyRequest, name: string, value: string | undefined): PolicyRequest {
  const encryptionContext = new Map(request.encryptionContext);
  for (const known of encryptionContext.keys()) {
    if (asciiLower(known) === asciiLower(name)) encryptionContext.delete(known);
  }
  if (value !== undefined) encryptionContext.set(name, value);
  return { ...request, encryptionContext };
}

function withTag(request: PolicyRequest, name: string, value: string | undefined): PolicyRequest {
  const tags = new Map(request.principal.tags);
  tags.delete(name);
  if (value !== undefined) tags.set(name, value);
  return { ...request, principal: { ...request.principal, tags } };
}

function keyOf({ context, encryptionContext, principal }: PolicyRequest): string {
  const sorted = (map: ReadonlyMap<string, unknown> | undefined) => [...(map ?? [])].toSorted();
  const keys = new Map([...(context ?? [])].map(([name, values]) => [asciiLower(name), values]));
  return JSON.stringify([sorted(keys), sorted(encryptionContext), sorted(principal.tags)]);
}

/** As the request has them, which may be a neighbour of the one that was found. */
function registersIn(
  { context }: PolicyRequest,
  known: Readonly<Record<string, string>>,
): Record<string, string> {
  return Object.fromEntries(
    Object.keys(known).flatMap((register) => {
      const [value] = context?.get(`${ATTESTATION_PREFIX}${register}`) ?? [];
      return value === undefined ? [] : [[register, value]];
    }),
  );
}

function answerOf({ allowed, explanation }: Decision): Answer {
  return { answer: allowed ? 'allow' : 'deny', explanation };
}

/** Actions of one kind of request together, then principals that have the same, then documents. */
function grouped(differences: readonly Difference[]): readonly PolicyChange[] {
  let changes: PolicyChange[] = differences.map(
    ({ direction, extent, caller, action, attestation, witness, before, after }) => ({
      direction,
      extent,
      principals: [caller.name],
      attestations: [attestation?.name ?? 'none'],
      actions: [action],
      witness,
      before,
      after,
    }),
  );
  changes = merged(merged(changes, 'actions'), 'principals').map(withoutAssumed);
  return merged(changes, 'attestations').toSorted((a, b) => weight(a) - weight(b));
}

/** Who has a right anyway has it with IAM policies too: that is not worth a second name. */
function withoutAssumed(change: PolicyChange): PolicyChange {
  const { principals } = change;
  const isMore = (name: string) => principals.some((other) => name === `${other} ${WITH_IAM}`);
  return { ...change, principals: principals.filter((name) => !isMore(name)) };
}

function merged(
  changes: readonly PolicyChange[],
  what: 'actions' | 'principals' | 'attestations',
): PolicyChange[] {
  const groups = new Map<string, PolicyChange>();
  for (const change of changes) {
    const { direction, extent, principals, attestations, actions } = change;
    const key = JSON.stringify([direction, extent, { principals, attestations, actions, [what]: [] }]);
    const known = groups.get(key);
    groups.set(
      key,
      known === undefined ? change : { ...known, [what]: [...new Set([...known[what], ...change[what]])] },
    );
  }
  return [...groups.values()];
}

const PLAINTEXT: ReadonlySet<string> = new Set(['kms:Decrypt', 'kms:DeriveSharedSecret']);

/** Gains before losses, plaintext before control before the rest, without a document before with one. */
function weight({ direction, actions, attestations }: PolicyChange): number {
  const opens = actions.some((action) => PLAINTEXT.has(action));
  const controls = actions.some((action) => /Permissions management/.test(kmsAction(action)?.level ?? ''));
  return (
    (direction === 'gained' ? 0 : 100) +
    (opens ? 0 : controls ? 10 : 20) +
    (attestations.includes('none') ? 0 : 1)
  );
}
