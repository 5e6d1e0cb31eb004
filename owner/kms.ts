/** The two calls that an owner makes to AWS KMS. A generated key policy allows a sealer these and no other. */
import { DescribeKeyCommand, EncryptCommand, type KMSClient } from '@aws-sdk/client-kms';
import { isKmsKeyArn, type KeyWrap } from '../shared/sealed-model/key-file.ts';
import { OwnerError } from './errors.ts';

export interface KmsKey {
  readonly client: Pick<KMSClient, 'send'>;
  readonly keyArn: string;
}

/** Asked before anything is sealed: hours of sealing should not end at a key that cannot wrap. */
export async function checkKmsKey({ client, keyArn }: KmsKey): Promise<void> {
  if (!isKmsKeyArn(keyArn)) {
    throw new OwnerError('OWNER_KEY_UNUSABLE', `${JSON.stringify(keyArn)} is not the ARN of a KMS key.`);
  }
  const { KeyMetadata: key } = await client
    .send(new DescribeKeyCommand({ KeyId: keyArn }))
    .catch((cause: unknown) => refuse(keyArn, 'DescribeKey', cause));
  const usable =
    key?.KeyState === 'Enabled' && key.KeyUsage === 'ENCRYPT_DECRYPT' && key.KeySpec === 'SYMMETRIC_DEFAULT';
  if (usable && key.Arn === keyArn) return;
  throw new OwnerError(
    'OWNER_KEY_UNUSABLE',
    `${keyArn} must be an enabled symmetric key for encryption; it is ${key?.KeyState}, ${key?.KeySpec}, ${key?.KeyUsage}.`,
  );
}

/** The data key under a KMS key and the model's encryption context. */
export async function wrapWithKms(
  { client, keyArn }: KmsKey,
  dataKey: Uint8Array,
  encryptionContext: Record<string, string>,
): Promise<KeyWrap> {
  const answer = await client
    .send(new EncryptCommand({ KeyId: keyArn, Plaintext: dataKey, EncryptionContext: encryptionContext }))
    .catch((cause: unknown) => refuse(keyArn, 'Encrypt', cause));
  if (answer.CiphertextBlob === undefined || answer.KeyId !== keyArn) {
    throw new OwnerError('OWNER_KMS_REFUSED', `KMS answered Encrypt with ${answer.KeyId}, not ${keyArn}.`);
  }
  return { kind: 'aws-kms', keyArn, ciphertextBlob: answer.CiphertextBlob };
}

function refuse(keyArn: string, operation: string, cause: unknown): never {
  const why = cause instanceof Error ? `${cause.name}: ${cause.message}` : String(cause);
  throw new OwnerError('OWNER_KMS_REFUSED', `KMS refused ${operation} with ${keyArn}: ${why}`, cause);
}
