import { type ErrorTable, StrongroomError } from '../errors.ts';

/** Causes of refusing a sealed model (docs/sealed-model.md section 10 lists which rule raises which). */
export const sealedModelErrors = {
  SEALED_HEAD_MALFORMED: {
    exit: 2,
    means: 'The head of a sealed model does not follow the format.',
    action: 'Fetch the head again; if it stays so, it was damaged or is not a sealed model.',
  },
  SEALED_VERSION_UNKNOWN: {
    exit: 2,
    means: 'The head names a format version, a suite or a flag that this program does not know.',
    action: 'Use a release that knows this format; there is no fallback.',
  },
  SEALED_KEY_MISMATCH: {
    exit: 1,
    means: 'The data key is not the one that this head commits to.',
    action: 'Check that key.json and head belong together; a substituted key or head ends here.',
  },
  SEALED_HEAD_FORGED: {
    exit: 1,
    means: 'The head commits to this data key, but its authentication code does not cover these bytes.',
    action: 'Fetch the head again; if it stays so, someone edited the tag or digest table.',
  },
  SEALED_HEAD_LOCKED: {
    exit: 1,
    means: 'The head was not unlocked by its data key, or its keys were wiped already.',
    action: 'Unlock the head again with the data key and open before disposing of it.',
  },
  SEALED_PAYLOAD_SIZE: {
    exit: 1,
    means: 'The payload is longer or shorter than the head says.',
    action: 'Copy the payload again; it was truncated, extended, or belongs to another model.',
  },
  SEALED_CHUNK_REFUSED: {
    exit: 1,
    means: 'A chunk of the payload failed its authentication tag, also when it was fetched again.',
    action: 'Copy the payload again; if it stays so, it was tampered with.',
  },
  SEALED_SEGMENT_REFUSED: {
    exit: 1,
    means: 'A segment has valid tags but not the ciphertext that the digest table and content id name.',
    action: 'Treat the data key as known to someone else: seal the model again under a new one.',
  },
  SEALED_GAP_NOT_ZERO: {
    exit: 1,
    means: 'The space between two files of the model holds something.',
    action: 'Seal the model again with a writer that follows the format.',
  },
  SEALED_SOURCE_FAILED: {
    exit: 3,
    means: 'The source of the payload could not be read, also when asked again.',
    action: 'Check the storage or connection that the payload comes from, then open again.',
  },
  SEALED_TARGET_UNUSABLE: {
    exit: 2,
    means: 'The place to open the model into has the wrong size or number of files, or cannot be written.',
    action: 'Give one descriptor per file of the head, or memory of exactly the payload size.',
  },
  SEALED_RANGE_INVALID: {
    exit: 2,
    means: 'A read asks for bytes outside the model.',
    action: 'Ask for a range within the payload size that the head gives.',
  },
  SEALED_ABORTED: {
    exit: 3,
    means: 'Sealing or opening was stopped before its end; what was written has been wiped.',
    action: 'Start again.',
  },
  SEALED_KEY_FILE_MALFORMED: {
    exit: 2,
    means: 'key.json does not follow the format.',
    action: 'Fetch key.json again, or wrap the data key again with the recovery key.',
  },
  SEALED_KEY_FILE_FOREIGN: {
    exit: 1,
    means: 'key.json belongs to another sealed model.',
    action: 'Publish head and key.json of one and the same seal.',
  },
  SEALED_MANIFEST_MALFORMED: {
    exit: 2,
    means: 'manifest.json is not a DSSE envelope with the statement that the format asks for.',
    action: 'Fetch manifest.json again, or sign the model again.',
  },
  SEALED_MANIFEST_UNSIGNED: {
    exit: 1,
    means: 'No signature of the manifest is by the expected signer.',
    action: 'Check which public key the deployment names, then sign with its private key.',
  },
  SEALED_SIGNER_UNSUPPORTED: {
    exit: 2,
    means: 'The signing key is neither ECDSA P-256 nor Ed25519.',
    action: 'Make a signing key with "strongroom keygen".',
  },
  SEALED_IDENTITY_MISMATCH: {
    exit: 1,
    means: 'The head is not the one that the signed manifest names.',
    action: 'Publish head and manifest of one and the same seal.',
  },
  SEALED_INPUT_INVALID: {
    exit: 2,
    means: 'The model to seal has a name, version, file name or size that the format does not allow.',
    action: 'Follow docs/sealed-model.md section 3: names, versions, paths and sizes.',
  },
} as const satisfies ErrorTable;

export type SealedModelErrorCode = keyof typeof sealedModelErrors;

export class SealedModelError extends StrongroomError<SealedModelErrorCode> {
  constructor(code: SealedModelErrorCode, message: string, cause?: unknown) {
    super(sealedModelErrors, code, message, cause);
  }
}
