import { type ErrorTable, StrongroomError } from '../../shared/errors.ts';

/** Causes of stopping what an owner does with a data key over the years: rewrap, reseal, rotate. */
export const dataKeyErrors = {
  REWRAP_WOULD_STRAND: {
    exit: 1,
    means: 'With the wraps that the model would have, something that is deployed could not start.',
    action:
      'Keep a wrap under a key that every deployment of the model lists. Or deploy first: write a deployment that lists the new key, let its PCR16 into the key policy and the expectations of callers, replace the old deployment everywhere, then remove the old wrap.',
  },
  REWRAP_UNCHECKED: {
    exit: 2,
    means: 'A wrap was to be removed, and nobody said which deployments need it.',
    action: 'Give each deployment of the model as --deployment FILE, or --no-deployment if there is none.',
  },
  REWRAP_NO_SUCH_WRAP: {
    exit: 2,
    means: 'The model has no wrap under this KMS key.',
    action: 'See "strongroom rotate FOLDER" for the wraps there are; "strongroom rewrap --to ARN" adds one.',
  },
  REWRAP_BUSY: {
    exit: 3,
    means: 'Another command is working on the same model.',
    action: 'Run it again when the other one has ended.',
  },
  RESEAL_SAME_KEY: {
    exit: 2,
    means: 'A model was to be sealed again under the data key that it has already.',
    action: 'Leave --new-key-file out to have a key made, or give a file with other bytes.',
  },
  RESEAL_NOT_THE_MODEL: {
    exit: 1,
    means: 'The model to seal again is not the one that its owner vouched for.',
    action:
      'Do not use it, and find out who changed it: whoever had the data key could have. Take the model from a place that you trust, or check the key or content id that you gave.',
  },
  RESEAL_DIFFERENT: {
    exit: 1,
    means: 'The new model does not hold the bytes that the old manifest states.',
    action:
      'Keep the old model. "strongroom verify" says whether its manifest is true; if it is, please report this.',
  },
  RESEAL_FOREIGN_FILES: {
    exit: 2,
    means: 'The folder to replace holds more than a sealed model.',
    action:
      'Move everything else out of it: the folder is replaced as a whole, and its old files are deleted.',
  },
  RESEAL_CANNOT_EXCHANGE: {
    exit: 2,
    means: 'Two folders cannot be swapped in one step here.',
    action:
      'It takes a file system that can (renameat2 with RENAME_EXCHANGE), as local ones do. Elsewhere give -o OUT in the place of --replace, and switch to the new folder yourself.',
  },
  ROTATION_UNREADABLE: {
    exit: 3,
    means: 'AWS KMS answered about rotation in a way that says nothing.',
    action: 'Run it again; "aws kms get-key-rotation-status" shows what KMS holds.',
  },
} as const satisfies ErrorTable;

export class DataKeyError extends StrongroomError<keyof typeof dataKeyErrors> {
  constructor(code: keyof typeof dataKeyErrors, message: string, cause?: unknown) {
    super(dataKeyErrors, code, message, cause);
  }
}
