/** What a caller is told when a request is refused or fails: our own words, or nothing but that something failed. */
import { EngineError } from '../engine/errors.ts';
import { ApiError } from './errors.ts';

export interface Refusal {
  readonly status: number;
  readonly code: string;
  /** Names fields, never values. */
  readonly message: string;
  /** The member of the request that is at fault, if it is one. */
  readonly field: string | undefined;
  readonly retryAfterSeconds: number | undefined;
}

const RETRY_AFTER_SECONDS = 1;

export function refusalOf(error: unknown): Refusal {
  if (error instanceof ApiError) {
    const { status, code, message, field } = error;
    const retryAfterSeconds = error.retryAfterSeconds ?? (status === 503 ? RETRY_AFTER_SECONDS : undefined);
    return { status, code, message, field, retryAfterSeconds };
  }
  if (error instanceof EngineError) {
    const { code, message } = error;
    if (code === 'ENGINE_REJECTED') return refusal(400, code, message);
    return refusal(503, 'ENGINE_UNAVAILABLE', 'the engine of this model is not available');
  }
  return refusal(500, 'API_INTERNAL', 'something failed inside the enclave');
}

function refusal(status: number, code: string, message: string): Refusal {
  const retryAfterSeconds = status === 503 ? RETRY_AFTER_SECONDS : undefined;
  return { status, code, message, field: undefined, retryAfterSeconds };
}

/** As the clients of each protocol read it: KServe's `{error: TEXT}`, OpenAI's `{error: {message, type, param, code}}`. */
export function encodeRefusal(api: 'tensor' | 'text', found: Refusal): object {
  const { code, message, field = null } = found;
  if (api === 'tensor') return { error: message, code };
  return { error: { message, type: typeOf(found.status), param: field, code } };
}

/** The types by which OpenAI's clients tell errors apart, beside the status. */
function typeOf(status: number): string {
  if (status === 429) return 'rate_limit_error';
  if (status === 403) return 'permission_error';
  return status >= 500 ? 'server_error' : 'invalid_request_error';
}
