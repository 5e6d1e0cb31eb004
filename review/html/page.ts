/**
 * One file that is all there is: no script, nothing fetched, readable from a disk in ten years. Its own Content
 * Security Policy says so to the browser: the one style sheet is allowed by its hash, and nothing else at all.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { type Content, Html, html } from './html.ts';

export interface Page {
  readonly title: string;
  readonly body: Content;
}

export function htmlPage({ title, body }: Page): string {
  const sheet = styleSheet();
  const hash = createHash('sha256').update(sheet).digest('base64');
  const policy = `default-src 'none'; style-src 'sha256-${hash}'; base-uri 'none'; form-action 'none'`;
  const head = html`<title>${title}</title>`;
  const content = html`<main>${body}</main>`;
  return [
    '<!doctype html>',
    '<html lang="en">',
    '<head>',
    '<meta charset="utf-8">',
    `<meta http-equiv="Content-Security-Policy" content="${policy}">`,
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    '<meta name="color-scheme" content="light dark">',
    '<meta name="referrer" content="no-referrer">',
    Html.markupOf(head),
    `<style>${sheet}</style>`,
    '</head>',
    `<body>${Html.markupOf(content)}</body>`,
    '</html>',
    '',
  ].join('\n');
}

let sheet: string | undefined;

function styleSheet(): string {
  sheet ??= readFileSync(new URL('style.css', import.meta.url), 'utf8').trim();
  return sheet;
}
