import { describe, expect, it } from 'vitest';
import type { PolicyErrorCode } from '../../../shared/policy/errors.ts';
import { PolicyError } from '../../../shared/policy/errors.ts';
import { parseOperator } from '../../../shared/policy/operators.ts';
import { POLICY_MAX_BYTES, parsePolicy } from '../../../shared/policy/parse.ts';
import { checkKeyPolicyWrite } from '../../../shared/policy/write-rules.ts';
import { ACCOUNT, bytesOf, HOST, keyPolicy } from './helpers.ts';

function refusal(document: unknown, kind: 'key' | 'identity' = 'key'): PolicyErrorCode | undefined {
  try {
    parsePolicy(bytesOf(document), kind);
    return undefined;
  } catch (error) {
    if (error instanceof PolicyError) return error.code;
    throw error;
  }
}

const KEY = 'kms:RecipientAttestation:PCR0';
const withCondition = (Condition: unknown) => keyPolicy([{ Condition }]);
const withPrincipal = (Principal: unknown) => keyPolicy([{ Principal }]);
/** The text of a good policy with one piece exchanged, for what JSON.stringify cannot write. */
const edited = (from: string, to: string) => {
  const text = JSON.stringify(withCondition({ StringEquals: { [KEY]: 'aa' } }));
  expect(text).toContain(from);
  return text.replace(from, to);
};

describe('a document that is refused', () => {
  const documents: [what: string, code: PolicyErrorCode, document: unknown][] = [
    ['not JSON', 'POLICY_JSON', '{'],
    ['empty', 'POLICY_JSON', ''],
    [
      'a repeated Condition, where one reader sees the weaker',
      'POLICY_JSON',
      edited('"Condition":', '"Condition":{},"Condition":'),
    ],
    ['a repeated condition key', 'POLICY_JSON', edited(`"${KEY}":`, `"${KEY}":"bb","${KEY}":`)],
    ['a repeated Effect', 'POLICY_JSON', edited('"Effect":"Allow"', '"Effect":"Deny","Effect":"Allow"')],
    [
      'a member repeated through an escape',
      'POLICY_JSON',
      edited('"Effect":"Allow"', '"Effect":"Deny","Eff\\u0065ct":"Allow"'),
    ],
    ['a member named __proto__', 'POLICY_JSON', edited('"Effect":', '"__proto__":{},"Effect":')],
    ['a byte order mark', 'POLICY_JSON', `\ufeff${JSON.stringify(keyPolicy([{}]))}`],
    ['a list', 'POLICY_ELEMENT', []],
    ['an unknown version', 'POLICY_VERSION', keyPolicy([{}], '2012-10-18')],
    ['a version that is a number', 'POLICY_VERSION', edited('"2012-10-17"', '20121017')],
    ['no Statement', 'POLICY_ELEMENT', { Version: '2012-10-17' }],
    ['no statements', 'POLICY_ELEMENT', keyPolicy([])],
    ['a statement that is text', 'POLICY_ELEMENT', { Statement: 'Allow' }],
    ['an unknown element beside Statement', 'POLICY_ELEMENT', { Statement: [], statement: [] }],
    ['Effect in lower case', 'POLICY_ELEMENT', keyPolicy([{ Effect: 'allow' }])],
    ['no Effect', 'POLICY_ELEMENT', { Statement: { Principal: '*', Action: 'kms:*', Resource: '*' } }],
    ['"condition" in lower case', 'POLICY_ELEMENT', edited('"Condition"', '"condition"')],
    ['"Conditions"', 'POLICY_ELEMENT', edited('"Condition"', '"Conditions"')],
    ['Condition as a list', 'POLICY_ELEMENT', withCondition([{ StringEquals: { [KEY]: 'aa' } }])],
    ['Condition as null', 'POLICY_ELEMENT', withCondition(null)],
    ['an operator block as a list', 'POLICY_ELEMENT', withCondition({ StringEquals: [{ [KEY]: 'aa' }] })],
    ['a condition value that is a number', 'POLICY_ELEMENT', withCondition({ StringEquals: { [KEY]: 1 } })],
    ['a condition value that is unquoted true', 'POLICY_ELEMENT', withCondition({ Null: { [KEY]: true } })],
    ['a condition value that is null', 'POLICY_ELEMENT', withCondition({ StringEquals: { [KEY]: null } })],
    ['a condition value that is an object', 'POLICY_ELEMENT', withCondition({ StringEquals: { [KEY]: {} } })],
    ['a list in a list of values', 'POLICY_ELEMENT', withCondition({ StringEquals: { [KEY]: [['aa']] } })],
    ['an unknown operator', 'POLICY_CONDITION', withCondition({ StringMatches: { [KEY]: 'aa' } })],
    ['an operator in lower case', 'POLICY_CONDITION', withCondition({ stringEquals: { [KEY]: 'aa' } })],
    ['an operator with a blank', 'POLICY_CONDITION', withCondition({ 'StringEquals ': { [KEY]: 'aa' } })],
    ['Null with IfExists', 'POLICY_CONDITION', withCondition({ NullIfExists: { [KEY]: 'true' } })],
    ['Null with a set prefix', 'POLICY_CONDITION', withCondition({ 'ForAnyValue:Null': { [KEY]: 'true' } })],
    ['Null with anything but true and false', 'POLICY_CONDITION', withCondition({ Null: { [KEY]: 'yes' } })],
    ['a condition key without prefix', 'POLICY_CONDITION', withCondition({ StringEquals: { PCR0: 'aa' } })],
    [
      'a condition key twice, in two cases',
      'POLICY_CONDITION',
      withCondition({ StringEquals: { [KEY]: 'aa', [KEY.toLowerCase()]: 'bb' } }),
    ],
    ['aws:ResourceTag', 'POLICY_CONDITION', withCondition({ StringEquals: { 'aws:ResourceTag/a': 'b' } })],
    [
      'kms:ResourceAliases',
      'POLICY_CONDITION',
      withCondition({ StringEquals: { 'kms:ResourceAliases': 'alias/a' } }),
    ],
    [
      'ForAllValues on one encryption context key',
      'POLICY_CONDITION',
      withCondition({ 'ForAllValues:StringEquals': { 'kms:EncryptionContext:a': 'b' } }),
    ],
    ['no Principal', 'POLICY_ELEMENT', { Statement: { Effect: 'Allow', Action: 'kms:*', Resource: '*' } }],
    [
      'Principal and NotPrincipal',
      'POLICY_ELEMENT',
      keyPolicy([{ Principal: '*', NotPrincipal: { AWS: HOST.arn } }]),
    ],
    ['Action and NotAction', 'POLICY_ELEMENT', keyPolicy([{ Action: 'kms:*', NotAction: 'kms:Decrypt' }])],
    ['Resource and NotResource', 'POLICY_ELEMENT', keyPolicy([{ Resource: '*', NotResource: 'x' }])],
    ['an empty NotAction, which would be everything', 'POLICY_ELEMENT', keyPolicy([{ NotAction: [] }])],
    ['an empty NotResource', 'POLICY_ELEMENT', keyPolicy([{ NotResource: [] }])],
    ['a principal as plain ARN', 'POLICY_PRINCIPAL', withPrincipal(HOST.arn)],
    ['a principal list outside an object', 'POLICY_ELEMENT', withPrincipal(['*'])],
    ['an empty principal', 'POLICY_PRINCIPAL', withPrincipal({})],
    ['an empty principal list', 'POLICY_PRINCIPAL', withPrincipal({ AWS: [] })],
    ['"aws" in lower case', 'POLICY_PRINCIPAL', withPrincipal({ aws: HOST.arn })],
    [
      'a wildcard in a role ARN',
      'POLICY_PRINCIPAL',
      withPrincipal({ AWS: `arn:aws:iam::${ACCOUNT}:role/*` }),
    ],
    ['a wildcard in an account', 'POLICY_PRINCIPAL', withPrincipal({ AWS: 'arn:aws:iam::*:root' })],
    [
      'a question mark in a role ARN',
      'POLICY_PRINCIPAL',
      withPrincipal({ AWS: `arn:aws:iam::${ACCOUNT}:role/Hos?` }),
    ],
    ['a group', 'POLICY_PRINCIPAL', withPrincipal({ AWS: `arn:aws:iam::${ACCOUNT}:group/dev` })],
    ['an account of 11 digits', 'POLICY_PRINCIPAL', withPrincipal({ AWS: '11112222333' })],
    ['a service with a wildcard', 'POLICY_PRINCIPAL', withPrincipal({ Service: '*' })],
    ['an action without service', 'POLICY_ACTION', keyPolicy([{ Action: 'Decrypt' }])],
    ['an action with a wildcard as service', 'POLICY_ACTION', keyPolicy([{ Action: 'k*:Decrypt' }])],
    ['an action that is a number', 'POLICY_ELEMENT', keyPolicy([{ Action: 1 }])],
    ['a Sid that is a number', 'POLICY_ELEMENT', keyPolicy([{ Sid: 1 }])],
    [
      'more than 32,768 bytes',
      'POLICY_TOO_LARGE',
      `${JSON.stringify(keyPolicy([{}]))}${' '.repeat(POLICY_MAX_BYTES)}`,
    ],
  ];
  it.each(documents)('%s (%s)', (_, code, document) => {
    expect(refusal(document)).toBe(code);
  });

  it('an identity policy with a Principal', () => {
    expect(refusal(keyPolicy([{}]), 'identity')).toBe('POLICY_ELEMENT');
  });

  it('names the line', () => {
    const text = JSON.stringify(keyPolicy([{ Effect: 'allow' }]), null, 2);
    expect(() => parsePolicy(bytesOf(text), 'key')).toThrow(
      /^line 4: Effect: expected "Allow" or "Deny", found "allow"/,
    );
  });
});

describe('a document that is read', () => {
  it.each([
    [
      'one statement outside a list',
      { Statement: (keyPolicy([{}]) as { Statement: object[] }).Statement[0] },
    ],
    [
      'no Version, which is the older one',
      { Statement: (keyPolicy([{}]) as { Statement: object[] }).Statement },
    ],
    ['exactly 32,768 bytes', JSON.stringify(keyPolicy([{}])).padEnd(POLICY_MAX_BYTES)],
    ['repeated Sids', keyPolicy([{ Sid: 'A' }, { Sid: 'A' }])],
    ['an Id', { Id: 'x', ...(keyPolicy([{}]) as object) }],
    ['a federated principal', withPrincipal({ Federated: `arn:aws:iam::${ACCOUNT}:saml-provider/x` })],
    [
      'GovCloud and China',
      withPrincipal({
        AWS: ['arn:aws-us-gov:iam::111122223333:root', 'arn:aws-cn:iam::111122223333:role/a/b/C'],
      }),
    ],
    [
      'ForAllValues on the list of encryption context keys',
      withCondition({ 'ForAllValues:StringEquals': { 'kms:EncryptionContextKeys': 'a' } }),
    ],
  ])('%s', (_, document) => {
    expect(refusal(document)).toBeUndefined();
  });

  it('an identity policy with aws:ResourceTag', () => {
    const tagged = {
      Statement: {
        Effect: 'Allow',
        Action: 'kms:*',
        Resource: '*',
        Condition: { StringEquals: { 'aws:ResourceTag/a': 'b' } },
      },
    };
    expect(refusal(tagged, 'identity')).toBeUndefined();
  });

  it('knows version, lines and what was left out', () => {
    const text =
      '{\n "Statement": [\n  {"Effect":"Deny","Principal":"*"},\n  {"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}\n]}';
    const policy = parsePolicy(bytesOf(text), 'key');
    expect(policy).toMatchObject({ version: '2008-10-17', versionGiven: false });
    expect(policy.statements.map(({ line }) => line)).toEqual([3, 4]);
    expect(policy.statements[0]?.actions).toBeUndefined();
  });

  it('reads every operator of IAM with its prefix and suffix', () => {
    expect(parseOperator('ForAnyValue:StringNotEqualsIgnoreCaseIfExists')).toMatchObject({
      comparison: 'string-equals-ignore-case',
      negated: true,
      ifExists: true,
      set: 'any',
    });
    expect(parseOperator('IfExists')).toBeUndefined();
    expect(parseOperator('ForAllValues:')).toBeUndefined();
    expect(parseOperator('ForAllValues:ForAnyValue:StringEquals')).toBeUndefined();
    expect(parseOperator('StringEqualsIfExistsIfExists')).toBeUndefined();
    expect(parseOperator('constructor')).toBeUndefined();
  });
});

describe('writing a key policy to KMS today', () => {
  const write = (document: unknown) => {
    const bytes = bytesOf(document);
    return checkKeyPolicyWrite(bytes, parsePolicy(bytes, 'key'));
  };
  const statement = { Effect: 'Allow', Principal: '*' };

  it('takes a plain policy without a word', () => {
    expect(write(keyPolicy([{ Sid: 'a b ü' }]))).toEqual([]);
  });

  it.each([
    ['a statement without Action', { Statement: { ...statement, Resource: '*' } }],
    ['a statement without Resource', { Statement: { ...statement, Action: 'kms:*' } }],
    [
      'a Cyrillic look-alike',
      withCondition({ StringEquals: { 'kms:RecipientAttestation:\u0420CR0': 'aa' } }),
    ],
    [
      'the same look-alike as a JSON escape',
      JSON.stringify(keyPolicy([{ Sid: 'x' }])).replace('"x"', '"\\u0420"'),
    ],
    ['a control character as an escape', JSON.stringify(keyPolicy([{ Sid: 'x\u0007' }]))],
  ])('refuses %s', (_, document) => {
    expect(() => write(document)).toThrow(expect.objectContaining({ code: 'POLICY_WRITE' }));
  });

  it('warns of what AWS announced to refuse or does not document', () => {
    expect(write(keyPolicy([{ Resource: 'arn:aws:kms:eu-central-1:111122223333:key/a' }]))[0]).toContain(
      'only Resource',
    );
    expect(write(withCondition({ StringEquals: { 'kms:RecipientAttestion:PCR0': 'aa' } }))[0]).toContain(
      'no condition key',
    );
    expect(write(withCondition({ StringEquals: { 'kms:EncryptionContext:any': 'a' } }))).toEqual([]);
    expect(write(keyPolicy([{ Sid: 'A' }, { Sid: 'A' }]))[0]).toContain('more than once');
  });
});
