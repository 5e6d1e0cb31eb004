import { describe, expect, it } from 'vitest';
import { type BucketRequest, evaluateBucketPolicy } from '../../../shared/policy/bucket.ts';
import { parsePolicy } from '../../../shared/policy/parse.ts';

const ARN = 'arn:aws:s3:::models';
const HOST = { arn: 'arn:aws:iam::111122223333:role/Host', accountId: '111122223333' };

function evaluate(statements: object | object[], request: Partial<BucketRequest> = {}) {
  const policy = parsePolicy(
    Buffer.from(JSON.stringify({ Version: '2012-10-17', Statement: statements })),
    'bucket',
  );
  return evaluateBucketPolicy(
    { principal: HOST, action: 's3:GetObject', resourceArn: `${ARN}/iris.sealed/head`, ...request },
    policy,
  );
}

const statement = (changes: object): object => ({
  Effect: 'Allow',
  Principal: '*',
  Action: 's3:GetObject',
  Resource: `${ARN}/*`,
  ...changes,
});

describe('a bucket policy', () => {
  it('without statements for a request is silent, and so is none', () => {
    expect(evaluate(statement({ Action: 's3:PutObject' })).effect).toBe('silent');
    const request = { principal: HOST, action: 's3:GetObject', resourceArn: ARN };
    expect(evaluateBucketPolicy(request, undefined)).toEqual({ effect: 'silent', statements: [] });
  });

  it('denies before it allows, and names the statement and its line', () => {
    const found = evaluate([statement({}), statement({ Sid: 'No', Effect: 'Deny' })]);
    expect(found).toEqual({ effect: 'denied', statements: [{ name: 'No', line: 1 }] });
  });

  it('means nobody in particular by "*", in either form, and by no other principal', () => {
    for (const Principal of ['*', { AWS: '*' }]) {
      expect(evaluate(statement({ Principal }), { principal: 'anonymous' }).effect).toBe('allowed');
    }
    for (const Principal of [{ AWS: '111122223333' }, { AWS: HOST.arn }, { CanonicalUser: 'a'.repeat(64) }]) {
      expect(evaluate(statement({ Principal }), { principal: 'anonymous' }).effect).toBe('silent');
    }
  });

  it('sees no principal keys in an anonymous request', () => {
    const Condition = { StringNotEquals: { 'aws:PrincipalArn': HOST.arn } };
    expect(evaluate(statement({ Condition }), { principal: 'anonymous' }).effect).toBe('allowed');
    expect(evaluate(statement({ Condition })).effect).toBe('silent');
    const Anonymous = { StringEquals: { 'aws:PrincipalType': 'Anonymous' } };
    expect(evaluate(statement({ Condition: Anonymous }), { principal: 'anonymous' }).effect).toBe('allowed');
  });

  it('tells the bucket from its objects', () => {
    const policy = statement({ Action: 's3:*', Resource: ARN });
    expect(evaluate(policy).effect).toBe('silent');
    expect(evaluate(policy, { action: 's3:ListBucket', resourceArn: ARN }).effect).toBe('allowed');
  });

  it('may write numbers and booleans of conditions without quotes, as no key policy may', () => {
    const Condition = { NumericLessThan: { 's3:TlsVersion': 1.2 }, Bool: { 'aws:SecureTransport': true } };
    const context = new Map([
      ['s3:TlsVersion', ['1.1']],
      ['aws:SecureTransport', ['true']],
    ]);
    expect(evaluate(statement({ Condition }), { context }).effect).toBe('allowed');
    const asKeyPolicy = JSON.stringify({ Statement: statement({ Condition }) });
    expect(() => parsePolicy(Buffer.from(asKeyPolicy), 'key')).toThrow(
      expect.objectContaining({ code: 'POLICY_ELEMENT' }),
    );
  });

  it('has a Principal, and at most 20 KB', () => {
    expect(() => evaluate(statement({ Principal: undefined }))).toThrow(
      expect.objectContaining({ code: 'POLICY_ELEMENT' }),
    );
    expect(() => evaluate(statement({ Sid: 'x'.repeat(20_480) }))).toThrow(
      expect.objectContaining({ code: 'POLICY_TOO_LARGE' }),
    );
  });
});
