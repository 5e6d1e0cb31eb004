import { type JsonValue, parseStrictJson } from '../../shared/json.ts';
import {
  isTelemetryLine,
  TELEMETRY_MAX_BYTES,
  TELEMETRY_MAX_LINES,
  type TelemetryLine,
} from '../../shared/telemetry.ts';

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
