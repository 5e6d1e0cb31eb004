// biome-ignore-all lint/suspicious/noTemplateCurlyInString: policy variables look like that.
import { describe, expect, it } from 'vitest';
import { evaluateCondition } from '../../../shared/policy/conditions.ts';
import { parsePolicy } from '../../../shared/policy/parse.ts';
import { attestedAs, HOST, holds, OTHER_PCR0, PCR0 } from './helpers.ts';

const KEY = 'kms:RecipientAttestation:PCR0';
const reviewed = { context: attestedAs(PCR0) };
const other = { context: attestedAs(OTHER_PCR0) };
const withContext = (key: string, ...values: string[]) => ({ context: new Map([[key, values]]) });

describe('a key that the request does not have', () => {
  const missing: [operator: string, value: string | string[], result: boolean][] = [
    ['StringEquals', PCR0, false],
    ['StringEqualsIgnoreCase', PCR0, false],
    ['StringLike', '*', false],
    ['NumericEquals', '1', false],
    ['NumericLessThan', '1', false],
    ['DateLessThan', '2030-01-01T00:00:00Z', false],
    ['Bool', 'false', false],
    ['BinaryEquals', 'AAAA', false],
    ['IpAddress', '0.0.0.0/0', false],
    ['ArnEquals', 'arn:aws:iam::*:role/*', false],
    ['ArnLike', '*', false],
    ['StringNotEquals', PCR0, true],
    ['StringNotEqualsIgnoreCase', PCR0, true],
    ['StringNotLike', '*', true],
    ['NumericNotEquals', '1', true],
    ['DateNotEquals', '2030-01-01T00:00:00Z', true],
    ['NotIpAddress', '0.0.0.0/0', true],
    ['ArnNotEquals', '*', true],
    ['ArnNotLike', '*', true],
    ['StringEqualsIfExists', PCR0, true],
    ['StringLikeIfExists', PCR0, true],
    ['BoolIfExists', 'true', true],
    ['StringNotEqualsIfExists', PCR0, true],
    ['ForAllValues:StringEquals', PCR0, true],
    ['ForAllValues:StringNotEquals', PCR0, true],
    ['ForAnyValue:StringEquals', PCR0, false],
    ['ForAnyValue:StringNotEquals', PCR0, false],
    ['ForAllValues:StringEqualsIfExists', PCR0, true],
    ['ForAnyValue:StringEqualsIfExists', PCR0, true],
    ['Null', 'true', true],
    ['Null', 'false', false],
    ['Null', ['true', 'false'], true],
    ['Null', 'TRUE', true],
  ];
  it.each(missing)('%s %s is %s', (operator, value, result) => {
    expect(holds({ [operator]: { [KEY]: value } })).toBe(result);
  });
});

describe('a key that the request has', () => {
  it('matches StringEquals exactly and refuses another value', () => {
    expect(holds({ StringEquals: { [KEY]: PCR0 } }, reviewed)).toBe(true);
    expect(holds({ StringEquals: { [KEY]: PCR0 } }, other)).toBe(false);
  });

  it('is lower-case hex, so an upper-case value is dead under StringEquals and fine when case is ignored', () => {
    expect(holds({ StringEquals: { [KEY]: PCR0.toUpperCase() } }, reviewed)).toBe(false);
    expect(holds({ StringEqualsIgnoreCase: { [KEY]: PCR0.toUpperCase() } }, reviewed)).toBe(true);
  });

  it('is named without regard to case', () => {
    expect(holds({ StringEquals: { [KEY.toUpperCase()]: PCR0 } }, reviewed)).toBe(true);
  });

  it('is not matched by a look-alike name, not even one that Unicode case folding maps to it', () => {
    expect(holds({ StringEquals: { '\u212ams:RecipientAttestation:PCR0': PCR0 } }, reviewed, undefined)).toBe(
      false,
    );
  });

  it('ORs a list for a positive operator, and means none of them for a negated one', () => {
    const list = [OTHER_PCR0, PCR0];
    expect(holds({ StringEquals: { [KEY]: list } }, reviewed)).toBe(true);
    expect(holds({ StringNotEquals: { [KEY]: list } }, reviewed)).toBe(false);
    expect(holds({ StringNotEquals: { [KEY]: [OTHER_PCR0] } }, reviewed)).toBe(true);
  });

  it('ANDs two operators on the same key', () => {
    expect(
      holds({ StringEquals: { [KEY]: PCR0 }, StringEqualsIgnoreCase: { [KEY]: OTHER_PCR0 } }, reviewed),
    ).toBe(false);
    expect(holds({ StringEquals: { [KEY]: PCR0 }, StringLike: { [KEY]: 'd9*' } }, reviewed)).toBe(true);
  });

  it('ANDs several keys under one operator, negated ones too', () => {
    const keys = { [KEY]: OTHER_PCR0, 'kms:RecipientAttestation:ImageSha384': PCR0 };
    expect(holds({ StringEquals: keys }, reviewed)).toBe(false);
    // Both would have to differ: this is why one Deny for several registers hardly ever fires.
    expect(holds({ StringNotEquals: keys }, reviewed)).toBe(false);
    expect(holds({ StringNotEquals: { [KEY]: OTHER_PCR0 } }, reviewed)).toBe(true);
  });

  it('is compared with a literal star under StringEquals and with a wildcard under StringLike', () => {
    expect(holds({ StringEquals: { [KEY]: '*' } }, reviewed)).toBe(false);
    expect(holds({ StringLike: { [KEY]: '*' } }, reviewed)).toBe(true);
    expect(holds({ StringLike: { [KEY]: 'd9d*' } }, reviewed)).toBe(true);
    expect(holds({ StringLike: { [KEY]: '?'.repeat(96) } }, reviewed)).toBe(true);
    expect(holds({ StringLike: { [KEY]: '?'.repeat(95) } }, reviewed)).toBe(false);
    expect(holds({ StringLike: { [KEY]: 'D9*' } }, reviewed)).toBe(false);
    expect(holds({ StringNotLike: { [KEY]: 'd9*' } }, reviewed)).toBe(false);
  });

  it('satisfies Null "false" whatever its value, and Null "true" never', () => {
    expect(holds({ Null: { [KEY]: 'false' } }, other)).toBe(true);
    expect(holds({ Null: { [KEY]: 'true' } }, other)).toBe(false);
  });

  it('is compared by IfExists as if the suffix were not there', () => {
    expect(holds({ StringEqualsIfExists: { [KEY]: PCR0 } }, reviewed)).toBe(true);
    expect(holds({ StringEqualsIfExists: { [KEY]: PCR0 } }, other)).toBe(false);
  });

  it('with a value of the wrong length never matches', () => {
    expect(holds({ StringEqualsIgnoreCase: { [KEY]: PCR0.slice(0, 64) } }, reviewed)).toBe(false);
    expect(holds({ StringEqualsIgnoreCase: { [KEY]: `0x${PCR0}` } }, reviewed)).toBe(false);
    expect(holds({ StringEqualsIgnoreCase: { [KEY]: ` ${PCR0}` } }, reviewed)).toBe(false);
  });

  it('matches nothing under an operator of another type, so the negated one holds', () => {
    for (const operator of [
      'NumericEquals',
      'DateEquals',
      'Bool',
      'ArnEquals',
      'IpAddress',
      'BinaryEquals',
    ]) {
      expect(holds({ [operator]: { [KEY]: PCR0 } }, reviewed), operator).toBe(false);
    }
    expect(holds({ NumericNotEquals: { [KEY]: PCR0 } }, reviewed)).toBe(true);
  });

  it('is not restricted by an empty Condition or an empty block', () => {
    expect(holds({})).toBe(true);
    expect(holds({ StringEquals: {} })).toBe(true);
  });

  it('never equals a value of an empty list; "none of these" of an empty list holds', () => {
    expect(holds({ StringEquals: { [KEY]: [] } }, reviewed)).toBe(false);
    expect(holds({ StringNotEquals: { [KEY]: [] } }, reviewed)).toBe(true);
  });
});

describe('keys with several values', () => {
  const operations = (...values: string[]) => ({
    ...withContext('kms:GrantOperations', ...values),
  });
  const condition = (operator: string) => ({
    [operator]: { 'kms:GrantOperations': ['Encrypt', 'DescribeKey'] },
  });

  it('ForAllValues wants every one of them in the list', () => {
    expect(holds(condition('ForAllValues:StringEquals'), operations('Encrypt'))).toBe(true);
    expect(holds(condition('ForAllValues:StringEquals'), operations('Encrypt', 'Decrypt'))).toBe(false);
  });

  it('ForAnyValue wants one of them in the list, so it does not narrow grants', () => {
    expect(holds(condition('ForAnyValue:StringEquals'), operations('Encrypt', 'Decrypt'))).toBe(true);
    expect(holds(condition('ForAnyValue:StringEquals'), operations('Decrypt'))).toBe(false);
  });

  it('negated: ForAllValues wants none in the list, ForAnyValue one outside it', () => {
    expect(holds(condition('ForAllValues:StringNotEquals'), operations('Decrypt', 'Encrypt'))).toBe(false);
    expect(holds(condition('ForAllValues:StringNotEquals'), operations('Decrypt', 'Sign'))).toBe(true);
    expect(holds(condition('ForAnyValue:StringNotEquals'), operations('Decrypt', 'Encrypt'))).toBe(true);
    expect(holds(condition('ForAnyValue:StringNotEquals'), operations('Encrypt'))).toBe(false);
  });

  it('without a set operator one match is enough, and a negated operator wants none', () => {
    expect(holds(condition('StringEquals'), operations('Decrypt', 'Encrypt'))).toBe(true);
    expect(holds(condition('StringNotEquals'), operations('Decrypt', 'Encrypt'))).toBe(false);
  });
});

describe('policy variables', () => {
  const host = { principal: { ...HOST, tags: new Map([['image', PCR0]]) }, context: attestedAs(PCR0) };
  const variable = (inside: string) => `$\{${inside}}`;
  const TAG = variable('aws:PrincipalTag/image');
  const withDefault = variable(`aws:PrincipalTag/image, '${PCR0}'`);

  it('stand for the value of their key under Version 2012-10-17', () => {
    expect(holds({ StringEquals: { [KEY]: TAG } }, host)).toBe(true);
    expect(holds({ StringEquals: { [KEY]: TAG } }, { ...host, context: attestedAs(OTHER_PCR0) })).toBe(false);
  });

  it('are plain text under the older version', () => {
    expect(holds({ StringEquals: { [KEY]: TAG } }, host, '2008-10-17')).toBe(false);
    const literal = withContext('kms:RequestAlias', TAG);
    expect(holds({ StringEquals: { 'kms:RequestAlias': TAG } }, literal, '2008-10-17')).toBe(true);
  });

  it('without a value make a positive comparison false and a negated one true', () => {
    expect(holds({ StringEquals: { [KEY]: TAG } }, reviewed)).toBe(false);
    expect(holds({ StringNotEquals: { [KEY]: TAG } }, reviewed)).toBe(true);
    expect(holds({ StringEquals: { [KEY]: [TAG, PCR0] } }, reviewed)).toBe(true);
    const empty = withContext('kms:RequestAlias', '');
    expect(holds({ StringEquals: { 'kms:RequestAlias': TAG } }, empty)).toBe(false);
    expect(holds({ StringLike: { 'kms:RequestAlias': TAG } }, empty)).toBe(false);
  });

  it('fall back on their default only when the key is absent', () => {
    expect(holds({ StringEquals: { [KEY]: withDefault } }, reviewed)).toBe(true);
    const tagged = { ...reviewed, principal: { ...HOST, tags: new Map([['image', OTHER_PCR0]]) } };
    expect(holds({ StringEquals: { [KEY]: withDefault } }, tagged)).toBe(false);
  });

  it('bring no wildcards in: a tag of "*" is a star', () => {
    const star = { ...reviewed, principal: { ...HOST, tags: new Map([['image', '*']]) } };
    expect(holds({ StringLike: { [KEY]: TAG } }, star)).toBe(false);
  });

  it('can escape a wildcard', () => {
    const star = variable('*');
    expect(holds({ StringLike: { [KEY]: star } }, reviewed)).toBe(false);
    expect(
      holds({ StringLike: { 'kms:RequestAlias': `a${star}` } }, withContext('kms:RequestAlias', 'a*')),
    ).toBe(true);
  });

  it('are text in operators that take none', () => {
    const number = {
      principal: { ...HOST, tags: new Map([['n', '5']]) },
      ...withContext('kms:RotationPeriodInDays', '5'),
    };
    expect(
      holds({ NumericEquals: { 'kms:RotationPeriodInDays': variable('aws:PrincipalTag/n') } }, number),
    ).toBe(false);
  });
});

describe('numbers, dates, addresses, ARNs', () => {
  const cases: [operator: string, expected: string, found: string, result: boolean][] = [
    ['NumericEquals', '30', '30.0', true],
    ['NumericLessThan', '7', '7', false],
    ['NumericLessThanEquals', '7', '7', true],
    ['NumericGreaterThan', '7', '30', true],
    ['NumericGreaterThanEquals', '30', '7', false],
    ['NumericEquals', '0x1e', '30', false],
    ['NumericNotEquals', '30', '7', true],
    ['DateLessThan', '2026-01-01T00:00:00Z', '2025-12-31T23:59:59Z', true],
    ['DateGreaterThan', '2026-01-01', '1767225601', true],
    ['DateEquals', '2026-01-01T00:00:00Z', 'yesterday', false],
    ['DateLessThanEquals', '1767225600', '2026-01-01T00:00:00Z', true],
    ['Bool', 'TRUE', 'true', true],
    ['Bool', 'true', 'false', false],
    ['IpAddress', '203.0.113.0/24', '203.0.113.9', true],
    ['IpAddress', '203.0.113.0/24', '203.0.114.9', false],
    ['IpAddress', '203.0.113.9', '203.0.113.9', true],
    ['IpAddress', '0.0.0.0/0', '2001:db8::1', false],
    ['IpAddress', '2001:db8::/32', '2001:db8:1::ffff', true],
    ['IpAddress', '::ffff:1.2.3.0/120', '::ffff:1.2.3.4', true],
    ['IpAddress', '203.0.113.0/33', '203.0.113.0', false],
    ['NotIpAddress', '203.0.113.0/24', '198.51.100.1', true],
    ['ArnLike', 'arn:aws:iam::*:role/*', 'arn:aws:iam::111122223333:role/X', true],
    ['ArnEquals', 'arn:aws:iam::*:role/*', 'arn:aws:iam::111122223333:role/X', true],
    ['ArnLike', 'arn:aws:iam:*:role/X', 'arn:aws:iam::111122223333:role/X', false],
    ['ArnLike', '*', 'arn:aws:iam::111122223333:role/X', true],
    ['ArnNotLike', 'arn:aws:sts::111122223333:assumed-role/X/*', 'arn:aws:iam::111122223333:role/X', true],
    ['ArnLike', 'arn:aws:s3:::b/*', 'arn:aws:s3:::b/c:d', true],
    ['ArnLike', 'arn:aws:s3:::b/c:d', 'arn:aws:s3:::b/c:d', true],
    ['ArnLike', 'arn:aws:s3:::b/c', 'arn:aws:s3:::b/c:d', false],
    ['ArnLike', 'arn:aws:s3:::?', 'arn:aws:s3:::\u{1f600}', true],
    ['ArnLike', 'arn:*', 'arn:aws:iam::111122223333:role/X', false],
    ['ArnLike', 'arn:*:*:*:*:*', 'arn:aws:iam::111122223333', false],
    ['BinaryEquals', 'YWJj', 'abc', true],
    ['BinaryEquals', 'YWJj', 'YWJj', false],
  ];
  it.each(cases)('%s %s, found %s: %s', (operator, expected, found, result) => {
    expect(holds({ [operator]: { 'aws:X': expected } }, withContext('aws:X', found))).toBe(result);
  });
});

it('one condition has for each request the answer that it has for it alone', () => {
  const [statement] = parsePolicy(
    Buffer.from(
      JSON.stringify({
        Version: '2012-10-17',
        Statement: {
          Effect: 'Allow',
          Principal: '*',
          Action: 'kms:*',
          Resource: '*',
          Condition: {
            ArnLike: { 'aws:X': ['arn:aws:iam::*:role/A?', 'arn:aws:iam::1:role/${aws:Y}'] },
            StringLike: { 'aws:X': 'arn:*' },
          },
        },
      }),
    ),
    'key',
  ).statements;
  const [byArn, byText] = (statement?.conditions ?? []).map(
    (condition) => (x: string, y: string) =>
      evaluateCondition(
        condition,
        '2012-10-17',
        new Map([
          ['aws:x', [x]],
          ['aws:y', [y]],
        ]),
      ).holds,
  );
  const asked = [
    ['arn:aws:iam::1:role/AB', 'none', true],
    ['arn:aws:iam::1:role/own', 'none', false],
    ['arn:aws:iam::1:role/own', 'own', true],
    ['arn:aws:iam::1:role/own', '*', false],
    ['arn:aws:iam::1:role/ABC', 'none', false],
  ] as const;
  for (const [x, y, expected] of [...asked, ...asked.toReversed()]) {
    expect([x, y, byArn?.(x, y), byText?.(x, y), byText?.(`x${x}`, y)]).toEqual([
      x,
      y,
      expected,
      true,
      false,
    ]);
  }
});
