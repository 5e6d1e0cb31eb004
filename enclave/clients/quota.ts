/** What one client takes of what the deployment lets it take (docs/deployment.md section 4). */
import type { ClientLimits } from '../../shared/deployment/clients.ts';
import { ApiError } from '../serve/errors.ts';
import { TokenBucket } from '../token-bucket.ts';

/** Requests come in bursts: as many at once as this time allows in the long run. */
const BURST_SECONDS = 10;

/** Half of what all clients together get of the NSM (enclave/evidence.ts), so that a single one cannot take it all. */
const EVIDENCE = { burst: 50, perSecond: 25 };

/** The counts of one client, over all its connections. */
export class ClientQuota {
  readonly #limits: ClientLimits;
  readonly #requests: TokenBucket | undefined;
  readonly #evidence: TokenBucket;
  #connections = 0;
  #open = 0;

  constructor(limits: ClientLimits, monotonicMs: () => number) {
    this.#limits = limits;
    this.#evidence = new TokenBucket(EVIDENCE, monotonicMs);
    const { requestsPerMinute } = limits;
    if (requestsPerMinute === undefined) return;
    const perSecond = requestsPerMinute / 60;
    this.#requests = new TokenBucket(
      { burst: Math.max(1, perSecond * BURST_SECONDS), perSecond },
      monotonicMs,
    );
  }

  /** Whether forgetting this would let the client take nothing more than it may. */
  get isUnused(): boolean {
    const isRested = this.#evidence.isFull && (this.#requests?.isFull ?? true);
    return this.#connections === 0 && this.#open === 0 && isRested;
  }

  /** Throws ApiError CALLER_LIMIT, and then takes nothing. */
  takeConnection(): void {
    const { connections = Number.POSITIVE_INFINITY } = this.#limits;
    if (this.#connections >= connections)
      throw exceeded(`at most ${connections} connections of one client`, 1);
    this.#connections += 1;
  }

  giveConnection(): void {
    this.#connections -= 1;
  }

  /** Throws ApiError CALLER_LIMIT, and then takes nothing. */
  takeRequest(): void {
    const { concurrentRequests = Number.POSITIVE_INFINITY, requestsPerMinute } = this.#limits;
    if (this.#open >= concurrentRequests) {
      throw exceeded(`at most ${concurrentRequests} requests of one client at a time`, 1);
    }
    const waitMs = this.#requests?.take() ?? 0;
    if (waitMs > 0) {
      throw exceeded(
        `at most ${requestsPerMinute} requests of one client in a minute`,
        Math.ceil(waitMs / 1000),
      );
    }
    this.#open += 1;
  }

  /** Throws ApiError CALLER_LIMIT, and then takes nothing. */
  takeEvidence(): void {
    const waitMs = this.#evidence.take();
    if (waitMs > 0) throw exceeded('evidence for one client so often', Math.ceil(waitMs / 1000));
  }

  giveRequest(): void {
    this.#open -= 1;
  }
}

/** More clients than connections are remembered only while their rates recover, a few seconds each. */
const QUOTAS_MAX = 8192;

/** The quotas of all clients that have a key of their own. */
export class ClientQuotas {
  readonly #monotonicMs: () => number;
  readonly #quotas = new Map<string, ClientQuota>();

  constructor(monotonicMs: () => number) {
    this.#monotonicMs = monotonicMs;
  }

  get size(): number {
    return this.#quotas.size;
  }

  /** Throws ApiError CALLER_LIMIT if too many other clients are at work. */
  of(key: string, limits: ClientLimits): ClientQuota {
    const known = this.#quotas.get(key);
    if (known !== undefined) return known;
    if (this.#quotas.size >= QUOTAS_MAX) this.#forgetUnused();
    if (this.#quotas.size >= QUOTAS_MAX)
      throw exceeded(`at most ${QUOTAS_MAX} clients at a time`, BURST_SECONDS);
    const quota = new ClientQuota(limits, this.#monotonicMs);
    this.#quotas.set(key, quota);
    return quota;
  }

  #forgetUnused(): void {
    for (const [key, quota] of this.#quotas) if (quota.isUnused) this.#quotas.delete(key);
  }
}

function exceeded(limit: string, retryAfterSeconds: number): ApiError {
  return new ApiError('CALLER_LIMIT', limit, { retryAfterSeconds });
}
