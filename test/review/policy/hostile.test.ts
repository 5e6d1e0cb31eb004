// biome-ignore-all lint/suspicious/noTemplateCurlyInString: policy variables look like that.
/**
 * Policies as somebody writes them who wants a reviewer to be wrong, in one direction or the other. Each verdict was
 * found by reasoning about the requests, not by running the reviewer.
 */
import { expect, it } from 'vitest';
import { pcrOfText } from '../../../shared/pcr.ts';
import { review } from './support.ts';

const A = '111122223333';
const r = (n: string, a = A) => `arn:aws:iam::${a}:role/${n}`;
const HOST = r('EnclaveHost');
const RA = 'kms:RecipientAttestation:';
const P3 = Buffer.from(pcrOfText(HOST)).toString('hex');
const I = {
  pcr0: 'd9'.repeat(48),
  pcr1: 'db'.repeat(48),
  pcr2: 'f2'.repeat(48),
  pcr3: P3,
  pcr4: 'a8'.repeat(48),
  pcr8: '56'.repeat(48),
};
const OLD = '6b'.repeat(48),
  Z = '0'.repeat(96);
const pin = (
  v: string | readonly string[] = I.pcr0,
  reg = 'PCR0',
  op = 'StringEqualsIgnoreCase',
): object => ({ [op]: { [RA + reg]: v } });
const enc = (c: object = pin(), x: object = {}) => ({
  Sid: 'Enclave',
  Effect: 'Allow',
  Principal: { AWS: HOST },
  Action: 'kms:Decrypt',
  Resource: '*',
  Condition: c,
  ...x,
});
const admin = {
  Sid: 'Admin',
  Effect: 'Allow',
  Principal: { AWS: r('KeyAdmin') },
  Action: ['kms:DescribeKey', 'kms:GetKeyPolicy', 'kms:PutKeyPolicy', 'kms:ListGrants', 'kms:RevokeGrant'],
  Resource: '*',
};
const root = (x: object = {}) => ({
  Sid: 'Root',
  Effect: 'Allow',
  Principal: { AWS: `arn:aws:iam::${A}:root` },
  Action: 'kms:*',
  Resource: '*',
  ...x,
});
const allow = (who: string, action: string | readonly string[], c?: object, x: object = {}) => ({
  Sid: 'Other',
  Effect: 'Allow',
  Principal: { AWS: who },
  Action: action,
  Resource: '*',
  ...(c ? { Condition: c } : {}),
  ...x,
});
const deny = (action: string | readonly string[], c?: object, x: object = {}) => ({
  Sid: 'Deny',
  Effect: 'Deny',
  Principal: '*',
  Action: action,
  Resource: '*',
  ...(c ? { Condition: c } : {}),
  ...x,
});
const ATT = ['kms:Decrypt', 'kms:DeriveSharedSecret', 'kms:GenerateDataKey', 'kms:GenerateDataKeyPair'];
const OPS = r('Operator');
type Case = readonly [title: string, verdict: string, statements: readonly object[], context?: object];
const S = 'ONLY_IMAGE_IF_ADMINS_TRUSTED';
const CASES: readonly Case[] = [
  ['ImageSha384 IfExists', 'BYPASS', [enc(pin(I.pcr0, 'ImageSha384', 'StringEqualsIfExists')), admin]],
  ['ForAllValues', 'BYPASS', [enc(pin(I.pcr0, 'PCR0', 'ForAllValues:StringEquals')), admin]],
  ['ForAnyValue in Allow', S, [enc(pin(I.pcr0, 'PCR0', 'ForAnyValue:StringEquals')), admin]],
  ['Null true', 'BYPASS', [enc({ Null: { [`${RA}PCR0`]: 'true' } }), admin]],
  ['Null false', 'ANY_IMAGE', [enc({ Null: { [`${RA}PCR0`]: 'false' } }), admin]],
  ['zero in list', 'DEBUG', [enc(pin([I.pcr0, Z])), admin]],
  [
    'zero only with others pinned: infeasible',
    S,
    [enc({ StringEquals: { [`${RA}PCR0`]: [I.pcr0, Z], [`${RA}PCR1`]: I.pcr1 } }), admin],
  ],
  [
    'zero PCR0 and host PCR3',
    'DEBUG',
    [enc({ StringEquals: { [`${RA}PCR0`]: [I.pcr0, Z], [`${RA}PCR3`]: P3 } }), admin],
  ],
  ['upper ignore case', S, [enc(pin(I.pcr0.toUpperCase())), admin]],
  ['StringLike star', 'ANY_IMAGE', [enc(pin('*', 'PCR0', 'StringLike')), admin]],
  ['96 question marks', 'ANY_IMAGE', [enc(pin('?'.repeat(96), 'PCR0', 'StringLike')), admin]],
  ['short prefix', 'WEAK_PIN', [enc(pin('d9*', 'PCR0', 'StringLike')), admin]],
  ['prefix and one ?', 'WEAK_PIN', [enc(pin(`${'d9'.repeat(47)}??`, 'PCR0', 'StringLike')), admin]],
  ['StringLike exact', S, [enc(pin(I.pcr0, 'PCR0', 'StringLike')), admin]],
  ['misspelt plain', 'DEAD', [enc({ StringEquals: { 'kms:RecipientAttestation:PCRO': I.pcr0 } }), admin]],
  ['PCR1 only', 'ANY_IMAGE', [enc(pin(I.pcr1, 'PCR1')), admin]],
  ['PCR2 only', 'ANY_IMAGE', [enc(pin(I.pcr2, 'PCR2')), admin]],
  ['PCR16 only', 'ANY_IMAGE', [enc(pin('77'.repeat(48), 'PCR16')), admin]],
  ['constant', 'ANY_IMAGE', [enc(pin(Z, 'PCR5')), admin]],
  [
    'PCR8 + PCR3',
    'SIGNER_ONLY',
    [enc({ StringEquals: { [`${RA}PCR8`]: I.pcr8, [`${RA}PCR3`]: P3 } }), admin],
  ],
  [
    'PCR8 + IfExists misspelt',
    'SIGNER_ONLY',
    [
      enc({
        StringEquals: { [`${RA}PCR8`]: I.pcr8 },
        StringEqualsIfExists: { 'kms:RecipientAttestion:PCR0': I.pcr0 },
      }),
      admin,
    ],
  ],
  [
    'PCR8 + PCR1',
    'SIGNER_ONLY',
    [enc({ StringEquals: { [`${RA}PCR8`]: I.pcr8, [`${RA}PCR1`]: I.pcr1 } }), admin],
  ],
  ['wrong image', 'WRONG_IMAGE', [enc(pin(OLD)), admin]],
  [
    'tuple mixing',
    'EXTRA_IMAGE',
    [
      enc({
        StringEquals: { [`${RA}PCR1`]: [I.pcr1, '11'.repeat(48)], [`${RA}PCR2`]: [I.pcr2, '22'.repeat(48)] },
      }),
      admin,
    ],
  ],
  [
    'PCR0+1+2 lists with old',
    'EXTRA_IMAGE',
    [
      enc({ StringEquals: { [`${RA}PCR0`]: [I.pcr0, OLD], [`${RA}PCR1`]: [I.pcr1, '11'.repeat(48)] } }),
      admin,
    ],
  ],
  ['second statement old', 'EXTRA_IMAGE', [enc(), enc(pin(OLD), { Sid: 'Old' }), admin]],
  ['case action', 'BYPASS', [enc(), allow(OPS, 'KMS:DECRYPT'), admin]],
  ['?ecrypt', 'BYPASS', [enc(), allow(OPS, 'kms:?ecrypt'), admin]],
  [
    '* action with EC',
    'BYPASS',
    [enc(), allow(OPS, '*', { StringEquals: { 'kms:EncryptionContext:model': 'm' } }), admin],
  ],
  ['ReEncryptFrom', 'BYPASS', [enc(), allow(OPS, 'kms:ReEncryptFrom'), admin]],
  ['ReEncryptTo only', S, [enc(), allow(OPS, 'kms:ReEncryptTo'), admin]],
  [
    'ReEncrypt samekey IfExists',
    S,
    [enc(), allow(OPS, 'kms:ReEncrypt*', { BoolIfExists: { 'kms:ReEncryptOnSameKey': 'true' } }), admin],
  ],
  ['CreateGrant', 'BYPASS', [enc(), allow(OPS, 'kms:CreateGrant'), admin]],
  [
    'CreateGrant AllValues Encrypt',
    S,
    [
      enc(),
      allow(OPS, 'kms:CreateGrant', {
        'ForAllValues:StringEquals': { 'kms:GrantOperations': ['Encrypt', 'DescribeKey'] },
      }),
      admin,
    ],
  ],
  [
    'CreateGrant AnyValue Encrypt',
    'BYPASS',
    [
      enc(),
      allow(OPS, 'kms:CreateGrant', {
        'ForAnyValue:StringEquals': { 'kms:GrantOperations': ['Encrypt', 'DescribeKey'] },
      }),
      admin,
    ],
  ],
  [
    'CreateGrant AWSResource',
    S,
    [enc(), allow(OPS, 'kms:CreateGrant', { Bool: { 'kms:GrantIsForAWSResource': 'true' } }), admin],
  ],
  [
    'CreateGrant fully denied',
    S,
    [
      enc(),
      allow(OPS, 'kms:CreateGrant'),
      admin,
      deny([...ATT, 'kms:ReEncryptFrom'], pin(I.pcr0, 'PCR0', 'StringNotEqualsIgnoreCase')),
    ],
  ],
  [
    'CreateGrant Null deny any image',
    'BYPASS',
    [
      enc(),
      allow(OPS, 'kms:CreateGrant'),
      admin,
      deny([...ATT, 'kms:ReEncryptFrom'], { Null: { [`${RA}PCR0`]: 'true' } }),
    ],
  ],
  [
    'grant covered',
    S,
    [enc(), admin, deny([...ATT, 'kms:ReEncryptFrom'], pin(I.pcr0, 'PCR0', 'StringNotEqualsIgnoreCase'))],
    { grants: [{ GrantId: 'g', GranteePrincipal: r('Auditor'), Operations: ['Decrypt'] }] },
  ],
  [
    'grant reencrypt',
    'BYPASS',
    [enc(), admin, deny(ATT, pin(I.pcr0, 'PCR0', 'StringNotEqualsIgnoreCase'))],
    { grants: [{ GrantId: 'g', GranteePrincipal: r('Auditor'), Operations: ['ReEncryptFrom'] }] },
  ],
  [
    'public any + PrincipalOrgID',
    'BYPASS',
    [enc(), allow('*', 'kms:Decrypt', { StringEquals: { 'aws:PrincipalOrgID': 'o-1' } }), admin],
  ],
  [
    'public any + PrincipalArn pattern',
    'PUBLIC',
    [enc(), allow('*', 'kms:Decrypt', { ArnLike: { 'aws:PrincipalArn': 'arn:aws:iam::*:role/X' } }), admin],
  ],
  [
    'public any + PrincipalArn own',
    'BYPASS',
    [
      enc(),
      allow('*', 'kms:Decrypt', { ArnLike: { 'aws:PrincipalArn': `arn:aws:iam::${A}:role/X*` } }),
      admin,
    ],
  ],
  [
    'public any + CallerAccount',
    'BYPASS',
    [enc(), allow('*', 'kms:Decrypt', { StringEquals: { 'kms:CallerAccount': A } }), admin],
  ],
  ['public CreateGrant', 'PUBLIC', [enc(), allow('*', 'kms:CreateGrant'), admin]],
  ['public PutKeyPolicy', 'PUBLIC', [enc(), allow('*', 'kms:PutKeyPolicy'), admin]],
  ['root kms:*', 'DELEGATED_BYPASS', [root(), enc()]],
  ['root deny full', S, [root({ Action: ['kms:Put*', 'kms:Describe*'] }), enc()]],
  [
    'root kms:* full deny and escapes denied',
    S,
    [
      root(),
      enc(),
      deny(ATT, pin(I.pcr0, 'PCR0', 'StringNotEquals')),
      deny(['kms:ReEncryptFrom', 'kms:CreateGrant', 'kms:ReplicateKey']),
    ],
  ],
  [
    'A065-like: root kms:*, Deny NotEquals all five, Escapes not denied',
    'DELEGATED_ESCAPE',
    [root(), enc(), deny(ATT, pin(I.pcr0, 'PCR0', 'StringNotEquals'))],
  ],
  [
    'Null deny all + root',
    'ANY_IMAGE',
    [
      root(),
      enc(),
      deny([...ATT], { Null: { [`${RA}PCR0`]: 'true' } }),
      deny(['kms:ReEncrypt*', 'kms:CreateGrant', 'kms:ReplicateKey', 'kms:ImportKeyMaterial']),
    ],
  ],
  [
    'ForAnyValue deny + root',
    'DELEGATED_BYPASS',
    [root(), enc(), deny(ATT, pin(I.pcr0, 'PCR0', 'ForAnyValue:StringNotEquals'))],
  ],
  [
    'NotEqualsIfExists deny + root',
    S,
    [
      root(),
      enc(),
      deny(ATT, pin(I.pcr0, 'PCR0', 'StringNotEqualsIfExists')),
      deny(['kms:ReEncryptFrom', 'kms:CreateGrant']),
    ],
  ],
  [
    'deny only one principal',
    'DELEGATED_BYPASS',
    [root(), enc(), deny(ATT, pin(I.pcr0, 'PCR0', 'StringNotEquals'), { Principal: { AWS: HOST } })],
  ],
  [
    'deny unless PrincipalArn host + root',
    'DELEGATED_BYPASS',
    [root(), enc(), deny(['kms:Decrypt'], { ArnNotEquals: { 'aws:PrincipalArn': HOST } })],
  ],
  [
    'split denies one per register, allow unconditional',
    S,
    [
      allow(HOST, 'kms:Decrypt'),
      admin,
      deny('kms:Decrypt', pin(I.pcr0, 'PCR0', 'StringNotEquals')),
      deny('kms:Decrypt', pin(P3, 'PCR3', 'StringNotEquals')),
    ],
  ],
  [
    'split denies PCR1, PCR2',
    S,
    [
      allow(HOST, 'kms:Decrypt'),
      admin,
      deny('kms:Decrypt', pin(I.pcr1, 'PCR1', 'StringNotEquals')),
      deny('kms:Decrypt', pin(I.pcr2, 'PCR2', 'StringNotEquals')),
    ],
  ],
  [
    'denies PCR3 and PCR8 only',
    'SIGNER_ONLY',
    [
      allow(HOST, 'kms:Decrypt'),
      admin,
      deny('kms:Decrypt', pin(P3, 'PCR3', 'StringNotEquals')),
      deny('kms:Decrypt', pin(I.pcr8, 'PCR8', 'StringNotEquals')),
    ],
  ],
  [
    'NotPrincipal deny role only + root',
    'AMBIGUOUS',
    [
      root({ Action: ['kms:Decrypt', 'kms:PutKeyPolicy'] }),
      enc(),
      { Sid: 'D', Effect: 'Deny', NotPrincipal: { AWS: [HOST] }, Action: 'kms:Decrypt', Resource: '*' },
    ],
  ],
  ['empty list', 'AMBIGUOUS', [enc(pin([])), admin]],
  ['host self admin via *', 'BYPASS', [enc(), allow(HOST, 'kms:Put*'), admin]],
  [
    'role chain',
    'BYPASS',
    [enc(), admin],
    {
      iamPolicies: {
        'trust:KeyAdmin': {
          Version: '2012-10-17',
          Statement: [{ Effect: 'Allow', Principal: { AWS: HOST }, Action: 'sts:AssumeRole' }],
        },
      },
    },
  ],
  [
    'role chain two hops',
    'BYPASS',
    [enc(), admin],
    {
      iamPolicies: {
        'trust:Mid': { Statement: [{ Effect: 'Allow', Principal: { AWS: HOST }, Action: 'sts:AssumeRole' }] },
        'trust:KeyAdmin': {
          Statement: [{ Effect: 'Allow', Principal: { AWS: r('Mid') }, Action: ['sts:*'] }],
        },
      },
    },
  ],
  [
    'role chain other',
    S,
    [enc(), admin],
    {
      iamPolicies: {
        'trust:KeyAdmin': {
          Statement: [{ Effect: 'Allow', Principal: { AWS: r('Dev') }, Action: 'sts:AssumeRole' }],
        },
      },
    },
  ],
  [
    'trust service only',
    S,
    [enc(), admin],
    {
      iamPolicies: {
        'trust:KeyAdmin': {
          Statement: [
            { Effect: 'Allow', Principal: { Service: 'ec2.amazonaws.com' }, Action: 'sts:AssumeRole' },
          ],
        },
      },
    },
  ],
  [
    'replicate multi',
    'BYPASS',
    [enc(), allow(OPS, 'kms:ReplicateKey'), admin],
    { keyMetadata: { multiRegion: true } },
  ],
  ['external', 'OUT_OF_BAND', [enc(), admin], { keyMetadata: { origin: 'EXTERNAL' } }],
  [
    'import on external',
    'OUT_OF_BAND',
    [enc(), allow(OPS, 'kms:ImportKeyMaterial'), admin],
    { keyMetadata: { Origin: 'EXTERNAL' } },
  ],
  ['cross attested', S, [enc(), allow(r('EnclaveHost', '444455556666'), 'kms:Decrypt', pin()), admin]],
  ['cross root plain', 'BYPASS', [enc(), allow('arn:aws:iam::444455556666:root', 'kms:Decrypt'), admin]],
  ['EC only', 'BYPASS', [enc({ StringEquals: { 'kms:EncryptionContext:model': 'm' } }), admin]],
  [
    'via service',
    'SERVICE_PATH',
    [
      enc(),
      allow(OPS, 'kms:Decrypt', { StringEquals: { 'kms:ViaService': 's3.us-east-1.amazonaws.com' } }),
      admin,
    ],
  ],
  [
    'via service like',
    'SERVICE_PATH',
    [enc(), allow(OPS, 'kms:Decrypt', { StringLike: { 'kms:ViaService': 's3.*.amazonaws.com' } }), admin],
  ],
  ['variable pin', 'VARIABLE_PIN', [enc(pin('${aws:PrincipalTag/pcr0}', 'PCR0', 'StringEquals')), admin]],
  [
    'variable with default',
    'VARIABLE_PIN',
    [enc(pin(`\${aws:PrincipalTag/pcr0, '${I.pcr0}'}`, 'PCR0', 'StringEquals')), admin],
  ],
  ['variable EC', 'VARIABLE_PIN', [enc(pin('${kms:EncryptionContext:pcr0}', 'PCR0', 'StringEquals')), admin]],
  ['nitrotpm only', 'WRONG_IMAGE', [enc(pin('5c'.repeat(48), 'NitroTPMPCR4')), admin]],
  [
    'session principal',
    S,
    [
      enc(pin(), { Principal: { AWS: `arn:aws:sts::${A}:assumed-role/EnclaveHost/i-0abcdef1234567890` } }),
      admin,
    ],
  ],
  ['AROA host', 'DEAD', [enc(pin(), { Principal: { AWS: 'AROAABCDEFGHIJKLMNOPQ' } }), admin]],
  ['AROA plain', 'AMBIGUOUS', [enc(), allow('AROAABCDEFGHIJKLMNOPQ', 'kms:Decrypt'), admin]],
  ['other resource', 'DEAD', [enc(pin(), { Resource: `arn:aws:kms:us-east-1:${A}:alias/x` }), admin]],
  [
    'NotResource other',
    'BYPASS',
    [
      enc(),
      {
        Sid: 'N',
        Effect: 'Allow',
        Principal: { AWS: OPS },
        Action: 'kms:Decrypt',
        NotResource: `arn:aws:kms:us-east-1:${A}:key/other`,
      },
      admin,
    ],
  ],
  ['missing Resource', 'DEAD', [enc(pin(), { Resource: undefined }), admin]],
  [
    'service principal plain',
    S,
    [
      enc(),
      {
        Sid: 'Svc',
        Effect: 'Allow',
        Principal: { Service: 'cloudtrail.amazonaws.com' },
        Action: 'kms:GenerateDataKey*',
        Resource: '*',
      },
      admin,
    ],
  ],
  ['sign attested only', 'DEAD', [enc(pin(), { Action: 'kms:Sign' }), admin]],
  ['operator numeric', 'DEAD', [enc(pin(I.pcr0, 'PCR0', 'NumericEquals')), admin]],
  [
    'date limited grant of decrypt',
    'BYPASS',
    [
      enc(),
      allow(OPS, 'kms:Decrypt', { DateLessThan: { 'aws:CurrentTime': '2027-01-01T00:00:00Z' } }),
      admin,
    ],
  ],
  [
    'ip',
    'BYPASS',
    [enc(), allow(OPS, 'kms:Decrypt', { IpAddress: { 'aws:SourceIp': '10.0.0.0/8' } }), admin],
  ],
  [
    'plain http',
    'ONLY_IMAGE_IF_ADMINS_TRUSTED',
    [enc(), allow(OPS, 'kms:Decrypt', { Bool: { 'aws:SecureTransport': 'false' } }), admin],
  ],
  [
    'public sourceip',
    'BYPASS',
    [enc(), allow('*', 'kms:Decrypt', { IpAddress: { 'aws:SourceIp': '203.0.113.0/24' } }), admin],
  ],
  [
    'public vpce',
    'BYPASS',
    [enc(), allow('*', 'kms:Decrypt', { StringEquals: { 'aws:SourceVpce': 'vpce-1' } }), admin],
  ],
  [
    'public attested + vpce',
    S,
    [enc({ StringEquals: { [`${RA}PCR0`]: I.pcr0, 'aws:SourceVpce': 'vpce-1' } }, { Principal: '*' }), admin],
  ],
  [
    'mfa decrypt',
    'BYPASS',
    [enc(), allow(OPS, 'kms:Decrypt', { Bool: { 'aws:MultiFactorAuthPresent': 'true' } }), admin],
  ],
  ['no admin', 'ONLY_IMAGE', [enc()]],
  ['PCR0 list twins', S, [enc(pin([I.pcr0, I.pcr0.toUpperCase()], 'PCR0', 'StringEquals')), admin]],
  ['PCR0 with bad companion', S, [enc(pin([I.pcr0, '0'.repeat(95)])), admin]],
  [
    'statement tag condition',
    'BYPASS',
    [enc(), allow(OPS, 'kms:Decrypt', { StringEquals: { 'aws:PrincipalTag/x': 'y' } }), admin],
  ],
  [
    'deny admin bypass: admin CreateGrant+Deny decrypt',
    S,
    [
      enc(),
      { ...admin, Action: ['kms:*Policy', 'kms:CreateGrant'] },
      deny(ATT, pin(I.pcr0, 'PCR0', 'StringNotEquals')),
    ],
  ],
  ['admin ReEncrypt', S, [enc(), { ...admin, Action: ['kms:PutKeyPolicy', 'kms:ReEncryptFrom'] }]],
  ['admin decrypt', 'BYPASS', [enc(), { ...admin, Action: ['kms:PutKeyPolicy', 'kms:Decrypt'] }]],
  [
    'host grant operations deny',
    'BYPASS',
    [
      enc(),
      allow(HOST, 'kms:CreateGrant', {
        StringEquals: { 'kms:GrantConstraintType': 'EncryptionContextSubset' },
      }),
      admin,
    ],
  ],
  [
    'grant grantee limited',
    'BYPASS',
    [enc(), allow(OPS, 'kms:CreateGrant', { StringEquals: { 'kms:GranteePrincipal': r('Auditor') } }), admin],
  ],
  [
    'HMAC-ish PCR0 notlike zero in allow with null false',
    'ANY_IMAGE',
    [enc({ Null: { [`${RA}PCR0`]: 'false' }, StringNotLike: { [`${RA}PCR0`]: '000*' } }), admin],
  ],
  [
    'deny NitroTPM any',
    'EXTRA_IMAGE',
    [enc(), enc(pin('5c'.repeat(48), 'NitroTPMPCR4'), { Sid: 'Tpm' }), admin],
  ],
  [
    'contradict PCR0 pinned to other with reviewed parts',
    'DEAD',
    [enc({ StringEquals: { [`${RA}PCR0`]: OLD, [`${RA}PCR1`]: I.pcr1, [`${RA}PCR2`]: I.pcr2 } }), admin],
  ],
  [
    'ImageSha384 and PCR0 differ',
    'DEAD',
    [enc({ StringEquals: { [`${RA}PCR0`]: I.pcr0, [`${RA}ImageSha384`]: OLD } }), admin],
  ],
  [
    'wrong host PCR3',
    'DEAD',
    [enc({ StringEquals: { [`${RA}PCR0`]: I.pcr0, [`${RA}PCR3`]: '33'.repeat(48) } }), admin],
  ],
  ['user named', 'BYPASS', [enc(), allow(`arn:aws:iam::${A}:user/dev`, 'kms:Decrypt'), admin]],
  [
    'deny with NotAction',
    'ONLY_IMAGE_IF_ADMINS_TRUSTED',
    [
      root(),
      enc(),
      {
        Sid: 'D',
        Effect: 'Deny',
        Principal: '*',
        NotAction: ['kms:PutKeyPolicy', 'kms:DescribeKey'],
        Resource: '*',
        Condition: pin(I.pcr0, 'PCR0', 'StringNotEquals'),
      },
    ],
  ],
  [
    'deny zero + null',
    'ANY_IMAGE',
    [
      root(),
      enc(),
      deny(ATT, { Null: { [`${RA}PCR0`]: 'true' } }),
      deny(ATT, pin(Z)),
      deny(['kms:ReEncrypt*', 'kms:CreateGrant']),
    ],
  ],
  [
    'only GenerateDataKey attested',
    'ONLY_IMAGE_IF_ADMINS_TRUSTED',
    [enc(pin(), { Action: 'kms:GenerateDataKey' }), admin],
  ],
  [
    'iam supplied for host pins, key policy delegates decrypt only',
    'DELEGATED_BYPASS',
    [root({ Action: ['kms:Decrypt', 'kms:Put*'] })],
    {
      iamPolicies: {
        EnclaveHost: [
          {
            Version: '2012-10-17',
            Statement: [{ Effect: 'Allow', Action: 'kms:Decrypt', Resource: '*', Condition: pin() }],
          },
        ],
      },
    },
  ],
  [
    'a service principal may decrypt',
    'SERVICE_PATH',
    [
      enc(),
      {
        Sid: 'Svc',
        Effect: 'Allow',
        Principal: { Service: 's3.amazonaws.com' },
        Action: 'kms:Decrypt',
        Resource: '*',
      },
      admin,
    ],
  ],
  [
    'a service principal may decrypt, and everyone is denied without the image',
    S,
    [
      enc(),
      {
        Sid: 'Svc',
        Effect: 'Allow',
        Principal: { Service: 's3.amazonaws.com' },
        Action: 'kms:Decrypt',
        Resource: '*',
      },
      admin,
      deny('kms:Decrypt', pin(I.pcr0, 'PCR0', 'StringNotEquals')),
    ],
  ],
  [
    'grants denied by a list with ForAllValues: one harmless operation beside slips past',
    'BYPASS',
    [
      enc(),
      allow(OPS, 'kms:CreateGrant'),
      deny('kms:CreateGrant', {
        'ForAllValues:StringEquals': { 'kms:GrantOperations': ['Decrypt', 'ReEncryptFrom'] },
      }),
      admin,
    ],
  ],
  [
    'grants denied by a list with ForAnyValue',
    S,
    [
      enc(),
      allow(OPS, 'kms:CreateGrant'),
      deny('kms:CreateGrant', {
        'ForAnyValue:StringEquals': { 'kms:GrantOperations': ['Decrypt', 'ReEncryptFrom'] },
      }),
      admin,
    ],
  ],
  [
    'register under aws:',
    'DEAD',
    [enc({ StringEquals: { 'aws:RecipientAttestation:PCR0': I.pcr0 } }), admin],
  ],
  ['register without kms:', 'DEAD', [enc({ StringEquals: { 'RecipientAttestation:PCR0': I.pcr0 } }), admin]],
  [
    'register under aws: with IfExists',
    'BYPASS',
    [enc({ StringEqualsIfExists: { 'aws:RecipientAttestation:PCR0': I.pcr0 } }), admin],
  ],
  [
    'Deny on a register under aws: denies the reviewed image too',
    'DEAD',
    [
      root(),
      enc(),
      deny(ATT, { StringNotEquals: { 'aws:RecipientAttestation:PCR0': I.pcr0 } }),
      deny(['kms:ReEncrypt*', 'kms:CreateGrant']),
    ],
  ],
  [
    'a session name that anybody may choose',
    'AMBIGUOUS',
    [enc(), allow(OPS, 'kms:Decrypt', { StringLike: { 'aws:userid': '*:i-0abcdef1234567890' } }), admin],
  ],
  [
    'a Deny that exempts by unique id',
    'AMBIGUOUS',
    [root(), enc(), deny('kms:*', { StringNotLike: { 'aws:userId': 'AROAEXAMPLEIDOFAROLE:*' } })],
  ],
  [
    'a Deny that exempts the root user by its id, which is that of the account',
    'DELEGATED_BYPASS',
    [root(), enc(), deny('kms:*', { StringNotLike: { 'aws:userId': ['AROAEXAMPLEIDOFAROLE:*', A] } })],
  ],
  ['placeholder that looks like a variable', 'DEAD', [enc(pin('${PCR0}')), admin]],
  ['placeholder beside the image', S, [enc(pin([I.pcr0, '${var.old_pcr0}'])), admin]],
  [
    'Decrypt on a key that only agrees on secrets: no call and no service has that',
    S,
    [enc(pin(), { Action: 'kms:DeriveSharedSecret' }), allow(OPS, 'kms:Decrypt'), admin],
    { keyMetadata: { keyUsage: 'KEY_AGREEMENT', keySpec: 'ECC_NIST_P256' } },
  ],
];

for (const [title, verdict, statements, context] of CASES) {
  it(`${verdict}: ${title}`, () => {
    const report = review(statements, { image: I, ...(context === undefined ? {} : { context }) });
    expect(report.verdict).toBe(verdict);
  });
}

it('names whom a trust policy lets become the administrator', () => {
  const context = {
    iamPolicies: {
      'trust:KeyAdmin': {
        Statement: [{ Effect: 'Allow', Principal: { AWS: r('Dev') }, Action: 'sts:AssumeRole' }],
      },
    },
  };
  const report = review([enc(), admin], { image: I, context });
  expect(report.verdict).toBe(S);
  expect(report.findings.find(({ code }) => code === 'role-chain')).toMatchObject({
    severity: 'medium',
    why: expect.stringContaining('Dev can become KeyAdmin'),
  });
});

it.each(['${PCR0}', '${!EnclavePcr0}', '<PCR0>'])('tells %s for what a template left', (value) => {
  const { findings } = review([enc(pin(value)), admin], { image: I });
  expect(findings.find(({ code }) => code === 'placeholder-value')).toMatchObject({
    severity: 'high',
    statement: 'Enclave',
  });
  expect(findings.some(({ code }) => code === 'variable-pin')).toBe(false);
});

it.each([
  ['another role', { ArnEquals: { 'aws:PrincipalArn': r('Nobody') } }],
  ['another account', { StringEquals: { 'kms:CallerAccount': '999999999999' } }],
])('says that a statement is dead whose principal can never be %s', (_, condition) => {
  const { verdict, findings } = review([enc(), allow(OPS, 'kms:Decrypt', condition), admin], { image: I });
  expect(verdict).toBe(S);
  expect(findings.find(({ code }) => code === 'dead-statement')).toMatchObject({
    severity: 'medium',
    statement: 'Other',
    why: expect.stringContaining('conditions on the caller'),
  });
});
