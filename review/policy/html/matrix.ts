/**
 * Who gets what with which evidence, whole: every combination of the report is in the picture. Kinds of evidence that
 * make no difference to somebody share a line, principals who get nothing share the last one.
 */
import { type Content, type Html, html } from '../../html/html.ts';
import { dot, path } from '../../html/svg.ts';
import type { Matrix, MatrixCell } from '../report.ts';
import { toneOfAllowed, worstTone } from './tones.ts';

interface Line {
  readonly attestations: readonly string[];
  /** One an action: of the first of these attestations, as the others are alike. */
  readonly cells: readonly MatrixCell[];
}

export function matrixPicture(matrix: Matrix): Html {
  const rows = alike(
    matrix.principals.map((principal) => ({ names: [principal], lines: linesOf(matrix, principal) })),
  );
  const withSomething = rows.filter(({ lines }) => lines.some(({ cells }) => cells.some(isAllowed)));
  const without = rows.filter((row) => !withSomething.includes(row)).flatMap(({ names }) => names);
  const used = matrix.actions.map((action) =>
    matrix.cells.some((cell) => cell.action === action && isAllowed(cell)),
  );
  const shown = (cells: readonly MatrixCell[]) => cells.filter((_, index) => used[index]);
  const unused = matrix.actions.filter((_, index) => !used[index]);
  const columns = 1 + Math.max(1, used.filter(Boolean).length);
  const group = (name: Content) =>
    html`<tr class="who"><th scope="rowgroup" colspan="${columns}">${name}</th></tr>`;
  return html`<div class="scroll" role="region" aria-label="Who gets what with which evidence" tabindex="0">
<table class="matrix"><thead><tr><th scope="col">With which evidence</th>${matrix.actions
    .filter((_, index) => used[index])
    .map(
      (action) => html`<th scope="col" class="turned"><span>${action.replace(/^kms:/, '')}</span></th>`,
    )}</tr></thead>
${withSomething.map(
  ({ names, lines }) =>
    html`<tbody>${group(commas(names))}${lines.map(
      (line) =>
        html`<tr><td class="evidence">${evidence(line.attestations, matrix.attestations)}</td>${shown(line.cells).map((cell) => mark(cell, line))}</tr>`,
    )}</tbody>`,
)}${
  without.length > 0 &&
  html`<tbody>${group(commas(without))}<tr><td class="evidence">${everything(matrix.attestations)}</td><td class="nothing" colspan="${columns - 1}">nothing</td></tr></tbody>`
}</table></div>
${legend()}${
  unused.length > 0 &&
  html`<p class="soft small">Nobody above is allowed ${commas(unused.map((name) => html`<code>${name}</code>`))}.</p>`
}`;
}

function linesOf({ attestations, cells }: Matrix, principal: string): Line[] {
  const own = cells.filter((cell) => cell.principal === principal);
  const lines = new Map<string, { attestations: string[]; cells: readonly MatrixCell[] }>();
  for (const attestation of attestations) {
    const row = own.filter((cell) => cell.attestation === attestation);
    const answers = row.map(({ answer }) => answer).join();
    const known = lines.get(answers);
    if (known === undefined) lines.set(answers, { attestations: [attestation], cells: row });
    else known.attestations.push(attestation);
  }
  return [...lines.values()].toSorted((a, b) => allowedIn(b) - allowedIn(a));
}

interface Row {
  readonly names: readonly string[];
  readonly lines: readonly Line[];
}

/** Principals with the same answers, for the same reasons, stand together. */
function alike(rows: readonly Row[]): Row[] {
  const found = new Map<string, Row>();
  for (const row of rows) {
    const answers = JSON.stringify(
      row.lines.map(({ attestations, cells }) => [attestations, cells.map(({ because }) => because)]),
    );
    const same = found.get(answers);
    found.set(answers, same === undefined ? row : { ...same, names: [...same.names, ...row.names] });
  }
  return [...found.values()];
}

function allowedIn({ cells }: Line): number {
  return cells.filter(isAllowed).length;
}

function isAllowed({ answer }: MatrixCell): boolean {
  return answer === 'allow';
}

/** All of them named: what is left out here could be what matters. */
function evidence(names: readonly string[], all: readonly string[]): Content {
  if (names.length === all.length) return everything(all);
  return commas(names.map((name) => (name === 'none' ? 'no document' : name)));
}

function commas(items: readonly Content[]): Content {
  return items.map((item, index) => [index > 0 && '; ', item]);
}

function everything(all: readonly string[]): Content {
  return all.length > 1 ? 'whatever the evidence, or none' : 'no document';
}

const WORDS = {
  allow: 'allowed',
  'explicit-deny': 'denied by a statement',
  'implicit-deny': 'not allowed',
} as const;

/** A line that stands for several kinds of evidence has the worst tone of them. */
function mark({ action, answer, because }: MatrixCell, { attestations }: Line): Html {
  const tones = attestations.map((attestation) => toneOfAllowed(action, attestation));
  const tone = answer === 'allow' ? worstTone(tones) : 'plain';
  return html`<td class="${`mark ${tone}`}">${sign(because, WORDS[because])}</td>`;
}

/** A disc, a bar, a point: told apart without colour. */
function sign(because: MatrixCell['because'], label: string): Html {
  const drawn = {
    allow: dot(9, 9, 7, 'filled'),
    'explicit-deny': path('M4 9h10', 'wire'),
    'implicit-deny': dot(9, 9, 1.5, 'faint'),
  }[because];
  return html`<svg class="sign" role="img" aria-label="${label}" width="18" height="18" viewBox="0 0 18 18">${drawn}</svg>`;
}

function legend(): Html {
  const entries: readonly (readonly [tone: string, because: MatrixCell['because'], words: string])[] = [
    ['good', 'allow', 'allowed, to the reviewed image alone'],
    ['bad', 'allow', 'allowed: a way to plaintext'],
    ['caution', 'allow', 'allowed: must be trusted'],
    ['plain', 'allow', 'allowed: yields no plaintext'],
    ['plain', 'explicit-deny', 'denied by a Deny'],
    ['plain', 'implicit-deny', 'nothing allows it'],
  ];
  return html`<ul class="legend">${entries.map(
    ([tone, because, words]) => html`<li class="${tone}">${sign(because, '')}<span>${words}</span></li>`,
  )}</ul>`;
}
