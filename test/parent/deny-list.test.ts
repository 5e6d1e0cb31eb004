/** Before a deny list is over, the parent's log says so: after that the enclave serves nobody. */
import { generateKeyPairSync } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type WatchedDenyList, watchDenyList } from '../../parent/deny-list.ts';
import type { ParentEvent } from '../../parent/observe.ts';
import { DENY_LIST_MAX_BYTES } from '../../shared/deny-list/deny-list.ts';
import { signDenyList } from '../../shared/deny-list/sign.ts';
import { eventually, setup } from './setup.ts';

const HOUR_MS = 3600 * 1000;
const START_MS = Date.parse('2030-01-01T00:00:00Z');
const { privateKey } = generateKeyPairSync('ed25519');

function signed(sequence: number, issuedMs: number, hours = 24): Uint8Array {
  const expiresAt = new Date(issuedMs + hours * HOUR_MS);
  return signDenyList({ sequence, issuedAt: new Date(issuedMs), expiresAt, denied: [] }, privateKey);
}

let folder: string;
let path: string;
let events: ParentEvent[];
let clockMs: number;
let watched: WatchedDenyList | undefined;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'sr-deny-'));
  path = join(folder, 'deny-list.json');
  events = [];
  clockMs = START_MS;
});
afterEach(async () => {
  watched?.close();
  await rm(folder, { recursive: true });
});

const watch = () => {
  watched = watchDenyList(path, { observe: (event) => events.push(event), now: () => clockMs });
  return watched;
};

describe('the end of a deny list', () => {
  it('is told when a third and a tenth of its life is left, and when it has come, once each', async () => {
    await writeFile(path, signed(7, START_MS));
    const { look } = watch();
    const told: unknown[] = [];
    for (clockMs += HOUR_MS / 2; clockMs < START_MS + 27 * HOUR_MS; clockMs += HOUR_MS) {
      await look();
      told.push(...events.splice(0));
    }
    const expiresAt = '2030-01-02T00:00:00.000Z';
    expect(told).toEqual([
      { event: 'deny-list-expires', sequence: 7, hours: 7, expiresAt },
      { event: 'deny-list-expires', sequence: 7, hours: 1, expiresAt },
      { event: 'deny-list-expired', sequence: 7, hours: -1, expiresAt },
    ]);
  });

  it('is not told while every list is followed in time', async () => {
    await writeFile(path, signed(1, clockMs));
    const { look } = watch();
    for (let sequence = 2; sequence < 8; sequence += 1) {
      await look();
      clockMs += 8 * HOUR_MS;
      await look();
      await writeFile(path, signed(sequence, clockMs));
    }
    expect(events).toEqual([]);
  });

  it('is told anew of the next list', async () => {
    await writeFile(path, signed(1, START_MS));
    const { look } = watch();
    clockMs += 23 * HOUR_MS;
    await look();
    await writeFile(path, signed(2, START_MS));
    await look();
    expect(events.map(({ event, sequence }) => [event, sequence])).toEqual([
      ['deny-list-expires', 1],
      ['deny-list-expires', 2],
    ]);
  });

  it('is known to the metrics', async () => {
    await writeFile(path, signed(1, START_MS));
    const { look, expiresAt } = watch();
    await look();
    expect(expiresAt()).toEqual(new Date(START_MS + 24 * HOUR_MS));
    await rm(path);
    await look();
    expect(expiresAt()).toBeUndefined();
  });
});

describe('a deny list that cannot be read', () => {
  it.each<[string, () => Promise<unknown>, string]>([
    ['missing', async () => {}, 'ENOENT'],
    ['not one', () => writeFile(path, '{}'), 'DENY_LIST_MALFORMED'],
    ['too long', () => writeFile(path, Buffer.alloc(DENY_LIST_MAX_BYTES + 1)), 'DENY_LIST_MALFORMED'],
  ])('is told once: %s', async (_what, spoil, error) => {
    await spoil();
    const { look } = watch();
    await look();
    await look();
    expect(events).toEqual([{ event: 'deny-list-unreadable', error }]);
    await writeFile(path, signed(1, START_MS));
    await look();
    await rm(path);
    await look();
    expect(events.slice(1)).toEqual([{ event: 'deny-list-unreadable', error: 'ENOENT' }]);
  });
});

it('a parent watches the list of its configuration, and after a reload that of the next one', async () => {
  // Whole seconds: a deny list has no smaller ones.
  const issuedMs = Math.floor(Date.now() / 1000) * 1000 - 3 * HOUR_MS;
  const ended = (sequence: number) => signed(sequence, issuedMs, 2);
  await writeFile(path, ended(1));
  await using at = await setup((config) => ({ ...config, denyListPath: path }));
  const told = () =>
    at.events.filter(({ event }) => event === 'deny-list-expired').map(({ sequence }) => sequence);
  await eventually(told).toEqual([1]);
  const { denyListExpiresAt } = at.parent.state();
  expect(denyListExpiresAt?.getTime()).toBeLessThan(Date.now());
  const other = join(folder, 'other.json');
  await writeFile(other, ended(2));
  at.parent.reload({ ...at.config, denyListPath: other });
  await eventually(told).toEqual([1, 2]);
});
