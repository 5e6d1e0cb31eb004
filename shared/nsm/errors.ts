import { type ErrorTable, StrongroomError } from '../errors.ts';

export const nsmMessageErrors = {
  NSM_REQUEST_INVALID: {
    exit: 2,
    means: 'A request to the Nitro Security Module would not fit what the module accepts.',
    action: 'Correct the field that the message names; nothing was sent.',
  },
  NSM_REQUEST_MALFORMED: {
    exit: 2,
    means: 'Bytes that were sent to the security module are not one of its requests.',
    action: 'Compare the request with the list in docs/attestation.md, section 7.',
  },
  NSM_RESPONSE_MALFORMED: {
    exit: 3,
    means: 'The Nitro Security Module answered with something that is not one of its responses.',
    action: 'Treat the module as unusable and stop; report the answer if it came from real hardware.',
  },
} as const satisfies ErrorTable;

export class NsmMessageError extends StrongroomError<keyof typeof nsmMessageErrors> {
  constructor(code: keyof typeof nsmMessageErrors, message: string, cause?: unknown) {
    super(nsmMessageErrors, code, message, cause);
  }
}
