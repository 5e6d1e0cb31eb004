import { setTimeout as sleep } from 'node:timers/promises';
import { failureOfConnection, unavailable } from './failure.ts';
import type { ModelStoreError } from './store.ts';

export interface RemoteLimits {
  /** From the request to the end of the answer's headers, for one attempt. */
  readonly attemptTimeoutMs: number;
  /** For all attempts together; less than the enclave waits for headers (docs/link.md section 3.2). */
  readonly answerTimeoutMs: number;
  /** The longest silence of a body while somebody waits for more of it. */
  readonly idleTimeoutMs: number;
  readonly attempts: number;
  /** Before the second attempt; doubles with each. */
  readonly pauseMs: number;
}

export const REMOTE_LIMITS: RemoteLimits = {
  attemptTimeoutMs: 5_000,
  answerTimeoutMs: 14_000,
  idleTimeoutMs: 5_000,
  attempts: 4,
  pauseMs: 200,
};

export interface Patience extends RemoteLimits {
  /** Aborted when nobody waits for an answer any more. */
  readonly signal: AbortSignal;
  /** When an answer must have begun, on performance.now()'s clock. */
  readonly answerBy: number;
}

/**
 * Asks until there is an answer, the failure is of a kind that stays, or there is no time left. The signal of
 * an attempt ends with its headers: from then on it fires only when nobody waits any more.
 */
export async function persist<T>(ask: (signal: AbortSignal) => Promise<T>, patience: Patience): Promise<T> {
  const { signal, answerBy, attempts, attemptTimeoutMs, pauseMs } = patience;
  for (let attempt = 1; ; attempt += 1) {
    signal.throwIfAborted();
    const timeoutMs = Math.max(1, Math.min(attemptTimeoutMs, answerBy - performance.now()));
    const late = new AbortController();
    const timer = setTimeout(() => late.abort(), timeoutMs);
    let failure: ModelStoreError;
    try {
      return await ask(AbortSignal.any([signal, late.signal]));
    } catch (error) {
      signal.throwIfAborted();
      failure = late.signal.aborted
        ? unavailable('timeout', `No answer within ${Math.ceil(timeoutMs)} ms.`)
        : failureOfConnection(error);
    } finally {
      clearTimeout(timer);
    }
    const pause = pauseMs * 2 ** (attempt - 1);
    if (!mayPass(failure) || attempt >= attempts || performance.now() + pause >= answerBy) throw failure;
    await sleep(pause, undefined, { signal });
  }
}

export function mayPass(failure: ModelStoreError): boolean {
  return failure.code === 'PARENT_MODELS_UNAVAILABLE';
}
