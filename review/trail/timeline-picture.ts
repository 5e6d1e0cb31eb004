/** When what happened: a row for each kind of event, bars over time. */
import { type Content, type Html, html } from '../html/html.ts';
import type { Tone } from '../html/parts.ts';
import { box, line, picture, text, unit } from '../html/svg.ts';
import type { Timeline } from './report.ts';

/** Where the parts of a row are; the narrow one has its words above the bars. */
interface Layout {
  readonly width: number;
  /** Left and right end of the bars. */
  readonly left: number;
  readonly right: number;
  readonly row: number;
  /** Of the words, and of the bars, below the row's top. */
  readonly words: number;
  readonly bars: number;
  readonly labelMax: number;
  readonly columnsMax: number;
  readonly ticks: number;
  readonly className: 'wide-only' | 'narrow-only';
}

const WIDE: Layout = {
  width: 900,
  left: 230,
  right: 830,
  row: 44,
  words: 26,
  bars: 6,
  labelMax: 32,
  columnsMax: 120,
  ticks: 5,
  className: 'wide-only',
};
const NARROW: Layout = {
  width: 340,
  left: 0,
  right: 340,
  row: 64,
  words: 14,
  bars: 24,
  labelMax: 38,
  columnsMax: 60,
  ticks: 3,
  className: 'narrow-only',
};

const BAR = 30;
const TOP = 12;

type Row = Timeline['rows'][number];

export function timelinePicture(timeline: Timeline): Content {
  return [WIDE, NARROW].map((layout) => draw(timeline, layout));
}

function draw(timeline: Timeline, layout: Layout): Html {
  const { width, left, right, row: rowHeight, words, labelMax, className } = layout;
  const rows = timeline.rows
    .map((row, index) => ({ row, index }))
    .toSorted((a, b) => order(a.row) - order(b.row));
  const columns = toColumns(timeline, layout.columnsMax);
  const bottom = TOP + rows.length * rowHeight;
  const total = (index: number) => columns.counts.reduce((sum, counts) => sum + (counts[index] ?? 0), 0);
  const told = rows.map(({ row, index }) => `${row.name} ${total(index)}`).join(', ');
  const label = `Events between ${day(columns.fromMs)} and ${day(columns.toMs)}: ${told}`;
  return picture({ width, height: bottom + 34, label, className }, [
    ...ticks(columns.fromMs, columns.toMs, bottom, layout),
    ...rows.map(({ row, index }, position) => {
      const y = TOP + position * rowHeight;
      const base = y + layout.bars + BAR;
      const counts = columns.counts.map((one) => one[index] ?? 0);
      return [
        text(0, y + words, shortened(row.name, labelMax)),
        line(left, base + 1, right, base + 1, 'grid'),
        bars(counts, base, toneOf(row), layout),
        text(width, y + words, total(index).toLocaleString('en'), 'end strong'),
      ];
    }),
  ]);
}

/** Findings first, then attested uses, then the rest. */
function order({ lane, objected }: Row): number {
  return (objected ? 0 : 10) + ['unattested', 'attested', 'control', 'refused', 'other'].indexOf(lane);
}

function toneOf({ lane, objected }: Row): Tone {
  if (objected) return lane === 'refused' ? 'caution' : 'bad';
  return lane === 'attested' ? 'good' : 'plain';
}

interface Columns {
  readonly fromMs: number;
  readonly toMs: number;
  /** Of each column, by row. */
  readonly counts: readonly (readonly number[])[];
}

function toColumns({ slotMs, slots }: Timeline, columnsMax: number): Columns {
  const starts = slots.map(({ at }) => Date.parse(at));
  const fromMs = Math.min(...starts);
  const toMs = Math.max(...starts) + slotMs;
  const width = Math.max(1, Math.min(columnsMax, Math.round((toMs - fromMs) / slotMs)));
  const counts: number[][] = Array.from({ length: width }, () => []);
  for (const [index, slot] of slots.entries()) {
    const column = Math.min(
      width - 1,
      Math.floor((((starts[index] as number) - fromMs) / (toMs - fromMs)) * width),
    );
    const into = counts[column] as number[];
    for (const [row, count] of slot.counts.entries()) into[row] = (into[row] ?? 0) + count;
  }
  return { fromMs, toMs, counts };
}

/** Square roots, so that one event is still seen beside thousands; never less than a visible line. */
function bars(counts: readonly number[], base: number, tone: Tone, { left, right }: Layout): Content {
  const most = Math.max(...counts, 1);
  const step = (right - left) / counts.length;
  const width = Math.min(Math.max(2, step * 0.8), 14);
  return html`<g class="${tone}">${counts.map((count, column) => {
    if (count === 0) return undefined;
    const height = Math.max(4, BAR * Math.sqrt(count / most));
    const x = left + column * step + (step - width) / 2;
    return box({ x, y: base - height, width, height }, 'filled', 1);
  })}</g>`;
}

function ticks(
  fromMs: number,
  toMs: number,
  bottom: number,
  { left, right, ticks: count }: Layout,
): Content[] {
  const short = toMs - fromMs < 3 * 24 * 3600 * 1000;
  return Array.from({ length: count }, (_, index) => {
    const share = index / (count - 1);
    const x = left + share * (right - left);
    const at = new Date(fromMs + share * (toMs - fromMs)).toISOString();
    const side = index === 0 ? 'start' : index === count - 1 ? 'end' : 'middle';
    return [
      html`<line class="grid dashed" x1="${unit(x)}" y1="${unit(TOP)}" x2="${unit(x)}" y2="${unit(bottom)}"/>`,
      text(x, bottom + 22, short ? at.slice(5, 16).replace('T', ' ') : at.slice(0, 10), `soft tiny ${side}`),
    ];
  });
}

const day = (ms: number): string => new Date(ms).toISOString().slice(0, 10);

function shortened(name: string, most: number): string {
  return name.length <= most ? name : `${name.slice(0, most - 1)}…`;
}
