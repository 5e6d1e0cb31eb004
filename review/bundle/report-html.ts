/** The verification of a bundle as one page: the sentence, every check ticked off, what it is of, what is not proven. */
import { html } from '../html/html.ts';
import { htmlPage } from '../html/page.ts';
import {
  badge,
  banner,
  type CheckLine,
  checkList,
  code,
  facts,
  notes,
  section,
  type Tone,
} from '../html/parts.ts';
import { CHECKS, type CheckResult } from './checks.ts';
import { conclusionOf, notProven } from './report-text.ts';
import type { BundleVerification } from './verify.ts';

const OUTCOMES = {
  passed: 'passed',
  failed: 'failed',
  undecided: 'unknown',
  'not-asked': 'not-asked',
  'not-reached': 'not-asked',
} as const satisfies Record<CheckResult['outcome'], CheckLine['outcome']>;

export function bundleHtml(verification: BundleVerification, name: string): string {
  const { checks, error, index, registers, release, models, verdict, sentence, trust } = verification;
  const tone: Tone = error === undefined ? 'good' : error.exitCode === 3 ? 'unknown' : 'bad';
  const word = error === undefined ? 'in order' : error.code;
  const steps = [...new Set(CHECKS.map(({ step }) => step))];
  return htmlPage({
    title: `${word}: ${name}`,
    body: [
      html`<div class="masthead"><span>Evidence of a release</span><span>${name}</span></div>`,
      banner({
        tone,
        kicker: [badge(tone, word, true), trust === 'simulation' && badge('caution', 'simulation')],
        sentence: conclusionOf(verification),
        ...(error !== undefined && { more: error.action }),
      }),
      steps.map((step) =>
        section(
          { title: `Is it ${step}?` },
          html`<div class="card">${checkList(checks.filter((check) => check.step === step).map(lineOf))}</div>`,
        ),
      ),
      section(
        { title: 'What it is of' },
        html`<div class="card">${facts([
          ...(release === undefined ? [] : [['Release', release] as const]),
          ...models.map((model) => ['Model', `${model.name} version ${model.version}`] as const),
          ...Object.entries(registers).map(([register, value]) => [register, code(value)] as const),
          ...(verdict === undefined ? [] : [['Key policy', html`${code(verdict)} ${sentence}`] as const]),
        ])}</div>`,
      ),
      section({ title: 'Not proven' }, notes(notProven(verification))),
      html`<footer><p>Made by strongroom ${index.toolVersion} on ${index.made.toISOString()}, as the index says. This page has no script and fetches nothing.</p></footer>`,
    ],
  });
}

function lineOf({ outcome, section: number, what, detail, code: cause }: CheckResult): CheckLine {
  return {
    outcome: OUTCOMES[outcome],
    what: html`<span class="soft">${number}</span> ${what}`,
    detail: [detail, cause !== null && html` ${code(cause)}`],
  };
}
