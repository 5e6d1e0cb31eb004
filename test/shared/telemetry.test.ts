/** What may leave the enclave is a fixed list, and so is what the parent makes of it. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { METRIC_FAMILIES } from '../../parent/admin/metric-table.ts';
import { LOG_EVENTS } from '../../parent/log-events.ts';
import { Counters } from '../../parent/observe.ts';
import { countTelemetry } from '../../parent/routes/telemetry.ts';
import { TELEMETRY_EVENTS } from '../../shared/deployment/deployment.ts';
import {
  ANSWER_KINDS,
  DURATION_CLASSES,
  isTelemetryLine,
  type TelemetryLine,
} from '../../shared/telemetry.ts';

const durations = Object.fromEntries(DURATION_CLASSES.map((name) => [name, 1]));
const LINES: readonly TelemetryLine[] = [
  { event: 'boot', fields: { step: 'serving', durationMs: 1 } },
  { event: 'requests', fields: { connections: 1, served: 1, refused: 1, failed: 1, overloaded: 1 } },
  ...ANSWER_KINDS.map((kind) => ({ event: 'durations', fields: { kind, ...durations } }) as const),
  { event: 'deny-list', fields: { outcome: 'taken', sequence: 1 } },
  { event: 'deny-list', fields: { outcome: 'refused', code: 'DENY_LIST_EXPIRED' } },
];

describe('a telemetry line', () => {
  it('is of each event that a deployment can name', () => {
    for (const line of LINES) expect(isTelemetryLine(line)).toBe(true);
    expect(new Set(LINES.map(({ event }) => event))).toEqual(new Set(TELEMETRY_EVENTS));
  });

  it('has no room for what a caller wrote, in any field of any event', () => {
    const written = fc.oneof(
      fc.string(),
      fc.double(),
      fc.constantFrom(
        'Alice',
        'a b',
        'x'.repeat(49),
        'spiffe://a/b',
        '',
        null,
        true,
        -1,
        0.5,
        2 ** 53,
        [],
        {},
      ),
    );
    fc.assert(
      fc.property(fc.constantFrom(...LINES), fc.string(), written, (line, name, value) => {
        fc.pre(!Object.hasOwn(line.fields, name));
        expect(isTelemetryLine({ ...line, fields: { ...line.fields, [name]: value } })).toBe(false);
        expect(isTelemetryLine({ ...line, [name === 'event' ? 'more' : name]: value })).toBe(false);
      }),
    );
    for (const line of LINES) {
      for (const [name, value] of Object.entries(line.fields)) {
        for (const other of ['What A Caller Wrote', 'two words', 1.5, -1, null, {}, '__proto__']) {
          const fields = { ...line.fields, [name]: other };
          expect(isTelemetryLine({ ...line, fields }), `${name}: ${other} for ${value}`).toBe(false);
        }
      }
    }
  });

  it.each([
    ['boot', 'step', 'iris'],
    ['durations', 'kind', 'iris'],
    ['deny-list', 'outcome', 'alice'],
  ] as const)('of %s has for %s one of a list of words', (event, field, word) => {
    expect(isTelemetryLine({ event, fields: { [field]: word } })).toBe(false);
  });
});

describe('what the parent makes of telemetry', () => {
  it('is counters and labels that are fixed before the first line comes', () => {
    const known = new Map(METRIC_FAMILIES.flatMap(({ from }) => Object.entries(from)));
    const counters = new Counters();
    for (const line of LINES) countTelemetry(counters, line);
    for (const name of Object.keys(counters.snapshot())) expect([...known.keys()]).toContain(name);
    const fromTelemetry = [...known].filter(([name]) => name.startsWith('telemetry.'));
    for (const [name] of fromTelemetry) expect(name).not.toMatch(/[*+]$/);
    const labels = fromTelemetry.flatMap(([, fixed]) => Object.values(fixed));
    const words = [...TELEMETRY_EVENTS, ...ANSWER_KINDS, ...DURATION_CLASSES];
    const outcomes = ['served', 'refused', 'failed', 'overloaded'];
    expect(new Set(labels)).toEqual(new Set([...words, ...outcomes]));
  });

  it('is a line of the log with those fields', () => {
    for (const { event, fields } of LINES) {
      expect(LOG_EVENTS[`enclave-${event}`]?.fields).toEqual(expect.arrayContaining(Object.keys(fields)));
    }
  });
});
