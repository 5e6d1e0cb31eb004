import { describe, expect, it } from 'vitest';
import { expandActions } from '../../../shared/policy/actions.ts';
import { nitroTpmAttestationContext } from '../../../shared/policy/context.ts';
import { PolicyError } from '../../../shared/policy/errors.ts';
import { KMS_ACTIONS } from '../../../shared/policy/kms-data.ts';
import {
  ACCOUNT,
  ask,
  attestedAs,
  HOST,
  KEY_ARN,
  keyPolicy,
  OPERATOR,
  OTHER_PCR0,
  PCR0,
  ROOT_USER,
  role,
} from './helpers.ts';

const iam = (statement: object = {}) => ({
  Version: '2012-10-17',
  Statement: { Effect: 'Allow', Action: 'kms:*', Resource: '*', ...statement },
});
const ROOT_ALL = { Sid: 'Root', Principal: { AWS: ACCOUNT }, Action: 'kms:*' };
const PIN = { StringEqualsIgnoreCase: { 'kms:RecipientAttestation:PCR0': PCR0 } };
const UNLESS = { StringNotEqualsIgnoreCase: { 'kms:RecipientAttestation:PCR0': PCR0 } };

describe('the order of decision', () => {
  it('starts from refused: an administrator of IAM has nothing without an account statement', () => {
    const decision = ask(keyPolicy([{ Principal: { AWS: OPERATOR.arn } }]), { iam: [iam({ Action: '*' })] });
    expect(decision.reason).toBe('implicit-deny');
    expect(ask(keyPolicy([{}]), { principal: ROOT_USER }).allowed).toBe(false);
  });

  it('lets an explicit Deny of the key policy win over every Allow', () => {
    const policy = keyPolicy([{}, ROOT_ALL, { Effect: 'Deny', Principal: '*' }]);
    expect(ask(policy, { iam: [iam()] }).reason).toBe('explicit-deny');
  });

  it('lets an explicit Deny of IAM win over the key policy', () => {
    expect(ask(keyPolicy([{}]), { iam: [iam({ Effect: 'Deny' })] }).reason).toBe('explicit-deny');
  });

  it('needs for the account statement an IAM policy that matches action, resource and conditions', () => {
    const policy = keyPolicy([ROOT_ALL]);
    expect(ask(policy, { iam: [iam({ Action: 'kms:Encrypt' })] }).allowed).toBe(false);
    expect(ask(policy, { iam: [iam({ Resource: KEY_ARN })] }).allowed).toBe(true);
    expect(ask(policy, { iam: [iam({ Resource: KEY_ARN.replace('1234abcd', 'ffffffff') })] }).allowed).toBe(
      false,
    );
    const attested = [iam({ Condition: PIN })];
    expect(ask(policy, { iam: attested }).allowed).toBe(false);
    expect(ask(policy, { iam: attested, context: attestedAs(PCR0) }).allowed).toBe(true);
  });

  it('needs both sides for a caller of another account', () => {
    const partner = role('Partner', '444455556666');
    const policy = keyPolicy([{ Principal: { AWS: partner.arn } }]);
    expect(ask(policy, { principal: partner }).allowed).toBe(false);
    expect(ask(policy, { principal: partner, iam: [iam()] }).allowed).toBe(true);
    expect(ask(keyPolicy([{}]), { principal: partner, iam: [iam()] }).allowed).toBe(false);
  });

  it('lets the other account name itself as a whole, its root user included', () => {
    const policy = keyPolicy([{ Principal: { AWS: '444455556666' } }]);
    const root = { arn: 'arn:aws:iam::444455556666:root', accountId: '444455556666' };
    expect(ask(policy, { principal: root }).allowed).toBe(true);
    expect(ask(policy, { principal: role('X', '444455556666') }).allowed).toBe(false);
  });
});

describe('actions', () => {
  it.each(['kms:*', '*', 'kms:De*', 'kms:?ecrypt', 'KMS:DECRYPT', 'kms:decrypt'])(
    '%s covers kms:Decrypt',
    (Action) => {
      expect(ask(keyPolicy([{ Action }])).allowed).toBe(true);
    },
  );

  it.each(['kms:Encrypt', 'kms:Decryp', 'kms:?Decrypt', 's3:*'])('%s does not', (Action) => {
    expect(ask(keyPolicy([{ Action }])).allowed).toBe(false);
  });

  it('NotAction covers everything else, escapes included', () => {
    const policy = keyPolicy([{ NotAction: ['kms:Decrypt', 'kms:Put*'] }]);
    expect(ask(policy).allowed).toBe(false);
    expect(ask(policy, { action: 'kms:PutKeyPolicy' }).allowed).toBe(false);
    expect(ask(policy, { action: 'kms:ReEncryptFrom' }).allowed).toBe(true);
  });

  it('are known by name: five can be attested, and wildcards expand to the table', () => {
    const attestable = KMS_ACTIONS.filter((action) => action.attestable).map(({ name }) => name);
    expect(attestable).toEqual([
      'Decrypt',
      'DeriveSharedSecret',
      'GenerateDataKey',
      'GenerateDataKeyPair',
      'GenerateRandom',
    ]);
    expect(expandActions({ negated: false, entries: ['kms:Create*'] })).toEqual([
      'kms:CreateAlias',
      'kms:CreateCustomKeyStore',
      'kms:CreateGrant',
      'kms:CreateKey',
    ]);
    expect(expandActions({ negated: true, entries: ['kms:*'] })).toEqual([]);
  });

  it('without a key are IAM alone: the key policy says nothing about GenerateRandom', () => {
    const denyAll = keyPolicy([{ Effect: 'Deny', Principal: '*', Action: '*' }]);
    const request = { action: 'kms:GenerateRandom', keyArn: '' };
    expect(ask(denyAll, { ...request, iam: [iam()] }).allowed).toBe(true);
    expect(ask(denyAll, { ...request, iam: [iam({ Resource: KEY_ARN })] }).allowed).toBe(false);
    expect(ask(denyAll, { ...request, keyArn: KEY_ARN, iam: [iam({ Resource: KEY_ARN })] }).allowed).toBe(
      false,
    );
    expect(ask(keyPolicy([{ Action: 'kms:*' }]), request).allowed).toBe(false);
    expect(
      ask(denyAll, { ...request, iam: [iam({ Condition: PIN })], context: attestedAs(PCR0) }).allowed,
    ).toBe(true);
  });
});

describe('resources', () => {
  it.each(['*', KEY_ARN, `arn:aws:kms:*:${ACCOUNT}:key/*`, `${KEY_ARN.slice(0, -1)}?`])(
    '%s matches the key',
    (Resource) => {
      expect(ask(keyPolicy([{ Resource }])).allowed).toBe(true);
    },
  );

  it.each([
    `arn:aws:kms:eu-central-1:${ACCOUNT}:alias/model`,
    KEY_ARN.replace('1234abcd', 'ffffffff'),
    KEY_ARN.toUpperCase(),
    'kms:Decrypt',
  ])('%s does not', (Resource) => {
    expect(ask(keyPolicy([{ Resource }])).allowed).toBe(false);
  });

  it('NotResource of another key matches this one', () => {
    expect(ask(keyPolicy([{ NotResource: 'arn:aws:kms:*:*:key/other' }])).allowed).toBe(true);
    expect(ask(keyPolicy([{ NotResource: '*' }])).allowed).toBe(false);
  });

  it('missing in a stored statement: the statement has no effect, Allow or Deny', () => {
    const stored = (resource: object) => ({
      Version: '2012-10-17',
      Statement: [{ Effect: 'Allow', Principal: '*', Action: 'kms:Decrypt', ...resource }],
    });
    expect(ask(stored({})).allowed).toBe(false);
    expect(ask(stored({ Resource: [] })).allowed).toBe(false);
    expect(ask(stored({ Resource: '*' })).allowed).toBe(true);
    expect(ask('{"Statement":{"Effect":"Allow","Principal":"*","Resource":"*"}}').allowed).toBe(false);
  });
});

describe('attestation keys', () => {
  it('pin an image under Allow', () => {
    const policy = keyPolicy([{ Condition: PIN }]);
    expect(ask(policy, { context: attestedAs(PCR0) }).allowed).toBe(true);
    expect(ask(policy, { context: attestedAs(OTHER_PCR0) }).allowed).toBe(false);
    expect(ask(policy).allowed).toBe(false);
  });

  it('give ImageSha384 the value of PCR0', () => {
    const policy = keyPolicy([
      { Condition: { StringEquals: { 'kms:RecipientAttestation:ImageSha384': PCR0 } } },
    ]);
    expect(ask(policy, { context: attestedAs(PCR0) }).allowed).toBe(true);
  });

  it('do not exist for actions without a Recipient, even if a caller of the engine passes them', () => {
    for (const action of [
      'kms:Sign',
      'kms:Encrypt',
      'kms:ReEncryptFrom',
      'kms:CreateGrant',
      'kms:PutKeyPolicy',
    ]) {
      const policy = keyPolicy([{ Action: 'kms:*', Condition: PIN }]);
      expect(ask(policy, { action, context: attestedAs(PCR0) }).allowed, action).toBe(false);
    }
  });

  it('of a NitroTPM are other keys, and bring no ImageSha384', () => {
    const context = nitroTpmAttestationContext(new Map([[4, Buffer.from(PCR0, 'hex')]]));
    const tpm = keyPolicy([
      { Condition: { StringEquals: { 'kms:RecipientAttestation:NitroTPMPCR4': PCR0 } } },
    ]);
    expect(ask(tpm, { context }).allowed).toBe(true);
    expect(
      ask(keyPolicy([{ Condition: { Null: { 'kms:RecipientAttestation:ImageSha384': 'false' } } }]), {
        context,
      }).allowed,
    ).toBe(false);
  });

  it('missing make a negated Deny fire, a plain Deny and a ForAnyValue Deny stay silent', () => {
    const deny = (Condition: unknown) =>
      ask(keyPolicy([{}, { Effect: 'Deny', Principal: '*', Condition }])).reason;
    expect(deny(UNLESS)).toBe('explicit-deny');
    expect(deny({ Null: { 'kms:RecipientAttestation:PCR0': 'true' } })).toBe('explicit-deny');
    expect(deny({ 'ForAnyValue:StringNotEquals': { 'kms:RecipientAttestation:PCR0': PCR0 } })).toBe('allow');
    expect(deny({ StringEquals: { 'kms:RecipientAttestation:PCR0': '0'.repeat(96) } })).toBe('allow');
  });
});

describe('encryption context', () => {
  const model = (name: string) => ({ encryptionContext: new Map([['Model', name]]) });
  it('has keys without and values with regard to case', () => {
    const policy = keyPolicy([{ Condition: { StringEquals: { 'kms:EncryptionContext:MODEL': 'iris' } } }]);
    expect(ask(policy, model('iris')).allowed).toBe(true);
    expect(ask(policy, model('Iris')).allowed).toBe(false);
    expect(ask(policy).allowed).toBe(false);
  });

  it('lists its keys in kms:EncryptionContextKeys', () => {
    const policy = keyPolicy([
      { Condition: { 'ForAllValues:StringEquals': { 'kms:EncryptionContextKeys': 'Model' } } },
    ]);
    expect(ask(policy, model('iris')).allowed).toBe(true);
    expect(ask(policy, { encryptionContext: new Map([['Other', 'x']]) }).allowed).toBe(false);
  });

  it('cannot be claimed through other condition keys of the request', () => {
    const policy = keyPolicy([{ Condition: { StringEquals: { 'kms:EncryptionContext:Model': 'iris' } } }]);
    expect(ask(policy, { context: new Map([['kms:EncryptionContext:Model', ['iris']]]) }).allowed).toBe(
      false,
    );
  });
});

describe('keys derived from the caller and the path', () => {
  it('know the account', () => {
    const policy = (key: string) => keyPolicy([{ Condition: { StringEquals: { [key]: ACCOUNT } } }]);
    expect(ask(policy('kms:CallerAccount')).allowed).toBe(true);
    expect(ask(policy('aws:PrincipalAccount')).allowed).toBe(true);
    expect(ask(policy('aws:ResourceAccount')).allowed).toBe(true);
  });

  it('know the kind of caller', () => {
    const policy = keyPolicy([
      { Principal: '*', Condition: { StringEquals: { 'aws:PrincipalType': 'AssumedRole' } } },
    ]);
    expect(ask(policy).allowed).toBe(true);
    expect(ask(policy, { principal: ROOT_USER }).allowed).toBe(false);
    const user = { arn: `arn:aws:iam::${ACCOUNT}:user/team/dev`, accountId: ACCOUNT };
    const named = keyPolicy([{ Principal: '*', Condition: { StringEquals: { 'aws:username': 'dev' } } }]);
    expect(ask(named, { principal: user }).allowed).toBe(true);
  });

  it('have kms:ViaService only when a service calls for the caller', () => {
    const policy = keyPolicy([
      { Condition: { StringEquals: { 'kms:ViaService': 's3.eu-central-1.amazonaws.com' } } },
    ]);
    expect(ask(policy).allowed).toBe(false);
    const context = new Map([['kms:ViaService', ['s3.eu-central-1.amazonaws.com']]]);
    expect(ask(policy, { context }).allowed).toBe(true);
  });
});

describe('a denial', () => {
  it('speaks as AWS does', () => {
    expect(ask(keyPolicy([{ Condition: PIN }])).message).toBe(
      `User: ${HOST.sessionArn} is not authorized to perform: kms:Decrypt on resource: ${KEY_ARN} because no resource-based policy allows the kms:Decrypt action`,
    );
    expect(ask(keyPolicy([{}, { Effect: 'Deny', Principal: '*' }])).message).toBe(
      `User: ${HOST.sessionArn} is not authorized to perform: kms:Decrypt on resource: ${KEY_ARN} with an explicit deny in a resource-based policy`,
    );
    expect(ask(keyPolicy([ROOT_ALL])).message).toMatch(
      /because no identity-based policy allows the kms:Decrypt action$/,
    );
  });

  it('says which statement would have allowed it, and which condition failed with what', () => {
    const { explanation, decisive } = ask(keyPolicy([{ Sid: 'Enclave', Condition: PIN }]), {
      context: attestedAs(OTHER_PCR0),
    });
    expect(decisive).toEqual([]);
    expect(explanation).toEqual([
      `key policy, statement "Enclave" (line 1) would allow it, but kms:RecipientAttestation:PCR0: expected StringEqualsIgnoreCase "${PCR0}", found "${OTHER_PCR0}".`,
    ]);
  });

  it('says when there was no attestation document', () => {
    const { explanation } = ask(keyPolicy([{ Condition: PIN }]));
    expect(explanation[0]).toContain('found nothing (the request has no such key)');
    expect(explanation.at(-1)).toContain('no attestation document');
  });

  it('says for whom the statement is', () => {
    const { explanation } = ask(keyPolicy([{}]), { principal: OPERATOR });
    expect(explanation[0]).toContain(`it is for ${HOST.arn}, not for ${OPERATOR.sessionArn}`);
  });

  it('says which Deny fired, and on which line', () => {
    const text = JSON.stringify(
      keyPolicy([{}, { Sid: 'DenyOthers', Effect: 'Deny', Principal: '*', Condition: UNLESS }]),
      null,
      2,
    );
    const decision = ask(text, { context: attestedAs(OTHER_PCR0) });
    const line = text.split('\n').findIndex((one) => one.includes('"Effect": "Deny"'));
    expect(decision.decisive).toEqual([
      { policy: 'key policy', statement: 'DenyOthers', line, why: 'denies it' },
    ]);
    expect(decision.explanation[0]).toContain(`statement "DenyOthers" (line ${line}) denies it`);
  });

  it('says when the account statement lacks IAM, and when IAM lacks the account statement', () => {
    expect(ask(keyPolicy([ROOT_ALL])).explanation[0]).toContain('leaves it to IAM');
    const { explanation } = ask(keyPolicy([{ Action: 'kms:Encrypt' }]), { iam: [iam()] });
    expect(explanation).toContain('No statement of the key policy allows kms:Decrypt to anybody.');
    expect(explanation.join()).toContain('the key policy does not hand kms:Decrypt to IAM');
  });
});

describe('a request that is not one', () => {
  const policy = keyPolicy([{ Principal: '*', Action: '*' }]);
  it.each([
    ['a caller of another account than it says', { principal: { ...HOST, accountId: '444455556666' } }],
    ['a caller that is no ARN', { principal: { arn: 'EnclaveHost', accountId: ACCOUNT } }],
    [
      'a caller with a wildcard',
      { principal: { arn: `arn:aws:iam::${ACCOUNT}:role/*`, accountId: ACCOUNT } },
    ],
    [
      'a session of another account',
      { principal: { ...HOST, sessionArn: 'arn:aws:sts::444455556666:assumed-role/A/b' } },
    ],
    ['an alias instead of the key', { keyArn: `arn:aws:kms:eu-central-1:${ACCOUNT}:alias/model` }],
    ['an action of another service', { action: 's3:GetObject' }],
    ['an action with a wildcard', { action: 'kms:*' }],
  ])('%s is refused', (_, request) => {
    expect(() => ask(policy, request)).toThrow(PolicyError);
  });

  it('an action that KMS does not have needs the key policy like any other', () => {
    expect(ask(keyPolicy([{}]), { action: 'kms:Steal', iam: [iam()] }).allowed).toBe(false);
  });
});
