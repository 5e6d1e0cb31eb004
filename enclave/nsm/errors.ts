import { type ErrorTable, StrongroomError } from '../../shared/errors.ts';

export const nsmErrors = {
  NSM_DEVICE_MISSING: {
    exit: 3,
    means: 'There is no NSM device.',
    action:
      'Run this inside a Nitro enclave whose kernel has the nsm driver (Linux 6.8, or nsm.ko loaded by init).',
  },
  NSM_DEVICE_FAILED: {
    exit: 3,
    means: 'The NSM device, or the connection to the simulated one, did not carry the request.',
    action:
      'Read the system error in the message; a device that times out needs the enclave to be restarted.',
  },
  NSM_ANSWER_UNUSABLE: {
    exit: 3,
    means: 'The NSM answered something other than what it was asked for.',
    action: 'Compare the versions of the nsm driver and of this image; report it with the message.',
  },
  NSM_INVALID_ARGUMENT: {
    exit: 3,
    means: 'The NSM refused an argument of the request.',
    action: 'Check the value that the message names.',
  },
  NSM_INVALID_INDEX: {
    exit: 3,
    means: 'The NSM has no such register.',
    action: 'Use registers 0 to 31, and a lock range of at most 32.',
  },
  NSM_INVALID_RESPONSE: {
    exit: 3,
    means: 'The NSM could not make a response.',
    action: 'Restart the enclave; report it if it happens again.',
  },
  NSM_READ_ONLY_INDEX: {
    exit: 1,
    means: 'The register is locked and can be neither extended nor locked again.',
    action: 'Start a new enclave: registers are never unlocked, and a process restarted in one cannot boot.',
  },
  NSM_INVALID_OPERATION: {
    exit: 3,
    means: 'The NSM did not understand the request.',
    action: 'Compare the versions of the nsm driver and of this image; report it with the message.',
  },
  NSM_BUFFER_TOO_SMALL: {
    exit: 3,
    means: 'The response does not fit the buffer that the device was given.',
    action: 'Report it: the buffer has the size that the driver documents.',
  },
  NSM_INPUT_TOO_LARGE: {
    exit: 3,
    means: 'The request is larger than the NSM takes.',
    action: 'Keep user data, nonce and public key within 512 bytes each, and the request within 4096.',
  },
  NSM_INTERNAL_ERROR: {
    exit: 3,
    means: 'The NSM failed inside.',
    action: 'Try again; restart the enclave if it happens again.',
  },
} as const satisfies ErrorTable;

export type NsmErrorCode = keyof typeof nsmErrors;

export class NsmError extends StrongroomError<NsmErrorCode> {
  constructor(code: NsmErrorCode, message: string, cause?: unknown) {
    super(nsmErrors, code, message, cause);
  }
}
