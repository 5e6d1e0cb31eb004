/** When what happened: a row for each kind of event, bars over time. */
import { type Content, type Html, html } from '../html/html.ts';
import type { Tone } from '../html/parts.ts';
import { box, line, picture, text, unit } from '../html/svg.ts';
import type { Timeline } from './report.ts';

const WIDTH = 900;
const LABELS = 230;
const COUNTS = 70;
const ROW = 44;
const BAR = 30;
const TOP = 12;
const COLUMNS_MAX = 120;
const TICKS = 5;
const LABEL_MAX = 32;

type Row = Timeline['rows'][number];

export function timelinePicture(timeline: Timeline): Html {
  const rows = timeline.rows
    .map((row, index) => ({ row, index }))
    .toSorted((a, b) => order(a.row) - order(b.row));
  const columns = toColumns(timeline);
  const height = TOP + rows.length * ROW + 34;
  const total = (index: number) => columns.counts.reduce((sum, counts) => sum + (counts[index] ?? 0), 0);
  const told = rows.map(({ row, index }) => `${row.name} ${total(index)}`).join(', ');
  const label = `Events between ${day(columns.fromMs)} and ${day(columns.toMs)}: ${told}`;
  return picture({ width: WIDTH, height, label }, [
    ...ticks(columns.fromMs, columns.toMs, TOP + rows.length * ROW),
    ...rows.map(({ row, index }, position) => {
      const y = TOP + position * ROW;
      return [
        text(0, y + ROW / 2 + 4, shortened(row.name)),
        line(LABELS, y + BAR + 7, WIDTH - COUNTS, y + BAR + 7, 'grid'),
        bars(
          columns.counts.map((counts) => counts[index] ?? 0),
          y,
          toneOf(row),
        ),
        text(WIDTH, y + ROW / 2 + 4, total(index).toLocaleString('en'), 'end strong'),
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

function toColumns({ slotMs, slots }: Timeline): Columns {
  const starts = slots.map(({ at }) => Date.parse(at));
  const fromMs = Math.min(...starts);
  const toMs = Math.max(...starts) + slotMs;
  const width = Math.max(1, Math.min(COLUMNS_MAX, Math.round((toMs - fromMs) / slotMs)));
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
function bars(counts: readonly number[], y: number, tone: Tone): Content {
  const most = Math.max(...counts, 1);
  const step = (WIDTH - COUNTS - LABELS) / counts.length;
  const width = Math.min(Math.max(2, step * 0.8), 14);
  return html`<g class="${tone}">${counts.map((count, column) => {
    if (count === 0) return undefined;
    const height = Math.max(4, BAR * Math.sqrt(count / most));
    const x = LABELS + column * step + (step - width) / 2;
    return box({ x, y: y + 6 + BAR - height, width, height }, 'filled', 1);
  })}</g>`;
}

function ticks(fromMs: number, toMs: number, y: number): Content[] {
  const right = WIDTH - COUNTS;
  const short = toMs - fromMs < 3 * 24 * 3600 * 1000;
  return Array.from({ length: TICKS }, (_, index) => {
    const share = index / (TICKS - 1);
    const x = LABELS + share * (right - LABELS);
    const at = new Date(fromMs + share * (toMs - fromMs)).toISOString();
    const side = index === 0 ? 'start' : index === TICKS - 1 ? 'end' : 'middle';
    return [
      html`<line class="grid dashed" x1="${unit(x)}" y1="${unit(TOP)}" x2="${unit(x)}" y2="${unit(y)}"/>`,
      text(x, y + 22, short ? at.slice(5, 16).replace('T', ' ') : at.slice(0, 10), `soft tiny ${side}`),
    ];
  });
}

const day = (ms: number): string => new Date(ms).toISOString().slice(0, 10);

function shortened(name: string): string {
  return name.length <= LABEL_MAX ? name : `${name.slice(0, LABEL_MAX - 1)}…`;
}
