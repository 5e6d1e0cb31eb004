/** The report as one page for people: the verdict, who gets what, the chain of trust, the findings, what was not seen. */
import { type Content, type Html, html } from '../html/html.ts';
import { htmlPage } from '../html/page.ts';
import {
  badge,
  banner,
  type CheckLine,
  checkList,
  code,
  facts,
  type ListingLine,
  listing,
  notes,
  section,
  table,
} from '../html/parts.ts';
import { FINDING_RULES } from './codes.ts';
import { chainOf } from './html/chain.ts';
import { chainPicture } from './html/chain-picture.ts';
import { findingCard, type ShownFinding } from './html/finding.ts';
import { jsonLine, linesOf } from './html/json-text.ts';
import { matrixPicture } from './html/matrix.ts';
import { toneOfSeverity, toneOfVerdict } from './html/tones.ts';
import { type Finding, type PolicyReviewReport, SEVERITIES } from './report.ts';

export interface Circumstances {
  readonly toolVersion: string;
  readonly at: Date;
}

export function policyReviewHtml(report: PolicyReviewReport, { toolVersion, at }: Circumstances): string {
  const findings = report.findings.map((finding, index) => shown(finding, `finding-${index + 1}`));
  return htmlPage({
    title: `${report.verdict}: key policy ${report.policy.name}`,
    body: [
      html`<div class="masthead"><span>Key policy review</span><span>${report.policy.name}</span></div>`,
      verdict(report),
      contents(findings),
      matrixSection(report),
      chainSection(report),
      findingsSection(report, findings),
      suppressionsSection(report),
      limitsSection(report),
      checksSection(report),
      reviewedSection(report),
      policySection(report, findings),
      footer(report, toolVersion, at),
    ],
  });
}

function shown(finding: Finding, id: string): ShownFinding {
  return { finding, title: FINDING_RULES[finding.code].title, id };
}

function verdict(report: PolicyReviewReport): Html {
  const { sentence, severity } = report;
  const tone = toneOfVerdict(report);
  const counts = SEVERITIES.map(
    (one) => [one, report.findings.filter((finding) => finding.severity === one).length] as const,
  )
    .filter(([, count]) => count > 0)
    .map(([one, count]) => `${count} ${one}`);
  const found = counts.length === 0 ? 'No findings.' : `Findings: ${counts.join(', ')}.`;
  return banner({
    tone,
    kicker: [badge(tone, report.verdict, true), html`<span class="soft">severity ${severity}</span>`],
    sentence,
    more:
      report.matrix.cells.length === 0
        ? found
        : `${found} ${report.matrix.cells.length} requests below, each answered as KMS does.`,
  });
}

function contents(findings: readonly ShownFinding[]): Html | false {
  if (findings.length === 0) return false;
  return html`<ol class="contents">${findings.map(
    ({ finding, title, id }) =>
      html`<li>${badge(toneOfSeverity(finding.severity), finding.severity)}<span><a href="${`#${id}`}">${title}</a>${finding.statement !== null && html` <span class="soft small">${finding.statement}</span>`}</span></li>`,
  )}</ol>`;
}

function matrixSection({ matrix }: PolicyReviewReport): Html | false {
  if (matrix.cells.length === 0) return false;
  const intro =
    'Every principal that the policy can mean, every kind of evidence, every action that matters.';
  return section({ title: 'Who gets what, with which evidence', intro }, matrixPicture(matrix));
}

function chainSection(report: PolicyReviewReport): Html | false {
  const chain = chainOf(report);
  if (chain === undefined) return false;
  const intro =
    toneOfVerdict(report) !== 'bad'
      ? 'What is measured, the register that holds it, the line of the policy that asks for it, the key.'
      : 'The way that is meant: what is measured, its register, the line that asks for it, the key. The findings say who goes around it.';
  return section(
    { title: 'From the image to the key', intro },
    html`<div class="card figure">${chainPicture(chain)}</div>`,
  );
}

function findingsSection({ policy }: PolicyReviewReport, findings: readonly ShownFinding[]): Html {
  if (findings.length === 0) return section({ title: 'Findings' }, html`<p>None.</p>`);
  return section(
    {
      title: 'Findings',
      intro: 'Worst first. The simulated KMS gives the same answer to every request shown.',
    },
    findings.map((finding) => findingCard(finding, policy.text)),
  );
}

function suppressionsSection({ suppressions }: PolicyReviewReport): Html | false {
  if (suppressions.length === 0) return false;
  const rows = suppressions.map(({ code: name, statement, reason, owner, expires, state, findings }) => [
    [code(name), statement !== null && html` <span class="soft">${statement}</span>`],
    reason,
    owner,
    expires,
    badge(state === 'applied' ? 'caution' : 'plain', `${state}, ${findings.length}`),
  ]);
  return section(
    {
      title: 'Accepted by somebody',
      intro: 'Found, and set aside with a reason, until a day. They are no longer counted above.',
    },
    table('Suppressions', ['Finding', 'Reason', 'Who', 'Until', 'State'], rows),
  );
}

function limitsSection({ notSupplied, contested }: PolicyReviewReport): Html | false {
  if (notSupplied.length + contested.length === 0) return false;
  return section({ title: 'What this does not say' }, [
    notSupplied.length > 0 && html`<h3>Not supplied</h3>`,
    notSupplied.length > 0 &&
      notes(notSupplied.map(({ what, consequence }) => html`<b>${what}</b>: ${consequence}`)),
    contested.length > 0 && html`<h3>Contested</h3>`,
    contested.length > 0 &&
      notes(
        contested.map(
          ({ point, held, otherwise }) =>
            html`${point} Held here: ${held}${otherwise !== null && html` Read the other way, the verdict is ${code(otherwise)}.`}`,
        ),
      ),
  ]);
}

const OUTCOMES = { passed: 'passed', findings: 'failed', skipped: 'unknown', failed: 'failed' } as const;

function checksSection({ checks }: PolicyReviewReport): Html | false {
  if (checks.length === 0) return false;
  const lines = checks.map(
    ({ title, outcome, codes, detail }): CheckLine => ({
      outcome: OUTCOMES[outcome],
      what: title,
      detail:
        outcome === 'skipped'
          ? 'not possible with what was supplied'
          : [codes.map((one, index) => [index > 0 && ', ', code(one)]), detail],
    }),
  );
  return section({ title: 'Checks performed' }, html`<div class="card columns">${checkList(lines)}</div>`);
}

function reviewedSection({ reviewed }: PolicyReviewReport): Html {
  const { hostRoleArns, hostRoleFrom, keyArn, keyArnFrom, registers } = reviewed;
  const from = (word: string) =>
    word !== 'given' &&
    html` <span class="soft">(${word === 'inferred' ? 'read out of the policy' : 'not known'})</span>`;
  const rows: (readonly [string, Content])[] = [
    ['Key', html`${code(keyArn)}${from(keyArnFrom)}`],
    [
      'Host role',
      html`${hostRoleArns.map((arn) => html`<span class="each">${code(arn)}</span>`)}${from(hostRoleFrom)}`,
    ],
    ...Object.entries(registers).map(([name, value]) => [name, code(value)] as const),
  ];
  return section({ title: 'What was reviewed' }, html`<div class="card">${facts(rows)}</div>`);
}

/** The whole document; statements with findings are marked by the worst of them. */
function policySection({ policy }: PolicyReviewReport, findings: readonly ShownFinding[]): Html {
  const lines = linesOf(policy.text).map((text, index): ListingLine => {
    const number = index + 1;
    const here = findings.find(
      ({ finding: { location } }) =>
        location !== null && location.line <= number && number <= location.endLine,
    );
    return {
      number,
      text: jsonLine(text),
      ...(here !== undefined && { tone: toneOfSeverity(here.finding.severity) }),
    };
  });
  return section(
    { title: 'The policy', intro: html`SHA-256 ${code(policy.sha256)}` },
    listing(lines, 'The whole policy'),
  );
}

function footer({ inputs, schema }: PolicyReviewReport, toolVersion: string, at: Date): Html {
  return html`<footer>${facts(inputs.map(({ kind, name, sha256 }) => [kind, html`${name} <code>${sha256}</code>`]))}<p>strongroom ${toolVersion}, ${schema.name} ${schema.version}, ${at.toISOString()}. This page has no script and fetches nothing.</p></footer>`;
}
