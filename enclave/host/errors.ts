import { type ErrorTable, StrongroomError } from '../../shared/errors.ts';

export const hostErrors = {
  HOST_MODEL_NAME_INVALID: {
    exit: 2,
    means: 'A model was asked for by a name that cannot be part of a path.',
    action: 'Use letters, digits, ".", "_" and "-", 1 to 64 of them, beginning with a letter or digit.',
  },
  HOST_RANGE_OUTSIDE: {
    exit: 2,
    means: 'Bytes beyond the end of a payload were asked for.',
    action: 'Report this as a defect: the head of the model says where the payload ends.',
  },
} as const satisfies ErrorTable;

export class HostError extends StrongroomError<keyof typeof hostErrors> {
  constructor(code: keyof typeof hostErrors, message: string) {
    super(hostErrors, code, message);
  }
}
