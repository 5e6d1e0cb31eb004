import { describe, expect, it } from 'vitest';
import { expiryOf } from '../../shared/expiry.ts';

const HOUR_MS = 3600 * 1000;
const DAY_MS = 24 * HOUR_MS;

/** What has this life and so much of it left. */
const of = (lifeMs: number, leftMs: number) =>
  expiryOf({ from: new Date(leftMs - lifeMs), until: new Date(leftMs) }, 0);

describe('the end of something is spoken of', () => {
  it.each([
    ['ten minutes', HOUR_MS / 6],
    ['a day', DAY_MS],
    ['a month', 30 * DAY_MS],
  ])('when a third and when a tenth of %s is left, and at the end', (_life, life) => {
    expect(of(life, life / 3).step).toBe(undefined);
    expect(of(life, life / 3 - 1).step).toBe('soon');
    expect(of(life, life / 10).step).toBe('soon');
    expect(of(life, life / 10 - 1).step).toBe('urgent');
    expect(of(life, 0).step).toBe('urgent');
    expect(of(life, -1).step).toBe('over');
  });

  it('of a long life, no earlier than 30 and 7 days before the end', () => {
    const fiveYears = 1825 * DAY_MS;
    expect(of(fiveYears, 30 * DAY_MS).step).toBe(undefined);
    expect(of(fiveYears, 30 * DAY_MS - 1).step).toBe('soon');
    expect(of(fiveYears, 7 * DAY_MS).step).toBe('soon');
    expect(of(fiveYears, 7 * DAY_MS - 1).step).toBe('urgent');
  });

  it('in whole days and hours, rounded down', () => {
    expect(of(DAY_MS, 2.5 * HOUR_MS)).toMatchObject({ days: 0, hours: 2 });
    expect(of(90 * DAY_MS, 29.9 * DAY_MS)).toMatchObject({ days: 29, hours: 717 });
    expect(of(DAY_MS, -1)).toMatchObject({ days: -1, hours: -1 });
  });
});
