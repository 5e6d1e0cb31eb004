import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, describe, expect, it } from 'vitest';
import { TrailError } from '../../../review/trail/errors.ts';
import type { TrailExpectations } from '../../../review/trail/judge.ts';
import { reviewTrail } from '../../../review/trail/read.ts';
import type { TrailReport } from '../../../review/trail/report.ts';
import { trailHtml } from '../../../review/trail/report-html.ts';
import { trailReport } from '../../../review/trail/report-of.ts';
import { trailText } from '../../../review/trail/report-text.ts';
import { TrailTally } from '../../../review/trail/tally.ts';
import { tallyInThreads } from '../../../review/trail/tally-threads.ts';
import { codeOf } from '../../../shared/errors.ts';
import {
  ACCOUNT,
  EXPECTED,
  eventOf,
  type Fields,
  fill,
  KEY,
  OTHER_KEY,
  recipient,
  record,
  session,
} from './records.ts';

const folder = mkdtempSync(join(tmpdir(), 'strongroom-trail-'));
afterAll(() => rmSync(folder, { recursive: true }));
const write = (name: string, content: string | Uint8Array): string => {
  writeFileSync(join(folder, name), content);
  return join(folder, name);
};
const records = (...list: readonly Fields[]) => JSON.stringify({ Records: list });
const review = (paths: string | readonly string[], expected: Partial<TrailExpectations> = {}) =>
  reviewTrail([paths].flat(), { ...EXPECTED, ...expected }, { failOn: 'low' });

const UNATTESTED = { additionalEventData: undefined };
const DEBUG = { additionalEventData: { recipient: recipient({ 0: fill(0), 1: fill(0), 2: fill(0) }) } };
const WIPE = {
  eventName: 'PutKeyPolicy',
  readOnly: false,
  userIdentity: session(`arn:aws:iam::${ACCOUNT}:role/Other`),
  ...UNATTESTED,
};

describe('the report', () => {
  it('has nothing to object to where each use was by a reviewed image', async () => {
    const path = write('clean.json', records(record(), record({ eventTime: '2026-11-30T13:00:00Z' })));
    const report = await review(path);
    expect(report).toMatchObject({
      verdict: 'CLEAN',
      severity: 'info',
      period: { from: '2026-11-30T12:00:00Z', to: '2026-11-30T13:00:00Z' },
      counts: {
        files: 1,
        records: 2,
        kms: 2,
        reviewed: 2,
        attested: 2,
        unattested: 0,
        refused: 0,
        control: 0,
      },
      findings: [],
      uses: [{ action: 'Decrypt', image: 'strongroom 1.4.0', count: 2 }],
      keysSeen: [{ key: KEY, count: 2 }],
      unreadable: [],
      notSupplied: [],
    });
    expect(report.sentence).toBe(
      'Between 2026-11-30 12:00 UTC and 2026-11-30 13:00 UTC the key was used 2 times with attestation, by strongroom 1.4.0; nothing to object to.',
    );
  });

  it('names the worst first, and groups what differs in time only, with records to look up', async () => {
    const path = write(
      'bad.json',
      records(record(WIPE), record(), record(DEBUG), record(UNATTESTED), record(DEBUG)),
    );
    const { verdict, severity, findings, sentence } = await review(path);
    expect({ verdict, severity }).toEqual({ verdict: 'FINDINGS', severity: 'critical' });
    expect(findings.map(({ code, count }) => `${code} ${count}`)).toEqual([
      'debug-image 2',
      'unattested-plaintext 1',
      'policy-admin 1',
    ]);
    expect(findings[0]?.witness).toHaveLength(2);
    expect(findings[0]).toMatchObject({
      image: 'debug image',
      why: expect.stringContaining('debug mode'),
      remedy: expect.any(String),
    });
    expect(sentence).toMatch(
      /^CRITICAL: used by a debug enclave \(2 times\), plaintext without attestation \(once\) and /,
    );
  });

  it('is only about the keys that were asked for, whichever way they are named', async () => {
    const other = { resources: [{ ARN: OTHER_KEY }], requestParameters: { keyId: OTHER_KEY }, ...UNATTESTED };
    const sameIdElsewhere = {
      resources: [{ ARN: KEY.replace('eu-central-1', 'us-east-1') }],
      requestParameters: null,
      ...UNATTESTED,
    };
    const path = write('keys.json', records(record(), record(other), record(sameIdElsewhere)));
    expect((await review(path)).counts).toMatchObject({ kms: 3, reviewed: 1 });
    expect((await review(path, { keys: [KEY.split('/')[1] as string] })).counts).toMatchObject({
      reviewed: 2,
    });
    const all = await review(path, { keys: [] });
    expect(all.counts).toMatchObject({ reviewed: 3, unattested: 2 });
    expect(all.notSupplied.map(({ what }) => what)).toEqual(['key (--key)']);
  });

  it('cannot say anything without release manifests, or about a key that no record names', async () => {
    const path = write('undecided.json', records(record()));
    expect((await review(path, { releases: undefined })).verdict).toBe('UNDECIDED');
    expect((await review(path, { keys: [OTHER_KEY] })).sentence).toBe(
      'Cannot say: none of 1 records is about the key.',
    );
    const bad = write('undecided-bad.json', records(record(), record(UNATTESTED)));
    expect((await review(bad, { releases: undefined })).verdict).toBe('FINDINGS');
  });

  it('calls a finding only what is as severe as was asked for, and still shows the rest', async () => {
    const path = write('low.json', records(record(), record({ ...WIPE, eventName: 'UpdateAlias' })));
    const options = (failOn: 'low' | 'medium') => ({ failOn });
    expect((await reviewTrail([path], EXPECTED, options('low'))).verdict).toBe('FINDINGS');
    const lenient = await reviewTrail([path], EXPECTED, options('medium'));
    expect(lenient).toMatchObject({
      verdict: 'CLEAN',
      severity: 'low',
      findings: [{ code: 'alias-changed' }],
    });
  });

  it('has a picture’s worth of counts: every event in a slot, whenever it was', async () => {
    const times = ['1970-01-01T00:00:00Z', '2026-11-30T12:00:00Z', '9999-12-31T23:59:59Z'];
    const path = write('times.json', records(...times.map((eventTime) => record({ eventTime }))));
    const { timeline } = await review(path);
    expect(timeline.rows).toEqual([{ name: 'strongroom 1.4.0', lane: 'attested', objected: false }]);
    expect(timeline.slots.reduce((sum, { counts }) => sum + (counts[0] ?? 0), 0)).toBe(3);
  });

  it('stays small, whoever makes up principals, images, times, keys and faults', () => {
    const taken = new TrailTally({ ...EXPECTED, keys: [] });
    for (let index = 0; index < 6000; index++) {
      const image = Buffer.alloc(48);
      image.writeUInt32BE(index + 1);
      taken.file();
      taken.record();
      taken.event(
        eventOf({
          eventTime: new Date(Math.floor(index ** 3 * 1e3)).toISOString(),
          userIdentity: session(`arn:aws:iam::${ACCOUNT}:role/R${index}`),
          additionalEventData: { recipient: recipient({ 0: image }) },
          resources: [{ ARN: `${KEY}${index}` }],
        }),
      );
      taken.fault(`file ${index}`, new TrailError('TRAIL_RECORD', 'x'));
    }
    const report = trailReport(taken.data, EXPECTED, 'low');
    expect(report.findings.reduce((sum, { count }) => sum + count, 0)).toBe(6000);
    expect(report.findings.length).toBeLessThan(2100);
    expect(report.timeline.slots.length).toBeLessThanOrEqual(4096);
    expect(report.timeline.rows.length).toBeLessThanOrEqual(24);
    expect(
      report.timeline.slots.reduce((sum, { counts }) => sum + counts.reduce((a, b) => a + b, 0), 0),
    ).toBe(6000);
    expect(report.unreadable.reduce((sum, { count }) => sum + count, 0)).toBe(6000);
    expect(report.unreadable.length).toBeLessThanOrEqual(102);
  });
});

describe('files', () => {
  const good = records(record(), record());
  const faults = async (path: string) => {
    const { verdict, counts, unreadable } = await review(path);
    return { verdict, reviewed: counts.reviewed, codes: unreadable.map(({ code }) => code) };
  };

  it('are read from folders, compressed or not, by what they are and not by their name', async () => {
    const place = join(folder, 'AWSLogs');
    mkdirSync(join(place, '2026', '11'), { recursive: true });
    writeFileSync(join(place, '2026', 'a.json'), good);
    writeFileSync(join(place, '2026', '11', 'b.json.gz'), gzipSync(good));
    writeFileSync(join(place, '2026', '11', 'c.json'), Buffer.concat([gzipSync(good), gzipSync(good)]));
    writeFileSync(join(place, '2026', '11', 'd.gz'), `${JSON.stringify(record())}\n`);
    writeFileSync(join(place, 'README.txt'), 'not a trail');
    symlinkSync(place, join(place, 'loop'));
    expect((await review(place)).counts).toMatchObject({ files: 4, reviewed: 9 });
    // One that is named is read whatever its name.
    expect((await review(write('trail.txt', good))).counts).toMatchObject({ reviewed: 2 });
  });

  it('that are cut off are read as far as they go, and are no clean trail', async () => {
    expect(await faults(write('cut.json', good.slice(0, -20)))).toEqual({
      verdict: 'UNREADABLE',
      reviewed: 1,
      codes: ['TRAIL_TRUNCATED'],
    });
    const lines = Array.from({ length: 2000 }, () => JSON.stringify(record())).join('\n');
    const compressed = gzipSync(lines);
    const { verdict, codes } = await faults(write('cut.gz', compressed.subarray(0, compressed.length - 100)));
    expect({ verdict, codes }).toEqual({ verdict: 'UNREADABLE', codes: ['TRAIL_TRUNCATED'] });
  });

  it('that are damaged or no trail at all are said to be so', async () => {
    const compressed = gzipSync(good);
    compressed[40] = (compressed[40] as number) ^ 0xff;
    expect((await faults(write('damaged.gz', compressed))).codes).toEqual(['TRAIL_COMPRESSION']);
    expect((await faults(write('picture.json', Buffer.from([0x89, 0x50, 0x4e, 0x47])))).codes).toEqual([
      'TRAIL_FORMAT',
    ]);
    expect((await faults(write('nested.gz', gzipSync(gzipSync(good))))).codes).toEqual(['TRAIL_FORMAT']);
  });

  it('that grow without end are stopped, whatever they hold', async () => {
    const block = gzipSync(Buffer.alloc(64 << 20, 0x20));
    const bomb = write('bomb.gz', Buffer.concat(Array.from({ length: 8 }, () => block)));
    const before = process.memoryUsage().rss;
    expect(await faults(bomb)).toEqual({ verdict: 'UNREADABLE', reviewed: 0, codes: ['TRAIL_COMPRESSION'] });
    expect(process.memoryUsage().rss - before).toBeLessThan(200 << 20);
  }, 60_000);

  it('with a record that cannot be read without doubt keep the others, and name the place', async () => {
    const twice = JSON.stringify(record()).replace('"eventName"', '"eventName":"Encrypt","eventName"');
    const report = await review(write('twice.json', `{"Records":[${JSON.stringify(record())},${twice}]}`));
    expect(report).toMatchObject({ verdict: 'UNREADABLE', counts: { records: 2, reviewed: 1 } });
    expect(report.unreadable[0]).toMatchObject({
      code: 'TRAIL_RECORD',
      count: 1,
      message: expect.stringMatching(/^the record at byte \d+: a member is repeated$/),
    });
  });

  it('that are not there are an error', async () => {
    const code = (path: string) =>
      review(path).then(
        () => undefined,
        (error: NodeJS.ErrnoException) => codeOf(error) ?? error.code,
      );
    mkdirSync(join(folder, 'empty'));
    expect(await code(join(folder, 'empty'))).toBe('TRAIL_EMPTY');
    expect(await code(join(folder, 'absent'))).toBe('ENOENT');
    expect(await code('/dev/null')).toBe('TRAIL_EMPTY');
  });
});

describe('several threads', () => {
  const place = join(folder, 'many');
  const kinds: readonly Fields[] = [
    {},
    UNATTESTED,
    DEBUG,
    WIPE,
    { errorCode: 'AccessDenied', errorMessage: 'no' },
  ];

  it('give the report that one gives, whichever ends first', async () => {
    mkdirSync(place);
    for (let file = 0; file < 12; file++) {
      const list = Array.from({ length: (file % 4) * 300 + 1 }, (_, index) =>
        record({
          ...kinds[(index + file) % kinds.length],
          eventTime: new Date(1.79e12 + (file * 7919 + index) * 60_000).toISOString(),
          userIdentity: session(`arn:aws:iam::${ACCOUNT}:role/R${index % 300}`),
        }),
      );
      writeFileSync(
        join(place, `${file}.json`),
        file === 5 ? records(...list).slice(0, -9) : records(...list),
      );
    }
    const read: number[] = [];
    const ask = (threads: number) =>
      reviewTrail([place], EXPECTED, { failOn: 'low', threads, onProgress: (done) => read.push(done) });
    const one = await ask(1);
    expect(one.counts.records).toBeGreaterThan(5000);
    expect(one.unreadable).toHaveLength(1);
    for (const threads of [2, 5]) expect(await ask(threads)).toEqual(one);
    expect(Math.max(...read)).toBeGreaterThan(1 << 20);
  }, 60_000);

  it('end when a file cannot be opened, and when somebody interrupts', async () => {
    const absent = [join(place, '0.json'), join(place, 'absent.json')].map((path) => ({
      path,
      sizeBytes: 1,
    }));
    const options = { tally: new TrailTally(EXPECTED), count: 2, onRead: () => {} };
    await expect(tallyInThreads(absent, EXPECTED, options)).rejects.toMatchObject({ code: 'ENOENT' });
    const interrupted = reviewTrail([place], EXPECTED, {
      failOn: 'low',
      threads: 2,
      onProgress: () => {
        throw new Error('interrupted');
      },
    });
    await expect(interrupted).rejects.toThrow('interrupted');
  }, 60_000);
});

describe('for people', () => {
  const hostile = '\u001b[2J<script>alert(1)</script>\u202e';
  const shown = async (): Promise<TrailReport> =>
    review(
      write(
        'hostile.json',
        records(
          record(),
          record(DEBUG),
          record({
            ...UNATTESTED,
            userIdentity: { type: 'IAMUser', arn: hostile, accountId: ACCOUNT },
            eventID: hostile,
            sourceIPAddress: hostile,
          }),
          record({ ...UNATTESTED, errorCode: 'AccessDenied', errorMessage: hostile }),
        ),
      ),
    );

  it('the text begins with the sentence, and no record moves the cursor', async () => {
    const report = await shown();
    const text = trailText(report, false);
    expect(text.split('\n')[0]).toBe(report.sentence);
    expect(text).toContain('critical  Used by a debug enclave (debug-image)');
    expect(text).toMatch(/What no trail shows:\n {2}Which deployment ran/);
    for (const character of ['\u001b', '\u202e']) expect(text).not.toContain(character);
    expect(trailText(report, true)).toContain('\u001b[31mcritical');
  });

  it('the page has the sentence and the picture, and nothing of a record becomes markup', async () => {
    const report = await shown();
    const page = trailHtml(report);
    expect(page).toContain('<h1>CRITICAL: ');
    expect(page).toMatch(
      /<svg class="picture wide-only" role="img" aria-label="Events between 2026-11-30 and /,
    );
    expect(page).toContain('strongroom 1.4.0');
    expect(page).not.toContain('<script');
    for (const character of ['\u001b', '\u202e']) expect(page).not.toContain(character);
  });

  it('the page of an empty trail has no picture', async () => {
    const page = trailHtml(await review(write('nothing.json', '{"Records":[]}')));
    expect(page).toContain('Cannot say');
    expect(page).not.toContain('<svg');
  });
});
