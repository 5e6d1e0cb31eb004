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
  RECEIPT_UNAVAILABLE: {
    exit: 3,
    means: 'A receipt was asked for, and what vouches for its key cannot be had at the moment.',
    action: 'Try again after the time in Retry-After, or ask without a receipt; nothing was computed.',
  },
  API_INTERNAL: {
    exit: 3,
    means: 'Something failed that is not the fault of the request.',
    action: 'Try again; if it happens again, tell the operator.',
  },
  CALLER_CERTIFICATE_REQUIRED: {
    exit: 1,
    means: 'The enclave serves clients that show a certificate, and this one showed none.',
    action: 'Connect with a client certificate from the CA that the deployment names.',
  },
  CALLER_CERTIFICATE_UNTRUSTED: {
    exit: 1,
    means: 'The certificate of the client leads to no CA of the deployment.',
    action: 'Use a certificate from the CA that the deployment names, with the certificates in between.',
  },
  CALLER_CERTIFICATE_EXPIRED: {
    exit: 1,
    means: 'The certificate of the client, or of its CA, is not valid at this time.',
    action: 'Renew the certificate and connect again; look at the clock of whoever issued it.',
  },
  CALLER_CERTIFICATE_UNUSABLE: {
    exit: 1,
    means:
      'The certificate is not of the form that clients have, or lives longer than the deployment allows.',
    action:
      'Issue it for TLS clients, with one SPIFFE id, for no more hours than the deployment allows; docs/deployment.md section 4.',
  },
  CALLER_NOT_ALLOWED: {
    exit: 1,
    means: 'The certificate is good, and the deployment does not name its client.',
    action: 'Ask for a deployment that names this client, or use the certificate of one that it names.',
  },
  CALLER_DENIED: {
    exit: 1,
    means: 'The client or its certificate is on the deny list.',
    action: 'Ask whoever signs the deny list; a new certificate helps if only the old one was denied.',
  },
  CALLERS_SUSPENDED: {
    exit: 3,
    means: 'The enclave has no deny list that is valid now, so it serves no client.',
    action: 'Tell the operator: a new list has to be signed and given to the parent.',
  },
  CALLER_LIMIT: {
    exit: 3,
    means: 'The client asks for more than the deployment lets one client take.',
    action: 'Try again after the time in Retry-After, with fewer requests or connections at once.',
  },
} as const satisfies ErrorTable;

export type ApiErrorCode = keyof typeof apiErrors;

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
  RECEIPT_UNAVAILABLE: 503,
  API_INTERNAL: 500,
  CALLER_CERTIFICATE_REQUIRED: 403,
  CALLER_CERTIFICATE_UNTRUSTED: 403,
  CALLER_CERTIFICATE_EXPIRED: 403,
  CALLER_CERTIFICATE_UNUSABLE: 403,
  CALLER_NOT_ALLOWED: 403,
  CALLER_DENIED: 403,
  CALLERS_SUSPENDED: 503,
  CALLER_LIMIT: 429,
};

export interface ApiErrorDetails {
  /** The member of the request that is at fault. */
  readonly field?: string;
  readonly retryAfterSeconds?: number;
}

/** Its message goes to the caller: it names fields, never values. */
export class ApiError extends StrongroomError<ApiErrorCode> {
  readonly field: string | undefined;
  readonly retryAfterSeconds: number | undefined;

  constructor(code: ApiErrorCode, message: string, { field, retryAfterSeconds }: ApiErrorDetails = {}) {
    super(apiErrors, code, message);
    this.field = field;
    this.retryAfterSeconds = retryAfterSeconds;
  }

  get status(): number {
    return API_STATUS[this.code];
  }
}

export function invalid(field: string, expected: string): ApiError {
  return new ApiError('API_INVALID', `${field}: ${expected}`, { field });
}
