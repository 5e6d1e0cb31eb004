/** When the end of a certificate is spoken of. One rule for every end of TLS, and for `strongroom cert`. */

const DAY_MS = 24 * 60 * 60 * 1000;

/** Days before the end, longest first; 0 is the end itself. */
const WARN_DAYS = [30, 7, 0] as const;

export interface Expiry {
  /** Whole days left, rounded down: negative once it has ended. */
  readonly days: number;
  /** The last of WARN_DAYS that has been reached; undefined while there is more time than that. */
  readonly due: (typeof WARN_DAYS)[number] | undefined;
}

export function expiryOf(notAfter: Date, nowMs: number): Expiry {
  const days = Math.floor((notAfter.getTime() - nowMs) / DAY_MS);
  return { days, due: WARN_DAYS.findLast((limit) => (limit === 0 ? days < 0 : days < limit)) };
}

/** For people: days, or hours where there are fewer than three days. Zero once it has ended. */
export function timeLeft(notAfter: Date, at: Date): string {
  const hours = Math.max(0, Math.floor((notAfter.getTime() - at.getTime()) / (60 * 60 * 1000)));
  if (hours >= 72) return `${Math.floor(hours / 24)} days`;
  return hours === 1 ? '1 hour' : `${hours} hours`;
}
