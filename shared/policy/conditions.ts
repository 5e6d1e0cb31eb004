/**
 * Evaluates one condition of a statement (docs/policy.md section 4). What decides most policies is the key that the
 * request does not have: a positive operator is then false, a negated one, `IfExists` and `ForAllValues` are true,
 * `ForAnyValue` is false.
 */
import { asciiLower, type PatternPart } from './glob.ts';
import type { Condition, PolicyVersion } from './model.ts';
import { keepPrepared, takesVariables, valueMatches } from './operators.ts';
import { expandVariables, type RequestContext } from './variables.ts';

export interface ConditionOutcome {
  readonly holds: boolean;
  readonly condition: Condition;
  /** The request's values; empty when it has no such key. */
  readonly found: readonly string[];
}

export function evaluateCondition(
  condition: Condition,
  version: PolicyVersion,
  context: RequestContext,
): ConditionOutcome {
  const found = context.get(preparedOf(condition).key) ?? [];
  return { holds: holds(condition, version, context, found), condition, found };
}

interface Prepared {
  /** In lower case. */
  readonly key: string;
  /** Of values without variables, which are the same for every request; undefined if one has any. */
  readonly expected: readonly (readonly PatternPart[])[] | undefined;
}

/** A condition is evaluated for many requests. */
const PREPARED = new WeakMap<Condition, Prepared>();

function preparedOf(condition: Condition): Prepared {
  const known = PREPARED.get(condition);
  if (known !== undefined) return known;
  const { key, operator, values } = condition;
  const isPlain = !takesVariables(operator.comparison) || !values.some((value) => value.includes('${'));
  const expected = isPlain ? values.map((text) => keepPrepared(operator.comparison, text)) : undefined;
  const made = { key: asciiLower(key), expected };
  PREPARED.set(condition, made);
  return made;
}

function holds(
  condition: Condition,
  version: PolicyVersion,
  context: RequestContext,
  found: readonly string[],
): boolean {
  const { operator, values } = condition;
  const absent = found.length === 0;
  if (operator.comparison === 'null')
    return values.some((value) => (asciiLower(value) === 'true') === absent);
  if (absent) {
    if (operator.ifExists || operator.set === 'all') return true;
    return operator.set === 'any' ? false : operator.negated;
  }
  const expected =
    preparedOf(condition).expected ??
    values.flatMap((value): readonly PatternPart[][] => {
      const parts = expandVariables(value, version, context);
      return parts === undefined ? [] : [parts];
    });
  const matches = (one: string) => expected.some((parts) => valueMatches(operator, parts, one));
  // For a negated operator the list means "none of these".
  const accepts = (one: string) => matches(one) !== operator.negated;
  if (operator.set === 'any') return found.some(accepts);
  if (operator.set === 'all') return found.every(accepts);
  return operator.negated ? found.every(accepts) : found.some(accepts);
}

/** `kms:ViaService: expected StringEquals "s3…", found nothing (the request has no such key)`. */
export function describeOutcome({ condition, found }: ConditionOutcome): string {
  const expected = condition.values.map(quote).join(' or ');
  const actual = found.length === 0 ? 'nothing (the request has no such key)' : found.map(quote).join(', ');
  return `${condition.key}: expected ${condition.operator.name} ${expected || 'one of an empty list'}, found ${actual}`;
}

function quote(value: string): string {
  return JSON.stringify(value);
}
