/** The page in a real browser: readable in light and dark, no wider than the window, and nothing fetched. */
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { trailHtml } from '../../../review/trail/report-html.ts';
import { trailReport } from '../../../review/trail/report-of.ts';
import { TrailTally } from '../../../review/trail/tally.ts';
import { CHROMIUM, look, openBrowser } from '../../support/browser.ts';
import { ACCOUNT, EXPECTED, eventOf, type Fields, fill, recipient, session } from './records.ts';

const DENIED = { errorCode: 'AccessDenied', errorMessage: 'no' };
const KINDS: readonly Fields[] = [
  {},
  {},
  {},
  { additionalEventData: undefined },
  { additionalEventData: { recipient: recipient({ 0: fill(0) }) } },
  { additionalEventData: { recipient: recipient({ 0: fill(7) }) } },
  { additionalEventData: undefined, ...DENIED },
  {
    additionalEventData: undefined,
    eventName: 'PutKeyPolicy',
    readOnly: false,
    userIdentity: session(`arn:aws:iam::${ACCOUNT}:role/KeyAdmin`),
  },
  {
    additionalEventData: undefined,
    eventName: 'Encrypt',
    userIdentity: session(`arn:aws:iam::${ACCOUNT}:role/Owner`),
  },
];

/** A month of it. */
function month(of: (index: number) => Fields, events = 600): string {
  const review = new TrailTally(EXPECTED);
  for (let index = 0; index < events; index++) {
    const eventTime = `${new Date(1.79e12 + index * 4_400_000).toISOString().slice(0, 19)}Z`;
    review.record();
    review.event(eventOf({ ...of(index), eventTime }));
  }
  return trailHtml(trailReport(review.data, EXPECTED, 'low'));
}

const LONG = `arn:aws:iam::${ACCOUNT}:role/${'very-long-name-'.repeat(20)}<b>"&' in words`;

describe.skipIf(CHROMIUM === undefined)('in a browser (skipped where chromium is missing)', () => {
  let browser: Browser;
  beforeAll(async () => {
    browser = await openBrowser();
  });
  afterAll(() => browser?.close());

  const pages: readonly (readonly [string, string])[] = [
    ['every kind of event', month((index) => KINDS[index % KINDS.length] as Fields)],
    [
      'long names',
      month(
        () => ({
          additionalEventData: undefined,
          userIdentity: { type: 'IAMUser', arn: LONG },
          eventID: LONG,
        }),
        3,
      ),
    ],
    ['no event', trailHtml(trailReport(new TrailTally(EXPECTED).data, EXPECTED, 'low'))],
  ];
  const looks = [360, 1280].flatMap((width) =>
    (['light', 'dark'] as const).map((colours) => ({ width, colours })),
  );

  describe.each(pages)('%s', (_, markup) => {
    it.each(looks)('$colours, $width pixels wide', async (how) => {
      const seen = await look(browser, markup, how);
      expect(seen).toMatchObject({ fetched: [], complaints: [], faint: [] });
      expect(seen.overflowPx).toBeLessThanOrEqual(0);
      expect(seen.measured).toBeGreaterThan(10);
    });
  });
});
