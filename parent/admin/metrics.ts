/** Prometheus text from the parent's counters and state (prom-client). */
import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import { METRIC_FAMILIES, type MetricFamily } from './metric-table.ts';
import { type AdminState, ENCLAVE_STATES } from './sources.ts';

export interface Metrics {
  readonly contentType: string;
  /** The whole page, of this moment. */
  text(now: MetricsInput): Promise<string>;
}

export interface MetricsInput {
  readonly counters: Readonly<Record<string, number>>;
  readonly state: AdminState;
  readonly live: boolean;
  readonly nowMs: number;
}

export function createMetrics(): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const families = METRIC_FAMILIES.map((family) => createFamily(registry, family));
  const state = createStateGauges(registry);
  return {
    contentType: registry.contentType,
    text: (input) => {
      for (const update of families) update(input);
      state(input);
      return registry.metrics();
    },
  };
}

type Update = (input: MetricsInput) => void;

function createFamily(registry: Registry, family: MetricFamily): Update {
  const { name, help } = family;
  const sources = Object.entries(family.from);
  const perDestination = sources.some(([counter]) => counter.endsWith('.*'));
  const labelNames = [...Object.keys(sources[0]?.[1] ?? {}), ...(perDestination ? ['destination'] : [])];
  const options = { name, help, labelNames, registers: [registry] };
  const metric = family.kind === 'counter' ? new Counter(options) : new Gauge(options);
  return ({ counters, state }) => {
    // The counters are totals already, so each page starts anew from them.
    metric.reset();
    for (const [counter, labels] of sources) {
      const start = counter.slice(0, -1);
      if (counter.endsWith('.*')) {
        for (const destination of state.destinations) {
          metric.inc({ ...labels, destination }, counters[start + destination] ?? 0);
        }
      } else if (counter.endsWith('.+')) metric.inc(labels, sumOf(counters, start));
      else metric.inc(labels, counters[counter] ?? 0);
    }
  };
}

function sumOf(counters: MetricsInput['counters'], start: string): number {
  let sum = 0;
  for (const [name, count] of Object.entries(counters)) if (name.startsWith(start)) sum += count;
  return sum;
}

function createStateGauges(registry: Registry): Update {
  const gauge = (name: string, help: string, labelNames: string[] = []) =>
    new Gauge({ name, help, labelNames, registers: [registry] });
  const up = gauge('strongroom_enclave_up', 'Whether the enclave answers on its control port.');
  const accepting = gauge('strongroom_accepting', 'Whether the parent takes callers: 0 while it drains.');
  const enclave = gauge('strongroom_enclave_state', 'Which state the enclave is in: 1 for that one.', [
    'state',
  ]);
  const restarts = new Counter({
    name: 'strongroom_enclave_restarts_total',
    help: 'How often the enclave was started again.',
    registers: [registry],
  });
  const expiry = gauge(
    'strongroom_credentials_expiry_seconds',
    'Seconds until the credentials that were handed out last expire; absent before the first.',
  );
  const denyListExpiry = gauge(
    'strongroom_deny_list_expiry_seconds',
    'Seconds until the deny list is over; absent without one that can be read.',
  );
  return ({ state, live, nowMs }) => {
    up.set(live ? 1 : 0);
    accepting.set(state.accepting && !state.draining ? 1 : 0);
    for (const name of ENCLAVE_STATES) enclave.set({ state: name }, name === state.enclave ? 1 : 0);
    restarts.reset();
    restarts.inc(state.restarts);
    setOrRemove(expiry, state.credentialsExpireAt, nowMs);
    setOrRemove(denyListExpiry, state.denyListExpiresAt, nowMs);
  };
}

function setOrRemove(gauge: Gauge, expiresAt: Date | undefined, nowMs: number): void {
  if (expiresAt === undefined) gauge.remove();
  else gauge.set((expiresAt.getTime() - nowMs) / 1_000);
}
