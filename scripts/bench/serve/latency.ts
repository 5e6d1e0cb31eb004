/** One asked after the other, and several at once: what callers wait, and how many are served. */

export interface Latency {
  readonly p50Ms: number;
  readonly p99Ms: number;
}

export async function latencyOf(ask: () => Promise<unknown>, count: number): Promise<Latency> {
  const samplesMs: number[] = [];
  for (let index = 0; index < count; index += 1) {
    const startedMs = performance.now();
    await ask();
    samplesMs.push(performance.now() - startedMs);
  }
  samplesMs.sort((a, b) => a - b);
  const at = (share: number): number => samplesMs[Math.floor(share * (count - 1))] as number;
  return { p50Ms: at(0.5), p99Ms: at(0.99) };
}

/** Requests a second with so many open at any time. */
export async function rateOf(ask: () => Promise<unknown>, open: number, count: number): Promise<number> {
  const startedMs = performance.now();
  let left = count;
  await Promise.all(
    Array.from({ length: open }, async () => {
      while (left > 0) {
        left -= 1;
        await ask();
      }
    }),
  );
  return count / ((performance.now() - startedMs) / 1000);
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}
