import { describe, expect, it } from 'vitest';
import { Counters } from '../../parent/observe.ts';
import { countTelemetry } from '../../parent/routes/telemetry.ts';

describe("the enclave's counters", () => {
  it('are added up, because each line tells of the time since the one before', () => {
    const counters = new Counters();
    countTelemetry(counters, { event: 'requests', fields: { served: 3, refused: 1 } });
    countTelemetry(counters, { event: 'requests', fields: { served: 4, failed: 2 } });
    expect(counters.snapshot()).toEqual({
      'telemetry.requests': 2,
      'telemetry.requests.served': 7,
      'telemetry.requests.refused': 1,
      'telemetry.requests.failed': 2,
    });
  });

  it('do not come from boot lines, whose durations are not to be added', () => {
    const counters = new Counters();
    countTelemetry(counters, { event: 'boot', fields: { step: 'serving', durationMs: 12 } });
    expect(counters.snapshot()).toEqual({ 'telemetry.boot': 1 });
  });

  it('have durations by kind of work and class', () => {
    const counters = new Counters();
    countTelemetry(counters, { event: 'durations', fields: { kind: 'text', 'under-1s': 3, longer: 1 } });
    countTelemetry(counters, { event: 'durations', fields: { kind: 'text', 'under-1s': 2 } });
    expect(counters.snapshot()).toEqual({
      'telemetry.durations': 2,
      'telemetry.durations.text.under-1s': 5,
      'telemetry.durations.text.longer': 1,
    });
  });
});
