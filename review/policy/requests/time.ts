/**
 * When a request is made. aws:CurrentTime and aws:EpochTime are two spellings of one instant, which every request has
 * and KMS itself reads from its clock (IAM user guide, "AWS global condition context keys"): a caller can wait, but
 * cannot call in the past.
 */
import { timeContext } from '../../../shared/policy/context.ts';
import { asciiLower } from '../../../shared/policy/glob.ts';
import type { Condition } from '../../../shared/policy/model.ts';
import { parseDate, parseNumber } from '../../../shared/policy/operators.ts';
import type { Choice } from './domains.ts';

/** Both keys are varied together. */
export const TIME = 'aws:currenttime';
const EPOCH_TIME = 'aws:epochtime';
export const TIME_KEYS = [TIME, EPOCH_TIME] as const;

/** Beyond this, ISO 8601 has no four digits for the year. */
const LAST_MS = Date.UTC(9999, 11, 31, 23, 59, 59);

export function isTimeKey(key: string): boolean {
  const lower = asciiLower(key);
  return lower === TIME || lower === EPOCH_TIME;
}

/** Whether the condition compares a time in a way that AWS documents for its key. */
export function readsTime({ key, operator: { comparison } }: Condition): boolean {
  return (
    comparison === 'date' ||
    comparison === 'null' ||
    (comparison === 'numeric' && asciiLower(key) === EPOCH_TIME)
  );
}

/** To the second, as requests have it. */
export function toSecond(now: Date): Date {
  return new Date(Math.floor(now.getTime() / 1000) * 1000);
}

/**
 * The earliest instant of each span, from now on, in which all conditions on time have one answer each. Others than these
 * tell nothing more apart.
 */
export function instantsOf(conditions: readonly Condition[], now: Date): readonly Choice[] {
  const firstMs = toSecond(now).getTime();
  const starts = conditions.filter(({ key }) => isTimeKey(key)).flatMap(startsOfSpans);
  const later = starts.filter((ms) => ms > firstMs && ms <= LAST_MS);
  return [...new Set([firstMs, ...later])]
    .sort((a, b) => a - b)
    .map((ms) => ({
      entries: new Map(timeContext(new Date(ms)).map(([name, values]) => [asciiLower(name), values])),
    }));
}

/** In milliseconds: where the comparison with a bound begins to have another answer. */
function startsOfSpans(condition: Condition): number[] {
  const { key, operator, values } = condition;
  if (!readsTime(condition) || operator.comparison === 'null') return [];
  const bounds = values.map(operator.comparison === 'date' ? parseDate : secondsAsMs);
  if (asciiLower(key) === TIME) return bounds.flatMap((ms) => [ms, ms + 1]);
  // Of an epoch time the request has whole seconds, whatever the bound has.
  return bounds.flatMap((ms) => [Math.ceil(ms / 1000) * 1000, (Math.floor(ms / 1000) + 1) * 1000]);
}

function secondsAsMs(text: string): number {
  return parseNumber(text) * 1000;
}
