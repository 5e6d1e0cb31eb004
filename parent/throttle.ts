import type { Observe, ParentEvent } from './observe.ts';

const INTERVAL_MS = 1_000;

/**
 * Keeps a flood of the same refusal out of the log: the first of each event and reason passes at once, then at
 * most one a second, whose `count` says for how many it stands. The log's own bound (log.ts) is for everything else, and
 * for what is not alike: it only drops, so without this a flood of one refusal would drop what its reasons have to say.
 */
export function throttled(observe: Observe): Observe {
  const held = new Map<string, { last: ParentEvent; count: number }>();

  function wait(kind: string): void {
    setTimeout(() => {
      const waiting = held.get(kind);
      if (waiting === undefined || waiting.count === 0) {
        held.delete(kind);
        return;
      }
      observe({ ...waiting.last, count: waiting.count });
      waiting.count = 0;
      wait(kind);
    }, INTERVAL_MS).unref();
  }

  return (event) => {
    const kind = `${event.event} ${event.reason}`;
    const waiting = held.get(kind);
    if (waiting !== undefined) {
      waiting.last = event;
      waiting.count += 1;
      return;
    }
    held.set(kind, { last: event, count: 0 });
    observe(event);
    wait(kind);
  };
}
