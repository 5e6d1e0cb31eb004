import { SEVERITIES, type Severity } from './codes.ts';
import type { TrailFinding, TrailReport, TrailUse } from './report.ts';

const COLOURS: Readonly<Record<Severity, number>> = { critical: 31, high: 31, medium: 33, low: 36, info: 90 };
/** Lines of one kind that are worth a terminal; the JSON has all. */
const SHOWN_MAX = 20;

/** First the sentence, then what somebody must look at, then what is as it should be, then what nobody saw. */
export function trailText(report: TrailReport, colour: boolean): string {
  const { counts, findings, uses } = report;
  const lines = [report.sentence, ''];
  const paint = (severity: Severity): string => {
    const word = severity.padEnd(8);
    return colour ? `\x1b[${COLOURS[severity]}m${word}\x1b[0m` : word;
  };
  for (const severity of SEVERITIES) {
    const own = findings.filter((one) => one.severity === severity);
    for (const finding of own.slice(0, SHOWN_MAX)) lines.push(...findingLines(finding, paint(severity)));
    if (own.length > SHOWN_MAX)
      lines.push(`${paint(severity)}  ${own.length - SHOWN_MAX} more; --json lists them`, '');
  }
  if (uses.length > 0) {
    lines.push('As it should be:', ...uses.slice(0, SHOWN_MAX).map((use) => `  ${useLine(use)}`));
    if (uses.length > SHOWN_MAX) lines.push(`  ${uses.length - SHOWN_MAX} more; --json lists them`);
    lines.push('');
  }
  for (const { code, file, message, count } of report.unreadable) {
    lines.push(
      `Not read: ${plain(file)}: ${plain(message)}${count > 1 ? ` (and ${count - 1} more)` : ''} [${code}]`,
    );
  }
  if (report.unreadable.length > 0) lines.push('');
  lines.push(
    `Read: ${plural(counts.files, 'file')}, ${plural(counts.records, 'record')}, ${counts.kms.toLocaleString('en')} of KMS, ${counts.reviewed.toLocaleString('en')} of the key.`,
  );
  if (report.keys.length === 0 && report.keysSeen.length > 1) {
    lines.push(
      `Keys: ${report.keysSeen
        .slice(0, 5)
        .map(({ key, count }) => `${plain(key)} (${count})`)
        .join(', ')}.`,
    );
  }
  lines.push(
    ...section(
      'Not supplied:',
      report.notSupplied.map(({ what, consequence }) => `${what}: ${consequence}`),
    ),
  );
  lines.push(...section('What no trail shows:', report.notSeen));
  return `${lines.join('\n').trimEnd()}\n`;
}

function findingLines(finding: TrailFinding, severity: string): string[] {
  const { title, code, detail, why, remedy, witness } = finding;
  const lines = [`${severity}  ${title} (${code})`, `          ${useLine(finding)}`];
  if (detail !== '') lines.push(`          what: ${plain(detail)}`);
  lines.push(`          why: ${why}`, `          do: ${remedy}`);
  const [first] = witness;
  if (first !== undefined) {
    const session = first.session === null ? '' : `, session ${plain(first.session)}`;
    lines.push(
      `          see: event ${plain(first.eventId)} of ${first.at}, from ${plain(first.sourceAddress)}${session}`,
    );
  }
  return [...lines, ''];
}

function useLine({ action, principal, image, count, first, last }: TrailUse): string {
  const by = image === null ? '' : `, ${image}`;
  const when = first === last ? first : `${first} to ${last}`;
  return `${plain(action)} by ${plain(principal)}${by}: ${plural(count, 'time')}, ${when}`;
}

function section(title: string, entries: readonly string[]): string[] {
  return entries.length === 0 ? [] : ['', title, ...entries.map((entry) => `  ${entry}`)];
}

function plural(count: number, noun: string): string {
  return `${count.toLocaleString('en')} ${noun}${count === 1 ? '' : 's'}`;
}

/** Text of records moves no cursor and reads in no other direction. */
function plain(text: string): string {
  return text.replaceAll(/[^\p{L}\p{N}\p{P}\p{S} ]/gu, '\uFFFD');
}
