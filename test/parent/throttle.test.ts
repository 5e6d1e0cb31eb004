import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { ParentEvent } from '../../parent/observe.ts';
import { throttled } from '../../parent/throttle.ts';

describe('a flood of refusals in the log', () => {
  const seen: ParentEvent[] = [];
  const observe = throttled((event) => seen.push(event));

  beforeEach(() => {
    seen.length = 0;
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.runAllTimers();
    vi.useRealTimers();
  });

  it('is one line at once and then one a second, which says for how many it stands', () => {
    for (let count = 0; count < 500; count += 1)
      observe({ event: 'ingress-refused', reason: 'LINK_UNREACHABLE' });
    expect(seen).toEqual([{ event: 'ingress-refused', reason: 'LINK_UNREACHABLE' }]);
    vi.advanceTimersByTime(1_000);
    expect(seen.slice(1)).toEqual([{ event: 'ingress-refused', reason: 'LINK_UNREACHABLE', count: 499 }]);
    observe({ event: 'ingress-refused', reason: 'LINK_UNREACHABLE' });
    vi.advanceTimersByTime(1_000);
    expect(seen.slice(2)).toEqual([{ event: 'ingress-refused', reason: 'LINK_UNREACHABLE', count: 1 }]);
  });

  it('hides no other event and no other reason', () => {
    observe({ event: 'ingress-refused', reason: 'LINK_UNREACHABLE' });
    observe({ event: 'ingress-refused', reason: 'too-many-connections' });
    observe({ event: 'egress-refused', reason: 'too-many' });
    expect(seen.length).toBe(3);
  });

  it('is told at once again after a second of quiet', () => {
    observe({ event: 'ingress-refused', reason: 'LINK_TIMEOUT' });
    vi.advanceTimersByTime(1_000);
    observe({ event: 'ingress-refused', reason: 'LINK_TIMEOUT' });
    expect(seen.length).toBe(2);
  });
});
