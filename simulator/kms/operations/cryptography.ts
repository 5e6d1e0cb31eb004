/** Encrypt, Decrypt, GenerateDataKey, GenerateRandom (AWS KMS API reference, the pages of these names). */
import { randomBytes } from 'node:crypto';
import { authorize } from '../authorize.ts';
import { type Answer, base64, type Call, requestedKey, requestedRecipient } from '../call.ts';
import { keyIdOfBlob, openBlob, sealBlob } from '../ciphertext-blob.ts';
import { invalidCiphertext, KmsException, validation } from '../exception.ts';
import type { SimulatedKey } from '../keys.ts';
import type { Recipient } from '../recipient.ts';
import { requireKnownGrantTokens, stopDryRun } from './common.ts';

const PLAINTEXT_MAX_BYTES = 4096;
const CIPHERTEXT_MAX_BYTES = 6144;
const RANDOM_MAX_BYTES = 1024;
/** KMS developer guide, "Quotas": all keys and values of an encryption context together. */
const CONTEXT_MAX_CHARACTERS = 8192;
const ALGORITHM = 'SYMMETRIC_DEFAULT';
const ALGORITHM_CONTEXT = { 'kms:EncryptionAlgorithm': [ALGORITHM] };

export function encrypt(call: Call): Answer {
  const { input, note } = call;
  const plaintext = input.requiredBlob('Plaintext', { max: PLAINTEXT_MAX_BYTES });
  try {
    const key = requestedKey(call);
    const encryptionContext = readContext(call);
    readAlgorithm(call);
    requireKnownGrantTokens(call);
    const dryRun = input.flag('DryRun');
    input.end();
    note.requestParameters = {
      keyId: key.arn,
      ...shown(encryptionContext),
      encryptionAlgorithm: ALGORITHM,
    };
    authorize(call, { key, encryptionContext, context: ALGORITHM_CONTEXT });
    if (dryRun) stopDryRun();
    return {
      KeyId: key.arn,
      CiphertextBlob: base64(sealBlob(key, plaintext, encryptionContext)),
      EncryptionAlgorithm: ALGORITHM,
    };
  } finally {
    plaintext.fill(0);
  }
}

export function decrypt(call: Call): Answer {
  const { input, note } = call;
  const blob = input.requiredBlob('CiphertextBlob', { max: CIPHERTEXT_MAX_BYTES });
  const encryptionContext = readContext(call);
  readAlgorithm(call);
  requireKnownGrantTokens(call);
  const dryRun = input.flag('DryRun');
  const recipient = requestedRecipient(call);
  const key = keyOfBlob(call, blob);
  input.end();
  note.requestParameters = { ...shown(encryptionContext), encryptionAlgorithm: ALGORITHM, keyId: key.arn };
  authorize(call, { key, encryptionContext, recipient, context: ALGORITHM_CONTEXT });
  const plaintext = openBlob(key.material, blob, encryptionContext);
  try {
    if (dryRun) stopDryRun();
    return {
      KeyId: key.arn,
      EncryptionAlgorithm: ALGORITHM,
      ...forCaller(plaintext, key, recipient),
    };
  } finally {
    plaintext.fill(0);
  }
}

export function generateDataKey(call: Call): Answer {
  const { input, note } = call;
  const key = requestedKey(call);
  const encryptionContext = readContext(call);
  const keySpec = input.oneOf('KeySpec', ['AES_256', 'AES_128']);
  const numberOfBytes = input.integer('NumberOfBytes', { min: 1, max: RANDOM_MAX_BYTES });
  if ((keySpec === undefined) === (numberOfBytes === undefined)) {
    throw new KmsException('ValidationException', 'Please specify either number of bytes or key spec.');
  }
  requireKnownGrantTokens(call);
  const dryRun = input.flag('DryRun');
  const recipient = requestedRecipient(call);
  input.end();
  note.requestParameters = {
    keyId: key.arn,
    ...shown(encryptionContext),
    ...(keySpec === undefined ? { numberOfBytes } : { keySpec }),
  };
  authorize(call, { key, encryptionContext, recipient, context: ALGORITHM_CONTEXT });
  if (dryRun) stopDryRun();
  const plaintext = randomBytes(numberOfBytes ?? (keySpec === 'AES_128' ? 16 : 32));
  try {
    return {
      KeyId: key.arn,
      CiphertextBlob: base64(sealBlob(key, plaintext, encryptionContext)),
      ...forCaller(plaintext, key, recipient),
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
function forCaller(plaintext: Uint8Array, key: SimulatedKey, recipient: Recipient | undefined): Answer {
  return recipient === undefined
    ? { Plaintext: base64(plaintext), KeyMaterialId: key.materialId }
    : { CiphertextForRecipient: base64(recipient.seal(plaintext)) };
}

/** The blob names its key; a KeyId in the request may only confirm it. */
function keyOfBlob(call: Call, blob: Uint8Array): SimulatedKey {
  const named = call.input.string('KeyId', { max: 2048 });
  const key = call.world.keys.ofBlob(keyIdOfBlob(blob));
  if (key === undefined) throw invalidCiphertext('The ciphertext names a key that does not exist here.');
  if (named !== undefined && call.world.keys.find(named, call.caller.identity.accountId) !== key) {
    throw new KmsException(
      'IncorrectKeyException',
      'The key ID in the request does not identify a CMK that can perform this operation.',
      { explanation: [`The ciphertext was made under ${key.arn}.`] },
    );
  }
  call.note.key = key;
  return key;
}

function readContext(call: Call): ReadonlyMap<string, string> {
  const context = call.input.stringMap('EncryptionContext') ?? new Map<string, string>();
  if ([...context].flat().join('').length > CONTEXT_MAX_CHARACTERS) {
    throw validation('encryptionContext', `Member must have at most ${CONTEXT_MAX_CHARACTERS} characters`);
  }
  return context;
}

function readAlgorithm(call: Call): void {
  const algorithm = call.input.oneOf('EncryptionAlgorithm', [
    ALGORITHM,
    'RSAES_OAEP_SHA_1',
    'RSAES_OAEP_SHA_256',
    'SM2PKE',
  ]);
  if (algorithm !== undefined && algorithm !== ALGORITHM) {
    throw new KmsException(
      'InvalidKeyUsageException',
      `Algorithm ${algorithm} is incompatible with key spec SYMMETRIC_DEFAULT.`,
    );
  }
}

function shown(context: ReadonlyMap<string, string>): { encryptionContext?: Record<string, string> } {
  return context.size === 0 ? {} : { encryptionContext: Object.fromEntries(context) };
}
