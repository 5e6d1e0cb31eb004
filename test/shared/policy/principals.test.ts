import { describe, expect, it } from 'vitest';
import { ACCOUNT, ask, HOST, keyPolicy, OPERATOR, ROOT_USER, role } from './helpers.ts';

const IAM = [{ Version: '2012-10-17', Statement: { Effect: 'Allow', Action: 'kms:*', Resource: '*' } }];
const stranger = role('EnclaveHost', '444455556666');
const ROOT_ARN = `arn:aws:iam::${ACCOUNT}:root`;
const allowing = (Principal: unknown) => keyPolicy([{ Principal }]);

describe('Principal', () => {
  it('naming a role lets in its sessions without any IAM policy, and no other role', () => {
    expect(ask(allowing({ AWS: HOST.arn })).allowed).toBe(true);
    expect(ask(allowing({ AWS: HOST.arn }), { principal: OPERATOR, iam: IAM }).allowed).toBe(false);
  });

  it('naming a role is not met by the same name in another account', () => {
    expect(ask(allowing({ AWS: HOST.arn }), { principal: stranger, iam: IAM }).allowed).toBe(false);
  });

  it('naming a session lets in that session name only', () => {
    const policy = allowing({ AWS: HOST.sessionArn });
    expect(ask(policy).allowed).toBe(true);
    expect(ask(policy, { principal: role('EnclaveHost', ACCOUNT, 'i-other') }).allowed).toBe(false);
  });

  it('naming a user lets in that user', () => {
    const user = { arn: `arn:aws:iam::${ACCOUNT}:user/dev`, accountId: ACCOUNT };
    expect(ask(allowing({ AWS: user.arn }), { principal: user }).allowed).toBe(true);
    expect(ask(allowing({ AWS: user.arn })).allowed).toBe(false);
  });

  it.each([ROOT_ARN, ACCOUNT])(
    'naming the account as %s leaves it to IAM, but for the root user',
    (account) => {
      const policy = allowing({ AWS: account });
      expect(ask(policy).allowed).toBe(false);
      expect(ask(policy, { iam: IAM }).allowed).toBe(true);
      expect(ask(policy, { principal: ROOT_USER }).allowed).toBe(true);
      expect(ask(policy, { principal: stranger, iam: IAM }).allowed).toBe(false);
    },
  );

  it.each(['*', { AWS: '*' }, { AWS: [OPERATOR.arn, '*'] }])(
    '%j is everyone: no IAM here, IAM elsewhere',
    (everyone) => {
      expect(ask(allowing(everyone)).allowed).toBe(true);
      expect(ask(allowing(everyone), { principal: stranger }).allowed).toBe(false);
      expect(ask(allowing(everyone), { principal: stranger, iam: IAM }).allowed).toBe(true);
    },
  );

  it('naming a service lets no enclave in', () => {
    expect(ask(allowing({ Service: 'kms.amazonaws.com' }), { iam: IAM }).allowed).toBe(false);
  });

  it('naming the id of a deleted role is not met by a role of the old name', () => {
    const id = 'AROAABCDEFGHIJKLMNOPQ';
    expect(ask(allowing({ AWS: id }), { iam: IAM }).allowed).toBe(false);
    expect(ask(allowing({ AWS: id }), { principal: { ...HOST, uniqueId: id } }).allowed).toBe(true);
  });

  it('of a Deny naming the account denies everybody in it', () => {
    const policy = keyPolicy([{}, { Effect: 'Deny', Principal: { AWS: ACCOUNT } }]);
    expect(ask(policy).reason).toBe('explicit-deny');
    expect(ask(policy, { principal: ROOT_USER }).reason).toBe('explicit-deny');
  });
});

describe('NotPrincipal', () => {
  const allow = keyPolicy([{ NotPrincipal: { AWS: OPERATOR.arn } }]);
  it('with Allow is everybody else in the world', () => {
    expect(ask(allow).allowed).toBe(true);
    expect(ask(allow, { principal: OPERATOR }).allowed).toBe(false);
    expect(ask(allow, { principal: stranger, iam: IAM }).allowed).toBe(true);
  });

  const deny = (...arns: (string | undefined)[]) =>
    keyPolicy([{ Principal: '*' }, { Effect: 'Deny', NotPrincipal: { AWS: arns } }]);

  it('with Deny exempts a session only when account, role and session are listed', () => {
    expect(ask(deny(ROOT_ARN, HOST.arn, HOST.sessionArn)).allowed).toBe(true);
    expect(ask(deny(HOST.arn)).reason).toBe('explicit-deny');
    expect(ask(deny(HOST.arn, HOST.sessionArn)).reason).toBe('explicit-deny');
    expect(ask(deny(ROOT_ARN)).reason).toBe('explicit-deny');
  });

  it('with Deny does not exempt others of a listed account', () => {
    const policy = deny(ROOT_ARN, HOST.arn, HOST.sessionArn);
    expect(ask(policy, { principal: OPERATOR }).reason).toBe('explicit-deny');
    expect(ask(policy, { principal: ROOT_USER }).allowed).toBe(true);
  });

  it('with Deny exempts a user when account and user are listed', () => {
    const user = { arn: `arn:aws:iam::${ACCOUNT}:user/dev`, accountId: ACCOUNT };
    expect(ask(deny(ACCOUNT, user.arn), { principal: user }).allowed).toBe(true);
    expect(ask(deny(user.arn), { principal: user }).allowed).toBe(false);
  });
});

describe('aws:PrincipalArn', () => {
  const when = (pattern: string) =>
    keyPolicy([{ Principal: '*', Condition: { ArnLike: { 'aws:PrincipalArn': pattern } } }]);
  it('is the role ARN also for sessions, so the session form never matches', () => {
    expect(ask(when(HOST.arn)).allowed).toBe(true);
    expect(ask(when(`arn:aws:sts::${ACCOUNT}:assumed-role/EnclaveHost/*`)).allowed).toBe(false);
  });

  it('with any account in it is met by a role of the same name elsewhere', () => {
    expect(ask(when('arn:aws:iam::*:role/EnclaveHost'), { principal: stranger, iam: IAM }).allowed).toBe(
      true,
    );
  });

  it('cannot be overridden by the request', () => {
    const context = new Map([
      ['aws:PrincipalArn', [OPERATOR.arn]],
      ['AWS:principaltag/team', ['x']],
    ]);
    expect(ask(when(OPERATOR.arn), { context }).allowed).toBe(false);
    const byTag = keyPolicy([{ Condition: { StringEquals: { 'aws:PrincipalTag/team': 'x' } } }]);
    expect(ask(byTag, { context }).allowed).toBe(false);
    expect(ask(byTag, { principal: { ...HOST, tags: new Map([['team', 'x']]) } }).allowed).toBe(true);
  });
});
