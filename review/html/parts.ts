/** What every report is built of. A tone is a meaning; a word or a shape always says the same without colour. */
import { type Content, type Html, html } from './html.ts';

export type Tone = 'good' | 'caution' | 'bad' | 'unknown' | 'plain';

export interface Banner {
  readonly tone: Tone;
  /** A word or two above the sentence, for example the verdict's name. */
  readonly kicker: Content;
  /** The verdict, as a sentence that somebody reads who reads nothing else. */
  readonly sentence: string;
  readonly more?: Content;
}

export function banner({ tone, kicker, sentence, more }: Banner): Html {
  return html`<header class="${`banner ${tone}`}"><div class="kicker">${kicker}</div><h1>${sentence}</h1>${
    more !== undefined && html`<p>${more}</p>`
  }</header>`;
}

export function badge(tone: Tone, word: string, solid = false): Html {
  return html`<span class="${`badge ${tone}${solid ? ' solid' : ''}`}">${word}</span>`;
}

export interface SectionOptions {
  readonly title: string;
  readonly intro?: Content;
  readonly id?: string;
}

export function section({ title, intro, id = '' }: SectionOptions, content: Content): Html {
  const anchored = id === '' ? html`<h2>${title}</h2>` : html`<h2 id="${id}">${title}</h2>`;
  return html`<section>${anchored}${intro !== undefined && html`<p class="intro">${intro}</p>`}${content}</section>`;
}

export function facts(rows: readonly (readonly [term: string, value: Content])[]): Html {
  return html`<dl class="facts">${rows.map(([term, value]) => html`<dt>${term}</dt><dd>${value}</dd>`)}</dl>`;
}

export function code(text: string): Html {
  return html`<code>${text}</code>`;
}

/** A list of sentences. */
export function notes(items: readonly Content[]): Html {
  return html`<ul class="notes">${items.map((item) => html`<li>${item}</li>`)}</ul>`;
}

export interface CheckLine {
  readonly outcome: 'passed' | 'failed' | 'unknown' | 'not-asked';
  readonly what: Content;
  readonly detail?: Content;
}

const MARKS = {
  passed: ['good', '✓', 'passed'],
  failed: ['bad', '✗', 'failed'],
  unknown: ['unknown', '?', 'cannot tell'],
  'not-asked': ['plain', '–', 'not asked'],
} as const satisfies Record<CheckLine['outcome'], readonly [Tone, string, string]>;

/** Checks as a person would tick them off. */
export function checkList(lines: readonly CheckLine[]): Html {
  return html`<ul class="checks">${lines.map(({ outcome, what, detail }) => {
    const [tone, mark, word] = MARKS[outcome];
    return html`<li class="${tone}"><span class="mark" role="img" aria-label="${word}">${mark}</span><span>${what}</span>${
      detail !== undefined && detail !== '' && html`<span class="detail">${detail}</span>`
    }</li>`;
  })}</ul>`;
}

export interface ListingLine {
  /** Line number in the file; undefined for a line that is in no file. */
  readonly number?: number;
  readonly text: Content;
  /** Marks the line. */
  readonly tone?: Tone;
}

/** The text of a file, line by line, as it stands. */
export function listing(lines: readonly ListingLine[], label: string): Html {
  return html`<div class="listing" role="region" aria-label="${label}" tabindex="0"><ol>${lines.map(
    ({ number, text, tone }) =>
      html`<li class="${tone === undefined ? '' : `marked ${tone}`}"><span>${number}</span><span>${text}</span></li>`,
  )}</ol></div>`;
}

/** A table that scrolls by itself where it is wider than the page. Cells may hold markup. */
export function table(label: string, head: readonly Content[], rows: readonly (readonly Content[])[]): Html {
  return html`<div class="scroll" role="region" aria-label="${label}" tabindex="0"><table><thead><tr>${head.map(
    (cell) => html`<th scope="col">${cell}</th>`,
  )}</tr></thead><tbody>${rows.map(
    (row) => html`<tr>${row.map((cell) => html`<td>${cell}</td>`)}</tr>`,
  )}</tbody></table></div>`;
}
