import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { CLOCK_CHECK_INTERVAL_MS, EnclaveClock, MAX_SKEW_MS } from '../../enclave/clock.ts';
import { type Nsm, nsmClient } from '../../enclave/nsm/client.ts';
import { createSimulatedCa } from '../../simulator/nsm/ca.ts';
import { newInstanceId, newModuleId } from '../../simulator/nsm/identity.ts';
import { SoftwareNsm } from '../../simulator/nsm/software-nsm.ts';

const START = new Date('2030-01-01T12:00:00Z');
let nsmTime: Date;
let systemTime: Date;
let attestations: number;
let attested: () => void;
let broken: boolean;
let nsm: Nsm;

const shifted = (byMs: number): Date => new Date(START.getTime() + byMs);

beforeEach(async () => {
  nsmTime = START;
  systemTime = START;
  attestations = 0;
  attested = () => {};
  broken = false;
  const raw = await SoftwareNsm.create({
    ca: await createSimulatedCa({ region: 'eu-central-1', now: START }),
    moduleId: newModuleId(newInstanceId(), START),
    pcrs: { 0: new Uint8Array(48), 1: new Uint8Array(48), 2: new Uint8Array(48) },
    now: () => nsmTime,
  });
  const honest = nsmClient((request) => raw.handle(request));
  nsm = {
    ...honest,
    attest: async (request) => {
      try {
        if (broken) throw new Error('the NSM does not answer');
        return await honest.attest(request);
      } finally {
        attestations += 1;
        attested();
      }
    },
  };
});

const start = (): Promise<EnclaveClock> => EnclaveClock.start(nsm, () => systemTime);

describe('the clock at boot', () => {
  it.each([0, 1, -1, MAX_SKEW_MS, -MAX_SKEW_MS])('is accepted with the system %i ms away', async (skewMs) => {
    systemTime = shifted(skewMs);
    await expect(start()).resolves.toBeInstanceOf(EnclaveClock);
  });

  it.each([MAX_SKEW_MS + 1, -MAX_SKEW_MS - 1, 86_400_000, -86_400_000])(
    'is refused with the system %i ms away',
    async (skewMs) => {
      systemTime = shifted(skewMs);
      await expect(start()).rejects.toMatchObject({ code: 'BOOT_CLOCK_SKEWED' });
    },
  );

  it('is refused when the system clock is no time at all', async () => {
    systemTime = new Date(Number.NaN);
    await expect(start()).rejects.toMatchObject({ code: 'BOOT_CLOCK_SKEWED' });
  });

  it('is the NSM’s, not the system’s, carried forward by the monotonic clock', async () => {
    systemTime = shifted(30_000);
    const before = performance.now();
    const clock = await start();
    const elapsedMs = clock.now().getTime() - START.getTime();
    expect(elapsedMs).toBeGreaterThanOrEqual(0);
    expect(elapsedMs).toBeLessThanOrEqual(performance.now() - before + 1);
  });

  it('does not come to be without an NSM', async () => {
    broken = true;
    await expect(start()).rejects.toThrow('the NSM does not answer');
  });
});

describe('the clock afterwards', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  /** One interval passes, and the check that it starts comes to its end. */
  async function nextCheck(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    attested = resolve;
    vi.advanceTimersByTime(CLOCK_CHECK_INTERVAL_MS);
    await promise;
    await new Promise(setImmediate);
  }

  it('is compared every ten minutes', async () => {
    const clock = await start();
    const failures: unknown[] = [];
    clock.watch((error) => failures.push(error));
    vi.advanceTimersByTime(CLOCK_CHECK_INTERVAL_MS - 1);
    expect(attestations).toBe(1);
    for (let round = 1; round <= 3; round++) {
      nsmTime = shifted(round * CLOCK_CHECK_INTERVAL_MS);
      systemTime = nsmTime;
      await nextCheck();
    }
    expect(failures).toEqual([]);
    expect(attestations).toBe(4);
    expect(clock.now().getTime() - nsmTime.getTime()).toBeLessThan(60_000);
  });

  it.each([
    ['ahead', MAX_SKEW_MS + 1],
    ['behind', -MAX_SKEW_MS - 1],
  ])('that finds the system %s calls back once and looks no more', async (_where, skewMs) => {
    const clock = await start();
    const failures: unknown[] = [];
    clock.watch((error) => failures.push(error));
    systemTime = shifted(skewMs);
    await nextCheck();
    expect(failures).toEqual([expect.objectContaining({ code: 'BOOT_CLOCK_SKEWED' })]);
    vi.advanceTimersByTime(10 * CLOCK_CHECK_INTERVAL_MS);
    expect(attestations).toBe(2);
    expect(failures).toHaveLength(1);
  });

  it('that gets no answer of the NSM calls back: unknown time is wrong time', async () => {
    const clock = await start();
    const failures: unknown[] = [];
    clock.watch((error) => failures.push(error));
    broken = true;
    await nextCheck();
    expect(failures).toEqual([expect.objectContaining({ message: 'the NSM does not answer' })]);
  });

  it('is not compared any more once stopped', async () => {
    const clock = await start();
    clock.watch(() => {}).stop();
    vi.advanceTimersByTime(10 * CLOCK_CHECK_INTERVAL_MS);
    expect(attestations).toBe(1);
  });
});
