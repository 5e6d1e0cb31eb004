/**
 * ReEncrypt (AWS KMS API reference, the page of this name). Two rights are needed: kms:ReEncryptFrom on the key that
 * opens, under the encryption context that the ciphertext has, and kms:ReEncryptTo on the key that seals, under the
 * one that it gets. `kms:ReEncryptOnSameKey` says to both policies whether the two keys are one.
 */
import { authorize } from '../authorize.ts';
import { type Answer, base64, type Call, cryptographicKey } from '../call.ts';
import { openBlob, sealBlob } from '../ciphertext-blob.ts';
import { currentMaterial } from '../keys.ts';
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

export function reEncrypt(call: Call): Answer {
  const { input, note } = call;
  const blob = input.requiredBlob('CiphertextBlob', { max: CIPHERTEXT_MAX_BYTES });
  const fromContext = readContext(call, 'SourceEncryptionContext');
  const toContext = readContext(call, 'DestinationEncryptionContext');
  expectSymmetric(call, 'SourceEncryptionAlgorithm');
  expectSymmetric(call, 'DestinationEncryptionAlgorithm');
  const from = keyOfBlob(call, blob, 'SourceKeyId');
  const to = cryptographicKey(call, 'DestinationKeyId');
  requireKnownGrantTokens(call);
  const dryRun = input.flag('DryRun');
  input.end();
  note.key = from.key;
  note.destinationKey = to.key;
  note.requestParameters = {
    sourceEncryptionAlgorithm: ALGORITHM,
    ...shownContext('sourceEncryptionContext', fromContext),
    sourceKeyId: from.key.arn,
    destinationKeyId: to.key.arn,
    destinationEncryptionAlgorithm: ALGORITHM,
    ...shownContext('destinationEncryptionContext', toContext),
  };
  const both = {
    'kms:EncryptionAlgorithm': [ALGORITHM],
    'kms:ReEncryptOnSameKey': [String(from.key === to.key)],
  };
  authorize(
    call,
    { key: from.key, encryptionContext: fromContext, context: { ...both, ...from.aliasContext } },
    'ReEncryptFrom',
  );
  authorize(
    call,
    { key: to.key, encryptionContext: toContext, context: { ...both, ...to.aliasContext } },
    'ReEncryptTo',
  );
  const opening = from.material();
  const plaintext = openBlob(opening.bytes, blob, fromContext);
  try {
    if (dryRun) stopDryRun();
    const sealing = currentMaterial(to.key);
    note.additionalEventData = { destinationKeyMaterialId: sealing.id, sourceKeyMaterialId: opening.id };
    return {
      CiphertextBlob: base64(sealBlob(to.key.id, sealing, plaintext, toContext)),
      SourceKeyId: from.key.arn,
      KeyId: to.key.arn,
      SourceEncryptionAlgorithm: ALGORITHM,
      DestinationEncryptionAlgorithm: ALGORITHM,
      SourceKeyMaterialId: opening.id,
      DestinationKeyMaterialId: sealing.id,
    };
  } finally {
    plaintext.fill(0);
  }
}
