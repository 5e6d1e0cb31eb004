/**
 * A caller can wait, and cannot call in the past: a window that is open now or later lets in, one that is over never does.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { instantsOf } from '../../../review/policy/requests/time.ts';
import { timeContext } from '../../../shared/policy/context.ts';
import { decide } from '../../../shared/policy/decide.ts';
import { parsePolicy } from '../../../shared/policy/parse.ts';
import { ACCOUNT, codes, IMAGE, KEY_ARN, NOW, review } from './support.ts';

const SAFE = 'ONLY_IMAGE_IF_ADMINS_TRUSTED';
const role = (name: string) => `arn:aws:iam::${ACCOUNT}:role/${name}`;
const OPERATOR = role('Operator');
const enclave = (Condition: object = {}) => ({
  Sid: 'Enclave',
  Effect: 'Allow',
  Principal: { AWS: role('EnclaveHost') },
  Action: 'kms:Decrypt',
  Resource: '*',
  Condition: { StringEquals: { 'kms:RecipientAttestation:PCR0': IMAGE.pcr0 }, ...Condition },
});
const admin = {
  Sid: 'Admin',
  Effect: 'Allow',
  Principal: { AWS: role('KeyAdmin') },
  Action: ['kms:PutKeyPolicy', 'kms:GetKeyPolicy'],
  Resource: '*',
};
const allow = (Condition?: object) => ({
  Sid: 'Window',
  Effect: 'Allow',
  Principal: { AWS: OPERATOR },
  Action: 'kms:Decrypt',
  Resource: '*',
  ...(Condition && { Condition }),
});
const deny = (Condition: object) => ({
  Effect: 'Deny',
  Principal: { AWS: OPERATOR },
  Action: 'kms:*',
  Resource: '*',
  Condition,
});
const current = (operator: string, ...values: string[]) => ({ [operator]: { 'aws:CurrentTime': values } });
const epoch = (operator: string, ...values: string[]) => ({ [operator]: { 'aws:EpochTime': values } });
const PAST = '2026-11-01T00:00:00Z';
const FUTURE = '2027-01-01T00:00:00Z';
const FAR = '2028-01-01T00:00:00Z';
const seconds = (text: string) => String(Date.parse(text) / 1000);

describe('who gets in at some time', () => {
  it.each<[string, string, readonly object[]]>([
    // An Allow of plaintext without a document.
    ['BYPASS', 'no window', [allow()]],
    [SAFE, 'a window that is over', [allow(current('DateLessThan', PAST))]],
    ['BYPASS', 'a window that is open', [allow(current('DateLessThan', FUTURE))]],
    ['BYPASS', 'a window that opens', [allow(current('DateGreaterThan', FUTURE))]],
    ['BYPASS', 'one that opened and has no end', [allow(current('DateGreaterThan', PAST))]],
    [
      SAFE,
      'a window with two ends that is over',
      [allow({ ...current('DateGreaterThan', '2026-10-01T00:00:00Z'), ...current('DateLessThan', PAST) })],
    ],
    [
      'BYPASS',
      'a window with two ends that opens',
      [allow({ ...current('DateGreaterThan', FUTURE), ...current('DateLessThan', FAR) })],
    ],
    [
      SAFE,
      'an end before the beginning',
      [allow({ ...current('DateGreaterThan', FAR), ...current('DateLessThan', FUTURE) })],
    ],
    [SAFE, 'until this second', [allow(current('DateLessThan', '2026-11-30T12:00:00Z'))]],
    ['BYPASS', 'with this second', [allow(current('DateLessThanEquals', '2026-11-30T12:00:00Z'))]],
    [SAFE, 'one second that is over', [allow(current('DateEquals', '2026-11-30T11:59:59Z'))]],
    ['BYPASS', 'one second to come', [allow(current('DateEquals', '2026-11-30T12:00:01Z'))]],
    ['BYPASS', 'any but one second', [allow(current('DateNotEquals', '2026-11-30T12:00:00Z'))]],
    [SAFE, 'until a day, without an hour', [allow(current('DateLessThan', '2026-11-30'))]],
    ['BYPASS', 'until the next day', [allow(current('DateLessThan', '2026-12-01'))]],
    [SAFE, 'an offset that makes it earlier', [allow(current('DateLessThan', '2026-11-30T14:00:00+02:00'))]],
    [
      'BYPASS',
      'an offset that makes it later',
      [allow(current('DateLessThan', '2026-11-30T11:00:00-02:00'))],
    ],
    [SAFE, 'seconds since 1970 that are over', [allow(current('DateLessThan', seconds(PAST)))]],
    [SAFE, 'an epoch time that is over', [allow(epoch('NumericLessThan', seconds(PAST)))]],
    ['BYPASS', 'an epoch time to come', [allow(epoch('NumericLessThan', seconds(FUTURE)))]],
    [SAFE, 'an epoch time as date that is over', [allow(epoch('DateLessThan', PAST))]],
    ['BYPASS', 'an epoch time as date to come', [allow(epoch('DateGreaterThan', FUTURE))]],
    [
      'BYPASS',
      'an epoch time between two seconds',
      [allow(epoch('NumericGreaterThan', `${seconds(FUTURE)}.5`))],
    ],
    [SAFE, 'key names in another case', [allow({ DateLessThan: { 'AWS:currentTIME': PAST } })]],
    // The two keys are one instant.
    [
      SAFE,
      'after one and before the other',
      [allow({ ...current('DateGreaterThan', FAR), ...epoch('NumericLessThan', seconds(FUTURE)) })],
    ],
    [
      'BYPASS',
      'after one and before the other, with a day between',
      [allow({ ...current('DateGreaterThan', FUTURE), ...epoch('NumericLessThan', seconds(FAR)) })],
    ],
    // Every request has a time.
    [SAFE, 'no time at all', [allow({ Null: { 'aws:CurrentTime': 'true' } })]],
    [SAFE, 'no epoch time at all', [allow({ Null: { 'aws:EpochTime': 'true' } })]],
    ['BYPASS', 'some time', [allow({ Null: { 'aws:CurrentTime': 'false' } })]],
    [SAFE, 'over, if it exists', [allow(current('DateLessThanIfExists', PAST))]],
    [SAFE, 'over, for all values', [allow(current('ForAllValues:DateLessThan', PAST))]],
    [SAFE, 'what is no date', [allow(current('DateLessThan', 'tomorrow'))]],
    ['BYPASS', 'after the last year of four digits', [allow(current('DateLessThan', '999999999999'))]],
    [SAFE, 'not before that year', [allow(current('DateGreaterThan', '999999999999'))]],
    // A Deny that holds an Allow back.
    ['BYPASS', 'a Deny that is over', [allow(), deny(current('DateLessThan', PAST))]],
    [SAFE, 'a Deny since some day', [allow(), deny(current('DateGreaterThan', PAST))]],
    ['BYPASS', 'a Deny that ends', [allow(), deny(current('DateLessThan', FUTURE))]],
    ['BYPASS', 'a Deny that begins', [allow(), deny(current('DateGreaterThan', FUTURE))]],
    [
      SAFE,
      'a Deny from this second on',
      [allow(), deny(current('DateGreaterThanEquals', '2026-11-30T12:00:00Z'))],
    ],
    [SAFE, 'a Deny if it exists', [allow(), deny(current('DateGreaterThanIfExists', PAST))]],
    [
      SAFE,
      'two Denies without a gap',
      [
        allow(),
        deny(current('DateLessThan', FUTURE)),
        deny(epoch('NumericGreaterThanEquals', seconds(FUTURE))),
      ],
    ],
    [
      'BYPASS',
      'two Denies with a gap of one second',
      [allow(), deny(current('DateLessThan', FUTURE)), deny(current('DateGreaterThan', FUTURE))],
    ],
    [
      SAFE,
      'an Allow that ends before its Deny',
      [allow(current('DateLessThan', FUTURE)), deny(current('DateLessThan', FAR))],
    ],
    [
      'BYPASS',
      'an Allow that outlasts its Deny',
      [allow(current('DateLessThan', FAR)), deny(current('DateLessThan', FUTURE))],
    ],
  ])('%s: %s', (verdict, _title, statements) => {
    expect(review([enclave(), admin, ...statements]).verdict).toBe(verdict);
  });

  it('is a question of when it is asked', () => {
    const statements = [enclave(), admin, allow(current('DateLessThan', PAST))];
    const before = review(statements, { now: new Date('2026-10-31T23:59:59.999Z') });
    expect(before).toMatchObject({ verdict: 'BYPASS', reviewed: { at: '2026-10-31T23:59:59.999Z' } });
    expect(review(statements, { now: new Date(PAST) }).verdict).toBe(SAFE);
  });

  it('has a request of the first moment at which the window is open', () => {
    const window = { ...current('DateGreaterThanEquals', FUTURE), ...current('DateLessThan', FAR) };
    const [first] = review([enclave(), admin, allow(window)]).findings;
    expect(first).toMatchObject({
      code: 'unattested-plaintext',
      witness: { context: { 'aws:CurrentTime': [FUTURE], 'aws:EpochTime': [seconds(FUTURE)] } },
    });
  });

  it('calls a statement whose window is over dead, and an image shut out by one, too', () => {
    const over = review([enclave(), admin, allow(current('DateLessThan', PAST))]);
    expect(codes(over)).toContain('dead-statement @Window');
    expect(review([enclave(current('DateLessThan', PAST)), admin]).verdict).toBe('DEAD');
    expect(review([enclave(current('DateLessThan', FUTURE)), admin]).verdict).toBe(SAFE);
  });
});

describe('what others decide by time', () => {
  const iam = (Condition: object) => ({
    iamPolicies: {
      Operator: [
        {
          Version: '2012-10-17',
          Statement: [{ Effect: 'Allow', Action: 'kms:*', Resource: '*', Condition }],
        },
      ],
      EnclaveHost: [],
      KeyAdmin: [],
    },
  });
  const account = {
    Effect: 'Allow',
    Principal: { AWS: OPERATOR.replace('role/Operator', 'root') },
    Action: 'kms:Decrypt',
    Resource: '*',
  };
  const others = { ArnNotEquals: { 'aws:PrincipalArn': [OPERATOR, role('EnclaveHost'), role('KeyAdmin')] } };
  const statements = [
    enclave(),
    admin,
    account,
    { Effect: 'Deny', Principal: '*', Action: 'kms:*', Resource: '*', Condition: others },
  ];

  it('is seen in IAM policies', () => {
    expect(review(statements, { context: iam(current('DateLessThan', FUTURE)) }).verdict).toBe(
      'DELEGATED_BYPASS',
    );
    expect(review(statements, { context: iam(current('DateLessThan', PAST)) }).verdict).toBe(SAFE);
    // Compared as text, a time of some year may yet come.
    expect(review(statements, { context: iam(current('StringLike', '2031-*')) }).verdict).toBe('AMBIGUOUS');
  });

  it.each([
    [SAFE, current('DateLessThan', PAST)],
    ['BYPASS', current('DateLessThan', FUTURE)],
    [SAFE, { ...current('DateGreaterThan', FUTURE), ...epoch('NumericLessThan', seconds(PAST)) }],
    [SAFE, { Null: { 'aws:CurrentTime': 'true' } }],
  ])('is seen in trust policies: %s', (verdict, Condition) => {
    const trust = {
      Statement: [
        { Effect: 'Allow', Principal: { AWS: role('EnclaveHost') }, Action: 'sts:AssumeRole', Condition },
      ],
    };
    const context = { iamPolicies: { 'trust:KeyAdmin': trust } };
    expect(review([enclave(), admin], { context }).verdict).toBe(verdict);
  });
});

describe('a time compared as text', () => {
  it.each<[string, object]>([
    ['AMBIGUOUS', allow(current('StringLike', '2031-*'))],
    ['AMBIGUOUS', allow(current('StringEquals', FUTURE))],
    ['AMBIGUOUS', allow(current('NumericGreaterThan', seconds(FUTURE)))],
    ['BYPASS', allow(current('StringNotEquals', FUTURE))],
  ])('leaves it undecided where that decides: %s', (verdict, statement) => {
    const report = review([enclave(), admin, statement]);
    expect(report.verdict).toBe(verdict);
    expect(report.contested).toMatchObject([
      { point: expect.stringContaining('does not compare it as a time'), statement: 'Window' },
    ]);
  });

  it('does not hold back as a Deny', () => {
    const report = review([enclave(), admin, allow(), deny(current('StringLike', '20*'))]);
    expect(report.verdict).toBe('AMBIGUOUS');
  });
});

/** Bounds around now, between seconds too; every tenth of a second to come is tried, and one far away. */
describe('against every moment tried', () => {
  const START_MS = NOW.getTime();
  const offsetMs = fc.integer({ min: -8, max: 8 }).map((half) => half * 500);
  const condition = fc.oneof(
    fc
      .tuple(
        fc.constantFrom(
          'DateLessThan',
          'DateGreaterThan',
          'DateLessThanEquals',
          'DateGreaterThanEquals',
          'DateEquals',
          'DateNotEquals',
        ),
        fc.constantFrom('aws:CurrentTime', 'aws:EpochTime'),
        fc.array(offsetMs, { minLength: 1, maxLength: 2 }),
      )
      .map(([operator, key, offsets]) => ({
        [operator]: { [key]: offsets.map((ms) => new Date(START_MS + ms).toISOString()) },
      })),
    fc
      .tuple(
        fc.constantFrom('NumericLessThan', 'NumericGreaterThanEquals', 'NumericEquals', 'NumericNotEquals'),
        offsetMs,
      )
      .map(([operator, ms]) => epoch(operator, String((START_MS + ms) / 1000))),
  );
  const conditions = fc
    .array(condition, { minLength: 1, maxLength: 3 })
    .map((list) => Object.assign({}, ...list) as Record<string, object>);
  const moments = [
    ...Array.from({ length: 80 }, (_, index) => START_MS + index * 100),
    START_MS + 1_000_000_000,
  ].map((ms) => timeContext(new Date(ms)));

  it('the review finds access if and only if there is a moment that has it', () => {
    fc.assert(
      fc.property(conditions, fc.array(conditions, { maxLength: 2 }), (window, denies) => {
        const statements = [enclave(), admin, allow(window), ...denies.map(deny)];
        const keyPolicy = parsePolicy(
          Buffer.from(JSON.stringify({ Version: '2012-10-17', Statement: statements })),
          'key',
        );
        const isOpen = moments.some(
          (entries) =>
            decide(
              {
                principal: { arn: OPERATOR, accountId: ACCOUNT },
                action: 'kms:Decrypt',
                keyArn: KEY_ARN,
                context: new Map(entries),
              },
              { keyPolicy, identityPolicies: [], grants: [] },
            ).allowed,
        );
        expect(review(statements).verdict).toBe(isOpen ? 'BYPASS' : SAFE);
      }),
      { numRuns: 150 },
    );
  });

  it('starts no span before now', () => {
    fc.assert(
      fc.property(conditions, (window) => {
        const [statement] = parsePolicy(
          Buffer.from(JSON.stringify({ Version: '2012-10-17', Statement: [allow(window)] })),
          'key',
        ).statements;
        const times = instantsOf(statement?.conditions ?? [], new Date(START_MS + 999)).map(({ entries }) =>
          Number(entries.get('aws:epochtime')?.[0]),
        );
        expect(times[0]).toBe(START_MS / 1000);
        expect(times).toEqual(times.toSorted((a, b) => a - b));
      }),
    );
  });
});
