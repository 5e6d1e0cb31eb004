import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { type Log, operatorLog } from '../../parent/log.ts';
import { LOG_EVENTS } from '../../parent/log-events.ts';

const ROOT = join(import.meta.dirname, '..', '..');

describe("the parent's log", () => {
  let text: string;
  let log: Log;

  beforeEach(() => {
    text = '';
    log = operatorLog({
      write: (chunk) => {
        text += chunk;
      },
    });
  });

  const lines = () =>
    text
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line));

  it('is one JSON object a line, with time, level, event and fields', () => {
    log({ event: 'ready', address: '127.0.0.1', port: 7443 });
    log({ event: 'ingress-refused', reason: 'LINK_LOST' });
    expect(lines()).toEqual([
      { time: expect.any(String), level: 'info', event: 'ready', address: '127.0.0.1', port: 7443 },
      { time: expect.any(String), level: 'warn', event: 'ingress-refused', reason: 'LINK_LOST' },
    ]);
    const [{ time }] = lines();
    expect(new Date(time).toISOString()).toBe(time);
  });

  it('takes the level of the entry when it has one', () => {
    log({
      event: 'egress-closed',
      level: 'warn',
      destination: 'kms.test:443',
      end: 'broken',
      up: 1,
      down: 2,
    });
    expect(lines()).toMatchObject([{ level: 'warn', end: 'broken' }]);
  });

  it('leaves out fields that are not listed, whatever they hold', () => {
    log({ event: 'reloaded', destinations: 2, secretAccessKey: 'abc', time: 'never', msg: 'abc', pid: 1 });
    const [line] = lines();
    expect(Object.keys(line).sort()).toEqual(['destinations', 'event', 'level', 'time']);
    expect(line.time).not.toBe('never');
  });

  it('leaves out errors, with their stacks, and objects that are no counters', () => {
    log({ event: 'reload-refused', code: new Error('secret'), message: { nested: 'secret' } });
    log({ event: 'reload-refused', code: ['secret'], message: null });
    expect(text).not.toContain('secret');
    expect(text).not.toContain('stack');
  });

  it('shows counters', () => {
    log({ event: 'stopped', graceful: true, counters: { 'ingress.opened': 2 } });
    expect(lines()).toMatchObject([{ graceful: true, counters: { 'ingress.opened': 2 } }]);
  });

  it('says of an unlisted event that it happened, and nothing of what it held', () => {
    for (const event of ['made-up', 'constructor', '__proto__']) log({ event, token: 'secret' });
    expect(lines()).toMatchObject([
      { level: 'warn', event: 'unlisted', name: 'made-up' },
      { event: 'unlisted', name: 'constructor' },
      { event: 'unlisted', name: '__proto__' },
    ]);
    expect(text).not.toContain('secret');
  });

  it('keeps a hostile text on its one line, and short', () => {
    log({
      event: 'egress-refused',
      destination: `x\n{"event":"ready"}\u2028${'y'.repeat(9_000)}`,
      reason: 'r',
    });
    expect(text.split('\n')).toHaveLength(2);
    expect(text.length).toBeLessThan(1_300);
  });

  it('leaves out a flood of one event, counts it, and shows the others', () => {
    let nowMs = 0;
    log = operatorLog({ write: (line) => (text += line) }, () => nowMs);
    for (let index = 0; index < 500; index += 1) log({ event: 'heartbeat', outcome: 'refused' });
    log({ event: 'enclave-lost', reason: 'ended', servedMs: 1 });
    expect(lines()).toHaveLength(102);
    expect(lines().slice(-2)).toMatchObject([
      { event: 'log-dropped', count: 400 },
      { event: 'enclave-lost', reason: 'ended' },
    ]);
    nowMs = 1_000;
    log({ event: 'heartbeat', outcome: 'answered' });
    expect(lines().at(-1)).toMatchObject({ event: 'heartbeat', outcome: 'answered' });
  });

  it('leaves out what would wait in memory behind a reader that stands still', () => {
    const stream = { writableLength: 0, write: (line: string) => (text += line) };
    log = operatorLog(stream);
    stream.writableLength = 2 * 1024 * 1024;
    log({ event: 'reloaded', destinations: 1 });
    log({ event: 'reloaded', destinations: 2 });
    expect(text).toBe('');
    stream.writableLength = 0;
    log({ event: 'reloaded', destinations: 3 });
    expect(lines()).toMatchObject([
      { event: 'log-dropped', count: 2 },
      { event: 'reloaded', destinations: 3 },
    ]);
  });

  it('lists every event that the parent tells of', () => {
    const files = [
      ...globSync('parent/**/*.ts', { cwd: ROOT, exclude: ['**/node_modules/**'] }),
      'scripts/commands/run.ts',
    ].filter((file) => !file.startsWith('parent/admin/'));
    const unlisted = files
      .map((file) => readFileSync(join(ROOT, file), 'utf8'))
      .flatMap((source) => [...source.matchAll(/\bevent: '([a-z-]+)'/g)])
      .map(([, event]) => String(event))
      .filter((event) => event !== 'unlisted' && !Object.hasOwn(LOG_EVENTS, event));
    expect(unlisted).toEqual([]);
  });
});
