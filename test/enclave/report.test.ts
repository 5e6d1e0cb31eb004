import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Report } from '../../enclave/report.ts';
import type { RequestEvent } from '../../enclave/serve/server.ts';
import { TELEMETRY_EVENTS, type TelemetryEvent } from '../../shared/deployment/deployment.ts';
import { BOOT_STEPS, isTelemetryLine, type TelemetryLine } from '../../shared/telemetry.ts';

const FLUSH_MS = 10_000;
let sent: TelemetryLine[];

beforeEach(() => {
  sent = [];
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
});
afterEach(() => {
  vi.useRealTimers();
});

function reportWith(...allowed: readonly TelemetryEvent[]): Report {
  const report = new Report({ sendTelemetry: (lines) => sent.push(...lines) }, allowed);
  report.start();
  return report;
}

const request = (status: number, route: RequestEvent['route'] = 'infer'): RequestEvent => ({
  route,
  status,
  duration: 'under-10ms',
});

describe('what leaves the enclave', () => {
  it('is nothing unless the deployment names it', () => {
    const report = reportWith();
    for (const step of BOOT_STEPS) report.bootStep(step);
    report.request(request(200));
    report.evidenceFailed();
    report.denyList({ outcome: 'taken', sequence: 7 });
    vi.advanceTimersByTime(10 * FLUSH_MS);
    expect(sent).toEqual([]);
  });

  it('is which deny list was taken, or why one was refused', () => {
    const report = reportWith('deny-list');
    report.denyList({ outcome: 'taken', sequence: 7 });
    report.denyList({ outcome: 'refused', code: 'DENY_LIST_REPLAYED' });
    expect(sent).toEqual([
      { event: 'deny-list', fields: { outcome: 'taken', sequence: 7 } },
      { event: 'deny-list', fields: { outcome: 'refused', code: 'DENY_LIST_REPLAYED' } },
    ]);
    expect(sent.every(isTelemetryLine)).toBe(true);
  });

  it.each([
    ['boot', ['boot']],
    ['requests', ['requests']],
    ['durations', ['durations']],
  ] as const)('is "%s" alone where the deployment names that alone', (allowed, events) => {
    const report = reportWith(allowed);
    report.bootStep('serving');
    report.request(request(200));
    vi.advanceTimersByTime(FLUSH_MS);
    expect(sent.map(({ event }) => event)).toEqual(events);
  });

  it('is a step and how long it took, for each step', () => {
    const report = reportWith('boot');
    for (const step of BOOT_STEPS) report.bootStep(step);
    expect(sent.map(({ fields }) => fields.step)).toEqual([...BOOT_STEPS]);
    for (const { fields } of sent) {
      expect(Object.keys(fields).sort()).toEqual(['durationMs', 'step']);
      expect(fields.durationMs).toBeGreaterThanOrEqual(0);
    }
  });

  it('is on the allow-list of the link, line by line: no field with free text', () => {
    const report = reportWith(...TELEMETRY_EVENTS);
    for (const step of BOOT_STEPS) report.bootStep(step);
    report.request(request(200));
    vi.advanceTimersByTime(FLUSH_MS);
    expect(sent).toHaveLength(BOOT_STEPS.length + 2);
    for (const line of sent) expect(isTelemetryLine(line)).toBe(true);
    const free = { event: 'boot', fields: { step: 'what a caller wrote' } };
    expect(isTelemetryLine(free)).toBe(false);
  });
});

describe('the counters', () => {
  it('count answers by their kind', () => {
    const report = reportWith('requests');
    for (const status of [200, 204, 304]) report.request(request(status));
    for (const status of [400, 403, 404, 413]) report.request(request(status));
    for (const status of [429, 503]) report.request(request(status));
    for (const status of [0, 500]) report.request(request(status));
    report.evidenceFailed();
    vi.advanceTimersByTime(FLUSH_MS);
    expect(sent).toEqual([
      { event: 'requests', fields: { served: 3, refused: 4, overloaded: 2, failed: 3 } },
    ]);
  });

  it('leave health checks out, which say nothing of callers', () => {
    const report = reportWith('requests');
    report.request(request(200, 'live'));
    report.request(request(503, 'ready'));
    vi.advanceTimersByTime(FLUSH_MS);
    expect(sent).toEqual([]);
  });

  it('tell neither route nor duration of a request', () => {
    const report = reportWith('requests');
    report.request({ route: 'handshake', status: 0, duration: 'longer' });
    vi.advanceTimersByTime(FLUSH_MS);
    expect(JSON.stringify(sent)).not.toMatch(/handshake|longer/);
  });

  it('go out in steps of ten seconds, from zero each time, and not at all while nothing happens', () => {
    const report = reportWith('requests');
    report.request(request(200));
    vi.advanceTimersByTime(FLUSH_MS - 1);
    expect(sent).toEqual([]);
    vi.advanceTimersByTime(1);
    vi.advanceTimersByTime(5 * FLUSH_MS);
    report.request(request(200));
    report.request(request(404));
    vi.advanceTimersByTime(FLUSH_MS);
    expect(sent.map(({ fields }) => fields)).toEqual([
      { served: 1, refused: 0, failed: 0, overloaded: 0 },
      { served: 1, refused: 1, failed: 0, overloaded: 0 },
    ]);
  });
});

describe('the durations', () => {
  const none = { 'under-10ms': 0, 'under-100ms': 0, 'under-1s': 0, 'under-10s': 0, longer: 0 };

  it('are of answers that were served, in classes, by kind of work', () => {
    const report = reportWith('durations');
    report.request({ route: 'infer', status: 200, duration: 'under-10ms' });
    report.request({ route: 'infer', status: 200, duration: 'under-1s' });
    report.request({ route: 'infer', status: 400, duration: 'under-1s' });
    report.request({ route: 'chat', status: 200, duration: 'longer' });
    report.request({ route: 'completions', status: 200, duration: 'longer' });
    report.request({ route: 'completions', status: 0, duration: 'longer' });
    report.request({ route: 'evidence', status: 200, duration: 'under-100ms' });
    vi.advanceTimersByTime(FLUSH_MS);
    expect(sent.map(({ fields }) => fields)).toEqual([
      { ...none, kind: 'evidence', 'under-100ms': 1 },
      { ...none, kind: 'tensors', 'under-10ms': 1, 'under-1s': 1 },
      { ...none, kind: 'text', longer: 2 },
    ]);
    for (const line of sent) expect(isTelemetryLine(line)).toBe(true);
  });

  it('start from zero each time, and tell nothing of other paths', () => {
    const report = reportWith('durations');
    report.request(request(200, 'embeddings'));
    vi.advanceTimersByTime(FLUSH_MS);
    report.request(request(200, 'text-models'));
    report.request(request(200, 'server'));
    report.request(request(200, 'unknown'));
    vi.advanceTimersByTime(FLUSH_MS);
    expect(sent.map(({ fields }) => fields)).toEqual([{ ...none, kind: 'embeddings', 'under-10ms': 1 }]);
  });
});
