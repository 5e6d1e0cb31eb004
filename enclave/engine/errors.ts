import { type ErrorTable, StrongroomError } from '../../shared/errors.ts';

export const engineErrors = {
  ENGINE_OPTIONS: {
    exit: 2,
    means: 'The engine was asked to start in a way that it never does.',
    action: 'Give a readable model descriptor, at least one thread and, as root, a user id of its own.',
  },
  ENGINE_CONFINEMENT: {
    exit: 1,
    means: 'The engine could not be confined, so it was not started.',
    action: 'Run on Linux with seccomp filters, as an unprivileged user or with a user id for the engine.',
  },
  ENGINE_START_FAILED: {
    exit: 1,
    means: 'The engine did not become ready.',
    action:
      'Check that the model is valid ONNX of a supported opset, or GGUF of a supported architecture, and that its user may read the code.',
  },
  ENGINE_PROTOCOL: {
    exit: 1,
    means: 'The engine answered with something that no honest engine sends.',
    action: 'Do not trust this model any further; it may have taken over its engine.',
  },
  ENGINE_UNAVAILABLE: {
    exit: 3,
    means: 'The engine died or did not answer in time; it is being started again.',
    action: 'Try again in a moment.',
  },
  ENGINE_REJECTED: {
    exit: 2,
    means: 'The model could not be run on these inputs, or this text.',
    action:
      'Compare the inputs with the model metadata: names, datatypes, shapes; or the length of the text with its context.',
  },
} as const satisfies ErrorTable;

export class EngineError extends StrongroomError<keyof typeof engineErrors> {
  constructor(code: keyof typeof engineErrors, message: string, cause?: unknown) {
    super(engineErrors, code, message, cause);
  }
}

export function gone(why: string): EngineError {
  return new EngineError('ENGINE_UNAVAILABLE', `the engine is gone: ${why}`);
}
