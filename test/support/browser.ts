/** Debian's Chromium, headless, to look at pages as a person's browser shows them. */
import { accessSync, constants, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type Browser, chromium } from 'playwright-core';

export const CHROMIUM = (process.env.PATH ?? '')
  .split(delimiter)
  .map((folder) => join(folder, 'chromium'))
  .find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });

const CONTRAST = readFileSync(join(import.meta.dirname, 'contrast.js'), 'utf8');
const OVERFLOW = 'document.documentElement.scrollWidth - document.documentElement.clientWidth';

export async function openBrowser(): Promise<Browser> {
  return chromium.launch({
    executablePath: CHROMIUM as string,
    chromiumSandbox: false,
    args: [
      '--disable-gpu',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  });
}

export interface Look {
  readonly width: number;
  readonly colours: 'light' | 'dark';
}

type Contrast = Pick<Seen, 'faint' | 'measured'>;

export interface Seen {
  /** Everything that left, or would have left but for the network, beside the page itself. */
  readonly fetched: readonly string[];
  /** What the browser complains about: violations of the page's own policy, for example. */
  readonly complaints: readonly string[];
  /** How much wider than the window the page is. */
  readonly overflowPx: number;
  /** Texts and signs with less contrast than WCAG 2.2 AA asks for (1.4.3, 1.4.11). */
  readonly faint: readonly string[];
  /** How many were measured. */
  readonly measured: number;
}

/** Opens the page from a file, as somebody does who got it by mail. */
export async function look(browser: Browser, markup: string, { width, colours }: Look): Promise<Seen> {
  const folder = mkdtempSync(join(tmpdir(), 'strongroom-page-'));
  const url = pathToFileURL(join(folder, 'page.html')).href;
  writeFileSync(join(folder, 'page.html'), markup);
  const page = await browser.newPage({ viewport: { width, height: 800 }, colorScheme: colours });
  try {
    const fetched: string[] = [];
    const complaints: string[] = [];
    page.on('requestfinished', (request) => request.url() !== url && fetched.push(request.url()));
    page.on('requestfailed', (request) => {
      if (request.failure()?.errorText !== 'csp') fetched.push(request.url());
    });
    page.on('console', (message) => complaints.push(message.text()));
    page.on('pageerror', (error) => complaints.push(error.message));
    await page.goto(url);
    const overflowPx = await page.evaluate<number>(OVERFLOW);
    const { faint, measured } = await page.evaluate<Contrast>(CONTRAST);
    return { fetched, complaints, overflowPx, faint, measured };
  } finally {
    await page.close();
    rmSync(folder, { recursive: true, force: true });
  }
}
