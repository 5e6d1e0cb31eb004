/**
 * Every metric of the parent, and the counters (parent/observe.ts) that it is made of. Names and units follow
 * the Prometheus conventions ("Metric and label naming"): base units, `_total` for counters.
 *
 * Labels are fixed here, but for `destination`: a counter's name that ends in `.*` stands for one counter for
 * each destination on the operator's own list. One that ends in `.+` is the sum of all counters that begin so.
 * A counter that is not in this table is not shown.
 */
import { ANSWER_KINDS, DURATION_CLASSES } from '../../shared/telemetry.ts';

export interface MetricFamily {
  readonly name: string;
  readonly kind: 'counter' | 'gauge';
  readonly help: string;
  /** Counter's name to its labels. */
  readonly from: Readonly<Record<string, Readonly<Record<string, string>>>>;
}

export const METRIC_FAMILIES: readonly MetricFamily[] = [
  {
    name: 'strongroom_ingress_connections_total',
    kind: 'counter',
    help: "Callers' connections accepted.",
    from: { 'ingress.opened': {} },
  },
  {
    name: 'strongroom_ingress_open_connections',
    kind: 'gauge',
    help: "Callers' connections open now.",
    from: { 'ingress.open': {} },
  },
  {
    name: 'strongroom_ingress_waiting_connections',
    kind: 'gauge',
    help: 'Callers whose connection to the enclave is being opened now.',
    from: { 'ingress.dialling': {} },
  },
  {
    name: 'strongroom_ingress_connections_ended_total',
    kind: 'counter',
    help: "Callers' connections ended, by how: finished by both sides, broken, or idle for too long.",
    from: {
      'ingress.finished': { outcome: 'finished' },
      'ingress.broken': { outcome: 'broken' },
      'ingress.idle': { outcome: 'idle' },
    },
  },
  {
    name: 'strongroom_ingress_refused_total',
    kind: 'counter',
    help: 'Callers reset without a connection to the enclave, by reason.',
    from: {
      'ingress.unreachable': { reason: 'enclave-unreachable' },
      'ingress.timeout': { reason: 'enclave-timeout' },
      'ingress.too-many': { reason: 'too-many-connections' },
      'ingress.too-many-from-address': { reason: 'too-many-from-address' },
      'ingress.accept-failed': { reason: 'accept-failed' },
    },
  },
  {
    name: 'strongroom_ingress_bytes_total',
    kind: 'counter',
    help: 'Bytes relayed between callers and the enclave.',
    from: {
      'ingress.bytes-up': { direction: 'to-enclave' },
      'ingress.bytes-down': { direction: 'to-caller' },
    },
  },
  {
    name: 'strongroom_egress_tunnels_total',
    kind: 'counter',
    help: 'Tunnels opened for the enclave, by destination.',
    from: { 'egress.opened.*': {} },
  },
  {
    name: 'strongroom_egress_open_tunnels',
    kind: 'gauge',
    help: 'Tunnels open now, by destination.',
    from: { 'egress.open.*': {} },
  },
  {
    name: 'strongroom_egress_bytes_total',
    kind: 'counter',
    help: 'Bytes through tunnels, by destination.',
    from: {
      'egress.bytes-up.*': { direction: 'from-enclave' },
      'egress.bytes-down.*': { direction: 'to-enclave' },
    },
  },
  {
    name: 'strongroom_egress_refused_total',
    kind: 'counter',
    help: 'Tunnels refused to the enclave, by reason.',
    from: {
      'egress.refused.malformed': { reason: 'malformed' },
      'egress.refused.host-differs': { reason: 'host-differs' },
      'egress.refused.has-body': { reason: 'has-body' },
      'egress.refused.not-allowed': { reason: 'not-allowed' },
      'egress.refused.too-many': { reason: 'too-many' },
      'egress.refused.forbidden-address': { reason: 'forbidden-address' },
      'egress.refused.unreachable': { reason: 'unreachable' },
    },
  },
  {
    name: 'strongroom_host_requests_total',
    kind: 'counter',
    help: "The enclave's requests to the host service, by route.",
    from: {
      'host.deployment': { route: 'deployment' },
      'host.deny-list': { route: 'deny-list' },
      'host.models': { route: 'models' },
      'host.credentials': { route: 'credentials' },
    },
  },
  {
    name: 'strongroom_host_refused_total',
    kind: 'counter',
    help: "The enclave's requests that the host service refused, by reason.",
    from: {
      'host.refused.malformed': { reason: 'malformed' },
      'host.refused.not-found': { reason: 'not-found' },
      'host.refused.too-many': { reason: 'too-many-connections' },
    },
  },
  {
    name: 'strongroom_host_failed_total',
    kind: 'counter',
    help: "The enclave's requests that the parent could not answer; the log has host-request-failed.",
    from: { 'host.failed': {} },
  },
  {
    name: 'strongroom_models_failed_total',
    kind: 'counter',
    help: "Requests for a model's file that its store did not serve; the log has models-failed.",
    from: { 'models.failed.+': {} },
  },
  {
    name: 'strongroom_models_read_bytes_total',
    kind: 'counter',
    help: "Bytes of sealed models' files given to the enclave.",
    from: { 'models.bytes': {} },
  },
  {
    name: 'strongroom_telemetry_lines_total',
    kind: 'counter',
    help: 'Telemetry lines taken from the enclave, by event.',
    from: {
      'telemetry.boot': { event: 'boot' },
      'telemetry.requests': { event: 'requests' },
      'telemetry.durations': { event: 'durations' },
      'telemetry.deny-list': { event: 'deny-list' },
    },
  },
  {
    name: 'strongroom_telemetry_refused_total',
    kind: 'counter',
    help: 'Telemetry batches refused, because a line was not on the list.',
    from: { 'telemetry.refused': {} },
  },
  {
    name: 'strongroom_enclave_connections_total',
    kind: 'counter',
    help: "Callers' connections, as the enclave tells them.",
    from: { 'telemetry.requests.connections': {} },
  },
  {
    name: 'strongroom_enclave_requests_total',
    kind: 'counter',
    help: "Callers' requests by outcome, as the enclave tells them.",
    from: {
      'telemetry.requests.served': { outcome: 'served' },
      'telemetry.requests.refused': { outcome: 'refused' },
      'telemetry.requests.failed': { outcome: 'failed' },
      'telemetry.requests.overloaded': { outcome: 'overloaded' },
    },
  },
  {
    name: 'strongroom_enclave_answers_total',
    kind: 'counter',
    help: 'Answers served by kind of work and class of duration, as the enclave tells them.',
    from: Object.fromEntries(
      ANSWER_KINDS.flatMap((kind) =>
        DURATION_CLASSES.map((duration) => [`telemetry.durations.${kind}.${duration}`, { kind, duration }]),
      ),
    ),
  },
];
