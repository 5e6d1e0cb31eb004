/** CreateKey, DescribeKey, GetKeyPolicy, PutKeyPolicy (AWS KMS API reference, the pages of these names). */
import { codeOf } from '../../../shared/errors.ts';
import type { Policy } from '../../../shared/policy/model.ts';
import { parsePolicy } from '../../../shared/policy/parse.ts';
import { checkKeyPolicyWrite } from '../../../shared/policy/write-rules.ts';
import { authorize, decideCall } from '../authorize.ts';
import { type Answer, type Call, cryptographicKey, keyOnly, wireTime } from '../call.ts';
import { KmsException } from '../exception.ts';
import { currentMaterial, type SimulatedKey } from '../keys.ts';
import { requireKnownGrantTokens } from './common.ts';

/** KMS API reference: the member may be this long; the document is held to its own, smaller limit. */
const POLICY_MEMBER_MAX_CHARACTERS = 131_072;

export function createKey(call: Call): Answer {
  const { input, note, caller, world } = call;
  const given = input.string('Policy', { max: POLICY_MEMBER_MAX_CHARACTERS });
  const description = input.string('Description', { min: 0, max: 8192 }) ?? '';
  const bypass = input.flag('BypassPolicyLockoutSafetyCheck');
  const multiRegion = input.flag('MultiRegion');
  refuseOtherKinds(call);
  input.end();
  note.requestParameters = {
    ...(given === undefined ? {} : { policy: given }),
    description,
    keyUsage: 'ENCRYPT_DECRYPT',
    keySpec: 'SYMMETRIC_DEFAULT',
    origin: 'AWS_KMS',
    bypassPolicyLockoutSafetyCheck: bypass,
    multiRegion,
  };
  authorize(call, {
    context: {
      'kms:KeySpec': ['SYMMETRIC_DEFAULT'],
      'kms:KeyUsage': ['ENCRYPT_DECRYPT'],
      'kms:KeyOrigin': ['AWS_KMS'],
      'kms:MultiRegion': [String(multiRegion)],
      ...bypassContext(bypass),
    },
  });
  const { accountId } = caller.identity;
  const name = world.keys.newName(accountId, multiRegion);
  const policyText = given ?? defaultPolicy(accountId);
  const policy = readKeyPolicy(call, policyText);
  if (!bypass) requireNoLockout(call, policy, { keyArn: name.arn });
  const key = world.keys.create({
    ...name,
    accountId,
    description,
    multiRegion,
    createdAt: call.at,
    policyText,
    policy,
  });
  note.key = key;
  note.responseElements = { keyMetadata: { keyId: key.id, arn: key.arn } };
  return { KeyMetadata: metadataOf(key) };
}

export function describeKey(call: Call): Answer {
  const { key, aliasContext: context } = cryptographicKey(call);
  requireKnownGrantTokens(call);
  call.input.end();
  call.note.requestParameters = { keyId: key.arn };
  authorize(call, { key, context });
  return { KeyMetadata: metadataOf(key) };
}

export function getKeyPolicy(call: Call): Answer {
  const key = keyOnly(call, 'KeyId');
  requireDefaultName(call);
  call.input.end();
  call.note.requestParameters = { keyId: key.arn, policyName: 'default' };
  authorize(call, { key });
  return { Policy: key.policyText, PolicyName: 'default' };
}

export function putKeyPolicy(call: Call): Answer {
  const { input, note } = call;
  const key = keyOnly(call, 'KeyId');
  requireDefaultName(call);
  const policyText = input.requiredString('Policy', { max: POLICY_MEMBER_MAX_CHARACTERS });
  const bypass = input.flag('BypassPolicyLockoutSafetyCheck');
  input.end();
  note.requestParameters = {
    keyId: key.arn,
    policyName: 'default',
    policy: policyText,
    bypassPolicyLockoutSafetyCheck: bypass,
  };
  authorize(call, { key, context: bypassContext(bypass) });
  const policy = readKeyPolicy(call, policyText);
  if (!bypass) requireNoLockout(call, policy, { key });
  key.policyText = policyText;
  key.policy = policy;
  return {};
}

/** The policy that a key gets when none is given: IAM of the account decides. */
function defaultPolicy(accountId: string): string {
  const statement = {
    Sid: 'Enable IAM User Permissions',
    Effect: 'Allow',
    Principal: { AWS: `arn:aws:iam::${accountId}:root` },
    Action: 'kms:*',
    Resource: '*',
  };
  return JSON.stringify({ Version: '2012-10-17', Id: 'key-default-1', Statement: [statement] }, undefined, 2);
}

/** What the strict parser refuses, KMS refuses to store. Warnings go to the record. */
function readKeyPolicy({ note }: Call, text: string): Policy {
  const bytes = Buffer.from(text, 'utf8');
  try {
    const policy = parsePolicy(bytes, 'key');
    note.explanation = [...note.explanation, ...checkKeyPolicyWrite(bytes, policy)];
    return policy;
  } catch (error) {
    const message =
      codeOf(error) === 'POLICY_PRINCIPAL'
        ? 'Policy contains a statement with one or more invalid principals.'
        : null;
    throw malformedPolicy(message, error instanceof Error ? error.message : String(error));
  }
}

/** The caller must be able to put a policy again (KMS API reference, BypassPolicyLockoutSafetyCheck). */
function requireNoLockout(
  call: Call,
  keyPolicy: Policy,
  target: { readonly key: SimulatedKey } | { readonly keyArn: string },
): void {
  const question = { context: bypassContext(false), ...('key' in target ? { key: target.key } : {}) };
  const keyArn = 'key' in target ? target.key.arn : target.keyArn;
  const later = decideCall(call, question, { operation: 'PutKeyPolicy', keyPolicy, keyArn });
  if (later.allowed) return;
  throw malformedPolicy(
    'The new key policy will not allow you to update the key policy in the future.',
    ...later.explanation,
  );
}

function malformedPolicy(message: string | null, ...explanation: string[]): KmsException {
  return new KmsException('MalformedPolicyDocumentException', message ?? '', { explanation });
}

function requireDefaultName({ input }: Call): void {
  const name = input.string('PolicyName', { max: 128 });
  if (name !== undefined && name !== 'default') {
    throw new KmsException('NotFoundException', 'No such policy exists');
  }
}

/** Only symmetric encryption keys made by KMS are simulated. */
function refuseOtherKinds({ input }: Call): void {
  const kinds = {
    KeySpec: 'SYMMETRIC_DEFAULT',
    CustomerMasterKeySpec: 'SYMMETRIC_DEFAULT',
    KeyUsage: 'ENCRYPT_DECRYPT',
    Origin: 'AWS_KMS',
  };
  for (const [member, only] of Object.entries(kinds)) {
    const found = input.string(member, { max: 64 });
    if (found === undefined || found === only) continue;
    throw new KmsException('UnsupportedOperationException', `${member} ${found} is not supported.`, {
      explanation: [`The simulated KMS makes keys with ${member} ${only} only.`],
    });
  }
}

function bypassContext(bypass: boolean) {
  return { 'kms:BypassPolicyLockoutSafetyCheck': [String(bypass)] };
}

function metadataOf(key: SimulatedKey): Answer {
  return {
    AWSAccountId: key.accountId,
    KeyId: key.id,
    Arn: key.arn,
    CreationDate: wireTime(key.createdAt),
    Enabled: true,
    Description: key.description,
    KeyUsage: 'ENCRYPT_DECRYPT',
    KeyState: 'Enabled',
    Origin: 'AWS_KMS',
    KeyManager: 'CUSTOMER',
    CustomerMasterKeySpec: 'SYMMETRIC_DEFAULT',
    KeySpec: 'SYMMETRIC_DEFAULT',
    EncryptionAlgorithms: ['SYMMETRIC_DEFAULT'],
    MultiRegion: key.multiRegion,
    ...(key.multiRegion
      ? {
          MultiRegionConfiguration: {
            MultiRegionKeyType: 'PRIMARY',
            PrimaryKey: { Arn: key.arn, Region: key.arn.split(':')[3] },
            ReplicaKeys: [],
          },
        }
      : {}),
    CurrentKeyMaterialId: currentMaterial(key).id,
  };
}
