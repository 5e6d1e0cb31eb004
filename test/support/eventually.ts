import { expect } from 'vitest';

/** expect.poll with the patience that a busy machine needs: it ends with the event, not with the time. */
export function eventually<T>(probe: () => T): ReturnType<typeof expect.poll<T>> {
  return expect.poll(probe, { timeout: PATIENCE_MS, interval: 10 });
}

/** How long a test waits for what is sure to happen. Well below the time that a test may take. */
export const PATIENCE_MS = 20_000;
