import { describe, expect, it } from 'vitest';
import { startSoak } from '../../../scripts/bench/relay/soak.ts';

const ROUND_CONNECTIONS = 1_000;
/** A connection that leaves anything behind leaves more than this; what a collection misses is far less in all. */
const LEAK_BYTES = 2_048;

describe('the relay and the tunnels in churn', () => {
  it('lose no byte, and leave neither descriptors nor memory behind in three thousand connections', async () => {
    const soak = await startSoak({
      kinds: ['echo', 'upload', 'download', 'die', 'kill'],
      atOnce: 40,
      pauseMs: 0,
      bigBytes: 1_000_000,
      // Nothing waits for this deadline, and no load makes a connection reach it.
      idleTimeoutMs: 600_000,
    });
    try {
      const round = async () => {
        let begun = 0;
        await soak.churn(() => begun++ >= ROUND_CONNECTIONS);
        expect(soak.failures).toEqual([]);
        return soak.sample();
      };
      const first = await round();
      const second = await round();
      const third = await round();
      expect(Object.values(soak.done).reduce((sum, count) => sum + count, 0)).toBe(3 * ROUND_CONNECTIONS);
      expect(third.descriptors).toBeLessThanOrEqual(first.descriptors);
      for (const [earlier, later] of [
        [first, second],
        [second, third],
      ] as const) {
        expect(later.heapBytes - earlier.heapBytes).toBeLessThan(ROUND_CONNECTIONS * LEAK_BYTES);
        expect(later.externalBytes - earlier.externalBytes).toBeLessThan(ROUND_CONNECTIONS * LEAK_BYTES);
      }
      const { counters } = third;
      const ended = ['finished', 'broken'].reduce((sum, end) => sum + (counters[`ingress.${end}`] ?? 0), 0);
      expect(counters['ingress.opened']).toBe(ended);
      expect((await soak.drain()).graceful).toBe(true);
    } finally {
      await soak.stop();
    }
  }, 300_000);
});
