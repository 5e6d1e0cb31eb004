import { describe, expect, it } from 'vitest';
import { parseGrant } from '../../../shared/policy/grants.ts';
import { ACCOUNT, ask, attestedAs, HOST, keyPolicy, OPERATOR, OTHER_PCR0, PCR0, role } from './helpers.ts';

const NOBODY = keyPolicy([{ Principal: { AWS: OPERATOR.arn }, Action: 'kms:PutKeyPolicy' }]);
const listed = (extra: object = {}) => ({
  GrantId: 'g1',
  GranteePrincipal: HOST.arn,
  Operations: ['Decrypt', 'DescribeKey'],
  IssuingAccount: `arn:aws:iam::${ACCOUNT}:root`,
  ...extra,
});
const grants = (extra: object = {}) => [parseGrant(listed(extra))];

describe('a live grant', () => {
  it('allows its operations to its grantee, attested or not', () => {
    const decision = ask(NOBODY, { grants: grants() });
    expect(decision.allowed).toBe(true);
    expect(decision.decisive[0]?.policy).toBe('grant g1');
    expect(ask(NOBODY, { grants: grants(), context: attestedAs(OTHER_PCR0) }).allowed).toBe(true);
  });

  it('allows nothing else, and nobody else', () => {
    expect(ask(NOBODY, { grants: grants(), action: 'kms:Encrypt' }).allowed).toBe(false);
    expect(ask(NOBODY, { grants: grants(), principal: OPERATOR }).allowed).toBe(false);
    expect(ask(NOBODY, { grants: grants(), principal: role('EnclaveHost', '444455556666') }).allowed).toBe(
      false,
    );
  });

  it('to one session is for that session', () => {
    const own = grants({ GranteePrincipal: HOST.sessionArn });
    expect(ask(NOBODY, { grants: own }).allowed).toBe(true);
    expect(ask(NOBODY, { grants: own, principal: role('EnclaveHost', ACCOUNT, 'i-other') }).allowed).toBe(
      false,
    );
  });

  it('is held back by a Deny on the image, and only by a Deny', () => {
    const deny = {
      Effect: 'Deny',
      Principal: '*',
      Condition: { StringNotEquals: { 'kms:RecipientAttestation:PCR0': PCR0 } },
    };
    const policy = keyPolicy([{ Principal: { AWS: OPERATOR.arn } }, deny]);
    expect(ask(policy, { grants: grants() }).reason).toBe('explicit-deny');
    expect(ask(policy, { grants: grants(), context: attestedAs(PCR0) }).allowed).toBe(true);
  });

  it('to another account needs that account to agree', () => {
    const partner = role('Partner', '444455556666');
    const own = grants({ GranteePrincipal: partner.arn });
    const iam = [{ Statement: { Effect: 'Allow', Action: 'kms:Decrypt', Resource: '*' } }];
    expect(ask(NOBODY, { grants: own, principal: partner }).allowed).toBe(false);
    expect(ask(NOBODY, { grants: own, principal: partner, iam }).allowed).toBe(true);
  });

  it('with EncryptionContextEquals wants exactly that context, in that case', () => {
    const own = grants({ Constraints: { EncryptionContextEquals: { model: 'iris' } } });
    const context = (...entries: [string, string][]) => ({
      grants: own,
      encryptionContext: new Map(entries),
    });
    expect(ask(NOBODY, context(['model', 'iris'])).allowed).toBe(true);
    expect(ask(NOBODY, context(['model', 'iris'], ['more', 'x'])).allowed).toBe(false);
    expect(ask(NOBODY, context(['Model', 'iris'])).allowed).toBe(false);
    const denied = ask(NOBODY, { grants: own });
    expect(denied.explanation.join()).toContain(
      'grant g1 would allow it, but the encryption context is not equal',
    );
  });

  it('with EncryptionContextSubset wants at least that context', () => {
    const own = grants({ Constraints: { EncryptionContextSubset: { model: 'iris' } } });
    const context = (...entries: [string, string][]) => ({
      grants: own,
      encryptionContext: new Map(entries),
    });
    expect(ask(NOBODY, context(['model', 'iris'], ['more', 'x'])).allowed).toBe(true);
    expect(ask(NOBODY, context(['more', 'x'])).allowed).toBe(false);
    // Operations that carry no encryption context are not constrained by one.
    expect(ask(NOBODY, { grants: own, action: 'kms:DescribeKey' }).allowed).toBe(true);
  });

  it('with a source ARN wants a request on behalf of that resource', () => {
    const own = grants({ Constraints: { SourceArn: 'arn:aws:s3:::b' } });
    expect(ask(NOBODY, { grants: own }).allowed).toBe(false);
    expect(
      ask(NOBODY, { grants: own, context: new Map([['aws:SourceArn', ['arn:aws:s3:::b']]]) }).allowed,
    ).toBe(true);
  });
});

describe('a grant that is refused', () => {
  it.each([
    ['no object', null],
    ['no operations', listed({ Operations: undefined })],
    ['a wildcard as operation', listed({ Operations: ['*'] })],
    ['a grantee that is no principal', listed({ GranteePrincipal: '*' })],
    ['an unknown constraint', listed({ Constraints: { Image: PCR0 } })],
    ['a constraint of numbers', listed({ Constraints: { EncryptionContextEquals: { a: 1 } } })],
  ])('%s', (_, entry) => {
    expect(() => parseGrant(entry)).toThrow(expect.objectContaining({ code: 'POLICY_GRANT' }));
  });
});
