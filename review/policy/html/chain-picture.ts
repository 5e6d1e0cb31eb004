/** The chain as a picture: what is measured, its register, the line of the policy that pins it, the key. */
import { type Content, type Html, html } from '../../html/html.ts';
import type { Tone } from '../../html/parts.ts';
import { box, dot, path, picture, text, unit } from '../../html/svg.ts';
import type { Chain, ChainLink } from './chain.ts';

/** Two drawings of the same: side by side on a screen and on paper, one below the other on a phone. */
export function chainPicture(chain: Chain): Html {
  return html`${wide(chain)}${narrow(chain)}`;
}

const ROW = 64;
const GAP = 16;
const TOP = 34;

function wide(chain: Chain): Html {
  const { links, statement } = chain;
  const height = TOP + links.length * (ROW + GAP) - GAP + 8;
  const middle = TOP + (height - TOP - 8) / 2;
  const opened = statement !== undefined;
  const rows = links.map((link, index) => {
    const y = TOP + index * (ROW + GAP);
    const centre = y + ROW / 2;
    const { tone, word, line } = stateOf(link, opened);
    return [
      box({ x: 0.5, y, width: 196, height: ROW }, 'frame'),
      text(16, centre + 5, link.source, 'strong'),
      wire(`M197 ${unit(centre)} H236`, 'plain'),
      box({ x: 236, y, width: 206, height: ROW }, 'frame'),
      text(252, centre - 6, link.register, 'strong'),
      text(252, centre + 15, shortValue(link.value), link.value === undefined ? 'soft' : 'mono'),
      wire(`M442 ${unit(centre)} H498`, tone, link.pinnedAtLine === undefined),
      html`<g class="${tone}">${dot(516, centre, 9, 'filled')}${mark(516, centre, link.pinnedAtLine !== undefined)}</g>`,
      text(536, centre - 3, word, 'strong'),
      text(536, centre + 14, line, 'soft tiny'),
      wire(
        `M704 ${unit(centre)} C736 ${unit(centre)} 728 ${unit(middle)} 762 ${unit(middle)}`,
        tone,
        !opened,
      ),
    ];
  });
  return picture({ width: 912, height, label: inWords(chain), className: 'wide-only' }, [
    heading(0, 'What is measured'),
    heading(236, 'Register'),
    heading(498, 'Key policy'),
    heading(762, 'Key'),
    box({ x: 498, y: TOP, width: 206, height: height - TOP - 8 }, 'frame'),
    rows,
    keyBox({ x: 762, y: middle - 62, width: 149, height: 124 }, chain),
  ]);
}

const NARROW = 328;
const NARROW_ROW = 88;

function narrow(chain: Chain): Html {
  const { links, statement } = chain;
  const opened = statement !== undefined;
  const top = 4;
  const last = top + links.length * (NARROW_ROW + 12);
  const height = last + 22 + 124 + 4;
  const rows = links.map((link, index) => {
    const y = top + index * (NARROW_ROW + 12);
    const { tone, word, line } = stateOf(link, opened);
    return [
      wire(`M12 ${unit(y + NARROW_ROW - 22)} V${unit(last + 22)}`, tone, !opened),
      box({ x: 26, y, width: NARROW - 27, height: NARROW_ROW }, 'frame'),
      text(42, y + 24, link.source, 'strong'),
      text(NARROW - 16, y + 24, link.register, 'soft end'),
      text(42, y + 45, shortValue(link.value), link.value === undefined ? 'soft' : 'mono'),
      wire(`M12 ${unit(y + NARROW_ROW - 22)} H42`, tone, link.pinnedAtLine === undefined),
      html`<g class="${tone}">${dot(50, y + NARROW_ROW - 22, 8, 'filled')}${mark(50, y + NARROW_ROW - 22, link.pinnedAtLine !== undefined)}</g>`,
      text(66, y + NARROW_ROW - 17, line === '' ? word : `${word}, ${line}`, 'tiny'),
    ];
  });
  return picture({ width: NARROW, height, label: inWords(chain), className: 'narrow-only' }, [
    rows,
    keyBox({ x: 0.5, y: last + 22, width: NARROW - 1, height: 124 }, chain),
  ]);
}

function heading(x: number, words: string): Html {
  return text(x, 16, words, 'soft tiny');
}

function wire(d: string, tone: Tone, broken = false): Html {
  return html`<g class="${tone}">${path(d, broken ? 'wire tone dashed' : 'wire tone')}</g>`;
}

/** A tick, or a cross. */
function mark(x: number, y: number, good: boolean): Html {
  return path(
    good
      ? `M${unit(x - 4)} ${unit(y)} l3 3.5 l5 -6.5`
      : `M${unit(x - 3)} ${unit(y - 3)} l6 6 M${unit(x + 3)} ${unit(y - 3)} l-6 6`,
    'inverse',
  );
}

function keyBox(
  { x, y, width, height }: { x: number; y: number; width: number; height: number },
  { statement, keyArn, links }: Chain,
): Content {
  const held = links.every(
    ({ register, pinnedAtLine, denyAtLine }) =>
      register !== 'PCR0' || (pinnedAtLine ?? denyAtLine) !== undefined,
  );
  const tone: Tone = statement === undefined ? 'bad' : held ? 'good' : 'caution';
  const centre = x + width / 2;
  return html`<g class="${tone}">${box({ x, y, width, height }, 'tinted', 12)}${path(
    // A key, drawn around the middle.
    `M${unit(centre - 9)} ${unit(y + 30)} m-9 0 a9 9 0 1 0 18 0 a9 9 0 1 0 -18 0 M${unit(centre)} ${unit(y + 30)} h22 v7 M${unit(centre + 14)} ${unit(y + 30)} v5`,
    'wire tone thick',
  )}${text(centre, y + 66, statement === undefined ? 'Not released' : 'Released', 'strong middle toned')}${text(
    centre,
    y + 86,
    statement === undefined
      ? 'to the reviewed image'
      : held
        ? `line ${statement.line}`
        : 'whatever the image',
    'tiny middle',
  )}${text(centre, y + 104, shortKey(keyArn), 'mono tiny middle soft')}</g>`;
}

function stateOf(link: ChainLink, opened: boolean): { tone: Tone; word: string; line: string } {
  const { pinnedAtLine, pinnedValues, denyAtLine } = link;
  const deny = denyAtLine === undefined ? '' : `Deny of others: line ${denyAtLine}`;
  if (!opened) return { tone: 'bad', word: 'no statement applies', line: deny };
  if (pinnedAtLine === undefined) {
    return denyAtLine === undefined
      ? { tone: 'caution', word: 'not pinned', line: 'any value passes' }
      : { tone: 'good', word: 'held by a Deny', line: deny };
  }
  const word =
    pinnedValues === 1 ? `pinned, line ${pinnedAtLine}` : `${pinnedValues} values, line ${pinnedAtLine}`;
  return { tone: 'good', word, line: denyAtLine === undefined ? 'no Deny behind it' : deny };
}

function shortValue(value: string | undefined): string {
  return value === undefined ? 'not supplied' : `${value.slice(0, 8)}…${value.slice(-8)}`;
}

function shortKey(keyArn: string): string {
  const id = keyArn.split('/').at(-1) ?? '';
  return id.length > 18 ? `${id.slice(0, 8)}…${id.slice(-6)}` : id;
}

/** For somebody who hears the page. */
function inWords({ links, statement, keyArn }: Chain): string {
  const rows = links.map((link) => {
    const { word, line } = stateOf(link, statement !== undefined);
    return `${link.source}, ${link.register}: ${[word, line].filter((part) => part !== '').join(', ')}`;
  });
  const end =
    statement === undefined
      ? 'No statement gives the reviewed image the key.'
      : `Statement ${statement.name} at line ${statement.line} gives the reviewed image the key.`;
  return `Chain of trust to ${keyArn}. ${rows.join('. ')}. ${end}`;
}
