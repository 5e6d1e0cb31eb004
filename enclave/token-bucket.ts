export interface TokenBucketLimits {
  /** Requests that may come at once. */
  readonly burst: number;
  /** Requests per second in the long run. */
  readonly perSecond: number;
}

/** A rate limit: a bucket of `burst` tokens that fills at `perSecond`; each request takes one. */
export class TokenBucket {
  readonly #limits: TokenBucketLimits;
  readonly #monotonicMs: () => number;
  #tokens: number;
  #filledAtMs: number;

  constructor(limits: TokenBucketLimits, monotonicMs: () => number) {
    this.#limits = limits;
    this.#monotonicMs = monotonicMs;
    this.#tokens = limits.burst;
    this.#filledAtMs = monotonicMs();
  }

  /** Nothing is left to remember of it. */
  get isFull(): boolean {
    this.#fill();
    return this.#tokens === this.#limits.burst;
  }

  /** Takes a token and returns 0, or takes none and returns the milliseconds until there is one. */
  take(): number {
    this.#fill();
    if (this.#tokens >= 1) {
      this.#tokens -= 1;
      return 0;
    }
    return ((1 - this.#tokens) / this.#limits.perSecond) * 1000;
  }

  #fill(): void {
    const nowMs = this.#monotonicMs();
    const gained = ((nowMs - this.#filledAtMs) / 1000) * this.#limits.perSecond;
    this.#tokens = Math.min(this.#limits.burst, this.#tokens + gained);
    this.#filledAtMs = nowMs;
  }
}
