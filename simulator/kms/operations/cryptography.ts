/** Encrypt, Decrypt, GenerateDataKey, GenerateDataKeyWithoutPlaintext, GenerateRandom (AWS KMS API reference, the pages of these names). */
import { randomBytes } from 'node:crypto';
import { authorize } from '../authorize.ts';
import { type Answer, base64, type Call, cryptographicKey, requestedRecipient } from '../call.ts';
import { openBlob, sealBlob } from '../ciphertext-blob.ts';
import { KmsException, validation } from '../exception.ts';
import { currentMaterial, type KeyMaterial } from '../keys.ts';
import type { Recipient } from '../recipient.ts';
import {
  ALGORITHM,
  CIPHERTEXT_MAX_BYTES,
  expectSymmetric,
  keyOfBlob,
  readContext,
  requireKnownGrantTokens,
  shownContext,
  stopDryRun,
} from './common.ts';

const PLAINTEXT_MAX_BYTES = 4096;
const RANDOM_MAX_BYTES = 1024;
const ALGORITHM_CONTEXT = { 'kms:EncryptionAlgorithm': [ALGORITHM] };

export function encrypt(call: Call): Answer {
  const { input, note } = call;
  const plaintext = input.requiredBlob('Plaintext', { max: PLAINTEXT_MAX_BYTES });
  try {
    const { key, aliasContext } = cryptographicKey(call);
    const encryptionContext = readContext(call, 'EncryptionContext');
    expectSymmetric(call, 'EncryptionAlgorithm');
    requireKnownGrantTokens(call);
    const dryRun = input.flag('DryRun');
    input.end();
    note.requestParameters = {
      keyId: key.arn,
      ...shownContext('encryptionContext', encryptionContext),
      encryptionAlgorithm: ALGORITHM,
    };
    authorize(call, { key, encryptionContext, context: { ...ALGORITHM_CONTEXT, ...aliasContext } });
    if (dryRun) stopDryRun();
    return {
      KeyId: key.arn,
      CiphertextBlob: base64(sealBlob(key.id, currentMaterial(key), plaintext, encryptionContext)),
      EncryptionAlgorithm: ALGORITHM,
    };
  } finally {
    plaintext.fill(0);
  }
}

export function decrypt(call: Call): Answer {
  const { input, note } = call;
  const blob = input.requiredBlob('CiphertextBlob', { max: CIPHERTEXT_MAX_BYTES });
  const encryptionContext = readContext(call, 'EncryptionContext');
  expectSymmetric(call, 'EncryptionAlgorithm');
  requireKnownGrantTokens(call);
  const dryRun = input.flag('DryRun');
  const recipient = requestedRecipient(call);
  const { key, aliasContext, ...named } = keyOfBlob(call, blob, 'KeyId');
  input.end();
  note.requestParameters = {
    ...shownContext('encryptionContext', encryptionContext),
    encryptionAlgorithm: ALGORITHM,
    keyId: key.arn,
  };
  authorize(call, { key, encryptionContext, recipient, context: { ...ALGORITHM_CONTEXT, ...aliasContext } });
  const material = named.material();
  const plaintext = openBlob(material.bytes, blob, encryptionContext);
  try {
    if (dryRun) stopDryRun();
    return {
      KeyId: key.arn,
      EncryptionAlgorithm: ALGORITHM,
      ...forCaller(plaintext, material, recipient),
    };
  } finally {
    plaintext.fill(0);
  }
}

export function generateDataKey(call: Call): Answer {
  const recipient = requestedRecipient(call);
  return makeDataKey(call, (plaintext, material) => forCaller(plaintext, material, recipient), recipient);
}

export function generateDataKeyWithoutPlaintext(call: Call): Answer {
  return makeDataKey(call, (_plaintext, material) => ({ KeyMaterialId: material.id }));
}

function makeDataKey(
  call: Call,
  shown: (plaintext: Uint8Array, material: KeyMaterial) => Answer,
  recipient?: Recipient,
): Answer {
  const { input, note } = call;
  const { key, aliasContext } = cryptographicKey(call);
  const encryptionContext = readContext(call, 'EncryptionContext');
  const keySpec = input.oneOf('KeySpec', ['AES_256', 'AES_128']);
  const numberOfBytes = input.integer('NumberOfBytes', { min: 1, max: RANDOM_MAX_BYTES });
  if ((keySpec === undefined) === (numberOfBytes === undefined)) {
    throw new KmsException('ValidationException', 'Please specify either number of bytes or key spec.');
  }
  requireKnownGrantTokens(call);
  const dryRun = input.flag('DryRun');
  input.end();
  note.requestParameters = {
    keyId: key.arn,
    ...shownContext('encryptionContext', encryptionContext),
    ...(keySpec === undefined ? { numberOfBytes } : { keySpec }),
  };
  authorize(call, { key, encryptionContext, recipient, context: { ...ALGORITHM_CONTEXT, ...aliasContext } });
  if (dryRun) stopDryRun();
  const plaintext = randomBytes(numberOfBytes ?? (keySpec === 'AES_128' ? 16 : 32));
  const material = currentMaterial(key);
  try {
    return {
      KeyId: key.arn,
      CiphertextBlob: base64(sealBlob(key.id, material, plaintext, encryptionContext)),
      ...shown(plaintext, material),
    };
  } finally {
    plaintext.fill(0);
  }
}

export function generateRandom(call: Call): Answer {
  const { input, note } = call;
  const numberOfBytes = input.integer('NumberOfBytes', { min: 1, max: RANDOM_MAX_BYTES });
  if (numberOfBytes === undefined) throw validation('numberOfBytes', 'Member must not be null');
  const recipient = requestedRecipient(call);
  input.end();
  note.requestParameters = { numberOfBytes };
  authorize(call, { recipient });
  const random = randomBytes(numberOfBytes);
  try {
    return recipient === undefined
      ? { Plaintext: base64(random) }
      : { CiphertextForRecipient: base64(recipient.seal(random)) };
  } finally {
    random.fill(0);
  }
}

/** With a recipient there is no Plaintext and no KeyMaterialId (KMS API reference, Decrypt). */
function forCaller(plaintext: Uint8Array, material: KeyMaterial, recipient: Recipient | undefined): Answer {
  return recipient === undefined
    ? { Plaintext: base64(plaintext), KeyMaterialId: material.id }
    : { CiphertextForRecipient: base64(recipient.seal(plaintext)) };
}
