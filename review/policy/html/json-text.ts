/** JSON text on a page: names, strings and signs told apart, the text itself untouched. */
import { type Content, html } from '../../html/html.ts';

const TOKEN = /("(?:[^"\\]|\\.)*")(\s*:)?|[{}[\],:]|[^"{}[\],:]+|"/g;

/** One line; a string that goes on beyond it (which JSON has not) is shown as it is. */
export function jsonLine(line: string): Content {
  return [...line.matchAll(TOKEN)].map(([whole, text, colon]) => {
    if (text === undefined)
      return /^[{}[\],:]$/.test(whole) ? html`<span class="soft">${whole}</span>` : whole;
    if (colon !== undefined) return [html`<b>${text}</b>`, html`<span class="soft">${colon}</span>`];
    return html`<span class="string">${text}</span>`;
  });
}

/** Lines as the parser counts them: a carriage return alone ends none, and is shown as what it is. */
export function linesOf(text: string): string[] {
  return text.split('\n').map((line) => (line.endsWith('\r') ? line.slice(0, -1) : line));
}
