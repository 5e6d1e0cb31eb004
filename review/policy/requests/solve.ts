/**
 * Finds a request that is allowed, or shows that among the representatives there is none.
 *
 * The conditions of one Allow are all to hold, and of every Deny at least one is to fail. A condition is about one
 * key, so each of them only narrows the choices for that key; what is left is to pick, for every Deny, the condition
 * that fails. Conditions with policy variables look at a second key: those are tried value by value.
 */

import { evaluateCondition } from '../../../shared/policy/conditions.ts';
import { asciiLower } from '../../../shared/policy/glob.ts';
import type { Condition, PolicyVersion } from '../../../shared/policy/model.ts';
import { takesVariables } from '../../../shared/policy/operators.ts';
import { type Choice, holdsUnder, variableOf } from './domains.ts';

export interface Clause {
  readonly conditions: readonly Condition[];
  readonly version: PolicyVersion;
}

/** What is possible for the key; called once a variable. */
export type ChoicesOf = (variable: string) => readonly Choice[];

/** The picks for every key that a condition mentions. */
export type Assignment = ReadonlyMap<string, Choice>;

/** How often a choice may be tried before the search gives up: far beyond what a policy of 32 KiB needs. */
export const STEPS_MAX = 200_000;

export class SearchTooLarge extends Error {}

export interface Budget {
  steps: number;
}

/** `undefined` when no request satisfies every Allow clause and escapes every Deny clause. Throws SearchTooLarge. */
export function solve(
  allows: readonly Clause[],
  denies: readonly Clause[],
  choicesOf: ChoicesOf,
  budget: Budget,
): Assignment | undefined {
  const choices = new Map<string, readonly Choice[]>();
  const of = (variable: string): readonly Choice[] => {
    const known = choices.get(variable) ?? choicesOf(variable);
    choices.set(variable, known);
    return known;
  };
  const outer = variablesInValues([...allows, ...denies]);
  if (outer.length === 0) return search(allows, denies, of, undefined, budget);
  for (const fixed of combinations(outer, of)) {
    const narrowed = (variable: string) => {
      const pick = fixed.get(variable);
      return pick === undefined ? of(variable) : [pick];
    };
    const found = search(allows, denies, narrowed, fixed, budget);
    if (found !== undefined) return new Map([...fixed, ...found]);
  }
  return undefined;
}

function search(
  allows: readonly Clause[],
  denies: readonly Clause[],
  of: ChoicesOf,
  fixed: Assignment | undefined,
  budget: Budget,
): Assignment | undefined {
  const extra =
    fixed === undefined ? undefined : [...fixed.values()].flatMap((choice) => [...choice.entries]);
  const holds = (condition: Condition, version: PolicyVersion, choice: Choice): boolean => {
    budget.steps += 1;
    if (budget.steps > STEPS_MAX) throw new SearchTooLarge('too many conditions to search');
    if (extra === undefined) return holdsUnder(condition, version, choice);
    return evaluateCondition(condition, version, new Map([...extra, ...choice.entries])).holds;
  };
  const left = new Map<string, readonly Choice[]>();
  for (const { conditions, version } of allows) {
    for (const condition of conditions) {
      const variable = variableOf(condition.key);
      const rest = (left.get(variable) ?? of(variable)).filter((choice) => holds(condition, version, choice));
      if (rest.length === 0) return undefined;
      left.set(variable, rest);
    }
  }
  if (!escapeAll(0)) return undefined;
  return new Map(
    [...left].flatMap(([variable, [first]]) => (first === undefined ? [] : [[variable, first]])),
  );

  /** Narrows `left` until every Deny from this one on fails; leaves it as it was if that cannot be. */
  function escapeAll(from: number): boolean {
    const next = denies[from];
    if (next === undefined) return true;
    for (const condition of next.conditions) {
      const variable = variableOf(condition.key);
      const known = left.get(variable);
      const before = known ?? of(variable);
      const rest = before.filter((choice) => !holds(condition, next.version, choice));
      if (rest.length === 0) continue;
      left.set(variable, rest);
      if (escapeAll(from + 1)) return true;
      if (known === undefined) left.delete(variable);
      else left.set(variable, known);
      // This Deny fails whatever is chosen, so another of its conditions would not help the others.
      if (rest.length === before.length) return false;
    }
    return false;
  }
}

const VARIABLE = /\$\{([^{},]*)(?:,[^{}]*)?\}/g;

/** Keys whose value stands in the value of another condition. */
export function variablesInValues(clauses: readonly Clause[]): string[] {
  const found = new Set<string>();
  for (const { conditions, version } of clauses) {
    if (version === '2008-10-17') continue;
    for (const { operator, values } of conditions) {
      if (!takesVariables(operator.comparison)) continue;
      for (const value of values) {
        if (!value.includes('${')) continue;
        for (const match of value.matchAll(VARIABLE)) {
          const name = asciiLower((match[1] ?? '').trim());
          if (!['*', '?', '$'].includes(name)) found.add(variableOf(name));
        }
      }
    }
  }
  return [...found];
}

const COMBINATIONS_MAX = 2_000;

function combinations(variables: readonly string[], of: ChoicesOf): Assignment[] {
  let all: Assignment[] = [new Map()];
  for (const variable of variables) {
    all = all.flatMap((one) => of(variable).map((choice) => new Map([...one, [variable, choice]])));
    if (all.length > COMBINATIONS_MAX) throw new SearchTooLarge('too many policy variables to search');
  }
  return all;
}
