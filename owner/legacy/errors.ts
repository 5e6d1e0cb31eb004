import { type ErrorTable, StrongroomError } from '../../shared/errors.ts';

/** Causes of refusing a model in one of the two legacy layouts (docs/legacy.md section 9). */
export const legacyErrors = {
  LEGACY_MALFORMED: {
    exit: 2,
    means: 'A file that begins like a legacy model does not follow its layout.',
    action: 'Get the file again from where it was written; it is cut off, damaged or not a model.',
  },
  LEGACY_TOO_LARGE: {
    exit: 2,
    means: 'The model is larger than one AES-GCM message can be, so no legacy layout holds it.',
    action: 'Seal it as a sealed model, which holds up to 1 TiB.',
  },
  LEGACY_TAG_REFUSED: {
    exit: 1,
    means: 'The authentication tag does not match: another key, other associated data, or an altered file.',
    action: 'Check the key and the associated data; if both are right, the file is not what was written.',
  },
  LEGACY_DIGEST_REFUSED: {
    exit: 1,
    means: 'The tag matches, but the plaintext is not the one whose SHA-256 the file states.',
    action: 'Do not use the file: it was altered, or made to open differently under two keys.',
  },
  LEGACY_CHANGED: {
    exit: 1,
    means: 'The file changed while it was read; nothing of the changed part was released.',
    action: 'Let nobody write to the file meanwhile, or work on a copy.',
  },
  LEGACY_AAD_MISMATCH: {
    exit: 2,
    means: 'Associated data was given where the file has none, or is missing where it has some.',
    action:
      'Give --aad with the text that the model was encrypted with, such as name:version, or leave it out.',
  },
  LEGACY_KEY_FOREIGN: {
    exit: 2,
    means: 'The file cannot be opened with a key of this kind, or names another KMS key than the one given.',
    action:
      'Give an ENCMODEL its 32-byte key file, and an ENVMODEL the KMS key that "inspect" shows, if it is yours.',
  },
  LEGACY_CONTEXT_IMPOSSIBLE: {
    exit: 2,
    means:
      'The metadata cannot be a KMS encryption context: KMS takes strings alone, 8192 characters in all.',
    action:
      'Write with metadata of strings; a file with other metadata opens with its data key alone (32-byte key file).',
  },
} as const satisfies ErrorTable;

export class LegacyError extends StrongroomError<keyof typeof legacyErrors> {
  constructor(code: keyof typeof legacyErrors, message: string, cause?: unknown) {
    super(legacyErrors, code, message, cause);
  }
}
