import { type ErrorTable, StrongroomError } from '../shared/errors.ts';

/** Causes of stopping an owner's command: keygen, seal, sign. */
export const ownerErrors = {
  OWNER_WOULD_OVERWRITE: {
    exit: 2,
    means: 'Something stands already where the result should go.',
    action: 'Choose another output, or move the existing one away; nothing is ever overwritten.',
  },
  OWNER_INPUT_UNUSABLE: {
    exit: 2,
    means: 'The files to seal are missing, not regular files, or changed while they were sealed.',
    action: 'Give existing files or one folder, and let nobody write to them meanwhile.',
  },
  OWNER_KEY_EXPOSED: {
    exit: 1,
    means: 'A file with a secret key can be read by other users.',
    action: 'Run "chmod 600" on it, and replace the key if someone else may have read it.',
  },
  OWNER_KEY_UNUSABLE: {
    exit: 2,
    means: 'A key file does not hold the kind of key that is needed.',
    action: 'Make keys with "strongroom keygen"; a --key-file holds exactly 32 random bytes.',
  },
  OWNER_NO_SECOND_WRAP: {
    exit: 2,
    means: 'The data key would be kept by KMS alone or by nobody.',
    action: 'Give --recovery-key FILE beside --kms-key, or --key-file FILE if you keep the key yourself.',
  },
  OWNER_KMS_REFUSED: {
    exit: 1,
    means: 'AWS KMS did not wrap the data key.',
    action: 'Check that your role may call kms:DescribeKey and kms:Encrypt on this key, then seal again.',
  },
  OWNER_RECOVERY_REFUSED: {
    exit: 1,
    means: 'The recovery file does not open with this key for this model.',
    action: 'Use the recovery file that was written beside this very seal, and its private key.',
  },
  OWNER_NOT_A_SEAL: {
    exit: 2,
    means: 'The folder is not a sealed model whose head and manifest belong together.',
    action: 'Give the folder that "strongroom seal" wrote.',
  },
} as const satisfies ErrorTable;

export class OwnerError extends StrongroomError<keyof typeof ownerErrors> {
  constructor(code: keyof typeof ownerErrors, message: string, cause?: unknown) {
    super(ownerErrors, code, message, cause);
  }
}
