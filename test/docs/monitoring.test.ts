/** The page for operators names every metric, every event and every check, and none that is not there. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { METRIC_FAMILIES } from '../../parent/admin/metric-table.ts';
import { createMetrics } from '../../parent/admin/metrics.ts';
import { LOG_EVENTS } from '../../parent/log-events.ts';

const page = readFileSync(join(import.meta.dirname, '..', '..', 'docs', 'monitoring.md'), 'utf8');

describe('docs/monitoring.md', () => {
  it('has every metric, with its labels', async () => {
    const text = await createMetrics().text({
      counters: {},
      live: true,
      nowMs: 0,
      state: {
        accepting: true,
        draining: false,
        enclave: 'running',
        restarts: 0,
        credentialsExpireAt: undefined,
        denyListExpiresAt: undefined,
        destinations: [],
      },
    });
    const served = [...text.matchAll(/^# TYPE (strongroom_\w+)/gm)].map(([, name]) => name);
    const named = [...page.matchAll(/^\| `(strongroom_\w+)(?:\{[^}]*\})?` \|/gm)].map(([, name]) => name);
    expect(named.toSorted()).toEqual(served.toSorted());
    for (const { name, from } of METRIC_FAMILIES) {
      const labels = Object.entries(from).flatMap(([counter, fixed]) => [
        ...Object.keys(fixed),
        ...(counter.endsWith('.*') ? ['destination'] : []),
      ]);
      const shown = [...new Set(labels)].toSorted().join();
      expect(page).toContain(`| \`${name}${shown === '' ? '' : `{${shown}}`}\` |`);
    }
  });

  it('has every event of the log, with its level and fields', () => {
    const rows = [...page.matchAll(/^\| `([a-z-]+)` \| (info|warn|error) \| ([^|]*) \|/gm)].map(
      ([, event, level, fields]) => [
        event,
        { level, fields: String(fields).replaceAll('`', '').split(', ') },
      ],
    );
    expect(Object.fromEntries(rows)).toEqual(LOG_EVENTS);
  });
});
