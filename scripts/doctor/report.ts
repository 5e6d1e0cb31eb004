/** The findings, for a person. */
import type { Outcome } from './check.ts';
import type { Finding } from './examine.ts';

const COLOURS: Readonly<Record<Outcome, string>> = { ok: '32', warning: '33', problem: '31', skipped: '2' };
const WIDTH = 10;

export class Report {
  readonly #colour: boolean;
  #group = '';

  constructor(colour: boolean) {
    this.#colour = colour;
  }

  /** The lines of one finding, below the title of its group. */
  lines({ group, outcome, id, found, why, action }: Finding): string {
    const lines: string[] = [];
    if (group !== this.#group) {
      lines.push(`${this.#group === '' ? '' : '\n'}${this.#paint('1', group)}`);
      this.#group = group;
    }
    const word = this.#paint(COLOURS[outcome], outcome.padEnd(WIDTH));
    lines.push(`  ${word}${id.padEnd(22)}  ${found}`);
    if (outcome === 'warning' || outcome === 'problem') {
      const margin = ' '.repeat(WIDTH + 2);
      lines.push(`${margin}${this.#paint('2', 'why ')}  ${why}`);
      if (action !== undefined) lines.push(`${margin}${this.#paint('2', 'next')}  ${action}`);
    }
    return `${lines.join('\n')}\n`;
  }

  #paint(code: string, text: string): string {
    return this.#colour ? `\x1b[${code}m${text}\x1b[0m` : text;
  }
}

/** One line to end with. */
export function summaryOf(findings: readonly Finding[]): string {
  const of = (outcome: Outcome) => findings.filter((finding) => finding.outcome === outcome).length;
  const counts = `${of('ok')} ok, ${of('warning')} warnings, ${of('problem')} problems, ${of('skipped')} skipped`;
  if (of('problem') > 0) {
    const first = findings.find(({ outcome }) => outcome === 'problem');
    return `\n${counts}. Begin with the first problem, ${first?.id}: it is often the cause of others.\n`;
  }
  if (findings.some(({ undecided }) => undecided === true))
    return `\n${counts}. Not everything could be told.\n`;
  return `\n${counts}.\n`;
}
