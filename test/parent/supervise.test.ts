import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { EnclaveHealth } from '../../parent/control.ts';
import type { ParentEvent } from '../../parent/observe.ts';
import { backoff, type Launcher, type Sight, type Supervisor, supervise } from '../../parent/supervise.ts';

const TIMINGS = {
  bootTimeoutMs: 60_000,
  pollMs: 1_000,
  silencesMax: 3,
  unreadyMs: 10_000,
  backoffMs: { first: 1_000, most: 16_000 },
  stableMs: 100_000,
};

interface World {
  readonly launcher: Launcher;
  health: EnclaveHealth;
  sight: Sight;
  serves: boolean;
}

/**
 * A supervisor under a clock of its own: time passes only while it sleeps. `script` is told of every sleep, and
 * changes the world or ends the supervisor, so that a test is one run and never a race.
 */
async function supervised(
  { health, sight, serves, ...change }: Partial<Launcher> & Partial<Omit<World, 'launcher'>>,
  script: (at: {
    readonly nowMs: number;
    readonly world: World;
    readonly calls: readonly string[];
    readonly supervisor: Supervisor;
  }) => void,
) {
  const calls: string[] = [];
  const events: ParentEvent[] = [];
  const noted =
    <T>(name: string, run: () => Promise<T>) =>
    (): Promise<T> => {
      calls.push(name);
      return run();
    };
  const world: World = {
    launcher: {
      clear: noted('clear', change.clear ?? (async () => {})),
      start: noted('start', () => (change.start ?? (async () => {}))(new AbortController().signal)),
      look: noted('look', change.look ?? (async () => world.sight)),
      terminate: noted('terminate', change.terminate ?? (async () => {})),
    },
    health: health ?? 'ready',
    sight: sight ?? 'running',
    serves: serves ?? true,
  };
  let nowMs = 0;
  const done = Promise.withResolvers<void>();
  const supervisor: Supervisor = supervise({
    launcher: world.launcher,
    health: async () => world.health,
    serves: async () => world.serves,
    clock: {
      nowMs: () => nowMs,
      sleep: async (milliseconds, signal) => {
        if (signal.aborted) return;
        nowMs += milliseconds;
        try {
          script({ nowMs, world, calls, supervisor });
        } catch (error) {
          done.reject(error);
          supervisor.drain();
        }
        if (supervisor.state() === 'draining') done.resolve();
      },
    },
    random: () => 1,
    observe: (event) => events.push(event),
    timings: TIMINGS,
  });
  await done.promise;
  const stopped = await supervisor.stop().then(
    () => undefined,
    (error: Error) => error.message,
  );
  return {
    calls,
    events,
    stopped,
    supervisor,
    states: events.filter(({ event }) => event === 'enclave-state').map(({ state }) => state),
    delays: events.filter(({ event }) => event === 'enclave-restarting').map(({ delayMs }) => delayMs),
    eventsOf: (name: string) => events.filter(({ event }) => event === name),
  };
}

describe('an enclave that runs', () => {
  it('is cleared for, started, watched, and ended with the parent', async () => {
    const run = await supervised({}, ({ nowMs, supervisor }) => {
      if (nowMs >= 20_000) supervisor.drain();
    });
    expect(run.calls).toEqual(['clear', 'start', 'terminate']);
    expect(run.states).toEqual(['starting', 'running', 'draining', 'stopped']);
    expect(run.supervisor.state()).toBe('stopped');
    expect(run.eventsOf('enclave-serving')).toEqual([{ event: 'enclave-serving', bootMs: 0 }]);
  });

  it('counts as running once it is ready and takes connections, and not before', async () => {
    const away = { health: 'silent', serves: false } as const;
    const run = await supervised(away, ({ nowMs, world, supervisor }) => {
      expect(supervisor.state()).toBe(nowMs <= 12_000 ? 'starting' : 'running');
      world.health = nowMs < 5_000 ? 'silent' : nowMs < 9_000 ? 'live' : 'ready';
      world.serves = nowMs >= 12_000;
      if (nowMs >= 20_000) supervisor.drain();
    });
    expect(run.eventsOf('enclave-serving')).toEqual([{ event: 'enclave-serving', bootMs: 12_000 }]);
    expect(run.supervisor.restarts()).toBe(0);
  });

  it('nobody is asked about it as long as its control port answers', async () => {
    const run = await supervised({}, ({ nowMs, supervisor }) => {
      if (nowMs >= 1_000_000) supervisor.drain();
    });
    expect(run.calls).not.toContain('look');
  });
});

describe('an enclave that ends', () => {
  it('is noticed, and another is started after a pause', async () => {
    const run = await supervised({}, ({ nowMs, world, supervisor }) => {
      const dead = nowMs === 5_000;
      world.health = dead ? 'silent' : 'ready';
      world.sight = dead ? 'gone' : 'running';
      if (nowMs >= 20_000) supervisor.drain();
    });
    expect(run.states).toEqual([
      ...['starting', 'running', 'restarting', 'starting', 'running', 'draining', 'stopped'],
    ]);
    expect(run.eventsOf('enclave-lost')).toEqual([
      { event: 'enclave-lost', reason: 'ended', servedMs: 5_000 },
    ]);
    expect(run.delays).toEqual([1_000]);
    expect(run.supervisor.restarts()).toBe(1);
  });

  it('is not started again once the parent drains', async () => {
    const run = await supervised({}, ({ nowMs, world, supervisor }) => {
      if (nowMs === 5_000) {
        world.sight = 'gone';
        world.health = 'silent';
        supervisor.drain();
      }
    });
    expect(run.calls.filter((call) => call === 'start')).toHaveLength(1);
    expect(run.states).toEqual(['starting', 'running', 'draining', 'stopped']);
  });

  it('during its boot is not waited for', async () => {
    const run = await supervised({ health: 'silent' }, ({ nowMs, world, calls, supervisor }) => {
      world.sight = nowMs === 3_000 ? 'gone' : 'running';
      if (calls.includes('terminate')) world.health = 'ready';
      if (nowMs >= 10_000) supervisor.drain();
    });
    expect(run.eventsOf('enclave-start-failed')).toEqual([
      { event: 'enclave-start-failed', reason: 'ended-during-boot', code: 'NITRO_ENCLAVE_SILENT' },
    ]);
    expect(run.states.slice(0, 4)).toEqual(['starting', 'restarting', 'starting', 'running']);
  });
});

describe('an enclave that is of no use', () => {
  it('because it is silent though it runs, is ended and replaced after a few looks', async () => {
    const run = await supervised({}, ({ nowMs, world, calls, supervisor }) => {
      world.health = 'silent';
      if (calls.includes('terminate')) world.health = 'ready';
      if (nowMs >= 30_000) supervisor.drain();
    });
    expect(run.eventsOf('enclave-lost')).toEqual([
      { event: 'enclave-lost', reason: 'silent', servedMs: 3_000 },
    ]);
    expect(run.calls.slice(0, 8)).toEqual([
      ...['clear', 'start', 'look', 'look', 'look', 'terminate', 'clear', 'start'],
    ]);
  });

  it('is given time when nobody can say whether it runs, and no more than that', async () => {
    const look = async (): Promise<Sight> => {
      throw new Error('nitro-cli is broken');
    };
    const run = await supervised({ look }, ({ nowMs, world, calls, supervisor }) => {
      world.health = calls.includes('terminate') ? 'ready' : 'silent';
      if (nowMs >= 30_000) supervisor.drain();
    });
    expect(run.eventsOf('enclave-look-failed')).toHaveLength(3);
    expect(run.eventsOf('enclave-lost')).toMatchObject([{ reason: 'silent' }]);
  });

  it('because it answers and is not ready, as after a drain of its own, is replaced in the end', async () => {
    const run = await supervised({}, ({ nowMs, world, calls, supervisor }) => {
      world.health = calls.includes('terminate') ? 'ready' : 'live';
      if (nowMs >= 60_000) supervisor.drain();
    });
    expect(run.eventsOf('enclave-lost')).toEqual([
      { event: 'enclave-lost', reason: 'not-ready', servedMs: 11_000 },
    ]);
  });

  it('because an engine is started again, is left alone when it comes back in time', async () => {
    const run = await supervised({}, ({ nowMs, world, supervisor }) => {
      world.health = nowMs % 9_000 === 0 ? 'ready' : 'live';
      if (nowMs >= 200_000) supervisor.drain();
    });
    expect(run.supervisor.restarts()).toBe(0);
  });

  it('because it does not come to serve in time, is ended and replaced', async () => {
    const run = await supervised({ serves: false }, ({ nowMs, world, calls, supervisor }) => {
      world.serves = calls.includes('terminate');
      if (nowMs >= 100_000) supervisor.drain();
    });
    expect(run.eventsOf('enclave-start-failed')).toMatchObject([{ reason: 'boot-timeout' }]);
    expect(run.eventsOf('enclave-serving')).toHaveLength(1);
  });
});

describe('an enclave that cannot be started', () => {
  const broken = async (): Promise<void> => {
    throw Object.assign(new Error('no memory'), {});
  };

  it('is tried again for ever, with pauses that double up to a bound', async () => {
    const run = await supervised({ start: broken }, ({ calls, supervisor }) => {
      if (calls.filter((call) => call === 'start').length >= 8) supervisor.drain();
    });
    expect(run.delays).toEqual([1_000, 2_000, 4_000, 8_000, 16_000, 16_000, 16_000, 16_000]);
    expect(run.eventsOf('enclave-start-failed')).toHaveLength(8);
    expect(run.eventsOf('enclave-start-failed')[0]).toMatchObject({ message: 'no memory' });
  });

  it('every attempt first clears what an earlier one may have left', async () => {
    const run = await supervised({ start: broken }, ({ calls, supervisor }) => {
      if (calls.filter((call) => call === 'start').length >= 2) supervisor.drain();
    });
    expect(run.calls.slice(0, 6)).toEqual(['clear', 'start', 'terminate', 'clear', 'start', 'terminate']);
  });

  it('pauses are short again after one that ran for long', async () => {
    let starts = 0;
    const start = async (): Promise<void> => {
      starts += 1;
      if (starts <= 4 || starts === 6) throw new Error('not yet');
    };
    const run = await supervised({ start }, ({ nowMs, world, supervisor }) => {
      const dead = starts === 5 && nowMs >= 150_000;
      world.health = dead ? 'silent' : 'ready';
      world.sight = dead ? 'gone' : 'running';
      if (starts >= 7) supervisor.drain();
    });
    expect(run.delays).toEqual([1_000, 2_000, 4_000, 8_000, 1_000, 2_000]);
  });

  it('is looked for by its leftovers when it cannot be terminated', async () => {
    const terminate = async (): Promise<void> => {
      throw new Error('held');
    };
    const run = await supervised({ start: broken, terminate }, ({ calls, supervisor }) => {
      if (calls.filter((call) => call === 'clear').length >= 3) supervisor.drain();
    });
    expect(run.eventsOf('enclave-terminate-failed').length).toBeGreaterThanOrEqual(3);
    expect(run.stopped).toBe('held');
    expect(run.supervisor.state()).toBe('stopped');
  });
});

describe('the pause before a restart', () => {
  it('lies between a half and the whole of a doubling time, and never beyond the bound', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 100_000 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (n, random) => {
          const delay = backoff(n, { first: 1_000, most: 60_000 }, random);
          const whole = Math.min(60_000, 1_000 * 2 ** (n - 1));
          return delay >= whole / 2 && delay <= whole;
        },
      ),
      { numRuns: 200 },
    );
  });
});
