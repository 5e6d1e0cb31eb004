import { expect, it } from 'vitest';
import { expiryOf } from '../../../shared/x509/expiry.ts';

const DAY_MS = 24 * 3600 * 1000;

it.each([
  [31, 31, undefined],
  [30, 30, undefined],
  [29.99, 29, 30],
  [7, 7, 30],
  [6.99, 6, 7],
  [0, 0, 7],
  [-0.001, -1, 0],
  [-40, -40, 0],
])('%d days before the end: %i whole days, and the warning of %s days is due', (left, days, due) => {
  expect(expiryOf(new Date(left * DAY_MS), 0)).toEqual({ days, due });
});
