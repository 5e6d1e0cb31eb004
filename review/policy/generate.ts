/**
 * The one key policy of Strongroom (docs/policy.md section 6 gives the reason for every statement).
 *
 * Image (PCR0), deployment (PCR16), host role (PCR3) and model (encryption context) are pinned together, one
 * statement per release and deployment: lists per register would also accept the image of one release with the
 * deployment of another. A Deny per register backs each pin against later Allows, IAM and grants; one Deny for several
 * registers would only fire when all of them differ.
 */
import { isZeroPcr, PCR_BYTES, pcrOfText } from '../../shared/pcr.ts';
import { accountOfIdentityArn, isRoleArn } from '../../shared/policy/arn.ts';
import { parsePolicy } from '../../shared/policy/parse.ts';
import { checkKeyPolicyWrite } from '../../shared/policy/write-rules.ts';
import { KeyPolicyError } from './errors.ts';

export interface KeyPolicyInput {
  /** The key's account, 12 digits. Every principal must be in it. */
  readonly accountId: string;
  readonly releases: readonly PolicyRelease[];
  /** The role of the parent instance, whole ARN: principal and, hashed, PCR3. */
  readonly hostRoleArn: string;
  /** May change the policy, and so must be trusted. Roles or users. */
  readonly administratorArns: readonly string[];
  /** May wrap data keys for the models, never unwrap. Roles or users. */
  readonly sealerArns: readonly string[];
}

/** Registers as 96 hex digits. Repeat a release with another model name if its deployment holds several models. */
export interface PolicyRelease {
  readonly pcr0: string;
  readonly pcr16: string;
  readonly modelName: string;
}

/** The encryption context's fixed member: `strongroom-purpose` (docs/sealed-model.md). */
const PURPOSE = 'model-data-key';

const ADMINISTRATION = [
  'kms:CancelKeyDeletion',
  'kms:DescribeKey',
  'kms:DisableKey',
  'kms:DisableKeyRotation',
  'kms:EnableKey',
  'kms:EnableKeyRotation',
  'kms:GetKeyPolicy',
  'kms:GetKeyRotationStatus',
  'kms:ListGrants',
  'kms:ListKeyPolicies',
  'kms:ListKeyRotations',
  'kms:ListResourceTags',
  'kms:PutKeyPolicy',
  'kms:RevokeGrant',
  'kms:RotateKeyOnDemand',
  'kms:ScheduleKeyDeletion',
  'kms:TagResource',
  'kms:UntagResource',
  'kms:UpdateKeyDescription',
];

/** Every action on a key that can carry an attestation document. */
const ATTESTABLE = [
  'kms:Decrypt',
  'kms:DeriveSharedSecret',
  'kms:GenerateDataKey',
  'kms:GenerateDataKeyPair',
];

/** What reaches plaintext, or a key somebody else knows, without Decrypt. */
const ESCAPES = [
  'kms:CreateGrant',
  'kms:DeriveSharedSecret',
  'kms:GenerateDataKey*',
  'kms:ImportKeyMaterial',
  'kms:ReplicateKey',
  'kms:UpdatePrimaryRegion',
];

/**
 * The policy as JSON text: the same bytes for the same input, in whatever order it is given. Throws
 * KEY_POLICY_INPUT for anything that would pin nothing, name nobody, or name more than one principal at once.
 */
export function generateKeyPolicy(input: KeyPolicyInput): string {
  const text = `${JSON.stringify({ Version: '2012-10-17', Statement: statementsFor(checked(input)) }, null, 2)}\n`;
  const bytes = Buffer.from(text);
  checkKeyPolicyWrite(bytes, parsePolicy(bytes, 'key'));
  return text;
}

function statementsFor(input: KeyPolicyInput): object[] {
  const { releases, hostRoleArn, administratorArns, sealerArns } = input;
  const pcr3 = Buffer.from(pcrOfText(hostRoleArn)).toString('hex');
  const groups = groupReleases(releases);
  const context = (models: readonly string[]) => ({
    'kms:EncryptionContext:strongroom-model': one(models),
    'kms:EncryptionContext:strongroom-purpose': PURPOSE,
  });
  const allModels = sortedSet(releases.map(({ modelName }) => modelName));
  const sealers = { AWS: one(sortedSet(sealerArns)) };
  return [
    ...groups.map(({ pcr0, pcr16, models }) => ({
      Sid: `DecryptImage${pcr0.slice(0, 16)}Deployment${pcr16.slice(0, 16)}`,
      Effect: 'Allow',
      Principal: { AWS: hostRoleArn },
      Action: 'kms:Decrypt',
      Resource: '*',
      Condition: {
        StringEqualsIgnoreCase: {
          'kms:RecipientAttestation:PCR0': pcr0,
          'kms:RecipientAttestation:PCR16': pcr16,
          'kms:RecipientAttestation:PCR3': pcr3,
        },
        StringEquals: context(models),
      },
    })),
    {
      Sid: 'SealersEncrypt',
      Effect: 'Allow',
      Principal: sealers,
      Action: 'kms:Encrypt',
      Resource: '*',
      Condition: { StringEquals: context(allModels) },
    },
    { Sid: 'SealersDescribe', Effect: 'Allow', Principal: sealers, Action: 'kms:DescribeKey', Resource: '*' },
    {
      Sid: 'SealersReEncryptOnSameKey',
      Effect: 'Allow',
      Principal: sealers,
      Action: ['kms:ReEncryptFrom', 'kms:ReEncryptTo'],
      Resource: '*',
      Condition: { Bool: { 'kms:ReEncryptOnSameKey': 'true' }, StringEquals: context(allModels) },
    },
    {
      Sid: 'AdministratorsManage',
      Effect: 'Allow',
      Principal: { AWS: one(sortedSet(administratorArns)) },
      Action: ADMINISTRATION,
      Resource: '*',
    },
    denyUnless(
      'DenyOtherImages',
      'PCR0',
      groups.map(({ pcr0 }) => pcr0),
    ),
    denyUnless(
      'DenyOtherDeployments',
      'PCR16',
      groups.map(({ pcr16 }) => pcr16),
    ),
    denyUnless('DenyOtherHostRoles', 'PCR3', [pcr3]),
    { Sid: 'DenyEscapes', Effect: 'Deny', Principal: '*', Action: ESCAPES, Resource: '*' },
    {
      Sid: 'DenyReEncryptToOtherKeys',
      Effect: 'Deny',
      Principal: '*',
      Action: ['kms:ReEncryptFrom', 'kms:ReEncryptTo'],
      Resource: '*',
      // IfExists, so that the Deny also fires should KMS ever leave the key out.
      Condition: { BoolIfExists: { 'kms:ReEncryptOnSameKey': 'false' } },
    },
  ];
}

/** A negated operator fires on a missing key, so no document at all is denied as well. */
function denyUnless(sid: string, register: string, values: readonly string[]): object {
  return {
    Sid: sid,
    Effect: 'Deny',
    Principal: '*',
    Action: ATTESTABLE,
    Resource: '*',
    Condition: {
      StringNotEqualsIgnoreCase: { [`kms:RecipientAttestation:${register}`]: one(sortedSet(values)) },
    },
  };
}

interface ReleaseGroup {
  readonly pcr0: string;
  readonly pcr16: string;
  readonly models: readonly string[];
}

function groupReleases(releases: readonly PolicyRelease[]): ReleaseGroup[] {
  const pairs = sortedSet(releases.map(({ pcr0, pcr16 }) => `${pcr0} ${pcr16}`));
  return pairs.map((pair) => {
    const [pcr0 = '', pcr16 = ''] = pair.split(' ');
    const own = releases.filter((release) => release.pcr0 === pcr0 && release.pcr16 === pcr16);
    return { pcr0, pcr16, models: sortedSet(own.map(({ modelName }) => modelName)) };
  });
}

function checked(input: KeyPolicyInput): KeyPolicyInput {
  const { accountId, hostRoleArn, administratorArns, sealerArns, releases } = input;
  if (!/^\d{12}$/.test(accountId)) throw refuse('accountId', '12 digits', accountId);
  if (!isRoleArn(hostRoleArn)) throw refuse('hostRoleArn', 'the ARN of an IAM role', hostRoleArn);
  for (const [name, arns] of Object.entries({ hostRoleArn: [hostRoleArn], administratorArns, sealerArns })) {
    if (arns.length === 0) throw refuse(name, 'at least one ARN', 'an empty list');
    for (const arn of arns) checkPrincipal(name, arn, accountId);
  }
  if (administratorArns.includes(hostRoleArn)) {
    throw refuse('administratorArns', 'no host role, or the host could rewrite the policy', hostRoleArn);
  }
  if (releases.length === 0) throw refuse('releases', 'at least one release', 'an empty list');
  return { ...input, releases: releases.map(checkRelease) };
}

function checkPrincipal(name: string, arn: string, accountId: string): void {
  // A session's name is chosen by whoever assumes the role, so it restricts nobody.
  if (!/^arn:[^:]+:iam:/.test(arn) || accountOfIdentityArn(arn) !== accountId) {
    throw refuse(name, `the whole ARN of a role or user in account ${accountId}, without wildcards`, arn);
  }
}

/** Model names as deployment documents allow them: no character that a policy or a path would read otherwise. */
const MODEL_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

function checkRelease({ pcr0, pcr16, modelName }: PolicyRelease): PolicyRelease {
  if (!MODEL_NAME.test(modelName))
    throw refuse('modelName', '1 to 64 letters, digits, ".", "_", "-"', modelName);
  return { pcr0: checkRegister('pcr0', pcr0), pcr16: checkRegister('pcr16', pcr16), modelName };
}

function checkRegister(name: string, value: string): string {
  if (!/^[0-9a-fA-F]{96}$/.test(value)) throw refuse(name, `${PCR_BYTES} bytes as 96 hex digits`, value);
  if (isZeroPcr(Buffer.from(value, 'hex'))) {
    throw refuse(name, 'a measured value, not zero: zero is a debug enclave or an unused register', value);
  }
  return value.toLowerCase();
}

function refuse(name: string, expected: string, found: string): KeyPolicyError {
  return new KeyPolicyError(
    'KEY_POLICY_INPUT',
    `${name}: expected ${expected}, found ${JSON.stringify(found)}`,
  );
}

function sortedSet(values: readonly string[]): string[] {
  return [...new Set(values)].sort();
}

/** A list of one is written as the one, as people do and as KMS gives it back. */
function one(values: readonly string[]): string | readonly string[] {
  return values.length === 1 ? (values[0] ?? '') : values;
}
