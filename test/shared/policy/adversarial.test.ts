// biome-ignore-all lint/suspicious/noTemplateCurlyInString: policy variables look like that.
/**
 * Key policies written to mislead, each with everybody whom it lets in. A case names the whole answer: whatever it
 * does not name must be refused, for every caller, action and attestation document of the matrix.
 */
import { describe, expect, it } from 'vitest';
import { attestationContext, nitroTpmAttestationContext } from '../../../shared/policy/context.ts';
import { decide } from '../../../shared/policy/decide.ts';
import { parseGrant } from '../../../shared/policy/grants.ts';
import type { CallerIdentity } from '../../../shared/policy/model.ts';
import { parsePolicy } from '../../../shared/policy/parse.ts';
import { ACCOUNT, bytesOf, HOST, KEY_ARN, keyPolicy, role } from './helpers.ts';

const STRANGER = '444455556666';
const OTHER_KEY = KEY_ARN.replace('1234abcd', '9999abcd');
const ROOT_ARN = `arn:aws:iam::${ACCOUNT}:root`;
const roleArn = (name: string, account = ACCOUNT) => `arn:aws:iam::${account}:role/${name}`;
const digest = (byte: string) => byte.repeat(48);
const ZERO = digest('00');
const REVIEWED = digest('d9');
const OLD = digest('6b');
const EVIL = digest('2e');
const EVIL_KERNEL = digest('49');
const KERNEL = digest('db');
const KERNEL_2 = digest('c9');
const APP = digest('f2');
const APP_OLD = digest('d3');
const APP_EVIL = digest('9d');
const ROLE = digest('a4');
const INSTANCE = digest('a8');
const SIGNER = digest('56');
const USER = digest('af');
const TPM = digest('5c');

/** Registers 0, 1, 2, 3, 4, 8 and perhaps 16. The others below 16 are zero. */
const DOCUMENTS: Readonly<Record<string, readonly string[]>> = {
  reviewed: [REVIEWED, KERNEL, APP, ROLE, INSTANCE, SIGNER],
  old: [OLD, KERNEL, APP_OLD, ROLE, INSTANCE, SIGNER],
  evil: [EVIL, KERNEL, APP_EVIL, ROLE, INSTANCE, ZERO],
  evilKernel: [EVIL_KERNEL, KERNEL_2, APP, ROLE, INSTANCE, ZERO],
  debug: [ZERO, ZERO, ZERO, ZERO, ZERO, ZERO],
  debugPopulated: [ZERO, ZERO, ZERO, ROLE, INSTANCE, SIGNER],
  evil16: [EVIL, KERNEL, APP_EVIL, ROLE, INSTANCE, ZERO, USER],
};
const ENCLAVES = Object.keys(DOCUMENTS);
const ATTESTATIONS = ['none', ...ENCLAVES, 'tpm'];

const CALLERS: Readonly<Record<string, CallerIdentity>> = {
  host: HOST,
  hostOther: role('EnclaveHost', ACCOUNT, 'i-0fff'),
  tagged: { ...HOST, tags: new Map([['pcr0', EVIL]]) },
  operator: role('Operator'),
  admin: role('KeyAdmin'),
  user: { arn: `arn:aws:iam::${ACCOUNT}:user/dev`, accountId: ACCOUNT },
  otherIam: role('Other'),
  noIam: role('Nobody'),
  root: { arn: ROOT_ARN, accountId: ACCOUNT },
  ext: role('Attacker', STRANGER),
  extName: role('EnclaveHost', STRANGER),
};
const WITH_IAM = ['otherIam', 'ext', 'extName'];
const GROUPS: Readonly<Record<string, readonly string[]>> = {
  hosts: ['host', 'hostOther', 'tagged'],
  delegated: ['otherIam', 'root'],
  strangers: ['ext', 'extName'],
  account: Object.keys(CALLERS).filter((name) => !name.startsWith('ext')),
  everyone: Object.keys(CALLERS),
};
const ATTESTATION_GROUPS: Readonly<Record<string, readonly string[]>> = {
  any: ATTESTATIONS,
  enclaves: ENCLAVES,
  absent: ['none', 'tpm'],
};

const ACTIONS = [
  'Decrypt',
  'DeriveSharedSecret',
  'GenerateDataKey',
  'ReEncryptFrom',
  'CreateGrant',
  'PutKeyPolicy',
  'ReplicateKey',
  'Encrypt',
  'DescribeKey',
];

/** Who may do what: action (`*` is all of them) to `callers:documents`, or `callers` for any document and none. */
type Expected = Readonly<Record<string, string>>;
interface Case {
  readonly title: string;
  readonly policy: unknown;
  readonly expected: Expected;
  readonly iam?: Readonly<Record<string, readonly unknown[]>>;
  readonly grants?: readonly unknown[];
  readonly context?: Readonly<Record<string, readonly string[]>>;
  readonly encryptionContext?: Readonly<Record<string, string>>;
}

const KEY = 'kms:RecipientAttestation:PCR0';
type Statement = Record<string, unknown>;
const policyOf = (...statements: Statement[]) => keyPolicy(statements);
const when = (Condition: unknown, more: Statement = {}) => policyOf({ Condition, ...more });
const pin = (values: unknown = REVIEWED, key = KEY) => ({ StringEqualsIgnoreCase: { [key]: values } });
const DELEGATE: Statement = { Principal: { AWS: ROOT_ARN }, Action: 'kms:*' };
const denyAll = (Condition: unknown, more: Statement = {}): Statement => ({
  Effect: 'Deny',
  Principal: '*',
  Condition,
  ...more,
});
const iamAllow = (more: Statement = {}) => ({
  Version: '2012-10-17',
  Statement: { Effect: 'Allow', Action: 'kms:*', Resource: '*', ...more },
});

/** The host may Decrypt under one Condition: what each document and none gives. */
const conditions: readonly [title: string, condition: unknown, documents: string][] = [
  ['no condition in the element', {}, 'any'],
  ['an operator without keys', { StringEquals: {} }, 'any'],
  ['IfExists', { StringEqualsIgnoreCaseIfExists: { [KEY]: REVIEWED } }, 'absent reviewed'],
  ['StringLikeIfExists', { StringLikeIfExists: { [KEY]: `${REVIEWED.slice(0, 8)}*` } }, 'absent reviewed'],
  ['ForAllValues', { 'ForAllValues:StringEqualsIgnoreCase': { [KEY]: REVIEWED } }, 'absent reviewed'],
  ['ForAnyValue', { 'ForAnyValue:StringEqualsIgnoreCase': { [KEY]: REVIEWED } }, 'reviewed'],
  [
    'ForAnyValue and IfExists',
    { 'ForAnyValue:StringEqualsIfExists': { [KEY]: REVIEWED } },
    'absent reviewed',
  ],
  [
    'ForAnyValue, negated',
    { 'ForAnyValue:StringNotEquals': { [KEY]: ZERO } },
    'reviewed old evil evilKernel evil16',
  ],
  [
    'ForAllValues, negated',
    { 'ForAllValues:StringNotEquals': { [KEY]: ZERO } },
    'absent reviewed old evil evilKernel evil16',
  ],
  [
    'not zero, meant to exclude debug',
    { StringNotEquals: { [KEY]: ZERO } },
    'absent reviewed old evil evilKernel evil16',
  ],
  [
    'not zero and present',
    { StringNotEqualsIgnoreCase: { [KEY]: ZERO }, Null: { [KEY]: 'false' } },
    'reviewed old evil evilKernel evil16',
  ],
  ['none of a list', { StringNotEquals: { [KEY]: [ZERO, OLD, EVIL] } }, 'absent reviewed evilKernel'],
  ['StringNotLike', { StringNotLike: { [KEY]: ['0*', '2*'] } }, 'absent reviewed old evilKernel'],
  ['Null true', { Null: { [KEY]: 'true' } }, 'absent'],
  ['Null TRUE', { Null: { [KEY]: 'TRUE' } }, 'absent'],
  ['Null false', { Null: { [KEY]: 'false' } }, 'enclaves'],
  ['Null false of ImageSha384', { Null: { 'kms:RecipientAttestation:ImageSha384': 'false' } }, 'enclaves'],
  [
    'Null false of a NitroTPM register',
    { Null: { 'kms:RecipientAttestation:NitroTPMPCR4': 'false' } },
    'tpm',
  ],
  ['Null of both', { Null: { [KEY]: ['true', 'false'] } }, 'any'],
  ['any text', { StringLike: { [KEY]: '*' } }, 'enclaves'],
  ['any 96 characters', { StringLike: { [KEY]: '?'.repeat(96) } }, 'enclaves'],
  ['any 95 characters', { StringLike: { [KEY]: '?'.repeat(95) } }, ''],
  ['a prefix', { StringLike: { [KEY]: `${REVIEWED.slice(0, 2)}*` } }, 'reviewed'],
  ['a prefix in upper case', { StringLike: { [KEY]: 'D9*' } }, ''],
  ['a literal star', { StringEquals: { [KEY]: '*' } }, ''],
  ['a literal star without case', { StringEqualsIgnoreCase: { [KEY]: '*' } }, ''],
  ['an escaped star', { StringLike: { [KEY]: '${*}' } }, ''],
  ['upper case, StringEquals', { StringEquals: { [KEY]: REVIEWED.toUpperCase() } }, ''],
  ['upper case, ignoring case', pin(REVIEWED.toUpperCase()), 'reviewed'],
  ['both cases in a list', { StringEquals: { [KEY]: [REVIEWED.toUpperCase(), REVIEWED] } }, 'reviewed'],
  ['0x prefix', pin(`0x${REVIEWED}`), ''],
  ['a blank after', pin(`${REVIEWED} `), ''],
  ['a blank before', pin(` ${REVIEWED}`), ''],
  ['a line end after', pin(`${REVIEWED}\n`), ''],
  ['64 digits', pin(REVIEWED.slice(0, 64)), ''],
  ['98 digits', pin(`${REVIEWED}d9`), ''],
  ['base64', pin(Buffer.from(REVIEWED, 'hex').toString('base64')), ''],
  ['a placeholder', pin('<EIF_PCR0>'), ''],
  ['an empty text', pin(''), ''],
  ['not an empty text', { StringNotEquals: { [KEY]: '' } }, 'any'],
  ['an empty list', pin([]), ''],
  ['zero of a wrong length in a list', pin([REVIEWED, ZERO.slice(2)]), 'reviewed'],
  ['zero in a list', pin([REVIEWED, ZERO]), 'reviewed debug debugPopulated'],
  ['an older release in a list', pin([REVIEWED, OLD]), 'reviewed old'],
  ['key name in another case', pin(REVIEWED, 'KMS:recipientattestation:pcr0'), 'reviewed'],
  ['ImageSha384 in another case', pin(REVIEWED, 'kms:RecipientAttestation:IMAGESHA384'), 'reviewed'],
  ['no such register', pin(REVIEWED, 'kms:RecipientAttestation:PCR32'), ''],
  ['a register with a leading zero', pin(REVIEWED, 'kms:RecipientAttestation:PCR00'), ''],
  ['a key with a blank', pin(REVIEWED, `${KEY} `), ''],
  ['the bare key', pin(REVIEWED, 'kms:RecipientAttestation'), ''],
  ['a misspelt key', pin(REVIEWED, 'kms:RecipientAttestatoin:PCR0'), ''],
  ['a misspelt key, negated', { StringNotEquals: { 'kms:RecipientAttestation:PRC0': ZERO } }, 'any'],
  ['a misspelt key, IfExists', { StringEqualsIfExists: { 'kms:Recipient:PCR0': REVIEWED } }, 'any'],
  ['a misspelt key, ForAllValues', { 'ForAllValues:StringEquals': { 'kms:PCR0': REVIEWED } }, 'any'],
  ['a misspelt key, Null true', { Null: { 'kms:RecipientAttestation:PCRO': 'true' } }, 'any'],
  ['a numeric operator', { NumericEquals: { [KEY]: REVIEWED } }, ''],
  ['a boolean operator', { Bool: { [KEY]: 'true' } }, ''],
  ['a date operator', { DateEquals: { [KEY]: REVIEWED } }, ''],
  ['an address operator', { IpAddress: { [KEY]: '0.0.0.0/0' } }, ''],
  ['an ARN operator', { ArnLike: { [KEY]: REVIEWED } }, ''],
  ['a binary operator', { BinaryEquals: { [KEY]: Buffer.from(REVIEWED, 'hex').toString('base64') } }, ''],
  ['a boolean operator, IfExists', { BoolIfExists: { [KEY]: 'true' } }, 'absent'],
  ['two operators that agree', { ...pin(), StringEquals: { [KEY]: REVIEWED } }, 'reviewed'],
  ['two operators that do not', { ...pin(), StringEquals: { [KEY]: OLD } }, ''],
  ['two operators with lists in common', { ...pin([REVIEWED, OLD]), StringLike: { [KEY]: '6*' } }, 'old'],
  [
    'two keys of one register',
    { StringEquals: { [KEY]: REVIEWED, 'kms:RecipientAttestation:ImageSha384': OLD } },
    '',
  ],
  ['the kernel alone', pin(KERNEL, 'kms:RecipientAttestation:PCR1'), 'reviewed old evil evil16'],
  ['the application alone', pin(APP, 'kms:RecipientAttestation:PCR2'), 'reviewed evilKernel'],
  [
    'the role alone',
    pin(ROLE, 'kms:RecipientAttestation:PCR3'),
    'reviewed old evil evilKernel debugPopulated evil16',
  ],
  [
    'the instance alone',
    pin(INSTANCE, 'kms:RecipientAttestation:PCR4'),
    'reviewed old evil evilKernel debugPopulated evil16',
  ],
  ['the signer alone', pin(SIGNER, 'kms:RecipientAttestation:PCR8'), 'reviewed old debugPopulated'],
  ['unsigned', pin(ZERO, 'kms:RecipientAttestation:PCR8'), 'evil evilKernel debug evil16'],
  ['a register of the application alone', pin(USER, 'kms:RecipientAttestation:PCR16'), 'evil16'],
  ['a constant register', pin(ZERO, 'kms:RecipientAttestation:PCR5'), 'enclaves'],
  ['a constant register, not zero', pin(USER, 'kms:RecipientAttestation:PCR15'), ''],
  ['a NitroTPM register', pin(TPM, 'kms:RecipientAttestation:NitroTPMPCR4'), 'tpm'],
  [
    'lists for two registers, which mix',
    {
      StringEquals: {
        'kms:RecipientAttestation:PCR1': [KERNEL, KERNEL_2],
        'kms:RecipientAttestation:PCR2': [APP, APP_OLD],
      },
    },
    'reviewed old evilKernel',
  ],
  ['IfExists beside a pin', { ...pin(), StringEqualsIfExists: { 'aws:SourceVpce': 'vpce-1' } }, 'reviewed'],
  [
    'a key that the request lacks beside a pin',
    { ...pin(), StringEquals: { 'aws:SourceVpce': 'vpce-1' } },
    '',
  ],
  ['MFA beside a pin', { ...pin(), Bool: { 'aws:MultiFactorAuthPresent': 'true' } }, ''],
  [
    'without MFA, IfExists',
    { ...pin(), BoolIfExists: { 'aws:MultiFactorAuthPresent': 'false' } },
    'reviewed',
  ],
  ['over TLS', { ...pin(), Bool: { 'aws:SecureTransport': 'TRUE' } }, 'reviewed'],
  ['caller account', { ...pin(), StringEquals: { 'kms:CallerAccount': ACCOUNT } }, 'reviewed'],
  ['another caller account', { ...pin(), StringEquals: { 'kms:CallerAccount': STRANGER } }, ''],
  ['a service path only', { StringEquals: { 'kms:ViaService': 's3.eu-central-1.amazonaws.com' } }, ''],
  ['an encryption context only', { StringEquals: { 'kms:EncryptionContext:model': 'm1' } }, ''],
];

const cases: readonly Case[] = [
  ...conditions.map(
    ([title, condition, documents]): Case => ({
      title: `condition: ${title}`,
      policy: when(condition),
      expected: documents === '' ? {} : { Decrypt: `hosts:${documents.replaceAll(' ', ',')}` },
    }),
  ),
  // Variables.
  ...(
    [
      ['a tag', '${aws:PrincipalTag/pcr0}', '2012-10-17', 'tagged:evil,evil16'],
      ['a tag, name in another case', '${AWS:principaltag/PCR0}', '2012-10-17', 'tagged:evil,evil16'],
      ['a tag, older version', '${aws:PrincipalTag/pcr0}', '2008-10-17', ''],
      [
        'a tag with a default',
        `\${aws:PrincipalTag/pcr0, '${REVIEWED}'}`,
        '2012-10-17',
        'tagged:evil,evil16 host:reviewed hostOther:reviewed',
      ],
      ['a tag that nobody has', '${aws:PrincipalTag/image}', '2012-10-17', ''],
      ['an unknown variable', '${aws:NoSuchKey}', '2012-10-17', ''],
      ['a variable that is not closed', '${aws:PrincipalTag/pcr0', '2012-10-17', ''],
    ] as const
  ).map(
    ([title, value, version, expected]): Case => ({
      title: `variable: ${title}`,
      policy: keyPolicy([{ Condition: { StringEquals: { [KEY]: value } } }], version),
      expected: expected === '' ? {} : { Decrypt: expected },
    }),
  ),
  {
    title: 'variable: without value, under a negated operator',
    policy: when({ StringNotEquals: { [KEY]: '${aws:PrincipalTag/pcr0}' } }),
    expected: {
      Decrypt: 'host hostOther tagged:none,tpm,reviewed,old,evilKernel,debug,debugPopulated',
    },
  },
  {
    title: 'variable: in a document without Version',
    policy: { Statement: { ...only(), Condition: { StringLike: { [KEY]: '${aws:PrincipalTag/pcr0}' } } } },
    expected: {},
  },
  // Actions.
  ...(
    [
      ['kms:*Decrypt', 'Decrypt'],
      ['kms:?ecrypt', 'Decrypt'],
      ['Kms:decrypt', 'Decrypt'],
      ['KMS:DECRYPT*', 'Decrypt'],
      ['kms:*crypt', 'Decrypt Encrypt'],
      ['kms:De*', 'Decrypt DeriveSharedSecret DescribeKey'],
      ['kms:?????Key*', 'CreateKey'],
      ['kms:Generate*', 'GenerateDataKey'],
      ['kms:ReEncrypt*', 'ReEncryptFrom'],
      ['kms:Create*', 'CreateGrant'],
      ['kms:*Key', 'GenerateDataKey ReplicateKey DescribeKey'],
      ['kms:*', ACTIONS.join(' ')],
      ['*', ACTIONS.join(' ')],
      ['*:*', ACTIONS.join(' ')],
      ['kms:Decryptt', ''],
      ['s3:*', ''],
    ] as const
  ).map(
    ([action, expected]): Case => ({
      title: `action: ${action}`,
      policy: policyOf({ Action: action }),
      expected: Object.fromEntries(
        expected
          .split(' ')
          .filter((name) => ACTIONS.includes(name))
          .map((name) => [name, 'hosts']),
      ),
    }),
  ),
  {
    title: 'action: NotAction of Decrypt, any case, leaves every way around it',
    policy: policyOf({ NotAction: ['KMS:decrypt'] }),
    expected: Object.fromEntries(ACTIONS.filter((name) => name !== 'Decrypt').map((name) => [name, 'hosts'])),
  },
  {
    title: 'action: NotAction of management leaves plaintext',
    policy: policyOf({ NotAction: ['kms:Put*', 'kms:Create*', 'kms:Describe*', 'kms:Replicate*'] }),
    expected: {
      Decrypt: 'hosts',
      DeriveSharedSecret: 'hosts',
      GenerateDataKey: 'hosts',
      ReEncryptFrom: 'hosts',
      Encrypt: 'hosts',
    },
  },
  {
    title: 'action: attestation on actions that carry no document',
    policy: policyOf({ Action: ['kms:ReEncryptFrom', 'kms:CreateGrant', 'kms:Encrypt'], Condition: pin() }),
    expected: {},
  },
  {
    title: 'action: a Deny unless attested stops what carries no document',
    policy: policyOf(
      { Action: 'kms:*' },
      denyAll({ StringNotEqualsIgnoreCase: { [KEY]: REVIEWED } }, { Action: 'kms:*' }),
    ),
    expected: {
      Decrypt: 'hosts:reviewed',
      DeriveSharedSecret: 'hosts:reviewed',
      GenerateDataKey: 'hosts:reviewed',
    },
  },
  // Principals.
  ...(
    [
      ['a role', { AWS: HOST.arn }, 'hosts'],
      ['a session', { AWS: HOST.sessionArn }, 'host tagged'],
      ['a user', { AWS: `arn:aws:iam::${ACCOUNT}:user/dev` }, 'user'],
      ['the account', { AWS: ROOT_ARN }, 'delegated'],
      ['the account by number', { AWS: ACCOUNT }, 'delegated'],
      ['another account', { AWS: `arn:aws:iam::${STRANGER}:root` }, 'strangers'],
      ['another account by number', { AWS: [STRANGER] }, 'strangers'],
      ['a role of another account', { AWS: roleArn('EnclaveHost', STRANGER) }, 'extName'],
      ['everyone', '*', 'everyone'],
      ['everyone, as a principal', { AWS: '*' }, 'everyone'],
      ['everyone in a list', { AWS: [HOST.arn, '*'] }, 'everyone'],
      ['a list', { AWS: [HOST.arn, roleArn('KeyAdmin')] }, 'hosts admin'],
      ['a list of account and role', { AWS: [ACCOUNT, roleArn('Nobody')] }, 'delegated noIam'],
      ['a role with a path', { AWS: roleArn('team/EnclaveHost') }, ''],
      ['a role in another case', { AWS: roleArn('enclavehost') }, ''],
      ['a role of the same name elsewhere', { AWS: `arn:aws-cn:iam::${ACCOUNT}:role/EnclaveHost` }, ''],
      ['a deleted role', { AWS: 'AROAEXAMPLEID12345678' }, ''],
      ['a service', { Service: 'kms.amazonaws.com' }, ''],
      ['services', { Service: ['ec2.amazonaws.com', 'lambda.amazonaws.com'] }, ''],
      ['an identity provider', { Federated: 'cognito-identity.amazonaws.com' }, ''],
      ['a SAML provider', { Federated: `arn:aws:iam::${ACCOUNT}:saml-provider/Corp` }, ''],
      ['a service and a role', { Service: 'ec2.amazonaws.com', AWS: HOST.arn }, 'hosts'],
    ] as const
  ).map(
    ([title, Principal, expected]): Case => ({
      title: `principal: ${title}`,
      policy: policyOf({ Principal }),
      expected: expected === '' ? {} : { Decrypt: expected },
    }),
  ),
  ...(
    [
      [
        'role pattern',
        { ArnLike: { 'aws:PrincipalArn': 'arn:aws:iam::*:role/EnclaveHost' } },
        'hosts extName',
      ],
      ['role pattern as text', { StringLike: { 'aws:PrincipalArn': '*/EnclaveHost' } }, 'hosts extName'],
      [
        'ArnEquals knows stars',
        { ArnEquals: { 'aws:PrincipalArn': `arn:aws:iam::${ACCOUNT}:role/*` } },
        'hosts operator admin otherIam noIam',
      ],
      [
        'StringEquals knows none',
        { StringEquals: { 'aws:PrincipalArn': `arn:aws:iam::${ACCOUNT}:role/*` } },
        '',
      ],
      [
        'a star crosses no colon of an ARN',
        { ArnLike: { 'aws:PrincipalArn': 'arn:aws:*:role/EnclaveHost' } },
        '',
      ],
      [
        'session form',
        { ArnLike: { 'aws:PrincipalArn': `arn:aws:sts::${ACCOUNT}:assumed-role/EnclaveHost/*` } },
        '',
      ],
      ['account root', { ArnEquals: { 'aws:PrincipalArn': ROOT_ARN } }, 'root'],
      ['account', { StringEquals: { 'aws:PrincipalAccount': ACCOUNT } }, 'account'],
      ['caller account', { StringEquals: { 'kms:CallerAccount': ACCOUNT } }, 'account'],
      ['not that account', { StringNotEquals: { 'aws:PrincipalAccount': ACCOUNT } }, 'strangers'],
      ['type User', { StringEquals: { 'aws:PrincipalType': 'User' } }, 'user'],
      ['a tag', { StringEquals: { 'aws:PrincipalTag/pcr0': EVIL } }, 'tagged'],
      [
        'no tag',
        { Null: { 'aws:PrincipalTag/pcr0': 'true' } },
        'host hostOther operator admin user otherIam noIam root strangers',
      ],
      ['organisation', { StringEquals: { 'aws:PrincipalOrgID': 'o-1' } }, ''],
      ['organisation, IfExists', { StringEqualsIfExists: { 'aws:PrincipalOrgID': 'o-1' } }, 'everyone'],
      ['by an AWS service', { Bool: { 'aws:PrincipalIsAWSService': 'true' } }, ''],
      ['via an AWS service', { Bool: { 'aws:ViaAWSService': 'true' } }, ''],
    ] as const
  ).map(
    ([title, Condition, expected]): Case => ({
      title: `everyone whose ${title}`,
      policy: policyOf({ Principal: '*', Condition }),
      expected: expected === '' ? {} : { Decrypt: expected },
    }),
  ),
  {
    title: 'principal: a full pin for everyone lets other accounts run the image',
    policy: policyOf({ Principal: '*', Condition: pin() }),
    expected: { Decrypt: 'everyone:reviewed' },
  },
  {
    title: 'NotPrincipal with Allow is the rest of the world',
    policy: policyOf({ NotPrincipal: { AWS: roleArn('Operator') } }),
    expected: { Decrypt: 'hosts admin user otherIam noIam root strangers' },
  },
  {
    title: 'NotPrincipal with Allow exempts a whole account',
    policy: policyOf({ NotPrincipal: { AWS: ROOT_ARN } }),
    expected: { Decrypt: 'strangers' },
  },
  {
    title: 'NotPrincipal with Deny that lists the role alone denies it as well',
    policy: policyOf({}, { Effect: 'Deny', NotPrincipal: { AWS: HOST.arn } }),
    expected: {},
  },
  {
    title: 'NotPrincipal with Deny exempts the listed session',
    policy: policyOf({}, { Effect: 'Deny', NotPrincipal: { AWS: [ROOT_ARN, HOST.arn, HOST.sessionArn] } }),
    expected: { Decrypt: 'host tagged' },
  },
  {
    title: 'NotPrincipal with Deny exempts the root user with its account',
    policy: policyOf(DELEGATE, { Effect: 'Deny', Action: 'kms:*', NotPrincipal: { AWS: ROOT_ARN } }),
    expected: { '*': 'root' },
  },
  // Resources.
  ...(
    [
      ['the key', { Resource: KEY_ARN }, 'hosts'],
      ['a pattern', { Resource: 'arn:aws:kms:*:*:key/*' }, 'hosts'],
      ['another key', { Resource: OTHER_KEY }, ''],
      ['another key and the key', { Resource: [OTHER_KEY, KEY_ARN] }, 'hosts'],
      ['an alias', { Resource: `arn:aws:kms:eu-central-1:${ACCOUNT}:alias/model` }, ''],
      ['an action name', { Resource: 'kms:Decrypt' }, ''],
      ['the key in upper case', { Resource: KEY_ARN.toUpperCase() }, ''],
      ['everything but another key', { NotResource: OTHER_KEY }, 'hosts'],
      ['everything but the key', { NotResource: KEY_ARN }, ''],
      ['nothing', { Resource: [] }, ''],
    ] as const
  ).map(
    ([title, more, expected]): Case => ({
      title: `resource: ${title}`,
      policy: policyOf(more),
      expected: expected === '' ? {} : { Decrypt: expected },
    }),
  ),
  {
    title: 'a statement without Resource, or without Action, has no effect',
    policy: {
      Version: '2012-10-17',
      Statement: [
        { Effect: 'Allow', Principal: '*', Action: 'kms:*' },
        { Effect: 'Allow', Principal: '*', Resource: '*' },
        { Effect: 'Deny', Principal: '*', Action: 'kms:*' },
        only(),
      ],
    },
    expected: { Decrypt: 'hosts' },
  },
  // Denies.
  ...(
    [
      ['unless the image', { StringNotEqualsIgnoreCase: { [KEY]: REVIEWED } }, 'reviewed'],
      ['unless the image, IfExists', { StringNotEqualsIfExists: { [KEY]: REVIEWED } }, 'reviewed'],
      [
        'unless the image, ForAnyValue: silent on no document',
        { 'ForAnyValue:StringNotEquals': { [KEY]: REVIEWED } },
        'absent reviewed',
      ],
      ['unless the image, ForAllValues', { 'ForAllValues:StringNotEquals': { [KEY]: REVIEWED } }, 'reviewed'],
      ['unless the image in upper case: bricks', { StringNotEquals: { [KEY]: REVIEWED.toUpperCase() } }, ''],
      [
        'unless a misspelt key: bricks',
        { StringNotEquals: { 'kms:RecipientAttestation:PRC0': REVIEWED } },
        '',
      ],
      ['without a document', { Null: { [KEY]: 'true' } }, 'enclaves'],
      ['with a document', { Null: { [KEY]: 'false' } }, 'absent'],
      ['always', {}, ''],
      ['the zero image', pin(ZERO), 'absent reviewed old evil evilKernel evil16'],
      [
        'the zero image, IfExists: also no document',
        { StringEqualsIfExists: { [KEY]: ZERO } },
        'reviewed old evil evilKernel evil16',
      ],
      [
        'unless one of several registers',
        {
          StringNotEquals: {
            [KEY]: REVIEWED,
            'kms:RecipientAttestation:PCR1': KERNEL,
            'kms:RecipientAttestation:PCR2': APP,
          },
        },
        'reviewed old evil evilKernel evil16',
      ],
      [
        'unless the image, over plain HTTP',
        { StringNotEquals: { [KEY]: REVIEWED }, Bool: { 'aws:SecureTransport': 'false' } },
        'any',
      ],
      [
        'unless the image, from a network endpoint',
        { StringNotEquals: { [KEY]: REVIEWED }, StringEquals: { 'aws:SourceVpce': 'vpce-1' } },
        'any',
      ],
      [
        'unless the image, not from a network endpoint',
        { StringNotEquals: { [KEY]: REVIEWED, 'aws:SourceVpce': 'vpce-1' } },
        'reviewed',
      ],
    ] as const
  ).map(
    ([title, condition, documents]): Case => ({
      title: `Deny ${title}`,
      policy: policyOf({}, denyAll(condition)),
      expected: documents === '' ? {} : { Decrypt: `hosts:${documents.replaceAll(' ', ',')}` },
    }),
  ),
  ...(
    [
      ['one role', { Principal: { AWS: HOST.arn } }, 'delegated hosts:reviewed'],
      [
        'one session',
        { Principal: { AWS: HOST.sessionArn } },
        'delegated hostOther host:reviewed tagged:reviewed',
      ],
      ['the account', { Principal: { AWS: ROOT_ARN } }, 'delegated:reviewed hosts:reviewed'],
      ['another account', { Principal: { AWS: STRANGER } }, 'delegated hosts'],
      ['services', { Principal: { Service: 's3.amazonaws.com' } }, 'delegated hosts'],
      ['other actions', { Action: ['kms:GenerateDataKey', 'kms:Encrypt'] }, 'delegated hosts'],
      ['all but Decrypt', { NotAction: 'kms:Decrypt' }, 'delegated hosts'],
      ['all but Encrypt', { NotAction: 'kms:Encrypt' }, 'delegated:reviewed hosts:reviewed'],
      ['another key', { Resource: OTHER_KEY }, 'delegated hosts'],
      ['all but another key', { NotResource: OTHER_KEY }, 'delegated:reviewed hosts:reviewed'],
      ['all but any key', { NotResource: '*' }, 'delegated hosts'],
    ] as const
  ).map(
    ([title, more, expected]): Case => ({
      title: `Deny unless the image, of ${title}`,
      policy: policyOf(
        {},
        { Principal: { AWS: ROOT_ARN } },
        denyAll({ StringNotEquals: { [KEY]: REVIEWED } }, more),
      ),
      expected: { Decrypt: expected },
    }),
  ),
  {
    title: 'Deny unless the caller is a session, by an ARN that never appears: the host is locked out',
    policy: policyOf({}, denyAll({ ArnNotEquals: { 'aws:PrincipalArn': HOST.sessionArn } })),
    expected: {},
  },
  {
    title: 'Deny unless the caller is the host, by its role',
    policy: policyOf(DELEGATE, {}, denyAll({ ArnNotLike: { 'aws:PrincipalArn': HOST.arn } })),
    expected: {
      ...Object.fromEntries(ACTIONS.slice(1).map((name) => [name, 'delegated'])),
      Decrypt: 'hosts',
    },
  },
  // IAM.
  {
    title: 'IAM: without an account statement it counts for nothing',
    policy: policyOf({ Condition: pin() }),
    iam: { operator: [iamAllow()], admin: [iamAllow()] },
    expected: { Decrypt: 'hosts:reviewed' },
  },
  {
    title: 'IAM: the condition of one role binds nobody else',
    policy: policyOf(DELEGATE),
    iam: { host: [iamAllow({ Action: 'kms:Decrypt', Condition: pin() })], operator: [iamAllow()] },
    expected: { Decrypt: 'host:reviewed operator delegated', ...restDelegated('operator delegated') },
  },
  {
    title: 'IAM: an explicit Deny beats the key policy that names the caller',
    policy: policyOf({ Action: 'kms:*' }),
    iam: {
      host: [iamAllow({ Effect: 'Deny', Action: 'kms:Decrypt', Condition: { Null: { [KEY]: 'true' } } })],
    },
    expected: {
      Decrypt: 'host:enclaves hostOther tagged',
      ...Object.fromEntries(ACTIONS.slice(1).map((name) => [name, 'hosts'])),
    },
  },
  {
    title: 'IAM: resources, NotAction and a list of policies',
    policy: policyOf(DELEGATE),
    iam: {
      operator: [iamAllow({ Resource: OTHER_KEY })],
      admin: [iamAllow({ Action: 's3:*' }), iamAllow({ Action: 'kms:Describe*', Resource: KEY_ARN })],
      user: [{ Version: '2012-10-17', Statement: { Effect: 'Allow', NotAction: 'iam:*', Resource: '*' } }],
    },
    expected: { '*': 'delegated user', DescribeKey: 'admin' },
  },
  {
    title: 'IAM: a caller of another account needs its own account besides',
    policy: policyOf({ Principal: '*' }),
    iam: { ext: [iamAllow({ Effect: 'Deny', Action: 'kms:Decrypt' })] },
    expected: { Decrypt: 'account extName' },
  },
  // Grants.
  ...(
    [
      ['opens the key', {}, [], 'operator'],
      [
        'is stopped by a Deny unless the image',
        {},
        [denyAll({ StringNotEquals: { [KEY]: REVIEWED } })],
        'operator:reviewed',
      ],
      ['is stopped by an unconditional Deny', {}, [denyAll({})], ''],
      [
        'is not stopped by a Deny of CreateGrant',
        {},
        [denyAll({}, { Action: 'kms:CreateGrant' })],
        'operator',
      ],
      [
        'is not stopped by a Deny of other callers',
        {},
        [denyAll({}, { Principal: { AWS: HOST.arn } })],
        'operator',
      ],
      ['for one session', { GranteePrincipal: CALLERS.host?.sessionArn }, [], 'host tagged'],
      ['for an account needs IAM', { GranteePrincipal: ROOT_ARN }, [], 'delegated'],
      [
        'for a role of another account needs IAM',
        { GranteePrincipal: roleArn('Attacker', STRANGER) },
        [],
        'ext',
      ],
      [
        'for a role of another account without IAM',
        { GranteePrincipal: roleArn('Nobody', STRANGER) },
        [],
        '',
      ],
      ['for a service', { GranteePrincipal: 'rds.amazonaws.com' }, [], ''],
      ['for a deleted role', { GranteePrincipal: 'AROAEXAMPLEID12345678' }, [], ''],
      ['of other operations', { Operations: ['Encrypt', 'RetireGrant'] }, [], ''],
      ['with an encryption context', { Constraints: { EncryptionContextSubset: { model: 'm1' } } }, [], ''],
      ['with empty constraints', { Constraints: {} }, [], 'operator'],
      ['with an empty subset', { Constraints: { EncryptionContextSubset: {} } }, [], 'operator'],
    ] as const
  ).map(
    ([title, more, statements, expected]): Case => ({
      title: `a live grant ${title}`,
      policy: policyOf(
        { Principal: { AWS: roleArn('KeyAdmin') }, Action: 'kms:PutKeyPolicy' },
        ...statements,
      ),
      grants: [
        {
          KeyId: KEY_ARN,
          GrantId: 'g1',
          Name: 'n',
          CreationDate: 1_700_000_000,
          GranteePrincipal: roleArn('Operator'),
          RetiringPrincipal: roleArn('KeyAdmin'),
          IssuingAccount: ROOT_ARN,
          Operations: ['Decrypt', 'RetireGrant'],
          ...more,
        },
      ],
      expected: {
        PutKeyPolicy: 'admin',
        ...(expected === '' ? {} : { Decrypt: expected }),
        ...(title === 'of other operations' ? { Encrypt: 'operator' } : {}),
      },
    }),
  ),
  // Requests that carry more.
  ...(
    [
      [
        'all of the operations',
        { 'ForAllValues:StringEquals': { 'kms:GrantOperations': ['Encrypt', 'Decrypt'] } },
        true,
      ],
      [
        'all of the operations, one missing',
        { 'ForAllValues:StringEquals': { 'kms:GrantOperations': ['Encrypt'] } },
        false,
      ],
      ['any of the operations', { 'ForAnyValue:StringEquals': { 'kms:GrantOperations': ['Encrypt'] } }, true],
      ['an AWS resource', { Bool: { 'kms:GrantIsForAWSResource': 'true' } }, false],
      ['no AWS resource', { Bool: { 'kms:GrantIsForAWSResource': 'false' } }, true],
      ['a constraint', { StringEquals: { 'kms:GrantConstraintType': 'EncryptionContextSubset' } }, false],
      ['a service', { StringLike: { 'kms:ViaService': '*.amazonaws.com' } }, false],
    ] as const
  ).map(
    ([title, Condition, isAllowed]): Case => ({
      title: `CreateGrant limited to ${title}`,
      policy: policyOf({ Action: 'kms:CreateGrant', Condition }),
      context: { 'kms:GrantOperations': ['Decrypt', 'Encrypt'], 'kms:GrantIsForAWSResource': ['false'] },
      expected: isAllowed ? { CreateGrant: 'hosts' } : {},
    }),
  ),
  ...(['true', 'false'] as const).map(
    (same): Case => ({
      title: `ReEncryptFrom limited to the same key, asked with ${same}`,
      policy: policyOf({
        Action: 'kms:ReEncrypt*',
        Condition: { Bool: { 'kms:ReEncryptOnSameKey': 'true' } },
      }),
      context: { 'kms:ReEncryptOnSameKey': [same] },
      expected: same === 'true' ? { ReEncryptFrom: 'hosts' } : {},
    }),
  ),
  {
    title: 'a service path beside the pin',
    policy: policyOf(
      { Condition: pin() },
      {
        Principal: '*',
        Condition: {
          StringEquals: { 'kms:ViaService': 's3.eu-central-1.amazonaws.com', 'kms:CallerAccount': ACCOUNT },
        },
      },
    ),
    context: { 'kms:ViaService': ['s3.eu-central-1.amazonaws.com'] },
    expected: { Decrypt: 'account' },
  },
  ...(
    [
      ['name in another case', { StringEquals: { 'kms:encryptioncontext:MODEL': 'm1' } }, true],
      ['value in another case', { StringEquals: { 'kms:EncryptionContext:Model': 'M1' } }, false],
      ['another value', { StringEquals: { 'kms:EncryptionContext:Model': 'm2' } }, false],
      ['not that value', { StringNotEquals: { 'kms:EncryptionContext:Model': 'm1' } }, false],
      ['any value', { StringLike: { 'kms:EncryptionContext:Model': '*' } }, true],
      ['no such name', { Null: { 'kms:EncryptionContext:Model': 'true' } }, false],
      [
        'only these names',
        { 'ForAllValues:StringEquals': { 'kms:EncryptionContextKeys': ['Model'] } },
        false,
      ],
      [
        'only these names, all of them',
        { 'ForAllValues:StringEquals': { 'kms:EncryptionContextKeys': ['Model', 'Stage'] } },
        true,
      ],
      [
        'this name among others',
        { 'ForAnyValue:StringEquals': { 'kms:EncryptionContextKeys': 'Stage' } },
        true,
      ],
      [
        'this name, in another case',
        { 'ForAnyValue:StringEquals': { 'kms:EncryptionContextKeys': 'stage' } },
        false,
      ],
    ] as const
  ).map(
    ([title, Condition, isAllowed]): Case => ({
      title: `encryption context: ${title}`,
      policy: when(Condition),
      encryptionContext: { Model: 'm1', Stage: 'live' },
      expected: isAllowed ? { Decrypt: 'hosts' } : {},
    }),
  ),
];

describe('key policies written to mislead', () => {
  it.each(cases)('$title', (one) => {
    const keyPolicyRead = parsePolicy(bytesOf(one.policy), 'key');
    const grants = (one.grants ?? []).map(parseGrant);
    const found: string[] = [];
    for (const [name, principal] of Object.entries(CALLERS)) {
      const iam = [...(WITH_IAM.includes(name) ? [iamAllow()] : []), ...(one.iam?.[name] ?? [])];
      const identityPolicies = iam.map((policy) => parsePolicy(bytesOf(policy), 'identity'));
      for (const attestation of ATTESTATIONS) {
        const context = new Map([
          ['aws:SecureTransport', ['true']],
          ...Object.entries(one.context ?? {}),
          ...attested(attestation),
        ]);
        const encryptionContext = new Map(Object.entries(one.encryptionContext ?? {}));
        for (const action of ACTIONS) {
          const request = { principal, action: `kms:${action}`, keyArn: KEY_ARN, context, encryptionContext };
          const { allowed } = decide(request, { keyPolicy: keyPolicyRead, identityPolicies, grants });
          if (allowed) found.push(`${action} ${name} ${attestation}`);
        }
      }
    }
    expect(found.sort()).toEqual(allAllowed(one.expected));
  });
});

function attested(name: string): Map<string, readonly string[]> {
  if (name === 'none') return new Map();
  const bytes = (hex: string) => Buffer.from(hex, 'hex');
  if (name === 'tpm') return nitroTpmAttestationContext(new Map([[4, bytes(TPM)]]));
  const registers = new Map(Array.from({ length: 16 }, (_, index) => [index, bytes(ZERO)]));
  (DOCUMENTS[name] ?? []).forEach((value, place) => {
    registers.set([0, 1, 2, 3, 4, 8, 16][place] ?? 0, bytes(value));
  });
  return attestationContext(registers);
}

function allAllowed(expected: Expected): string[] {
  const all = new Set<string>();
  for (const [action, entries] of Object.entries(expected)) {
    for (const name of action === '*' ? ACTIONS : [action]) {
      for (const entry of entries.split(' ')) {
        const [who = '', documents = 'any'] = entry.split(':');
        for (const caller of GROUPS[who] ?? [who]) {
          for (const document of documents.split(',')) {
            for (const one of ATTESTATION_GROUPS[document] ?? [document]) all.add(`${name} ${caller} ${one}`);
          }
        }
      }
    }
  }
  return [...all].sort();
}

function only(): Statement {
  return { Effect: 'Allow', Principal: { AWS: HOST.arn }, Action: 'kms:Decrypt', Resource: '*' };
}

function restDelegated(who: string): Expected {
  return Object.fromEntries(ACTIONS.slice(1).map((name) => [name, who]));
}
