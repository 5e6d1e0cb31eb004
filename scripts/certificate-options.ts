/** What the `strongroom cert` commands have in common. */
import { CommandError } from './errors.ts';

export const LEAF_DAYS = { fallback: 90, max: 397 };
export const CA_DAYS = { fallback: 1825, max: 3650 };

/** A whole number of days from 1 to `max`. Throws CommandError USAGE. */
export function daysOf(
  option: string,
  text: string | undefined,
  { fallback, max }: { fallback: number; max: number },
) {
  if (text === undefined) return fallback;
  const days = /^[1-9][0-9]{0,4}$/.test(text) ? Number(text) : Number.NaN;
  if (days <= max) return days;
  throw new CommandError(
    'USAGE',
    `${option} must be a whole number from 1 to ${max}, not ${JSON.stringify(text)}.`,
  );
}

/** `--days`, or `--hours` for what lives shorter; in days. Throws CommandError USAGE. */
export function lifeOf(
  { days, hours }: { readonly days?: string | undefined; readonly hours?: string | undefined },
  bounds: { fallback: number; max: number },
): number {
  if (hours === undefined) return daysOf('--days', days, bounds);
  if (days !== undefined) throw new CommandError('USAGE', 'Give --days or --hours, not both.');
  const max = bounds.max * 24;
  const count = /^[1-9][0-9]{0,5}$/.test(hours) ? Number(hours) : Number.NaN;
  if (count <= max) return count / 24;
  throw new CommandError(
    'USAGE',
    `--hours must be a whole number from 1 to ${max}, not ${JSON.stringify(hours)}.`,
  );
}

export function curveOf(text: string): 'P-256' | 'P-384' {
  if (text === 'P-256' || text === 'P-384') return text;
  throw new CommandError('USAGE', `--curve must be "P-256" or "P-384", not ${JSON.stringify(text)}.`);
}
