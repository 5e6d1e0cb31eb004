import { type JsonValue, parseStrictJson } from '../../shared/json.ts';
import {
  isTelemetryLine,
  TELEMETRY_MAX_BYTES,
  TELEMETRY_MAX_LINES,
  type TelemetryLine,
} from '../../shared/telemetry.ts';
import type { Counters } from '../observe.ts';

/** Reads `{"lines": [...]}`; undefined if any line is not on the allow-list: a batch is taken whole or not. */
export function parseTelemetry(bytes: Uint8Array): readonly TelemetryLine[] | undefined {
  let value: JsonValue;
  try {
    value = parseStrictJson(bytes, { maxBytes: TELEMETRY_MAX_BYTES, maxDepth: 5 }).value;
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
  const members = value as { readonly [name: string]: JsonValue };
  const lines: unknown = members.lines;
  if (Object.keys(members).join() !== 'lines' || !Array.isArray(lines)) return undefined;
  return lines.length <= TELEMETRY_MAX_LINES && lines.every(isTelemetryLine) ? lines : undefined;
}

/** Adds a line to the totals: that it came, and what `requests` and `durations` count since the one before. */
export function countTelemetry(counters: Counters, { event, fields }: TelemetryLine): void {
  counters.add(`telemetry.${event}`);
  if (event !== 'requests' && event !== 'durations') return;
  const start = event === 'requests' ? event : `${event}.${fields.kind}`;
  for (const [name, count] of Object.entries(fields)) {
    if (typeof count === 'number') counters.add(`telemetry.${start}.${name}`, count);
  }
}
