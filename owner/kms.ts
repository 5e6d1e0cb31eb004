/**
 * The calls that an owner makes to AWS KMS. A generated key policy allows a sealer DescribeKey, Encrypt, and ReEncrypt
 * on the same key, and no other; Decrypt is for keys of legacy models, whose policies are older than that. The SDK is
 * loaded by the first call: whoever keeps the data key needs none, and loading it takes longer than a small seal.
 */
import type { KMSClient } from '@aws-sdk/client-kms';
import { KEY_BYTES } from '../shared/sealed-model/format.ts';
import { isKmsKeyArn, type KeyWrap } from '../shared/sealed-model/key-file.ts';
import { OwnerError } from './errors.ts';
import { expectNotAborted } from './spool.ts';

export interface KmsKey {
  readonly client: Pick<KMSClient, 'send'>;
  readonly keyArn: string;
}

/** As many as a key file holds (docs/sealed-model.md section 8.2). */
const WRAPS_MAX = 16;

/** Throws OWNER_KEY_UNUSABLE unless a key file can hold a wrap under each of these keys. */
export function expectWrappable(keyArns: readonly string[]): void {
  const foreign = keyArns.find((keyArn) => !isKmsKeyArn(keyArn));
  if (foreign !== undefined) {
    throw unusable(
      `expected the ARN of a KMS key (arn:aws:kms:REGION:ACCOUNT:key/ID), found ${JSON.stringify(foreign)}`,
    );
  }
  const twice = keyArns.find((keyArn, index) => keyArns.indexOf(keyArn) !== index);
  if (twice !== undefined) throw unusable(`expected different KMS keys, found ${twice} twice`);
  if (keyArns.length > WRAPS_MAX) {
    throw unusable(`expected at most ${WRAPS_MAX} KMS keys, found ${keyArns.length}`);
  }
}

/**
 * Asked before anything is sealed: hours of sealing should not end at a key that cannot wrap. Resolves to the id of the
 * key material that wraps at present, where KMS tells it.
 */
export async function checkKmsKey(
  { client, keyArn }: KmsKey,
  signal?: AbortSignal,
): Promise<string | undefined> {
  expectWrappable([keyArn]);
  const { DescribeKeyCommand } = await sdk();
  const { KeyMetadata: key } = await client
    .send(new DescribeKeyCommand({ KeyId: keyArn }), abortedBy(signal))
    .catch((cause: unknown) => failed(keyArn, 'DescribeKey', cause, signal));
  const usable =
    key?.KeyState === 'Enabled' && key.KeyUsage === 'ENCRYPT_DECRYPT' && key.KeySpec === 'SYMMETRIC_DEFAULT';
  if (usable && key.Arn === keyArn) return key.CurrentKeyMaterialId;
  throw unusable(
    `${keyArn} must be an enabled symmetric key for encryption; it is ${key?.KeyState}, ${key?.KeySpec}, ${key?.KeyUsage}`,
  );
}

/** The data key under a KMS key and the model's encryption context. */
export async function wrapWithKms(
  { client, keyArn }: KmsKey,
  dataKey: Uint8Array,
  encryptionContext: Record<string, string>,
  signal?: AbortSignal,
): Promise<KeyWrap> {
  const { EncryptCommand } = await sdk();
  const answer = await client
    .send(
      new EncryptCommand({ KeyId: keyArn, Plaintext: dataKey, EncryptionContext: encryptionContext }),
      abortedBy(signal),
    )
    .catch((cause: unknown) => failed(keyArn, 'Encrypt', cause, signal));
  if (answer.CiphertextBlob === undefined || answer.KeyId !== keyArn) {
    throw new OwnerError('OWNER_KMS_REFUSED', `KMS answered Encrypt with ${answer.KeyId}, not ${keyArn}.`);
  }
  return { kind: 'aws-kms', keyArn, ciphertextBlob: answer.CiphertextBlob };
}

export interface ReEncrypted {
  readonly ciphertextBlob: Uint8Array;
  /** Ids of the key's materials; absent where KMS does not tell them. */
  readonly fromMaterial: string | undefined;
  readonly toMaterial: string | undefined;
}

/**
 * The same data key under the newest material of the same KMS key, without anybody seeing it. KMS refuses a blob that
 * was not wrapped for this encryption context; whether it holds the right data key only the head's commitment tells.
 */
export async function reEncryptOnSameKey(
  { client, keyArn }: KmsKey,
  ciphertextBlob: Uint8Array,
  encryptionContext: Record<string, string>,
  signal?: AbortSignal,
): Promise<ReEncrypted> {
  expectWrappable([keyArn]);
  const { ReEncryptCommand } = await sdk();
  const answer = await client
    .send(
      new ReEncryptCommand({
        CiphertextBlob: ciphertextBlob,
        SourceKeyId: keyArn,
        SourceEncryptionContext: encryptionContext,
        DestinationKeyId: keyArn,
        DestinationEncryptionContext: encryptionContext,
      }),
      abortedBy(signal),
    )
    .catch((cause: unknown) => failed(keyArn, 'ReEncrypt', cause, signal));
  if (answer.CiphertextBlob === undefined || answer.KeyId !== keyArn || answer.SourceKeyId !== keyArn) {
    throw new OwnerError(
      'OWNER_KMS_REFUSED',
      `KMS answered ReEncrypt with ${answer.SourceKeyId} to ${answer.KeyId}, not with ${keyArn}.`,
    );
  }
  return {
    ciphertextBlob: answer.CiphertextBlob,
    fromMaterial: answer.SourceKeyMaterialId,
    toMaterial: answer.DestinationKeyMaterialId,
  };
}

/** What `wrapWithKms` wrapped, in an ArrayBuffer of its own that the caller wipes. Only this key may have done it. */
export async function unwrapWithKms(
  { client, keyArn }: KmsKey,
  ciphertextBlob: Uint8Array,
  encryptionContext: Record<string, string>,
  signal?: AbortSignal,
): Promise<Uint8Array> {
  expectWrappable([keyArn]);
  const { DecryptCommand } = await sdk();
  const { Plaintext, KeyId } = await client
    .send(
      new DecryptCommand({
        KeyId: keyArn,
        CiphertextBlob: ciphertextBlob,
        EncryptionContext: encryptionContext,
      }),
      abortedBy(signal),
    )
    .catch((cause: unknown) => failed(keyArn, 'Decrypt', cause, signal));
  const own = new Uint8Array(new ArrayBuffer(Plaintext?.length ?? 0));
  own.set(Plaintext ?? []);
  Plaintext?.fill(0);
  if (KeyId === keyArn && own.length === KEY_BYTES) return own;
  own.fill(0);
  throw new OwnerError(
    'OWNER_KMS_REFUSED',
    `KMS answered Decrypt with ${own.length} bytes under ${KeyId}, not ${KEY_BYTES} under ${keyArn}.`,
  );
}

const sdk = () => import('@aws-sdk/client-kms');

export function abortedBy(signal: AbortSignal | undefined): { abortSignal?: AbortSignal } {
  return signal === undefined ? {} : { abortSignal: signal };
}

/** A refusal is KMS's own answer; the SDK's and the network's failures have other remedies. */
export function failed(
  keyArn: string,
  operation: string,
  cause: unknown,
  signal: AbortSignal | undefined,
): never {
  expectNotAborted(signal);
  const { name, message, code, $fault } = cause as Error & { code?: unknown; $fault?: unknown };
  const why = [name, code, message].filter((part) => typeof part === 'string' && part !== '').join(': ');
  if (name === 'CredentialsProviderError') {
    throw new OwnerError('OWNER_NO_CREDENTIALS', `No AWS credentials for ${operation}: ${message}`, cause);
  }
  if (typeof code === 'string' || name === 'TimeoutError' || $fault === 'server') {
    throw new OwnerError(
      'OWNER_KMS_UNREACHABLE',
      `No answer from KMS to ${operation} with ${keyArn}: ${why}`,
      cause,
    );
  }
  throw new OwnerError('OWNER_KMS_REFUSED', `KMS refused ${operation} with ${keyArn}: ${why}`, cause);
}

function unusable(why: string): OwnerError {
  return new OwnerError('OWNER_KEY_UNUSABLE', `This KMS key cannot be used: ${why}.`);
}
