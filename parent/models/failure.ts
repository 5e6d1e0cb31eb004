import { ModelStoreError, type ModelStoreErrorCode } from './store.ts';

/** A status that is no success, from any store. The text of the answer is never used. */
export function failureOfStatus(status: number): ModelStoreError {
  const [code, reason] = classOfStatus(status);
  return new ModelStoreError(code, reason, `The store answered with status ${status}.`);
}

function classOfStatus(status: number): readonly [ModelStoreErrorCode, string] {
  if (status >= 300 && status < 400) return ['PARENT_MODELS_MALFORMED', 'redirect'];
  if (status === 412 || status === 416) return ['PARENT_MODELS_CHANGED', 'changed'];
  if (status === 408 || status === 429 || status >= 500) {
    return ['PARENT_MODELS_UNAVAILABLE', `status-${status}`];
  }
  // 400 too: nginx answers so without an accepted client certificate, S3 with expired credentials.
  if ([400, 401, 403, 407].includes(status)) return ['PARENT_MODELS_REFUSED', `status-${status}`];
  return ['PARENT_MODELS_MALFORMED', `status-${status}`];
}

/** What went wrong below HTTP: TLS, the connection, or an answer that is no HTTP. */
export function failureOfConnection(cause: unknown): ModelStoreError {
  if (cause instanceof ModelStoreError) return cause;
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : '';
  const fail = (failure: ModelStoreErrorCode, reason: string): ModelStoreError =>
    new ModelStoreError(failure, reason, `The store could not be read (${code || 'no code'}).`, cause);
  if (code.startsWith('HPE_')) return fail('PARENT_MODELS_MALFORMED', 'malformed');
  if (/^(ENOTFOUND|EAI_\w+)$/.test(code)) return fail('PARENT_MODELS_UNAVAILABLE', 'name-not-resolved');
  if (/^(ECONNREFUSED|EHOSTUNREACH|ENETUNREACH)$/.test(code)) {
    return fail('PARENT_MODELS_UNAVAILABLE', 'unreachable');
  }
  if (code === 'EPROTO') return fail('PARENT_MODELS_TLS', alertOf(cause));
  if (isTls(code)) return fail('PARENT_MODELS_TLS', `tls-${code.toLowerCase().replaceAll('_', '-')}`);
  return fail('PARENT_MODELS_UNAVAILABLE', code === 'ETIMEDOUT' ? 'timeout' : 'cut');
}

/** Node names TLS failures after OpenSSL's: protocol errors and alerts, and X509_V_ERR_... of the certificate. */
function isTls(code: string): boolean {
  return (
    /^ERR_(SSL|TLS)_[A-Z0-9_]{1,64}$/.test(code) ||
    /^(UNABLE_TO|CERT|CRL|ERROR_IN|DEPTH_ZERO|SELF_SIGNED|INVALID|PATH|HOSTNAME)_[A-Z0-9_]{1,64}$/.test(code)
  );
}

/** Here the other side's alert is in the text alone, by its number (RFC 8446 6: 70 is the protocol's version). */
function alertOf(cause: unknown): string {
  const alert = /SSL alert number ([0-9]{1,3})/.exec(cause instanceof Error ? cause.message : '')?.[1];
  return alert === undefined ? 'tls' : `tls-alert-${alert}`;
}

export function malformed(reason: string, message: string): ModelStoreError {
  return new ModelStoreError('PARENT_MODELS_MALFORMED', reason, message);
}

export function changed(): ModelStoreError {
  return new ModelStoreError(
    'PARENT_MODELS_CHANGED',
    'changed',
    'The file in the store is not the one that was seen first.',
  );
}

export function unavailable(reason: string, message: string): ModelStoreError {
  return new ModelStoreError('PARENT_MODELS_UNAVAILABLE', reason, message);
}
