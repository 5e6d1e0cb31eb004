/**
 * The simulator's stand-in with one line on its console after each full garbage collection: what the heap still holds.
 * From outside, memory that is held and memory that V8 keeps to use again look the same.
 */
import { constants, type PerformanceEntry, PerformanceObserver } from 'node:perf_hooks';
import { getHeapSpaceStatistics } from 'node:v8';

/** The types of Node do not say what entries of this kind have. */
const isFull = (entry: PerformanceEntry): boolean =>
  (entry as unknown as { detail: { kind: number } }).detail.kind === constants.NODE_PERFORMANCE_GC_MAJOR;

new PerformanceObserver((list) => {
  if (!list.getEntries().some(isFull)) return;
  // What has been made since the collection is in the young spaces.
  const old = getHeapSpaceStatistics().filter(({ space_name }) => !space_name.startsWith('new_'));
  const heldBytes = old.reduce((sum, { space_used_size }) => sum + space_used_size, 0);
  process.stdout.write(`${JSON.stringify({ event: 'collected', heldBytes })}\n`);
}).observe({ entryTypes: ['gc'] });

await import('../../../simulator/enclave.ts');
