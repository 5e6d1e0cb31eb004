/**
 * From an attestation document to a data key (docs/flow.md, steps 5 and 6).
 */
import { generateKeyPair, type KeyObject } from 'node:crypto';
import { promisify } from 'node:util';
import { DecryptCommand } from '@aws-sdk/client-kms';
import { encodeCbor } from '../../shared/cbor.ts';
import { openEnvelopedData } from '../../shared/cms/read.ts';
import type { KmsKey } from '../../shared/deployment/kms-key.ts';
import type { Nsm } from '../nsm/client.ts';
import { createKmsClient, type KmsConnection } from './client.ts';
import { KmsError } from './errors.ts';

/** One wrap of the data key, as key.json holds it. */
export interface DataKeyWrap {
  readonly keyArn: string;
  readonly ciphertextBlob: Uint8Array;
}

export interface ReleaseRequest {
  readonly nsm: Nsm;
  readonly connection: KmsConnection;
  /** The keys that the measured deployment lists, in its order of preference. */
  readonly allowedKeys: readonly KmsKey[];
  /** From key.json: the host's word, so it is used only where the deployment lists the key too. */
  readonly wraps: readonly DataKeyWrap[];
  /** Computed from the model's head, never taken from the host. */
  readonly encryptionContext: Readonly<Record<string, string>>;
}

export const DATA_KEY_BYTES = 32;
const generateRsa = promisify(generateKeyPair);

/**
 * Attests to KMS and returns the data key: 32 bytes in an ArrayBuffer of their own, which the caller wipes.
 *
 * The RSA key lives for this one exchange. An answer without `CiphertextForRecipient`, or with a plaintext
 * beside it, is refused: the plaintext would have crossed the parent's reach under TLS alone.
 */
export async function releaseDataKey(request: ReleaseRequest): Promise<Uint8Array> {
  const { key, wrap } = chooseWrap(request.allowedKeys, request.wraps);
  const { publicKey, privateKey } = await generateRsa('rsa', {
    modulusLength: 2048,
    publicExponent: 0x10001,
  });
  const spki = publicKey.export({ type: 'spki', format: 'der' });
  const attestationDocument = await request.nsm.attest({
    publicKey: spki,
    userData: encodeCbor(
      new Map<string, string | number>([
        ['v', 1],
        ['purpose', 'kms'],
      ]),
    ),
    nonce: null,
  });
  const ciphertextForRecipient = await decrypt(key, wrap, attestationDocument, request);
  return openForRecipient(ciphertextForRecipient, privateKey, spki);
}

function chooseWrap(
  allowedKeys: readonly KmsKey[],
  wraps: readonly DataKeyWrap[],
): { key: KmsKey; wrap: DataKeyWrap } {
  for (const key of allowedKeys) {
    const wrap = wraps.find((candidate) => candidate.keyArn === key.arn);
    if (wrap !== undefined) return { key, wrap };
  }
  throw new KmsError(
    'KMS_KEY_NOT_ALLOWED',
    `The deployment lists ${allowedKeys.map((key) => key.arn).join(', ')}; the model's key.json has wraps under ${
      wraps.map((wrap) => wrap.keyArn).join(', ') || 'no key'
    }.`,
  );
}

async function decrypt(
  key: KmsKey,
  wrap: DataKeyWrap,
  attestationDocument: Uint8Array,
  request: ReleaseRequest,
): Promise<Uint8Array> {
  const client = createKmsClient(key, request.connection);
  try {
    const answer = await client.send(
      new DecryptCommand({
        KeyId: key.arn,
        CiphertextBlob: wrap.ciphertextBlob,
        EncryptionContext: { ...request.encryptionContext },
        EncryptionAlgorithm: 'SYMMETRIC_DEFAULT',
        Recipient: { KeyEncryptionAlgorithm: 'RSAES_OAEP_SHA_256', AttestationDocument: attestationDocument },
      }),
    );
    if (answer.Plaintext !== undefined && answer.Plaintext.length > 0) {
      answer.Plaintext.fill(0);
      throw new KmsError(
        'KMS_ANSWER_REFUSED',
        'Expected a data key sealed to this enclave, found one in the clear.',
      );
    }
    if (answer.CiphertextForRecipient === undefined || answer.KeyId !== key.arn) {
      throw new KmsError(
        'KMS_ANSWER_REFUSED',
        `Expected CiphertextForRecipient under ${key.arn}, found ${
          answer.CiphertextForRecipient === undefined ? 'none' : `one under ${String(answer.KeyId)}`
        }.`,
      );
    }
    return answer.CiphertextForRecipient;
  } catch (error) {
    throw asKmsError(error, key);
  } finally {
    client.destroy();
  }
}

/** KMS never says which condition failed, so the whole class of refusals has one code. */
const DENIALS = new Set([
  'AccessDeniedException',
  'InvalidCiphertextException',
  'IncorrectKeyException',
  'KMSInvalidStateException',
  'DisabledException',
  'NotFoundException',
  'ValidationException',
]);

function asKmsError(error: unknown, key: KmsKey): KmsError {
  if (error instanceof KmsError) return error;
  const name = error instanceof Error ? error.name : 'unknown';
  const text = error instanceof Error ? error.message : String(error);
  if (DENIALS.has(name)) return new KmsError('KMS_DENIED', `KMS refused (${name}): ${text}`, error);
  return new KmsError('KMS_UNAVAILABLE', `No usable answer from ${key.host} (${name}): ${text}`, error);
}

function openForRecipient(ciphertext: Uint8Array, privateKey: KeyObject, spki: Uint8Array): Uint8Array {
  const dataKey = openEnvelopedData(ciphertext, { privateKey, spki });
  if (dataKey.length === DATA_KEY_BYTES) return dataKey;
  dataKey.fill(0);
  throw new KmsError(
    'KMS_ANSWER_REFUSED',
    `Expected a data key of ${DATA_KEY_BYTES} bytes, found ${dataKey.length} bytes.`,
  );
}
