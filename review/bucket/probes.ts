/**
 * Concrete requests that the policy engine is asked about: by whom, for what, with which headers, over which
 * connection. A check fails by a request that shows it, never by how a statement looks. So that a Deny with an
 * exemption does not pass for a Deny, each question is asked again for everybody and everything that the policy
 * itself mentions: every principal, every path, every value of every condition key, and none of them.
 */
import { accountOfIdentityArn, accountOfRootArn } from '../../shared/policy/arn.ts';
import {
  type BucketEvaluation,
  type BucketRequest,
  evaluateBucketPolicy,
  statementsConcerning,
} from '../../shared/policy/bucket.ts';
import type { CallerIdentity, Policy, Statement } from '../../shared/policy/model.ts';

export interface Question {
  /** For example `s3:PutObject`. */
  readonly action: string;
  /** Condition keys that make the question; the others vary. */
  readonly context: Readonly<Record<string, string>>;
  /** Condition keys that the request must not have. */
  readonly without?: readonly string[];
  readonly callers?: readonly BucketRequest['principal'][];
}

export interface Witness {
  readonly request: BucketRequest;
  readonly evaluation: BucketEvaluation;
}

/** Whoever is not named anywhere. */
const STRANGER_ACCOUNT = '999999999999';
const PROBE = 'strongroom-audit-probe';
const CONTEXTS_MAX = 4096;
const ABOUT_CALLER = /^aws:(?:principal|user)/i;

/** Actions on the bucket itself; all others are on objects. */
const ON_BUCKET =
  /^s3:(?:ListBucket.*|GetBucket.*|PutBucket.*|DeleteBucket.*|.*Configuration|GetEncryption.*|PutEncryption.*)$/;

/** Set by S3 from what else is in the request; a variation of them alone would be no request that exists. */
const NEVER_VARIED =
  /^(?:aws:principal(?:arn|account|type|isawsservice)|aws:userid|aws:username|aws:principaltag\/.*|aws:viaawsservice|aws:resourceaccount|aws:securetransport|s3:tlsversion|aws:currenttime|aws:epochtime|s3:x-amz-server-side-encryption.*)$/;

export class Prober {
  readonly #policy: Policy | undefined;
  readonly #bucketArn: string;
  readonly #accountId: string;

  constructor(policy: Policy | undefined, bucket: string, accountId: string) {
    this.#policy = policy;
    this.#bucketArn = `arn:aws:s3:::${bucket}`;
    this.#accountId = accountId;
  }

  /** The first request of this kind that the policy does not deny, if there is one. */
  undenied(question: Question): Witness | undefined {
    return this.#find(question, ['Deny'], ({ effect }) => effect !== 'denied');
  }

  /** The first request of this kind that the policy itself allows, whatever the caller's own policies say. */
  allowed(question: Question): Witness | undefined {
    return this.#find(question, ['Allow', 'Deny'], ({ effect }) => effect === 'allowed');
  }

  /** As it is, without variations: what an honest client sends. */
  plainly(question: Question): Witness {
    const [principal = 'anonymous'] = question.callers ?? [this.own()];
    const request = {
      principal,
      action: question.action,
      resourceArn: this.#probeArn(question.action),
      context: new Map(Object.entries(question.context).map(([key, value]) => [key, [value]] as const)),
    };
    return { request, evaluation: evaluateBucketPolicy(request, this.#policy) };
  }

  /** A role of the bucket's account that no policy names. */
  own(): CallerIdentity {
    return role(this.#accountId, PROBE);
  }

  stranger(): CallerIdentity {
    return role(STRANGER_ACCOUNT, PROBE);
  }

  /** Everybody that the policy names or means. */
  callers(): readonly BucketRequest['principal'][] {
    return ['anonymous', this.stranger(), this.own(), ...this.named()];
  }

  /** The principals that the policy names. */
  named(): readonly CallerIdentity[] {
    const texts = (this.#policy?.statements ?? []).flatMap(({ principals, conditions }) => [
      ...(principals?.entries ?? []).map(({ text }) => text),
      ...conditions
        .filter(({ key }) => key.toLowerCase() === 'aws:principalarn')
        .flatMap(({ values }) => values.map((value) => this.#filledArn(value))),
    ]);
    return [...new Set(texts)].flatMap((text) => callerOf(text) ?? []);
  }

  /** Of a pattern for ARNs, one in the bucket's account where any would do. */
  #filledArn(pattern: string): string {
    return pattern
      .split(':')
      .map((part, index) => (index === 4 && part === '*' ? this.#accountId : filled(part)))
      .join(':');
  }

  /** `effects` are those of the statements that have a say in the question. */
  #find(
    question: Question,
    effects: readonly Statement['effect'][],
    matches: (evaluation: BucketEvaluation) => boolean,
  ): Witness | undefined {
    const tried = new Set<string>();
    let tooMany = false;
    for (const principal of question.callers ?? this.callers()) {
      for (const resourceArn of this.#resources(question.action)) {
        const base = { principal, action: question.action, resourceArn };
        const statements = statementsConcerning(base, this.#policy).filter(({ effect }) =>
          effects.includes(effect),
        );
        if (statements.some(({ effect, conditions }) => effect === 'Deny' && conditions.length === 0))
          continue;
        // The same statements say the same, unless they look at who it is.
        const looksAtCaller = statements.some(({ conditions }) =>
          conditions.some(({ key }) => ABOUT_CALLER.test(key)),
        );
        const alike = `${statements.map(({ index }) => index).join()} ${looksAtCaller ? JSON.stringify(principal) : ''}`;
        if (tried.has(alike)) continue;
        tried.add(alike);
        const { contexts, all } = contextsFor(statements, question);
        tooMany ||= !all;
        for (const context of contexts) {
          const request = { ...base, context };
          const evaluation = evaluateBucketPolicy(request, this.#policy);
          if (matches(evaluation)) return { request, evaluation };
        }
      }
    }
    if (tooMany)
      throw new TooManyConditions('the bucket policy has more conditions than can be tried together');
    return undefined;
  }

  #probeArn(action: string): string {
    return ON_BUCKET.test(action) ? this.#bucketArn : `${this.#bucketArn}/${PROBE}`;
  }

  #resources(action: string): string[] {
    const probe = this.#probeArn(action);
    if (probe === this.#bucketArn) return [probe];
    const mentioned = (this.#policy?.statements ?? [])
      .flatMap(({ resources }) => resources?.entries ?? [])
      .filter((pattern) => pattern.startsWith(`${this.#bucketArn}/`))
      .map(filled);
    return [...new Set([probe, ...mentioned])];
  }
}

/** Not all could be tried, so that nothing was found proves nothing. */
export class TooManyConditions extends Error {}

/** Every way in which what the statements look at may be: absent, each value that they name, and another one. */
function contextsFor(
  statements: readonly Statement[],
  { context, without = [] }: Question,
): { readonly contexts: Iterable<Map<string, readonly string[]>>; readonly all: boolean } {
  const fixed = new Map(Object.entries(context).map(([key, value]) => [key, [value]] as const));
  const taken = new Set([...Object.keys(context), ...without].map((key) => key.toLowerCase()));
  const options = [...mentionedValues(statements)].filter(
    ([key]) => !taken.has(key) && !NEVER_VARIED.test(key),
  );
  const total = options.reduce((count, [, values]) => count * (values.length + 1), 1);
  if (total <= CONTEXTS_MAX) return { contexts: product(options, fixed), all: true };
  return { contexts: oneByOne(options, fixed), all: false };
}

/** Each key alone. */
function* oneByOne(
  options: readonly (readonly [string, readonly string[]])[],
  fixed: ReadonlyMap<string, readonly string[]>,
): Generator<Map<string, readonly string[]>> {
  for (const option of options.slice(0, CONTEXTS_MAX)) yield* product([option], fixed);
}

/** By condition key in lower case: the values that the statements compare it with, and another one. */
function mentionedValues(statements: readonly Statement[]): Map<string, string[]> {
  const found = new Map<string, Set<string>>();
  for (const { key, values } of statements.flatMap(({ conditions }) => conditions)) {
    const name = key.toLowerCase();
    const known = found.get(name) ?? new Set([PROBE]);
    for (const value of values) if (!/^(?:true|false)$/i.test(value)) known.add(filled(value));
    if (values.some((value) => /^(?:true|false)$/i.test(value))) known.add('true').add('false');
    found.set(name, known);
  }
  return new Map([...found].map(([name, values]) => [name, [...values]]));
}

/** Every combination of the options, each key also absent. */
function* product(
  options: readonly (readonly [string, readonly string[]])[],
  fixed: ReadonlyMap<string, readonly string[]>,
): Generator<Map<string, readonly string[]>> {
  const [first, ...rest] = options;
  if (first === undefined) {
    yield new Map(fixed);
    return;
  }
  for (const context of product(rest, fixed)) {
    yield context;
    for (const value of first[1]) yield new Map(context).set(first[0], [value]);
  }
}

/** Something that a pattern matches; of a block of addresses the first. */
function filled(pattern: string): string {
  const address = /^([0-9.]+|[0-9a-f:]+)\/\d+$/i.exec(pattern)?.[1];
  if (address !== undefined) return address;
  return pattern
    .replaceAll(/\$\{[^}]*\}/g, PROBE)
    .replaceAll('*', PROBE)
    .replaceAll('?', 'x');
}

function role(accountId: string, name: string): CallerIdentity {
  return { arn: `arn:aws:iam::${accountId}:role/${name}`, accountId };
}

function callerOf(text: string): CallerIdentity | undefined {
  if (/^\d{12}$/.test(text)) return role(text, PROBE);
  const root = accountOfRootArn(text);
  if (root !== undefined) return role(root, PROBE);
  const accountId = accountOfIdentityArn(text);
  if (accountId === undefined) return undefined;
  const session = /:assumed-role\/([^/]+)\//.exec(text);
  if (session === null) return { arn: text, accountId };
  return { ...role(accountId, session[1] ?? ''), sessionArn: text };
}

/** `PutObject of probe by anybody (aws:SecureTransport: false)`. */
export function describeRequest({ principal, action, resourceArn, context }: BucketRequest): string {
  const who =
    principal === 'anonymous'
      ? 'anybody'
      : principal.accountId === STRANGER_ACCOUNT
        ? 'any other account'
        : principal.arn.endsWith(`role/${PROBE}`)
          ? `a role of account ${principal.accountId}`
          : (principal.sessionArn ?? principal.arn);
  const slash = resourceArn.indexOf('/');
  const what = slash < 0 ? '' : ` of ${resourceArn.slice(slash + 1)}`;
  const how = [...(context ?? [])].map(([key, values]) => `${key}: ${values.join(', ')}`).join('; ');
  return `${action}${what} by ${who}${how === '' ? '' : ` (${how})`}`;
}
