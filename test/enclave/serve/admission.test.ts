import { describe, expect, it } from 'vitest';
import { Admission, BodyBudget } from '../../../enclave/serve/admission.ts';

const never = new AbortController().signal;

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
    const admission = new Admission(2, 1);
    const all = [work(), work(), work(), work()];
    const runs = all.map(({ run }) => admission.run(run, never));
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
    const admission = new Admission(1, 10);
    const order: number[] = [];
    const runs = [0, 1, 2, 3].map((index) =>
      admission.run(async () => {
        order.push(index);
        await tick();
        if (index % 2 === 0) throw new Error('failed');
      }, never),
    );
    const results = await Promise.allSettled(runs);
    expect(order).toEqual([0, 1, 2, 3]);
    expect(results.map(({ status }) => status)).toEqual(['rejected', 'fulfilled', 'rejected', 'fulfilled']);
    await admission.run(async () => {}, never);
  });

  it('gives the place of whoever leaves the queue to another', async () => {
    const admission = new Admission(1, 1);
    const first = work();
    const running = admission.run(first.run, never);
    const gone = new AbortController();
    const left = work();
    const leaving = admission.run(left.run, gone.signal);
    gone.abort(new Error('gone'));
    await expect(leaving).rejects.toThrow('gone');
    const other = admission.run(async () => 'served', never);
    first.finish();
    await running;
    expect(await other).toBe('served');
    expect(left.started).toBe(false);
  });

  it('loses no place when a caller leaves just as its turn comes', async () => {
    const admission = new Admission(1, 4);
    const first = work();
    const running = admission.run(first.run, never);
    const gone = new AbortController();
    const leaving = admission.run(async () => 'served', gone.signal);
    first.finish();
    await running;
    gone.abort(new Error('gone'));
    await leaving.catch(() => undefined);
    expect(await admission.run(async () => 'served', never)).toBe('served');
  });

  it('does not start for a caller that has gone already', async () => {
    const admission = new Admission(1, 1);
    const late = work();
    await expect(admission.run(late.run, AbortSignal.abort(new Error('gone')))).rejects.toThrow('gone');
    expect(late.started).toBe(false);
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
