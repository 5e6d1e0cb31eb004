/**
 * What the enclave tells its parent about itself (docs/link.md section 3): boot steps and counters, and only
 * the events that the measured deployment allows to leave. Durations are of the enclave's own work, never of
 * one caller's request, and counters are sent in steps of ten seconds.
 */
import { performance } from 'node:perf_hooks';
import type { TelemetryEvent } from '../shared/deployment/deployment.ts';
import type { DenyListEvent } from './clients/deny-list.ts';
import type { HostService } from './host/host-service.ts';
import type { RequestEvent } from './serve/server.ts';

const FLUSH_INTERVAL_MS = 10_000;

type Counter = 'served' | 'refused' | 'failed' | 'overloaded';

export class Report {
  readonly #host: Pick<HostService, 'sendTelemetry'>;
  readonly #allowed: ReadonlySet<TelemetryEvent>;
  #lastStepAtMs = performance.now();
  #counters: Record<Counter, number> = { served: 0, refused: 0, failed: 0, overloaded: 0 };

  constructor(host: Pick<HostService, 'sendTelemetry'>, allowed: readonly TelemetryEvent[]) {
    this.#host = host;
    this.#allowed = new Set(allowed);
  }

  bootStep(step: string): void {
    const now = performance.now();
    const durationMs = Math.round(now - this.#lastStepAtMs);
    this.#lastStepAtMs = now;
    this.#send('boot', { step, durationMs });
  }

  request({ route, status }: RequestEvent): void {
    if (route === 'live' || route === 'ready') return;
    this.#counters[counterOf(status)]++;
  }

  /** The NSM did not vouch for a connection; its caller was only told to come again. */
  evidenceFailed(): void {
    this.#counters.failed++;
  }

  denyList(event: DenyListEvent): void {
    this.#send('deny-list', { ...event });
  }

  /** Sends the counters now and then, while there is something new to send. */
  start(): void {
    const timer = setInterval(() => {
      if (Object.values(this.#counters).every((count) => count === 0)) return;
      this.#send('requests', this.#counters);
      this.#counters = { served: 0, refused: 0, failed: 0, overloaded: 0 };
    }, FLUSH_INTERVAL_MS);
    timer.unref();
  }

  #send(event: TelemetryEvent, fields: Readonly<Record<string, string | number>>): void {
    if (this.#allowed.has(event)) this.#host.sendTelemetry([{ event, fields }]);
  }
}

function counterOf(status: number): Counter {
  if (status === 429 || status === 503) return 'overloaded';
  if (status >= 200 && status < 400) return 'served';
  return status >= 400 && status < 500 ? 'refused' : 'failed';
}
