/** One finding as somebody reads it who has to act on it: where, what, shown by which request, what to do. */
import { type Content, type Html, html } from '../../html/html.ts';
import { badge, code, facts, type ListingLine, listing, type Tone } from '../../html/parts.ts';
import type { DecidedBy, Finding, PatchOperation, StatementLocation, Witness } from '../report.ts';
import { jsonLine, linesOf } from './json-text.ts';
import { toneOfSeverity } from './tones.ts';

export interface ShownFinding {
  readonly finding: Finding;
  readonly title: string;
  /** Of the place on the page. */
  readonly id: string;
}

export function findingCard({ finding, title, id }: ShownFinding, policyText: string): Html {
  const { code: name, severity, location, why, witness, remedy, fingerprint } = finding;
  const tone = toneOfSeverity(severity);
  return html`<article class="card finding" id="${id}"><div class="card-head">${badge(tone, severity, severity === 'critical')}<h3>${title}</h3><span class="soft small">${place(finding)}</span></div>
<p>${why}</p>
${location !== null && statementListing(location, policyText, tone)}
${witness !== null && witnessPart(witness)}
<h4>What to do</h4><p>${remedy.text}</p>
${remedy.patch.length > 0 && patchListing(remedy.patch)}
<p class="soft small"><code>${name}</code> · fingerprint <code>${fingerprint.slice(0, 16)}</code></p></article>`;
}

function place({ location, statement }: Finding): Content {
  if (location === null) return statement === null ? 'outside the statements' : `statement ${statement}`;
  const name = location.sid === null ? `number ${location.index + 1}` : code(location.sid);
  const lines =
    location.line === location.endLine
      ? `line ${location.line}`
      : `lines ${location.line} to ${location.endLine}`;
  return html`statement ${name}, ${lines}`;
}

/** The statement's own text; the lines of the conditions in question are marked, or all if none is singled out. */
function statementListing(location: StatementLocation, policyText: string, tone: Tone): Html {
  const { line, column, endLine, endColumn, conditionLines } = location;
  const all = linesOf(policyText);
  const lines: ListingLine[] = [];
  for (let number = line; number <= Math.min(endLine, all.length); number++) {
    const whole = all[number - 1] ?? '';
    // A policy in one line: show this statement of it, not the rest.
    const from = number === line && whole.slice(0, column - 1).trim() !== '' ? column - 1 : 0;
    const to = number === endLine ? endColumn : whole.length;
    const marked = conditionLines.length === 0 || conditionLines.includes(number);
    lines.push({ number, text: jsonLine(whole.slice(from, to)), ...(marked && { tone }) });
  }
  return listing(lines, 'The statement');
}

function witnessPart(witness: Witness): Html {
  const { principal, action, attestation, context, encryptionContext, answer, decidedBy, then } = witness;
  const evidence = attestation === null ? 'no attestation document' : `the document of ${attestation.name}`;
  const rows: (readonly [string, Content])[] = [
    ['Caller', html`${code(principal.sessionArn ?? principal.arn)}${iamOf(witness)}`],
    ['Key', code(witness.keyArn)],
  ];
  if (attestation !== null) rows.push(['Registers', registers(attestation.registers)]);
  for (const [key, values] of Object.entries(context)) rows.push([key, code(values.join(', '))]);
  for (const [key, value] of Object.entries(encryptionContext)) rows.push([`context ${key}`, code(value)]);
  return html`<h4>A request that shows it</h4><p>${principal.name} calls ${code(action)} with ${evidence}: KMS ${
    answer === 'allow' ? html`<b class="bad tone-text">allows</b>` : html`<b>refuses</b>`
  } it.${then !== null && html` Then: ${then}`}</p>${facts([['Decided by', decided(decidedBy, answer)]])}<details class="request"><summary>The whole request</summary>${facts(rows)}</details>`;
}

function iamOf({ principal }: Witness): Content {
  const { identityPolicies, identityPoliciesFrom: from } = principal;
  if (from === 'none') return html` <span class="soft">(no IAM policy needed)</span>`;
  const count = `${identityPolicies.length} IAM ${identityPolicies.length === 1 ? 'policy' : 'policies'}`;
  return html` <span class="soft">(${from === 'supplied' ? 'with the' : 'taken to have'} ${count}${from === 'supplied' && ' supplied'})</span>`;
}

function registers(values: Readonly<Record<string, string>>): Content {
  return Object.entries(values).map(
    ([name, value]) => html`<span class="each">${name} ${code(value)}</span>`,
  );
}

function decided(by: readonly DecidedBy[], answer: Witness['answer']): Content {
  if (by.length === 0) return answer === 'allow' ? 'no statement' : 'nothing allows it';
  return by.map(
    ({ policy, statement, line }) =>
      html`<span class="each">${policy}${statement !== null && html`, ${code(statement)}`}${line !== null && `, line ${line}`}</span>`,
  );
}

const SIGNS = { add: '+', replace: '~', remove: '-' } as const;

function patchListing(patch: readonly PatchOperation[]): Html {
  const lines = patch.flatMap((operation): ListingLine[] => {
    const { op, path } = operation;
    const head = html`<span class="${op === 'remove' ? 'removed' : 'added'}">${SIGNS[op]} ${op}</span> ${path}`;
    if (operation.op === 'remove') return [{ text: head, tone: 'bad' }];
    const value = JSON.stringify(operation.value, undefined, 2) ?? '';
    return [
      { text: head, tone: 'good' },
      ...value.split('\n').map((line): ListingLine => ({ text: jsonLine(`  ${line}`), tone: 'good' })),
    ];
  });
  return html`<details open><summary>Patch of the policy (JSON Patch)</summary>${listing(lines, 'Patch of the policy')}</details>`;
}
