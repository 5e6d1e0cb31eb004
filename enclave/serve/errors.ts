import { type ErrorTable, StrongroomError } from '../../shared/errors.ts';

/** What a caller can be told, each with its HTTP status in API_STATUS. */
export const apiErrors = {
  EVIDENCE_REQUIRED: {
    exit: 1,
    means: 'The connection asked for something before it had asked for evidence.',
    action: 'Ask for GET /attestation first and verify the answer; the SDK does it by itself.',
  },
  API_INVALID: {
    exit: 2,
    means: 'The request does not follow the protocol or does not fit the model.',
    action: 'Correct the field that the message names.',
  },
  API_NOT_REPRESENTABLE: {
    exit: 2,
    means: 'An output cannot be written as JSON.',
    action: 'Ask for this output as binary data.',
  },
  API_NOT_FOUND: {
    exit: 2,
    means: 'There is no such path, model or version.',
    action: 'See GET /v2 and the models that the evidence names.',
  },
  API_METHOD: { exit: 2, means: 'The path does not take this method.', action: 'Use the method in Allow.' },
  API_SLOW: {
    exit: 3,
    means: 'The body of the request arrives too slowly.',
    action: 'Send it again over a faster or less busy connection.',
  },
  API_TOO_LARGE: {
    exit: 2,
    means: 'The request is larger than the deployment allows.',
    action: 'Send smaller batches, or binary tensors in place of JSON.',
  },
  API_MEDIA_TYPE: {
    exit: 2,
    means: 'The body has a content type or encoding that is not taken.',
    action: 'Send application/json, or application/octet-stream with Inference-Header-Content-Length.',
  },
  API_OVERLOADED: {
    exit: 3,
    means: 'More requests are waiting than the deployment allows.',
    action: 'Try again after the time in Retry-After.',
  },
  API_DEADLINE: {
    exit: 3,
    means: 'The request waited or ran longer than it may.',
    action: 'Try again after the time in Retry-After, with a smaller batch if it happens again.',
  },
  API_DRAINING: {
    exit: 3,
    means: 'The enclave is finishing its work and takes no more.',
    action: 'Connect to another enclave.',
  },
  API_INTERNAL: {
    exit: 3,
    means: 'Something failed that is not the fault of the request.',
    action: 'Try again; if it happens again, tell the operator.',
  },
} as const satisfies ErrorTable;

export type ApiErrorCode = keyof typeof apiErrors;

/** 429 is kept for limits of a single client. */
export const API_STATUS: Readonly<Record<ApiErrorCode, number>> = {
  EVIDENCE_REQUIRED: 403,
  API_INVALID: 400,
  API_NOT_REPRESENTABLE: 400,
  API_NOT_FOUND: 404,
  API_METHOD: 405,
  API_SLOW: 408,
  API_TOO_LARGE: 413,
  API_MEDIA_TYPE: 415,
  API_OVERLOADED: 503,
  API_DEADLINE: 503,
  API_DRAINING: 503,
  API_INTERNAL: 500,
};

/** Its message goes to the caller: it names fields, never values. */
export class ApiError extends StrongroomError<ApiErrorCode> {
  constructor(code: ApiErrorCode, message: string, cause?: unknown) {
    super(apiErrors, code, message, cause);
  }

  get status(): number {
    return API_STATUS[this.code];
  }
}

export function invalid(field: string, expected: string): ApiError {
  return new ApiError('API_INVALID', `${field}: ${expected}`);
}
