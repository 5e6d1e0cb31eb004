/** What the proxy knows of its enclave, for `/` and for `/strongroom.json`. */
import type { ClientExpectations, EnclaveEvidence } from '../../client/index.ts';
import { StrongroomError } from '../../shared/errors.ts';
import { evidenceReport } from '../evidence-report.ts';

export interface Failure {
  readonly at: Date;
  readonly code: string;
  readonly message: string;
  readonly action: string;
}

export interface Verification {
  readonly at: Date;
  readonly evidence: EnclaveEvidence;
}

export class ProxyStatus {
  readonly enclave: string;
  readonly expected: ClientExpectations;
  readonly reverifyAfterMs: number;
  readonly startedAt: Date;
  readonly #now: () => Date;
  #last: Verification | undefined;
  #failure: Failure | undefined;
  #verifications = 0;
  #requests = 0;

  constructor(enclave: string, expected: ClientExpectations, reverifyAfterMs: number, now: () => Date) {
    this.enclave = enclave;
    this.expected = expected;
    this.reverifyAfterMs = reverifyAfterMs;
    this.startedAt = now();
    this.#now = now;
  }

  get last(): Verification | undefined {
    return this.#last;
  }

  /** The failure of the latest connection; undefined once one was verified again. */
  get failure(): Failure | undefined {
    return this.#failure;
  }

  get verifications(): number {
    return this.#verifications;
  }

  get requests(): number {
    return this.#requests;
  }

  verified(evidence: EnclaveEvidence): void {
    this.#verifications++;
    this.#last = { at: this.#now(), evidence };
    this.#failure = undefined;
  }

  asked(): void {
    this.#requests++;
  }

  /** True if the error says that a connection was not to be had; those of answers are between asker and enclave. */
  failed(error: unknown): boolean {
    if (!(error instanceof StrongroomError) || /^CLIENT_(ANSWER|CLOSED|OTHER_ORIGIN)/.test(error.code))
      return false;
    const { code, message, action } = error;
    this.#failure = { at: this.#now(), code, message, action };
    return true;
  }

  toJSON(): Record<string, unknown> {
    return {
      enclave: this.enclave,
      verifiedAt: this.#last?.at.toISOString() ?? null,
      verified: this.#last === undefined ? null : evidenceReport(this.#last.evidence),
      expected: { pcrs: this.expected.pcrs, models: this.expected.models ?? [] },
      failure: this.#failure === undefined ? null : { ...this.#failure, at: this.#failure.at.toISOString() },
      verifications: this.#verifications,
      requests: this.#requests,
      startedAt: this.startedAt.toISOString(),
    };
  }
}
