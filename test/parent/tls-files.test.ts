import { execFileSync } from 'node:child_process';
import { mkdtemp, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadTls } from '../../parent/load-tls.ts';
import type { ParentEvent } from '../../parent/observe.ts';
import { watchTls } from '../../parent/tls-files.ts';
import { createTestCa, type Issued } from './models/certificates.ts';
import { writeFiles } from './models/stores.ts';

const HOUR_MS = 3600 * 1000;
const DAY_MS = 24 * HOUR_MS;

interface Files {
  readonly certificate: string;
  readonly key: string;
}

async function setup(issued?: Issued) {
  const folder = await mkdtemp(join(tmpdir(), 'sr-tls-'));
  const ca = await createTestCa();
  const first = issued ?? (await ca.issue({ use: 'client', days: 90 }));
  const files = (await writeFiles(folder, first)) as Files;
  const events: ParentEvent[] = [];
  let clock = Date.now();
  return {
    folder,
    ca,
    files,
    events,
    watch: () =>
      watchTls(files, { name: 'models', observe: (event) => events.push(event), now: () => clock }),
    pass: (ms: number) => {
      clock += ms;
    },
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true }),
  };
}

describe('TLS files under a running parent', () => {
  it('are read again when they change, and only then', async () => {
    await using at = await setup();
    const watched = at.watch();
    const first = watched.current();
    at.pass(60_000);
    expect(watched.current()).toBe(first);
    await writeFiles(at.folder, await at.ca.issue({ use: 'client' }));
    at.pass(2_000);
    const next = watched.current();
    expect(next).not.toBe(first);
    expect(next.certificate?.fingerprint256).not.toBe(first.certificate?.fingerprint256);
    expect(at.events).toEqual([{ event: 'tls-files-reloaded', name: 'models' }]);
    watched.close();
  });

  it('stay as they were while a new certificate has no key yet, and the log says so once', async () => {
    await using at = await setup();
    const watched = at.watch();
    const first = watched.current();
    const next = await at.ca.issue({ use: 'client' });
    await writeFile(at.files.certificate, next.certificate);
    for (let count = 0; count < 3; count += 1) {
      at.pass(2_000);
      expect(watched.current()).toBe(first);
    }
    expect(at.events).toEqual([
      { event: 'tls-files-refused', name: 'models', error: 'PARENT_TLS_FILES_UNUSABLE' },
    ]);
    await writeFile(at.files.key, next.key);
    at.pass(2_000);
    expect(watched.current()).not.toBe(first);
    watched.close();
  });

  it('stay as they were when they are gone', async () => {
    await using at = await setup();
    const watched = at.watch();
    const first = watched.current();
    await rm(at.files.key);
    at.pass(2_000);
    expect(watched.current()).toBe(first);
    expect(at.events).toMatchObject([{ event: 'tls-files-refused' }]);
    watched.close();
  });

  it('stay as they were when they cannot even be looked at', async () => {
    await using at = await setup();
    const watched = at.watch();
    const first = watched.current();
    // Root sees into every folder, but nobody follows a link to itself.
    await rm(at.files.key);
    await symlink(at.files.key, at.files.key);
    at.pass(2_000);
    expect(watched.current()).toBe(first);
    expect(at.events).toMatchObject([{ event: 'tls-files-refused', error: 'PARENT_TLS_FILES_UNUSABLE' }]);
    watched.close();
  });

  it('are warned about 30 days, 7 days and no day before the end, once each', async () => {
    await using at = await setup();
    const watched = at.watch();
    const told: (string | number)[][] = [];
    for (let day = 0; day < 95; day += 1) {
      watched.current();
      at.pass(DAY_MS);
      for (const { event, days } of at.events.splice(0)) told.push([event, Number(days)]);
    }
    expect(told).toEqual([
      ['certificate-expires', 29],
      ['certificate-expires', 6],
      ['certificate-expired', -1],
    ]);
    watched.close();
  });

  it('are warned about when a third and a tenth of a life of hours is left, and at its end', async () => {
    const ca = await createTestCa();
    await using at = await setup(await ca.issue({ use: 'client', days: 1, lifeDays: 30 / 24 }));
    const watched = at.watch();
    at.pass(HOUR_MS / 2);
    const told: (string | number)[][] = [];
    for (let hour = 0; hour <= 27; hour += 1) {
      watched.current();
      for (const { event, hours } of at.events.splice(0)) told.push([event, Number(hours)]);
      at.pass(HOUR_MS);
    }
    expect(told).toEqual([
      ['certificate-expires', 9],
      ['certificate-expires', 2],
      ['certificate-expired', -1],
    ]);
    watched.close();
  });

  it('have their CA warned about as well: of several the one that ends last', async () => {
    await using at = await setup();
    const [older, newer] = [await createTestCa('Older', 20), await createTestCa('Newer', 60)];
    const ca = join(at.folder, 'ca.pem');
    await writeFile(ca, older.certificate + newer.certificate);
    const events: ParentEvent[] = [];
    let clock = Date.now();
    const watched = watchTls(
      { ca },
      { name: 'models', observe: (event) => events.push(event), now: () => clock },
    );
    expect(events).toEqual([]);
    clock += 55 * DAY_MS;
    watched.current();
    expect(events).toMatchObject([{ event: 'certificate-expires', name: 'models ca', days: 5 }]);
    watched.close();
  });

  it('are warned about at the start, and for a new certificate anew', async () => {
    const ca = await createTestCa();
    await using at = await setup(await ca.issue({ use: 'client', days: 3 }));
    const watched = at.watch();
    expect(at.events).toEqual([
      {
        event: 'certificate-expires',
        name: 'models',
        days: 3,
        hours: expect.any(Number),
        notAfter: expect.stringMatching(/^20.*Z$/),
      },
    ]);
    await writeFiles(at.folder, await ca.issue({ use: 'client', days: 20 }));
    at.pass(2_000);
    watched.current();
    expect(at.events.slice(1)).toMatchObject([
      { event: 'tls-files-reloaded' },
      { event: 'certificate-expires', days: 20 },
    ]);
    watched.close();
  });
});

describe('TLS files that cannot be used', () => {
  const refused = { code: 'PARENT_TLS_FILES_UNUSABLE' };
  const cases: readonly (readonly [string, (folder: string, files: Files) => Promise<object>])[] = [
    ['a missing file', async (folder, files) => ({ ...files, key: join(folder, 'none') })],
    ['a folder', async (folder, files) => ({ ...files, ca: folder })],
    [
      'a FIFO',
      async (folder, files) => {
        execFileSync('mkfifo', [join(folder, 'fifo')]);
        return { ...files, key: join(folder, 'fifo') };
      },
    ],
    [
      'a file without end',
      async (folder, files) => {
        await writeFile(join(folder, 'ca'), '');
        await truncate(join(folder, 'ca'), 2 * 1024 * 1024);
        return { ...files, ca: join(folder, 'ca') };
      },
    ],
    ['a key where certificates should be', async (_folder, files) => ({ ...files, ca: files.key })],
    ['a certificate where a key should be', async (_folder, files) => ({ ...files, key: files.certificate })],
    [
      'a CA that is not one certificate long',
      async (folder, files) => {
        const text = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n';
        await writeFile(join(folder, 'ca'), text);
        return { ...files, ca: join(folder, 'ca') };
      },
    ],
    [
      'another certificate’s key',
      async (folder, files) => {
        const { key } = await (await createTestCa()).issue({ use: 'client' });
        await writeFile(join(folder, 'other'), key);
        return { ...files, key: join(folder, 'other') };
      },
    ],
  ];
  for (const [what, make] of cases) {
    it(`are refused: ${what}`, async () => {
      await using at = await setup();
      const files = await make(at.folder, at.files);
      expect(() => loadTls(files)).toThrow(expect.objectContaining(refused));
    });
  }

  it('never put a key into an error', async () => {
    await using at = await setup();
    const { key } = await at.ca.issue();
    await writeFile(at.files.key, key);
    try {
      loadTls(at.files);
      expect.unreachable();
    } catch (error) {
      const secret = key.split('\n')[1] as string;
      expect(JSON.stringify([String(error), (error as Error).cause, (error as Error).stack])).not.toContain(
        secret,
      );
    }
  });
});
