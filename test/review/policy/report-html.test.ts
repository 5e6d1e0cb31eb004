/** The page that people read: the same with hostile text on it, complete, and readable in a real browser. */
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { PolicyReviewReport } from '../../../review/policy/report.ts';
import { policyReviewHtml } from '../../../review/policy/report-html.ts';
import { CHROMIUM, look, openBrowser } from '../../support/browser.ts';
import { reportOf } from './made-reports.ts';

const WHEN = { toolVersion: '1.2.3', at: new Date('2026-11-30T12:00:00Z') };
const htmlOf = (report: PolicyReviewReport) => policyReviewHtml(report, WHEN);

describe('the page of a review', () => {
  it.each([
    '<script>alert(1)</script>',
    '"><img src=x onerror=alert(1)>',
    '</style></title><script>alert(1)</script>',
    "' onload='alert(1)",
    'javascript:alert(1)',
  ])('has the same tags whatever the policy, the files and the suppressions say: %s', (hostile) => {
    expect(tagsOf(htmlOf(reportOf(hostile)))).toEqual(tagsOf(htmlOf(reportOf('quiet'))));
  });

  it('shows a name that reads backwards as what it is', () => {
    expect(htmlOf(reportOf('role/\u202enimdA'))).toContain('role/⟨U+202E⟩nimdA');
  });

  it('is the same bytes for the same report', () => {
    expect(htmlOf(reportOf('x'))).toBe(htmlOf(reportOf('x')));
  });
});

describe.skipIf(CHROMIUM === undefined)('in a browser (skipped where chromium is missing)', () => {
  let browser: Browser;
  beforeAll(async () => {
    browser = await openBrowser();
  });
  afterAll(() => browser?.close());

  const LONG = `${'arn:aws:iam::111122223333:role/'.padEnd(200, 'very-long-name-')} <b>"&' text with many words in it`;
  const pages: readonly (readonly [string, string])[] = [
    ['every part', htmlOf(reportOf('words'))],
    ['long and hostile text', htmlOf(reportOf(LONG))],
  ];
  const looks = [360, 1280].flatMap((width) =>
    (['light', 'dark'] as const).map((colours) => ({ width, colours })),
  );

  describe.each(pages)('%s', (_name, markup) => {
    it.each(looks)(
      '$colours, $width pixels wide: readable, no wider than the window, nothing fetched',
      async (how) => {
        const seen = await look(browser, markup, how);
        expect(seen.fetched).toEqual([]);
        expect(seen.complaints).toEqual([]);
        expect(seen.overflowPx).toBeLessThanOrEqual(0);
        expect(seen.faint).toEqual([]);
        expect(seen.measured).toBeGreaterThan(60);
      },
    );
  });

  it('would notice faint text, an image, a script and a page that is too wide', async () => {
    const page = htmlOf(reportOf('words'));
    const spoilt = page
      .replace(/<meta http-equiv[^>]*>/, '')
      .replace('<main>', '<main><p style="color: #999; background: #fff; min-width: 3000px">faint</p>')
      .replace('</main>', '<img src="https://127.0.0.1:9/x.png"><script>console.log("ran")</script></main>');
    const seen = await look(browser, spoilt, { width: 360, colours: 'light' });
    expect(seen.faint).toEqual([expect.stringContaining('faint')]);
    expect(seen.fetched).toEqual(['https://127.0.0.1:9/x.png']);
    expect(seen.complaints).toContain('ran');
    expect(seen.overflowPx).toBeGreaterThan(1000);
  });

  it('would stop a script and an image, had one got in', async () => {
    const spoilt = htmlOf(reportOf('words')).replace(
      '</main>',
      '<img src="https://127.0.0.1:9/x.png"><script>console.log("ran")</script></main>',
    );
    const seen = await look(browser, spoilt, { width: 1280, colours: 'light' });
    expect(seen.fetched).toEqual([]);
    expect(seen.complaints).not.toContain('ran');
    expect(seen.complaints.join()).toContain('Content Security Policy');
  });
});

function tagsOf(page: string): string[] {
  return [...page.matchAll(/<(\/?[a-z!][\w-]*)([^<>]*)>/gi)].map(
    ([, name, attributes = '']) =>
      `${name} ${[...attributes.matchAll(/([\w:-]+)="[^"]*"/g)].map(([, one]) => one)}`,
  );
}
