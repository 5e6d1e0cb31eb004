/**
 * What the enclave tells its parent about itself (docs/link.md section 3.5): boot steps and counters, and only
 * the events that the measured deployment allows to leave. How long requests took is told in classes, added up by
 * kind of work; counters are sent in steps of ten seconds.
 */
import { performance } from 'node:perf_hooks';
import type { TelemetryEvent } from '../shared/deployment/deployment.ts';
import {
  ANSWER_KINDS,
  type AnswerKind,
  type BootStep,
  DURATION_CLASSES,
  type DurationClass,
} from '../shared/telemetry.ts';
import type { DenyListEvent } from './clients/deny-list.ts';
import type { HostService } from './host/host-service.ts';
import type { RequestEvent } from './serve/server.ts';

const FLUSH_INTERVAL_MS = 10_000;

type Counter = 'served' | 'refused' | 'failed' | 'overloaded';
type Durations = Record<DurationClass, number>;

/** Of what the durations are told; nobody needs to know how fast it is said which models there are. */
const KIND_OF: Readonly<Partial<Record<RequestEvent['route'], AnswerKind>>> = {
  evidence: 'evidence',
  infer: 'tensors',
  chat: 'text',
  completions: 'text',
  embeddings: 'embeddings',
};

export class Report {
  readonly #host: Pick<HostService, 'sendTelemetry'>;
  readonly #allowed: ReadonlySet<TelemetryEvent>;
  #lastStepAtMs = performance.now();
  #counters = noRequests();
  readonly #durations = new Map<AnswerKind, Durations>(ANSWER_KINDS.map((kind) => [kind, noDurations()]));

  constructor(host: Pick<HostService, 'sendTelemetry'>, allowed: readonly TelemetryEvent[]) {
    this.#host = host;
    this.#allowed = new Set(allowed);
  }

  bootStep(step: BootStep): void {
    const now = performance.now();
    const durationMs = Math.round(now - this.#lastStepAtMs);
    this.#lastStepAtMs = now;
    this.#send('boot', { step, durationMs });
  }

  request({ route, status, duration }: RequestEvent): void {
    if (route === 'live' || route === 'ready') return;
    const counter = counterOf(status);
    this.#counters[counter]++;
    const durations = this.#durations.get(KIND_OF[route] as AnswerKind);
    if (counter === 'served' && durations !== undefined) durations[duration]++;
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
    setInterval(() => this.#flush(), FLUSH_INTERVAL_MS).unref();
  }

  #flush(): void {
    if (isSomething(this.#counters)) this.#send('requests', this.#counters);
    this.#counters = noRequests();
    for (const [kind, durations] of this.#durations) {
      if (isSomething(durations)) this.#send('durations', { kind, ...durations });
      this.#durations.set(kind, noDurations());
    }
  }

  #send(event: TelemetryEvent, fields: Readonly<Record<string, string | number>>): void {
    if (this.#allowed.has(event)) this.#host.sendTelemetry([{ event, fields }]);
  }
}

function noRequests(): Record<Counter, number> {
  return { served: 0, refused: 0, failed: 0, overloaded: 0 };
}

function noDurations(): Durations {
  return Object.fromEntries(DURATION_CLASSES.map((name) => [name, 0])) as Durations;
}

function isSomething(counts: Readonly<Record<string, number>>): boolean {
  return Object.values(counts).some((count) => count > 0);
}

function counterOf(status: number): Counter {
  if (status === 429 || status === 503) return 'overloaded';
  if (status >= 200 && status < 400) return 'served';
  return status >= 400 && status < 500 ? 'refused' : 'failed';
}
