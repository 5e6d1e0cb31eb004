/**
 * When the end of something is spoken of that holds for a time: a certificate, a deny list. One rule for the parent's log
 * and for the commands. It goes by the share of the life that is left, so that it fits hours as well as months; the
 * limits in days keep it from speaking of a CA of five years two years ahead.
 */

const HOUR_MS = 60 * 60 * 1000;
const DAY_MS = 24 * HOUR_MS;

export interface Life {
  readonly from: Date;
  readonly until: Date;
}

/** In this order; `over` is the end itself. */
const STEPS = ['soon', 'urgent', 'over'] as const;
export type ExpiryStep = (typeof STEPS)[number];

/** Less than this part of the life is left, and less than so many days. */
const SOON = { parts: 3, days: 30 } as const;
const URGENT = { parts: 10, days: 7 } as const;

export interface Expiry {
  /** Whole days left, rounded down: negative once it has ended. */
  readonly days: number;
  /** The same in hours. */
  readonly hours: number;
  /** The last step that has been reached; undefined while there is more time than that. */
  readonly step: ExpiryStep | undefined;
}

export function expiryOf({ from, until }: Life, nowMs: number): Expiry {
  const leftMs = until.getTime() - nowMs;
  const lifeMs = until.getTime() - from.getTime();
  const isWithin = ({ parts, days }: { readonly parts: number; readonly days: number }): boolean =>
    leftMs < Math.min(lifeMs / parts, days * DAY_MS);
  const step = leftMs < 0 ? 'over' : isWithin(URGENT) ? 'urgent' : isWithin(SOON) ? 'soon' : undefined;
  return { days: Math.floor(leftMs / DAY_MS), hours: Math.floor(leftMs / HOUR_MS), step };
}

/** True of a step that comes after what was said last, so that each is said once. */
export function isLater(step: ExpiryStep, said: ExpiryStep | undefined): boolean {
  return said === undefined || STEPS.indexOf(step) > STEPS.indexOf(said);
}

/** For people: days, or hours where there are fewer than three days. Zero once it has ended. */
export function timeLeft(until: Date, at: Date): string {
  const hours = Math.max(0, Math.floor((until.getTime() - at.getTime()) / HOUR_MS));
  if (hours >= 72) return `${Math.floor(hours / 24)} days`;
  return hours === 1 ? '1 hour' : `${hours} hours`;
}
