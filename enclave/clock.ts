/**
 * Enclave time (docs/flow.md, step 3).
 *
 * The host sets the system clock, so it is evidence of nothing. The NSM's clock is the hypervisor's: the time
 * stamp of a document from the enclave's own NSM is the time, carried forward by the monotonic clock between
 * looks. TLS libraries read the system clock all the same, so one that strays stops the enclave's service.
 */
import { performance } from 'node:perf_hooks';
import { parseAttestationDocument } from '../shared/attestation/parse.ts';
import { BootError } from './errors.ts';
import type { Nsm } from './nsm/client.ts';

export const MAX_SKEW_MS = 60_000;
export const CLOCK_CHECK_INTERVAL_MS = 10 * 60_000;

export class EnclaveClock {
  readonly #nsm: Nsm;
  readonly #systemNow: () => Date;
  #nsmTimeMs = 0;
  #takenAtMs = 0;

  private constructor(nsm: Nsm, systemNow: () => Date) {
    this.#nsm = nsm;
    this.#systemNow = systemNow;
  }

  /** Reads the NSM's clock; throws BootError `BOOT_CLOCK_SKEWED` when the system clock is elsewhere. */
  static async start(nsm: Nsm, systemNow: () => Date): Promise<EnclaveClock> {
    const clock = new EnclaveClock(nsm, systemNow);
    await clock.check();
    return clock;
  }

  now(): Date {
    return new Date(this.#nsmTimeMs + (performance.now() - this.#takenAtMs));
  }

  /** Takes the NSM's time anew and compares the system clock with it. */
  async check(): Promise<void> {
    const document = await this.#nsm.attest({ publicKey: null, userData: null, nonce: null });
    // Unverified on purpose: it comes from this enclave's own NSM device, not from a peer.
    this.#nsmTimeMs = parseAttestationDocument(document).untrusted.timestampMs;
    this.#takenAtMs = performance.now();
    const skewMs = this.#systemNow().getTime() - this.#nsmTimeMs;
    // Not "more than": an invalid date is no distance at all, and must not pass for a small one.
    if (!(Math.abs(skewMs) <= MAX_SKEW_MS)) {
      throw new BootError(
        'BOOT_CLOCK_SKEWED',
        `Expected the system clock within ${MAX_SKEW_MS / 1000} s of the NSM's, found it ${Math.round(skewMs / 1000)} s away.`,
      );
    }
  }

  /** Checks every ten minutes until stopped; the first failure is reported once and ends the checks. */
  watch(onFailure: (error: unknown) => void): { stop(): void } {
    const timer = setInterval(() => {
      this.check().catch((error: unknown) => {
        clearInterval(timer);
        onFailure(error);
      });
    }, CLOCK_CHECK_INTERVAL_MS);
    timer.unref();
    return { stop: () => clearInterval(timer) };
  }
}
