/** The report for a terminal: the verdict, the findings with their lines, then what was not seen and what was checked. */
import { FINDING_RULES } from './codes.ts';
import { isAtOnce } from './findings/witness.ts';
import type { Finding, PolicyReviewReport, Severity, Witness } from './report.ts';

const COLOURS: Readonly<Record<Severity, string>> = {
  critical: '1;31',
  high: '31',
  medium: '33',
  low: '36',
  info: '2',
};
const FRAME_LINES_MAX = 14;
const FACTS =
  /^(?:aws:SecureTransport|aws:RequestedRegion|aws:EpochTime|kms:Key(?:Origin|Usage|Spec)|kms:MultiRegion)$/;

export function policyReviewText(report: PolicyReviewReport, colour: boolean): string {
  const paint = (severity: Severity, text: string) =>
    colour ? `\x1b[${COLOURS[severity]}m${text}\x1b[0m` : text;
  const { verdict, severity, sentence, policy } = report;
  const lines = [
    sentence,
    '',
    `Verdict   ${paint(severity, verdict)} (${severity})`,
    `Policy    ${policy.name}`,
  ];
  const { registers, hostRoleArns, keyArn, at } = report.reviewed;
  if (registers.PCR0 !== undefined) lines.push(`Image     PCR0 ${registers.PCR0}`);
  if (hostRoleArns.length > 0) lines.push(`Host      ${hostRoleArns.join(', ')}`);
  if (keyArn !== '') lines.push(`Key       ${keyArn}`);
  const source = policy.text.split('\n');
  const framed = new Set<number>();
  for (const finding of report.findings) {
    // The same statement is shown once, and not for what is merely to be known.
    const index = finding.location?.index ?? -1;
    const isFramed =
      finding.severity !== 'info' &&
      (!framed.has(index) || (finding.location?.conditionLines.length ?? 0) > 0);
    if (isFramed) framed.add(index);
    lines.push('', ...findingLines(finding, isFramed ? source : [], at, paint));
  }
  lines.push(
    ...suppressionLines(report),
    ...listOf(
      'Not supplied',
      report.notSupplied.map(({ what, consequence }) => `${what}: ${consequence}`),
    ),
  );
  lines.push(
    ...listOf(
      'Contested',
      report.contested.map(
        ({ point, held, otherwise }) =>
          `${point} Held here: ${held}${otherwise === null ? '' : ` Otherwise: ${otherwise}.`}`,
      ),
    ),
    ...listOf(
      'Checks performed',
      report.checks.map(
        ({ group, title, outcome, codes, detail }) =>
          `${group}  ${outcome.padEnd(8)}  ${title}${codes.length > 0 ? ` (${codes.join(', ')})` : ''}${detail === '' ? '' : `: ${printable(detail, Number.POSITIVE_INFINITY)}`}`,
      ),
    ),
  );
  return `${lines.join('\n')}\n`;
}

function findingLines(
  finding: Finding,
  source: readonly string[],
  at: string,
  paint: (severity: Severity, text: string) => string,
): string[] {
  const { severity, code, location, statement, why, witness, remedy } = finding;
  const where = location === null ? '' : ` at ${JSON.stringify(statement)}, line ${location.line}`;
  const lines = [
    `${paint(severity, severity.toUpperCase())}  ${FINDING_RULES[code].title} (${code})${where}`,
    `  ${why}`,
  ];
  if (location !== null)
    lines.push(...frame(location.line, location.endLine, location.conditionLines, source));
  if (witness !== null) lines.push(...witnessLines(witness, at));
  lines.push(`  Remedy: ${remedy.text}`);
  for (const operation of remedy.patch) lines.push(`    ${JSON.stringify(operation)}`);
  return lines;
}

/** The statement with its line numbers; a long one around the conditions that it is about. */
function frame(from: number, to: number, marked: readonly number[], source: readonly string[]): string[] {
  const all = Array.from({ length: to - from + 1 }, (_, index) => from + index);
  const isLong = all.length > FRAME_LINES_MAX;
  const near = (line: number) =>
    line <= from + 2 ||
    (marked.length === 0 ? line < from + FRAME_LINES_MAX : marked.some((one) => Math.abs(one - line) <= 2));
  const shown = isLong ? all.filter(near) : all;
  const width = String(to).length;
  return shown.flatMap((line, index) => {
    const gap = index > 0 && (shown[index - 1] ?? line) !== line - 1 ? [`    ${' '.repeat(width)} …`] : [];
    const mark = marked.includes(line) ? '>' : ' ';
    return [...gap, `  ${mark} ${String(line).padStart(width)} | ${printable(source[line - 1] ?? '')}`];
  });
}

const LINE_MAX = 160;

/** A policy is anybody's text: nothing in it may steer the terminal. */
function printable(text: string, maxLength = LINE_MAX): string {
  const plain = text
    .replaceAll('\t', '  ')
    .replaceAll(/[^\x20-\x7e\xa0-\u02af\u0370-\u03ff\u0400-\u04ff]/g, '�');
  return plain.length > maxLength ? `${plain.slice(0, maxLength)}…` : plain;
}

function witnessLines(
  { principal, action, attestation, context, encryptionContext, answer, then, decidedBy }: Witness,
  at: string,
): string[] {
  const with_ = attestation === null ? 'without a document' : `with the document of ${attestation.name}`;
  const shown = Object.entries(context).filter(
    ([key, values]) => !FACTS.test(key) && !isAtOnce(key, values, at),
  );
  const details = [
    ...shown.map(([key, values]) => `${key} = ${values.join(', ')}`),
    ...Object.entries(encryptionContext).map(([key, value]) => `encryption context ${key} = ${value}`),
    ...Object.entries(principal.tags).map(([key, value]) => `principal tag ${key} = ${value}`),
  ];
  const by = decidedBy.map(({ policy, statement }) =>
    statement === null ? policy : `${JSON.stringify(statement)} of the ${policy}`,
  );
  return [
    `  Witness: ${principal.arn} calls ${action} ${with_}: ${answer}${by.length > 0 ? `, by ${by.join(' and ')}` : ''}`,
    ...(principal.identityPoliciesFrom === 'assumed' ? ['    (with an IAM policy that allows it)'] : []),
    ...details.map((detail) => `    ${printable(detail)}`),
    ...(then === null ? [] : [`    then: ${then}`]),
  ];
}

function suppressionLines({ suppressions }: PolicyReviewReport): string[] {
  return listOf(
    'Suppressions',
    suppressions.map(({ code, statement, state, reason, owner, expires }) => {
      const where = statement === null ? '' : ` at ${JSON.stringify(statement)}`;
      return `${code}${where}: ${state}; ${printable(reason)} (${printable(owner)}, until ${expires})`;
    }),
  );
}

function listOf(title: string, entries: readonly string[]): string[] {
  return entries.length === 0 ? [] : ['', title, ...entries.map((entry) => `  ${entry}`)];
}
