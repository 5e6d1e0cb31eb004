/** The report as one page: the sentence, the picture of when what happened, findings, uses, and what nobody saw. */

import { type Html, html } from '../html/html.ts';
import { htmlPage } from '../html/page.ts';
import { badge, banner, code, facts, notes, section, type Tone, table } from '../html/parts.ts';
import type { Severity } from './codes.ts';
import type { TrailFinding, TrailReport, TrailUse, TrailVerdict } from './report.ts';
import { timelinePicture } from './timeline-picture.ts';

const TONES: Readonly<Record<Severity, Tone>> = {
  critical: 'bad',
  high: 'bad',
  medium: 'caution',
  low: 'plain',
  info: 'plain',
};
const VERDICTS: Readonly<Record<TrailVerdict, readonly [Tone, string]>> = {
  CLEAN: ['good', 'Nothing to object to'],
  FINDINGS: ['bad', 'Findings'],
  UNREADABLE: ['unknown', 'Not everything could be read'],
  UNDECIDED: ['unknown', 'Cannot say'],
};
/** A page that somebody reads; the JSON has all. */
const SHOWN_MAX = 200;

export function trailHtml(report: TrailReport): string {
  const [verdictTone, word] = VERDICTS[report.verdict];
  const tone = report.verdict === 'FINDINGS' ? TONES[report.severity] : verdictTone;
  return htmlPage({
    title: `Trail review: ${word}`,
    body: html`<div class="masthead"><span>Strongroom trail review</span><span>${report.period === null ? 'no events' : `${report.period.from} to ${report.period.to}`}</span></div>${[
      banner({ tone, kicker: badge(tone, word, true), sentence: report.sentence }),
      summary(report),
      report.timeline.slots.length > 0 &&
        section(
          {
            title: 'When what happened',
            intro:
              'Each row is a kind of event; a taller bar is more of them, on a scale of its own for each row.',
          },
          timelinePicture(report.timeline),
        ),
      report.findings.length > 0 && findings(report.findings),
      report.uses.length > 0 &&
        section(
          { title: 'As it should be' },
          table('Uses', USE_HEAD, report.uses.slice(0, SHOWN_MAX).map(useRow)),
        ),
      report.unreadable.length > 0 &&
        section(
          { title: 'Not read' },
          table(
            'Not read',
            ['File', 'Why', 'Code', 'How often'],
            report.unreadable.map(({ file, message, code: cause, count }) => [
              code(file),
              message,
              code(cause),
              count,
            ]),
          ),
        ),
      report.notSupplied.length > 0 &&
        section(
          { title: 'What was not supplied' },
          notes(
            report.notSupplied.map(({ what, consequence }) => html`<strong>${what}</strong>: ${consequence}`),
          ),
        ),
      section({ title: 'What no trail shows' }, notes(report.notSeen)),
    ]}<footer>${report.schema.name}, version ${report.schema.version}</footer>`,
  });
}

function summary({ counts, keys, keysSeen }: TrailReport): Html {
  const shown = keys.length > 0 ? keys : keysSeen.slice(0, 5).map(({ key }) => key);
  return section(
    { title: 'What was read' },
    facts([
      [shown.length === 1 ? 'Key' : 'Keys', shown.map((key) => html`<div>${code(key)}</div>`)],
      [
        'Records',
        `${number(counts.records)} in ${number(counts.files)} files; ${number(counts.kms)} of KMS, ${number(counts.reviewed)} of the key`,
      ],
      ['Answered', `${number(counts.attested)} with attestation, ${number(counts.unattested)} without`],
      ['Refused or failed', number(counts.refused)],
      ['Control of the key', number(counts.control)],
    ]),
  );
}

function findings(list: readonly TrailFinding[]): Html {
  const shown = list.slice(0, SHOWN_MAX);
  return section(
    {
      title: 'Findings',
      intro: shown.length < list.length ? `${shown.length} of ${list.length}; the JSON has all.` : undefined,
    },
    shown.map((finding) => {
      const tone = TONES[finding.severity];
      return html`<article class="${`card ${tone}`}"><div class="card-head"><h3>${finding.title}</h3>${badge(tone, finding.severity, true)}<code>${finding.code}</code></div><p>${finding.why}</p>${[
        facts([
          ['Who', code(finding.principal)],
          ['What', `${finding.action}, ${number(finding.count)} ${finding.count === 1 ? 'time' : 'times'}`],
          ['Image', finding.image ?? 'no attestation document'],
          ['When', finding.first === finding.last ? finding.first : `${finding.first} to ${finding.last}`],
          ...(finding.detail === '' ? [] : [['Detail', code(finding.detail)] as const]),
          ['Do', finding.remedy],
          [
            'Records',
            finding.witness.map(
              ({ eventId, at, sourceAddress, session }) =>
                html`<div>${code(eventId)} at ${at} from ${sourceAddress}${session !== null && html`, session ${code(session)}`}</div>`,
            ),
          ],
        ]),
      ]}</article>`;
    }),
  );
}

const USE_HEAD = ['Action', 'By', 'Image', 'Times', 'First', 'Last'];

function useRow({ action, principal, image, count, first, last }: TrailUse) {
  return [action, code(principal), image ?? '', number(count), first, last];
}

const number = (count: number): string => count.toLocaleString('en');
