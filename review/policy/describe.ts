/**
 * One sentence for a person: what a generated key policy allows. The sentence is only given for a policy that is,
 * member by member, what the generator writes for the values read out of it; any other policy needs a review.
 */
import { isDeepStrictEqual } from 'node:util';
import { nameInArn } from '../../shared/policy/arn.ts';
import { PolicyError } from '../../shared/policy/errors.ts';
import type { Policy, Statement } from '../../shared/policy/model.ts';
import { parsePolicy } from '../../shared/policy/parse.ts';
import { KeyPolicyError } from './errors.ts';
import { generateKeyPolicy, type KeyPolicyInput } from './generate.ts';

/**
 * "Only image d99dda1d… running deployment af44a0e7… on role EnclaveHost may decrypt the data keys of model iris;
 * KeyAdmin may change this policy; Owner may seal." Throws KEY_POLICY_SHAPE for any other policy.
 */
export function describePolicy(policyText: string): string {
  const { releases, hostRoleArn, administratorArns, sealerArns } = readGeneratedPolicy(policyText);
  const pairs = new Map<string, string[]>();
  for (const { pcr0, pcr16, modelName } of releases) {
    const pair = `image ${pcr0.slice(0, 8)}… running deployment ${pcr16.slice(0, 8)}…`;
    pairs.set(pair, [...(pairs.get(pair) ?? []), modelName]);
  }
  const models = [...new Set(releases.map(({ modelName }) => modelName))];
  const sameModels = [...pairs.values()].every((own) => own.length === models.length);
  const images = [...pairs].map(([pair, own]) => (sameModels ? pair : `${pair} (for ${and(own)})`));
  const names = (arns: readonly string[]) => and(arns.map(nameInArn));
  return (
    `Only ${images.join(' or ')} on role ${nameInArn(hostRoleArn)} may decrypt the data keys of ` +
    `model${models.length > 1 ? 's' : ''} ${and(models)}; ` +
    `${names(administratorArns)} may change this policy; ${names(sealerArns)} may seal.`
  );
}

/** The generator's input, read back out of a policy. Throws KEY_POLICY_SHAPE unless it generates that very policy. */
export function readGeneratedPolicy(policyText: string): KeyPolicyInput {
  const input = extract(readPolicy(policyText));
  let generated: string;
  try {
    generated = generateKeyPolicy(input);
  } catch (cause) {
    throw shape('its values are not ones that a policy is generated from', cause);
  }
  // KMS gives a policy back with other white space, so values are compared, not bytes.
  if (!isDeepStrictEqual(JSON.parse(policyText), JSON.parse(generated))) {
    throw shape('a statement differs from what is generated for the same releases and principals');
  }
  return input;
}

function readPolicy(text: string): Policy {
  try {
    return parsePolicy(Buffer.from(text), 'key');
  } catch (cause) {
    if (cause instanceof PolicyError) throw shape(cause.message, cause);
    throw cause;
  }
}

function extract({ statements }: Policy): KeyPolicyInput {
  const named = (sid: string) => statements.find((statement) => statement.sid === sid);
  const decrypts = statements.filter((statement) => statement.sid?.startsWith('DecryptImage'));
  const hostRoleArn = principals(decrypts[0])[0] ?? '';
  return {
    accountId: hostRoleArn.split(':')[4] ?? '',
    hostRoleArn,
    administratorArns: principals(named('AdministratorsManage')),
    sealerArns: principals(named('SealersEncrypt')),
    releases: decrypts.flatMap((statement) => {
      const value = (key: string) => statement.conditions.find((one) => one.key === key)?.values ?? [];
      const pcr0 = value('kms:RecipientAttestation:PCR0')[0] ?? '';
      const pcr16 = value('kms:RecipientAttestation:PCR16')[0] ?? '';
      return value('kms:EncryptionContext:strongroom-model').map((modelName) => ({ pcr0, pcr16, modelName }));
    }),
  };
}

function principals(statement: Statement | undefined): string[] {
  return (statement?.principals?.entries ?? []).map(({ text }) => text);
}

function shape(found: string, cause?: unknown): KeyPolicyError {
  return new KeyPolicyError('KEY_POLICY_SHAPE', `expected a generated key policy, found: ${found}`, cause);
}

function and(list: readonly string[]): string {
  return list.length < 2 ? list.join('') : `${list.slice(0, -1).join(', ')} and ${list.at(-1)}`;
}
