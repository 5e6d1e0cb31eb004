/** The search finds a request exactly if there is one among the choices: held against trying them all. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type Choice, choiceOf } from '../../../review/policy/requests/domains.ts';
import { type Clause, solve } from '../../../review/policy/requests/solve.ts';
import { evaluateCondition } from '../../../shared/policy/conditions.ts';
import type { Condition } from '../../../shared/policy/model.ts';
import { parseOperator } from '../../../shared/policy/operators.ts';

const KEYS = ['aws:a', 'aws:b', 'aws:c'];
const VALUES = ['1', '2', '3'];
const DOMAINS: ReadonlyMap<string, readonly Choice[]> = new Map(
  KEYS.map((key) => [key, [[], ...VALUES.map((value) => [value])].map((values) => choiceOf(key, values))]),
);
const ALL: readonly ReadonlyMap<string, readonly string[]>[] = KEYS.reduce<
  ReadonlyMap<string, readonly string[]>[]
>(
  (so, key) =>
    so.flatMap((one) => (DOMAINS.get(key) ?? []).map(({ entries }) => new Map([...one, ...entries]))),
  [new Map()],
);

const condition = fc
  .record({
    name: fc.constantFrom(
      'StringEquals',
      'StringNotEquals',
      'StringEqualsIfExists',
      'ForAnyValue:StringNotEquals',
    ),
    key: fc.constantFrom(...KEYS),
    values: fc.uniqueArray(fc.constantFrom(...VALUES), { minLength: 1, maxLength: 2 }),
  })
  .map(({ name, key, values }): Condition => {
    const operator = parseOperator(name);
    if (operator === undefined) throw new TypeError(name);
    return { operator, key, values, line: 1 };
  });
const clauses = (maxLength: number) =>
  fc.array(
    fc
      .array(condition, { minLength: 1, maxLength: 3 })
      .map((conditions): Clause => ({ conditions, version: '2012-10-17' })),
    { maxLength },
  );
const holds = ({ conditions, version }: Clause, context: ReadonlyMap<string, readonly string[]>) =>
  conditions.every((one) => evaluateCondition(one, version, context).holds);

it('for any Allows and Denies, whatever has to be taken back on the way', () => {
  fc.assert(
    fc.property(clauses(2), clauses(8), (allows, denies) => {
      const fits = (context: ReadonlyMap<string, readonly string[]>) =>
        allows.every((one) => holds(one, context)) && !denies.some((one) => holds(one, context));
      const found = solve(allows, denies, (variable) => DOMAINS.get(variable) ?? [], { steps: 0 });
      expect(found !== undefined).toBe(ALL.some(fits));
      if (found !== undefined) {
        expect(fits(new Map([...found.values()].flatMap(({ entries }) => [...entries])))).toBe(true);
      }
    }),
    { numRuns: 2000 },
  );
});
