import { describe, expect, it } from 'vitest';
import { Admission, BodyBudget } from '../../../enclave/serve/admission.ts';

const never = new AbortController().signal;
const CALLER = 'caller';

/** Work in the place of a caller. */
async function run<T>(
  admission: Admission,
  work: () => Promise<T>,
  signal: AbortSignal,
  caller = CALLER,
): Promise<T> {
  using _place = await admission.enter(caller, signal);
  signal.throwIfAborted();
  return await work();
}

/** Work that ends when the test says so. */
function work() {
  const { promise, resolve } = Promise.withResolvers<void>();
  const state = {
    started: false,
    finish: resolve,
    run: () => {
      state.started = true;
      return promise;
    },
  };
  return state;
}
const tick = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const overloaded = expect.objectContaining({ code: 'API_OVERLOADED' });

describe('admission to a model', () => {
  it('lets a fixed number in, queues a bounded number, and refuses the rest at once', async () => {
    const admission = new Admission(2, { queueLength: 1, waitMs: 60_000 });
    const all = [work(), work(), work(), work()];
    const runs = all.map((one) => run(admission, one.run, never));
    await expect(runs[3]).rejects.toEqual(overloaded);
    expect(all.map(({ started }) => started)).toEqual([true, true, false, false]);
    all[0]?.finish();
    await runs[0];
    await tick();
    expect(all[2]?.started).toBe(true);
    for (const { finish } of all) finish();
    await Promise.all(runs.slice(0, 3));
  });

  it('serves in order of arrival, also when work fails', async () => {
    const admission = new Admission(1, { queueLength: 10, waitMs: 60_000 });
    const order: number[] = [];
    const runs = [0, 1, 2, 3].map((index) =>
      run(
        admission,
        async () => {
          order.push(index);
          await tick();
          if (index % 2 === 0) throw new Error('failed');
        },
        never,
      ),
    );
    const results = await Promise.allSettled(runs);
    expect(order).toEqual([0, 1, 2, 3]);
    expect(results.map(({ status }) => status)).toEqual(['rejected', 'fulfilled', 'rejected', 'fulfilled']);
    await run(admission, async () => {}, never);
  });

  it('gives the place of whoever leaves the queue to another', async () => {
    const admission = new Admission(1, { queueLength: 1, waitMs: 60_000 });
    const first = work();
    const running = run(admission, first.run, never);
    const gone = new AbortController();
    const left = work();
    const leaving = run(admission, left.run, gone.signal);
    gone.abort(new Error('gone'));
    await expect(leaving).rejects.toThrow('gone');
    const other = run(admission, async () => 'served', never);
    first.finish();
    await running;
    expect(await other).toBe('served');
    expect(left.started).toBe(false);
  });

  it('loses no place when a caller leaves just as its turn comes', async () => {
    const admission = new Admission(1, { queueLength: 4, waitMs: 60_000 });
    const first = work();
    const running = run(admission, first.run, never);
    const gone = new AbortController();
    const leaving = run(admission, async () => 'served', gone.signal);
    first.finish();
    await running;
    gone.abort(new Error('gone'));
    await leaving.catch(() => undefined);
    expect(await run(admission, async () => 'served', never)).toBe('served');
  });

  it('does not start for a caller that has gone already', async () => {
    const admission = new Admission(1, { queueLength: 1, waitMs: 60_000 });
    const late = work();
    await expect(run(admission, late.run, AbortSignal.abort(new Error('gone')))).rejects.toThrow('gone');
    expect(late.started).toBe(false);
  });
});

describe('fairness between callers', () => {
  const start = (admission: Admission, order: string[], caller: string, name: string) => {
    const one = work();
    const done = run(
      admission,
      () => {
        order.push(name);
        return one.run();
      },
      never,
      caller,
    );
    return { ...one, done };
  };

  it('gives turns round and round, however many requests one of them has waiting', async () => {
    const admission = new Admission(1, { queueLength: 10, waitMs: 60_000 });
    const order: string[] = [];
    const [greedy, modest] = ['greedy', 'modest'];
    const all = [
      start(admission, order, greedy, 'g0'),
      ...['g1', 'g2', 'g3'].map((name) => start(admission, order, greedy, name)),
      start(admission, order, modest, 'm1'),
    ];
    for (const { finish } of all) finish();
    await Promise.all(all.map(({ done }) => done));
    expect(order).toEqual(['g0', 'g1', 'm1', 'g2', 'g3']);
  });

  it('takes the newest of whoever has most waiting when the queue is full', async () => {
    const admission = new Admission(1, { queueLength: 3, waitMs: 60_000 });
    const order: string[] = [];
    const [greedy, modest] = ['greedy', 'modest'];
    const kept = [start(admission, order, greedy, 'g0'), start(admission, order, greedy, 'g1')];
    kept.push(start(admission, order, greedy, 'g2'));
    const newest = start(admission, order, greedy, 'g3');
    kept.push(start(admission, order, modest, 'm1'));
    await expect(newest.done).rejects.toEqual(overloaded);
    await expect(start(admission, order, greedy, 'g4').done).rejects.toEqual(overloaded);
    for (const { finish } of kept) finish();
    await Promise.all(kept.map(({ done }) => done));
    expect(order).toEqual(['g0', 'g1', 'm1', 'g2']);
    expect(admission.waiting).toBe(0);
  });

  it('lets nobody wait for ever', async () => {
    const admission = new Admission(1, { queueLength: 3, waitMs: 20 });
    const first = work();
    const running = run(admission, first.run, never);
    const waiting = run(admission, first.run, never, 'other');
    await expect(waiting).rejects.toEqual(expect.objectContaining({ code: 'API_DEADLINE' }));
    expect(admission.waiting).toBe(0);
    first.finish();
    await running;
  });

  it('keeps nothing of a caller who has left', async () => {
    const admission = new Admission(1, { queueLength: 3, waitMs: 60_000 });
    const first = work();
    const running = run(admission, first.run, never);
    const gone = new AbortController();
    const leaving = run(admission, first.run, gone.signal, 'other');
    gone.abort(new Error('gone'));
    await expect(leaving).rejects.toThrow('gone');
    expect(admission.waiting).toBe(0);
    first.finish();
    await running;
  });
});
describe('the memory for bodies', () => {
  it('is bounded over all requests, and comes back', () => {
    const budget = new BodyBudget(10);
    const first = budget.open();
    first.take(2);
    first.take(4);
    {
      using second = budget.open();
      expect(() => second.take(5)).toThrow(overloaded);
      second.take(4);
    }
    first[Symbol.dispose]();
    expect(() => budget.open().take(10)).not.toThrow();
  });
});
