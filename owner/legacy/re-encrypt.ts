/**
 * An ENVMODEL under another KMS key: the data key is unwrapped by one and wrapped by the other, both under the same
 * encryption context, its metadata. Ciphertext, nonce, metadata and tag stay byte for byte, and are verified first.
 */
import { writeFileAside } from '../aside-file.ts';
import { checkKmsKey, expectWrappable, type KmsKey, wrapWithKms } from '../kms.ts';
import type { Leftover } from '../leftovers.ts';
import { encryptionContextOf } from './encryption-context.ts';
import { rewrapEnvmodel } from './envmodel.ts';
import { LegacyError } from './errors.ts';
import { describeLegacy, type LegacyDescription, openLegacyFile } from './legacy-file.ts';
import { type Observe, verifyMessage } from './message.ts';
import { writeAt } from './message-write.ts';
import { unwrapEnvmodel } from './unlock.ts';

export interface ReEncryptEnvmodel extends Observe {
  readonly legacy: string;
  /** Opens the file as it is. */
  readonly from: KmsKey;
  /** Opens the new one. */
  readonly to: KmsKey;
  /** The file to create. */
  readonly out: string;
  readonly onLeftover?: (leftover: Leftover) => void;
}

/** Resolves to what the new file says of itself. Throws LegacyError, OwnerError; then nothing is left behind. */
export async function reEncryptEnvmodel(request: ReEncryptEnvmodel): Promise<LegacyDescription> {
  const { legacy, from, to, out, onLeftover, ...observe } = request;
  expectWrappable([from.keyArn]);
  await using file = await openLegacyFile(legacy);
  if (file.format !== 'envmodel') {
    throw new LegacyError('LEGACY_KEY_FOREIGN', `${legacy} is an ENCMODEL: no KMS key has wrapped its key.`);
  }
  await checkKmsKey(to, observe.signal);
  const dataKey = await unwrapEnvmodel(file, from, observe.signal);
  try {
    const context = encryptionContextOf(file.metadata);
    const wrap = await wrapWithKms(to, dataKey, context, observe.signal);
    const verified = await verifyMessage(file.message, dataKey, file.associatedData, observe);
    const preamble = rewrapEnvmodel(file.preamble, {
      kmsKeyId: to.keyArn,
      wrappedKey: wrap.ciphertextBlob,
    });
    await writeFileAside({ path: out, mode: 0o644, onLeftover }, async (target) => {
      let written = preamble.length;
      await writeAt(target, 0, preamble);
      for await (const piece of verified.ciphertext(observe)) {
        await writeAt(target, written, piece);
        written += piece.length;
      }
      await writeAt(target, written, file.message.tag);
    });
  } finally {
    dataKey.fill(0);
  }
  await using result = await openLegacyFile(out);
  return describeLegacy(result);
}
