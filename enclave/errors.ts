import { type ErrorTable, StrongroomError } from '../shared/errors.ts';

export const bootErrors = {
  BOOT_ALREADY_MEASURED: {
    exit: 1,
    means: 'PCR16 is locked or not zero: something was measured into it before.',
    action: 'Terminate the enclave and start a new one; the enclave is the unit of restart.',
  },
  BOOT_MEASUREMENT_MISMATCH: {
    exit: 1,
    means: 'A register does not hold what was just extended into it.',
    action: 'Do not trust this platform; terminate the enclave and report it.',
  },
  BOOT_CLOCK_SKEWED: {
    exit: 1,
    means: 'The system clock is more than 60 seconds away from the clock of the NSM.',
    action: 'Correct the clock of the instance; certificates and evidence depend on it.',
  },
  BOOT_MEMORY_FOLDER: {
    exit: 1,
    means: 'The folder for opened weights is not on a tmpfs, or has no room for the model.',
    action: 'Give the enclave a tmpfs large enough for the model; weights are never written to a disk.',
  },
  MODEL_NOT_EXPECTED: {
    exit: 1,
    means: 'The model that the parent offers is not the one that the deployment names.',
    action: 'Publish the model under its own name and version, signed by the signer of the deployment.',
  },
  MODEL_UNSUPPORTED: {
    exit: 1,
    means: 'No engine of this image loads a model of this form.',
    action:
      'Seal the model as ONNX, of at most 128 files, or as GGUF, of one, or use a release whose engines support it.',
  },
} as const satisfies ErrorTable;

export class BootError extends StrongroomError<keyof typeof bootErrors> {
  constructor(code: keyof typeof bootErrors, message: string, cause?: unknown) {
    super(bootErrors, code, message, cause);
  }
}

export const startErrors = {
  START_FLAGS: {
    exit: 1,
    means: 'Node was started with other flags than the ones that belong to this process.',
    action: 'Start it with exactly the flags that enclave/start-guard.ts exports.',
  },
  START_ENVIRONMENT: {
    exit: 1,
    means: 'The environment holds something that does not belong to this process.',
    action: 'Start it with exactly the environment that enclave/start-guard.ts exports.',
  },
  START_INSPECTOR: {
    exit: 1,
    means: 'A debugger can reach this process.',
    action: 'Start it without an inspector.',
  },
  START_ARGUMENTS: {
    exit: 1,
    means: 'The process was given arguments that it does not take.',
    action: 'Start it without arguments: its configuration is measured, not passed.',
  },
} as const satisfies ErrorTable;

export class StartError extends StrongroomError<keyof typeof startErrors> {
  constructor(code: keyof typeof startErrors, message: string, cause?: unknown) {
    super(startErrors, code, message, cause);
  }
}
