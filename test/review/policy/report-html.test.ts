/** The page that people read: the same with hostile text on it, complete, and readable in a real browser. */
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { generateKeyPolicy } from '../../../review/policy/generate.ts';
import type { PolicyReviewReport } from '../../../review/policy/report.ts';
import { policyReviewHtml } from '../../../review/policy/report-html.ts';
import { reviewPolicy } from '../../../review/policy/review.ts';
import type { Supplied } from '../../../review/policy/supplied.ts';
import { CHROMIUM, look, openBrowser } from '../../support/browser.ts';
import { describeWithVectors } from '../../vectors.ts';
import { reportOf } from './made-reports.ts';
import { IMAGE, labelled, NOW, requestFor } from './support.ts';

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

describe('the page of a real review', () => {
  const generated = generateKeyPolicy({
    accountId: '111122223333',
    hostRoleArn: 'arn:aws:iam::111122223333:role/EnclaveHost',
    administratorArns: ['arn:aws:iam::111122223333:role/KeyAdmin'],
    sealerArns: ['arn:aws:iam::111122223333:role/ModelOwner'],
    releases: [{ pcr0: IMAGE.pcr0, pcr16: '16'.repeat(48), modelName: 'iris' }],
  });
  /** The host is that of the policy. */
  const { pcr3: _host, pcr4: _instance, ...image } = IMAGE;
  const pageOf = (text: string, registers: Record<string, string> = { ...image, pcr16: '16'.repeat(48) }) =>
    htmlOf(
      reviewPolicy({
        policy: { name: 'policy.json', bytes: Buffer.from(text) },
        reviewed: [{ name: 'the reviewed image', registers }],
        now: NOW,
      }),
    );
  /** As text, with the tags left out. */
  const cards = (page: string) =>
    [...page.matchAll(/<article[\s\S]*?<\/article>/g)].map(([card]) =>
      read(card.replaceAll(/<[^<>]*>/g, '')),
    );

  it('shows the chain from image, deployment and host to the key, each pinned and backed by a Deny', () => {
    const [label = ''] = /Chain of trust[^"]*/.exec(pageOf(generated)) ?? [];
    expect(read(label)).toMatch(
      /Enclave image, PCR0: pinned, line \d+, Deny of others: line \d+\. .*PCR3: pinned, line \d+, Deny.*Deployment document, PCR16: pinned, line \d+, Deny.*gives the reviewed image the key\./,
    );
  });

  it('shows where the chain is broken: another image, and a pin that is missing', () => {
    const other = pageOf(generated, { ...image, pcr0: '11'.repeat(48) });
    expect(read(other)).toContain('No statement gives the reviewed image the key.');
    const loose = JSON.parse(generated);
    for (const statement of loose.Statement) {
      const { Condition: condition } = statement;
      delete condition?.StringEqualsIgnoreCase?.['kms:RecipientAttestation:PCR3'];
    }
    loose.Statement = loose.Statement.filter(({ Sid }: { Sid: string }) => Sid !== 'DenyOtherHostRoles');
    const page = pageOf(JSON.stringify(loose, undefined, 2));
    expect(read(page)).toContain("Parent's IAM role, PCR3: not pinned, any value passes");
  });

  it('shows of a policy in one line the statement that a finding is about, and not the rest', () => {
    const [admin = '', ...others] = cards(pageOf(JSON.stringify(JSON.parse(generated))));
    expect(admin).toContain('"Sid":"AdministratorsManage"');
    expect(admin).not.toContain('"Sid":"SealersEncrypt"');
    expect(others.join()).toContain('"Sid":"SealersEncrypt"');
  });

  it('ticks nothing off that nobody could see: grants and trust policies that were not supplied', () => {
    const outside = (supplied?: Supplied) =>
      reviewPolicy({
        policy: { name: 'policy.json', bytes: Buffer.from(generated) },
        reviewed: [{ name: 'the reviewed image', registers: { ...image, pcr16: '16'.repeat(48) } }],
        ...(supplied !== undefined && { supplied }),
        now: NOW,
      }).checks.find(({ id }) => id === 'outside')?.outcome;
    const seen = { grants: [], trustPolicies: new Map(), iamPolicies: new Map(), notUnderstood: [] };
    expect(outside()).toBe('skipped');
    expect(outside({ grants: [], notUnderstood: [] })).toBe('skipped');
    expect(outside(seen)).toBe('passed');
  });

  it.each([
    ['of Windows', '\r\n'],
    ['with carriage returns that end no line', '\n\r\r'],
  ])('numbers lines as the review does: %s', (_what, end) => {
    const [admin = ''] = cards(pageOf(generated.replaceAll('\n', end)));
    expect(admin).toMatch(/69(⟨U\+000D⟩)* {4}\{70/);
  });
});

describeWithVectors('pages of labelled policies', (folder) => {
  const expected = labelled(folder);
  const ids = ['R044', 'R056', 'R061', 'A025', 'A058', 'A091'];
  let browser: Browser | undefined;
  beforeAll(async () => {
    browser = CHROMIUM === undefined ? undefined : await openBrowser();
  });
  afterAll(() => browser?.close());

  it.skipIf(CHROMIUM === undefined).each(ids.map((id, index) => [id, index] as const))(
    '%s can be read in a browser (skipped where chromium is missing)',
    async (id, index) => {
      const vector = expected.vectors.find((one) => one.id === id);
      if (vector === undefined) throw new Error(`no policy ${id}`);
      const report = reviewPolicy(requestFor(folder, expected, vector));
      const width = index % 2 === 0 ? 360 : 1280;
      const seen = await look(browser as Browser, htmlOf(report), {
        width,
        colours: index % 3 === 0 ? 'dark' : 'light',
      });
      expect(seen).toMatchObject({ fetched: [], complaints: [], faint: [] });
      expect(seen.overflowPx).toBeLessThanOrEqual(0);
      expect(seen.measured).toBeGreaterThan(100);
    },
  );
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

/** Text as a browser reads it. */
function read(markup: string): string {
  return markup.replaceAll(/&#(\d+);/g, (_, digits) => String.fromCharCode(Number(digits)));
}
