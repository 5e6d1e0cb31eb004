import { type ErrorTable, StrongroomError } from '../shared/errors.ts';

/** Causes of stopping an owner's command, from keygen and seal to verify, open and exec. */
export const ownerErrors = {
  OWNER_WOULD_OVERWRITE: {
    exit: 2,
    means: 'Something stands already where the result should go.',
    action: 'Choose another output, or move the existing one away; nothing is ever overwritten.',
  },
  OWNER_INPUT_UNUSABLE: {
    exit: 2,
    means: 'The files to seal are missing, not regular files, or changed while they were sealed.',
    action: 'Give regular files or one folder of them, and let nobody write to them meanwhile.',
  },
  OWNER_KEY_EXPOSED: {
    exit: 1,
    means: 'A file with a secret key can be read by other users.',
    action: 'Run "chmod 600" on it, and replace the key if someone else may have read it.',
  },
  OWNER_KEY_UNUSABLE: {
    exit: 2,
    means: 'A key is not of the kind that is needed here.',
    action:
      'Make key files with "strongroom keygen"; a --key-file holds exactly 32 random bytes; a --kms-key is the full ARN of an enabled symmetric key.',
  },
  OWNER_NO_SECOND_WRAP: {
    exit: 2,
    means: 'The data key would be kept by KMS alone or by nobody.',
    action: 'Give --recovery-key FILE beside --kms-key, or --key-file FILE if you keep the key yourself.',
  },
  OWNER_KMS_REFUSED: {
    exit: 1,
    means: 'AWS KMS did not wrap or unwrap the data key.',
    action:
      'Check that the key policy lets your role call kms:DescribeKey and kms:Encrypt for a model of this name (one by "strongroom policy generate" does so for each --sealer and each model that it names), and for a legacy model kms:Decrypt with its metadata as encryption context.',
  },
  OWNER_KMS_UNREACHABLE: {
    exit: 3,
    means: 'AWS KMS gave no answer, or not one over a connection that can be trusted.',
    action:
      'Check the network, the region in the key ARN, --kms-endpoint and --kms-ca, then run the command again.',
  },
  OWNER_NO_CREDENTIALS: {
    exit: 2,
    means: 'No AWS credentials were found to call KMS with.',
    action:
      'Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and its companions, as for the aws command, then run the command again.',
  },
  OWNER_RECOVERY_REFUSED: {
    exit: 1,
    means: 'The recovery file does not open with this key for this model.',
    action: 'Use the recovery file that was written beside this very seal, and its private key.',
  },
  OWNER_MODEL_UNKNOWN: {
    exit: 2,
    means: 'The path is neither a sealed model nor a model in a legacy layout.',
    action: 'Give the folder that "strongroom seal" wrote, or a file that begins with ENCMODEL or ENVMODEL.',
  },
  OWNER_NOT_A_SEAL: {
    exit: 2,
    means: 'The folder is not a sealed model whose head and manifest belong together.',
    action: 'Give the folder that "strongroom seal" wrote.',
  },
  OWNER_WRAP_ABSENT: {
    exit: 2,
    means: 'The data key is not wrapped in the way that was asked for.',
    action:
      'See "strongroom inspect" for the KMS keys that wrap it; give --recovery-file if the recovery wrap lies elsewhere.',
  },
  OWNER_NO_SUCH_FILE: {
    exit: 2,
    means: 'The model has no file of that name, or several where one must be named.',
    action: 'Name one of the files that "strongroom inspect" lists.',
  },
  OWNER_NO_ROOM: {
    exit: 2,
    means: 'The opened model does not fit where it should go.',
    action:
      'Free space, choose another place, or enlarge the tmpfs ("mount -o remount,size=SIZE /dev/shm"); nothing was opened.',
  },
  OWNER_NOT_MEMORY: {
    exit: 2,
    means: 'The folder for opened weights is not a tmpfs, so they would lie on a disk.',
    action: 'Give a tmpfs, for example /dev/shm.',
  },
  OWNER_COMMAND_NOT_STARTED: {
    exit: 2,
    means: 'The command to run with the opened model could not be started.',
    action: 'Check its name and that it may be executed; nothing of the model was left anywhere.',
  },
  OWNER_PAYLOAD_ALTERED: {
    exit: 1,
    means: 'The payload is not the ciphertext whose digests the head states.',
    action: 'Copy the payload again from where it was published; if it stays so, it was altered.',
  },
  OWNER_CONTENT_FOREIGN: {
    exit: 1,
    means: 'The head is another than the one whose content id was given.',
    action: 'Do not use it; get the model again, and compare the content id with its source.',
  },
  OWNER_MANIFEST_FALSE: {
    exit: 1,
    means: 'A file of the model does not have the SHA-256 that the manifest states for it.',
    action: 'Do not rely on the digests of this manifest; seal the model again.',
  },
  OWNER_NOBODY_VOUCHES: {
    exit: 3,
    means: 'The parts fit together, but nothing that was given proves who made them.',
    action: 'Give --signer PUBLIC (or --content-id ID, or --key-file FILE) from a source that you trust.',
  },
  OWNER_NOT_DENIED: {
    exit: 1,
    means: 'An entry should be taken out of a deny list that does not have it.',
    action: 'See the entries with "strongroom deny-list show", and spell this one as it stands there.',
  },
} as const satisfies ErrorTable;

export class OwnerError extends StrongroomError<keyof typeof ownerErrors> {
  constructor(code: keyof typeof ownerErrors, message: string, cause?: unknown) {
    super(ownerErrors, code, message, cause);
  }
}
