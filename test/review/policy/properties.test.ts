/** What a verdict must not depend on, and what may never help anybody. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type MatrixCell, VERDICTS, type Verdict } from '../../../review/policy/report.ts';
import { IMAGE, review } from './support.ts';

const RA = 'kms:RecipientAttestation:';
const role = (name: string) => `arn:aws:iam::111122223333:role/${name}`;
const WHO = ['*', role('EnclaveHost'), role('Operator'), role('KeyAdmin'), 'arn:aws:iam::111122223333:root'];
const ACTIONS = [
  'kms:Decrypt',
  'kms:*',
  'kms:CreateGrant',
  'kms:ReEncrypt*',
  'kms:PutKeyPolicy',
  'kms:GenerateDataKey',
];
const OPERATORS = [
  'StringEquals',
  'StringNotEquals',
  'StringEqualsIgnoreCase',
  'StringEqualsIfExists',
  'ForAllValues:StringEquals',
  'ForAnyValue:StringNotEquals',
];
const VALUES = [IMAGE.pcr0, '6b'.repeat(48), '0'.repeat(96), IMAGE.pcr1];

const condition = fc.option(
  fc.oneof(
    fc
      .tuple(
        fc.constantFrom(...OPERATORS),
        fc.constantFrom(`${RA}PCR0`, `${RA}PCR1`, `${RA}ImageSha384`, 'kms:EncryptionContext:model'),
        fc.uniqueArray(fc.constantFrom(...VALUES), { minLength: 1, maxLength: 2 }),
      )
      .map(([operator, key, values]) => ({ [operator]: { [key]: values } })),
    fc.constantFrom('true', 'false').map((value) => ({ Null: { [`${RA}PCR0`]: value } })),
    fc.constant({ Bool: { 'aws:SecureTransport': 'false' } }),
  ),
  { nil: undefined },
);
const statementOf = (effect: fc.Arbitrary<'Allow' | 'Deny'>) =>
  fc
    .record({
      Effect: effect,
      who: fc.constantFrom(...WHO),
      Action: fc.uniqueArray(fc.constantFrom(...ACTIONS), { minLength: 1, maxLength: 3 }),
      Condition: condition,
    })
    .map(({ Effect, who, Action, Condition }) => ({
      Effect,
      Principal: who === '*' ? '*' : { AWS: who },
      Action,
      Resource: '*',
      ...(Condition === undefined ? {} : { Condition }),
    }));
const statements = fc.array(statementOf(fc.constantFrom('Allow' as const, 'Deny' as const)), {
  minLength: 1,
  maxLength: 4,
});

/** Cells that are allowed, as text. */
function allowed(cells: readonly MatrixCell[]): Set<string> {
  return new Set(
    cells
      .filter(({ answer }) => answer === 'allow')
      .map(({ principal, attestation, action }) => `${principal} | ${attestation} | ${action}`),
  );
}

const RUNS = { numRuns: 40 };

it('a Deny more never lets anybody in', () => {
  fc.assert(
    fc.property(statements, statementOf(fc.constant('Deny' as const)), (list, deny) => {
      const before = review(list);
      const after = review([...list, deny]);
      const { principals, attestations } = before.matrix;
      // Documents that only the Deny names are not asked for without it.
      const both = after.matrix.cells.filter(
        ({ principal, attestation }) => principals.includes(principal) && attestations.includes(attestation),
      );
      const open = allowed(before.matrix.cells);
      for (const cell of allowed(both)) expect(open).toContain(cell);
    }),
    RUNS,
  );
});

it('names and order of statements, order of values, and letter case do not change a verdict', () => {
  fc.assert(
    fc.property(statements, fc.nat(), (list, turn) => {
      const upper = (text: string) => text.toUpperCase();
      const changed = list.map((statement, index) => {
        const { Condition, Action } = statement as {
          Condition?: Record<string, Record<string, unknown>>;
          Action: string[];
        };
        return {
          ...statement,
          Sid: `Renamed${list.length - index}`,
          Action: Action.map((action) => (action.includes('*') ? action : upper(action))).reverse(),
          ...(Condition === undefined
            ? {}
            : {
                Condition: Object.fromEntries(
                  Object.entries(Condition).map(([operator, block]) => [
                    operator,
                    Object.fromEntries(
                      Object.entries(block).map(([key, values]) => [
                        key.startsWith(RA) ? upper(key) : key,
                        Array.isArray(values) ? values.toReversed() : values,
                      ]),
                    ),
                  ]),
                ),
              }),
        };
      });
      const at = turn % changed.length;
      const rotated = [...changed.slice(at), ...changed.slice(0, at)];
      expect(review(rotated).verdict).toBe(review(list).verdict);
    }),
    RUNS,
  );
});

it('a verdict that only the image gets the key is never given where a witness of plaintext is', () => {
  const safe: readonly Verdict[] = VERDICTS.slice(VERDICTS.indexOf('OUT_OF_BAND'));
  fc.assert(
    fc.property(statements, (list) => {
      const report = review(list);
      if (!safe.includes(report.verdict)) return;
      const reached = report.matrix.cells.filter(
        ({ action, attestation, answer }) =>
          action === 'kms:Decrypt' && answer === 'allow' && !attestation.startsWith('the reviewed image'),
      );
      expect(reached).toEqual([]);
    }),
    RUNS,
  );
});
