/**
 * What may leave the enclave through the parent (docs/link.md section 3.5): events with named fields, each a count,
 * a word or an error code. No field can hold free text, so no input, name of a caller or secret can be in one.
 * The enclave sends nothing else, and the parent takes nothing else.
 */
import type { TelemetryEvent } from './deployment/deployment.ts';

export interface TelemetryLine {
  readonly event: TelemetryEvent;
  readonly fields: Readonly<Record<string, string | number>>;
}

export const TELEMETRY_MAX_BYTES = 64 * 1024;
export const TELEMETRY_MAX_LINES = 256;

/** The steps of `boot`, in order (docs/flow.md). */
export const BOOT_STEPS = [
  'randomness-seeded',
  'deployment-measured',
  'model-checked',
  'data-key-released',
  'weights-opened',
  'data-key-wiped',
  'engine-loaded',
  'serving',
] as const;

export type BootStep = (typeof BOOT_STEPS)[number];

/** How long an answer took, from the headers of its request to its last byte; each class without the ones before it. */
export const DURATION_CLASSES = ['under-10ms', 'under-100ms', 'under-1s', 'under-10s', 'longer'] as const;
export type DurationClass = (typeof DURATION_CLASSES)[number];

/** What durations are told apart by: kinds of work, never models or callers. */
export const ANSWER_KINDS = ['evidence', 'tensors', 'text', 'embeddings'] as const;
export type AnswerKind = (typeof ANSWER_KINDS)[number];

/** A list of words: one of these. */
type FieldKind = 'count' | 'code' | readonly string[];

const FIELDS: Readonly<Record<TelemetryEvent, Readonly<Record<string, FieldKind>>>> = {
  boot: { step: BOOT_STEPS, durationMs: 'count' },
  requests: { connections: 'count', served: 'count', refused: 'count', failed: 'count', overloaded: 'count' },
  durations: {
    kind: ANSWER_KINDS,
    'under-10ms': 'count',
    'under-100ms': 'count',
    'under-1s': 'count',
    'under-10s': 'count',
    longer: 'count',
  },
  'deny-list': { outcome: ['taken', 'refused'], sequence: 'count', code: 'code' },
};

const CODE = /^[A-Z][A-Z0-9_]{0,63}$/;

/** True if every field of the line is on the list of its event, with a value of the field's kind. */
export function isTelemetryLine(value: unknown): value is TelemetryLine {
  if (!isPlainObject(value) || Object.keys(value).sort().join() !== 'event,fields') return false;
  const { event, fields } = value;
  if (typeof event !== 'string' || !Object.hasOwn(FIELDS, event) || !isPlainObject(fields)) return false;
  const kinds = FIELDS[event as TelemetryEvent];
  return Object.entries(fields).every(
    ([name, field]) => Object.hasOwn(kinds, name) && fits(field, kinds[name]),
  );
}

function fits(value: unknown, kind: FieldKind | undefined): boolean {
  if (kind === 'count') return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
  if (typeof value !== 'string') return false;
  return typeof kind === 'object' ? kind.includes(value) : CODE.test(value);
}

function isPlainObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
