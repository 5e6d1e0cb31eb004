/**
 * A KMS of one key in memory, for the owner's tests alone: it wraps with AES-256-GCM under the encryption
 * context, so that a wrong context fails as it does in KMS. Stories with policies use the simulated KMS.
 */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { DecryptCommand, DescribeKeyCommand, EncryptCommand } from '@aws-sdk/client-kms';
import type { KmsKey } from '../../owner/kms.ts';

export const KEY_ARN = 'arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab';

export interface KmsStandIn extends KmsKey {
  readonly calls: string[];
  decrypt(blob: Uint8Array, context: Record<string, string>): Uint8Array;
}

/** Only keys of legacy models let their owner decrypt: `allowDecrypt`. */
export interface Behaviour {
  readonly keyArn?: string;
  readonly state?: string;
  readonly denyEncrypt?: boolean;
  readonly allowDecrypt?: boolean;
}

export function kmsStandIn(behaviour: Behaviour = {}): KmsStandIn {
  const { keyArn = KEY_ARN } = behaviour;
  const key = randomBytes(32);
  const calls: string[] = [];
  const aad = (context: Record<string, string>): Buffer =>
    Buffer.from(JSON.stringify(Object.entries(context).sort()));
  const decrypt: KmsStandIn['decrypt'] = (blob, context) => {
    const decipher = createDecipheriv('aes-256-gcm', key, blob.subarray(0, 12)).setAAD(aad(context));
    decipher.setAuthTag(blob.subarray(-16));
    return new Uint8Array(Buffer.concat([decipher.update(blob.subarray(12, -16)), decipher.final()]));
  };
  const answer = (command: unknown): unknown => {
    if (command instanceof DescribeKeyCommand) {
      calls.push('DescribeKey');
      const KeyState = behaviour.state ?? 'Enabled';
      return {
        KeyMetadata: { Arn: keyArn, KeyState, KeyUsage: 'ENCRYPT_DECRYPT', KeySpec: 'SYMMETRIC_DEFAULT' },
      };
    }
    if (command instanceof DecryptCommand && behaviour.allowDecrypt === true) {
      calls.push('Decrypt');
      const { CiphertextBlob, EncryptionContext, KeyId } = command.input;
      try {
        return { Plaintext: decrypt(CiphertextBlob as Uint8Array, EncryptionContext ?? {}), KeyId };
      } catch {
        throw Object.assign(new Error(), { name: 'InvalidCiphertextException' });
      }
    }
    if (!(command instanceof EncryptCommand)) throw new Error('only the calls above are allowed');
    calls.push('Encrypt');
    if (behaviour.denyEncrypt === true) {
      throw Object.assign(new Error('not authorized to perform: kms:Encrypt'), {
        name: 'AccessDeniedException',
      });
    }
    const { Plaintext, EncryptionContext, KeyId } = command.input;
    const nonce = randomBytes(12);
    const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(aad(EncryptionContext ?? {}));
    const sealed = Buffer.concat([cipher.update(Plaintext as Uint8Array), cipher.final()]);
    return { CiphertextBlob: new Uint8Array(Buffer.concat([nonce, sealed, cipher.getAuthTag()])), KeyId };
  };
  return {
    keyArn,
    calls,
    client: { send: async (command: unknown) => answer(command) } as KmsKey['client'],
    decrypt,
  };
}
