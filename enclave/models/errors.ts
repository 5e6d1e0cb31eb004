import { type ErrorTable, StrongroomError } from '../../shared/errors.ts';

/** Why a model is not loaded, replaced or unloaded while the enclave serves. What serves goes on serving. */
export const modelErrors = {
  MODELS_UNKNOWN: {
    exit: 2,
    means: 'The deployment names no such model.',
    action: 'See GET /models on the control port; another model is another deployment.',
  },
  MODELS_BUSY: {
    exit: 3,
    means: 'Another model is being loaded; they are loaded one at a time.',
    action: 'Wait until GET /models says that none is, then ask again.',
  },
  MODELS_NOT_NEWER: {
    exit: 1,
    means: 'What the parent offers is not newer than what this enclave has served under the name.',
    action: 'Publish a newer version first; to go back, start another enclave.',
  },
  MODELS_LAST: {
    exit: 1,
    means: 'Evidence names at least one model, so the last one is not unloaded.',
    action: 'Drain the enclave if it should serve nothing, or load another model first.',
  },
} as const satisfies ErrorTable;

export class ModelsError extends StrongroomError<keyof typeof modelErrors> {
  constructor(code: keyof typeof modelErrors, message: string) {
    super(modelErrors, code, message);
  }
}
