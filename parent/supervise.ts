/**
 * Keeps one enclave running. It is started, watched on its control port, and started again when it has ended or
 * no longer serves: after a pause that grows with every failure and is never the end. An enclave cannot be
 * repaired from outside, so a new one, which attests and loads anew, is the only remedy there is.
 *
 *   starting -> running -> restarting -> starting -> ...      draining -> stopped
 */
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { codeOf } from '../shared/errors.ts';
import type { EnclaveHealth } from './control.ts';
import type { Observe } from './observe.ts';

/** What starts enclaves. All of it may throw; the supervisor says so and tries again. */
export interface Launcher {
  /** Ends what a parent that was killed has left behind, and nobody else's. */
  clear(): Promise<void>;
  /** Resolves once the enclave has given its sign of life. */
  start(signal: AbortSignal): Promise<void>;
  look(): Promise<Sight>;
  /** Resolves when no enclave of ours is left. */
  terminate(): Promise<void>;
}

/** `unknown`: whoever would know did not say. */
export type Sight = 'running' | 'gone' | 'unknown';

export type EnclaveState = 'starting' | 'running' | 'restarting' | 'draining' | 'stopped';

export interface Clock {
  /** Monotonic. */
  nowMs(): number;
  /** Resolves after that time, or at once when aborted. */
  sleep(milliseconds: number, signal: AbortSignal): Promise<void>;
}

export const systemClock: Clock = {
  nowMs: () => performance.now(),
  // It rejects when it is aborted, which here is a reason to go on and no error.
  sleep: (milliseconds, signal) => sleep(milliseconds, undefined, { signal }).catch(() => {}),
};

export interface SuperviseOptions {
  readonly launcher: Launcher;
  /** What the control port says. */
  readonly health: () => Promise<EnclaveHealth>;
  /** Whether the port for callers takes a connection. */
  readonly serves: () => Promise<boolean>;
  readonly clock: Clock;
  /** From 0 to 1, without 1. */
  readonly random: () => number;
  readonly observe: Observe;
  readonly timings: SuperviseTimings;
}

export interface SuperviseTimings {
  /** From the sign of life until it serves. */
  readonly bootTimeoutMs: number;
  /** Between two looks at the control port. */
  readonly pollMs: number;
  /** How many looks in a row may find silence, while nobody says that the enclave is gone. */
  readonly silencesMax: number;
  /** How long it may live without being ready: an engine takes its time to start again, a drained enclave never is. */
  readonly unreadyMs: number;
  readonly backoffMs: { readonly first: number; readonly most: number };
  /** After that long the next failure counts as the first. */
  readonly stableMs: number;
}

export const SUPERVISE_TIMINGS: Omit<SuperviseTimings, 'bootTimeoutMs'> = {
  pollMs: 2_000,
  silencesMax: 5,
  unreadyMs: 300_000,
  backoffMs: { first: 1_000, most: 60_000 },
  stableMs: 300_000,
};

export interface Supervisor {
  state(): EnclaveState;
  /** How often an enclave was started again. */
  restarts(): number;
  /** From now on an enclave that ends is not started again. */
  drain(): void;
  /** Ends the enclave. Throws when it cannot be ended, after saying so. */
  stop(): Promise<void>;
}

export function supervise(options: SuperviseOptions): Supervisor {
  const { launcher, clock, observe, timings } = options;
  const stopping = new AbortController();
  let state: EnclaveState = 'starting';
  let restarts = 0;
  let failures = 0;

  function enter(next: EnclaveState): void {
    if (state === next || stopping.signal.aborted) return;
    state = next;
    observe({ event: 'enclave-state', state });
  }

  async function keep(): Promise<void> {
    while (!stopping.signal.aborted) {
      enter('starting');
      await liveOnce();
      if (stopping.signal.aborted) return;
      failures += 1;
      enter('restarting');
      await endQuietly();
      const delayMs = backoff(failures, timings.backoffMs, options.random());
      observe({ event: 'enclave-restarting', failures, delayMs });
      await clock.sleep(delayMs, stopping.signal);
      restarts += 1;
    }
  }

  /** From start to end of one enclave; never throws. */
  async function liveOnce(): Promise<void> {
    const startedMs = clock.nowMs();
    try {
      await launcher.clear();
      if (stopping.signal.aborted) return;
      await launcher.start(stopping.signal);
      const fault = await untilServing();
      if (stopping.signal.aborted) return;
      if (fault !== undefined) {
        observe({ event: 'enclave-start-failed', reason: fault, code: 'NITRO_ENCLAVE_SILENT' });
        return;
      }
    } catch (error) {
      if (!stopping.signal.aborted) observe({ event: 'enclave-start-failed', ...describe(error) });
      return;
    }
    const runningSinceMs = clock.nowMs();
    observe({ event: 'enclave-serving', bootMs: Math.round(runningSinceMs - startedMs) });
    enter('running');
    const reason = await untilLost();
    if (stopping.signal.aborted) return;
    const servedMs = Math.round(clock.nowMs() - runningSinceMs);
    if (servedMs >= timings.stableMs) failures = 0;
    observe({ event: 'enclave-lost', reason, servedMs });
  }

  /** Why it does not serve; undefined when it does. */
  async function untilServing(): Promise<string | undefined> {
    const deadlineMs = clock.nowMs() + timings.bootTimeoutMs;
    while (!stopping.signal.aborted) {
      if ((await options.health()) === 'ready' && (await options.serves())) return undefined;
      if ((await sight()) === 'gone') return 'ended-during-boot';
      if (clock.nowMs() >= deadlineMs) return 'boot-timeout';
      await clock.sleep(timings.pollMs, stopping.signal);
    }
    return 'interrupted';
  }

  /**
   * The control port is asked often, since a dead enclave refuses at once; nitro-cli only when it is silent,
   * because every call starts a process and writes to a log that nobody rotates.
   */
  async function untilLost(): Promise<string> {
    let silences = 0;
    let unreadySinceMs: number | undefined;
    for (;;) {
      await clock.sleep(timings.pollMs, stopping.signal);
      if (stopping.signal.aborted) return 'interrupted';
      const health = await options.health();
      if (health === 'silent') {
        if ((await sight()) === 'gone') return 'ended';
        silences += 1;
        if (silences >= timings.silencesMax) return 'silent';
        continue;
      }
      silences = 0;
      unreadySinceMs = health === 'ready' ? undefined : (unreadySinceMs ?? clock.nowMs());
      if (unreadySinceMs !== undefined && clock.nowMs() - unreadySinceMs >= timings.unreadyMs)
        return 'not-ready';
    }
  }

  async function sight(): Promise<Sight> {
    try {
      return await launcher.look();
    } catch (error) {
      observe({ event: 'enclave-look-failed', ...describe(error) });
      return 'unknown';
    }
  }

  async function endQuietly(): Promise<void> {
    try {
      await launcher.terminate();
    } catch (error) {
      // The next start looks for leftovers first.
      observe({ event: 'enclave-terminate-failed', ...describe(error) });
    }
  }

  observe({ event: 'enclave-state', state });
  const kept = keep();
  let stopped: Promise<void> | undefined;
  return {
    state: () => state,
    restarts: () => restarts,
    drain: () => {
      if (stopping.signal.aborted) return;
      enter('draining');
      stopping.abort();
    },
    stop: () => {
      stopped ??= (async () => {
        stopping.abort();
        await kept;
        try {
          await launcher.terminate();
        } catch (error) {
          observe({ event: 'enclave-terminate-failed', ...describe(error) });
          throw error;
        } finally {
          state = 'stopped';
          observe({ event: 'enclave-state', state });
        }
      })();
      return stopped;
    },
  };
}

/** first, 2 first, 4 first ... at most `most`; of that between a half and the whole, so that hosts do not agree. */
export function backoff(
  failures: number,
  { first, most }: SuperviseTimings['backoffMs'],
  random: number,
): number {
  const whole = Math.min(most, first * 2 ** Math.min(failures - 1, 30));
  return Math.round(whole / 2 + (whole / 2) * random);
}

function describe(error: unknown): { readonly code: string; readonly message: string } {
  const message = error instanceof Error ? error.message : String(error);
  return { code: codeOf(error) ?? 'UNEXPECTED', message: message.slice(0, 1_000) };
}
