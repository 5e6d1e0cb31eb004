/**
 * The report as SARIF: every code as a rule, findings as results at their statement, suppressed ones as such, and a
 * document that cannot be judged as what kept the tool from its work.
 */
import { type SarifLevel, type SarifResult, type SarifRule, sarifLog, sarifUri } from '../sarif.ts';
import { FINDING_RULES, type FindingRule, PROWLER_PREFIX } from './codes.ts';
import type { Finding, PolicyReviewReport, Severity } from './report.ts';

const SECURITY_SEVERITY: Readonly<Record<Severity, string>> = {
  critical: '9.5',
  high: '8.0',
  medium: '5.5',
  low: '2.0',
  info: '0.1',
};
const LEVEL: Readonly<Record<Severity, SarifLevel>> = {
  critical: 'error',
  high: 'error',
  medium: 'warning',
  low: 'note',
  info: 'note',
};

const AWS = 'https://docs.aws.amazon.com/kms/latest/developerguide';
/** Groups of checks (docs/policy-review.md section 5), and where AWS says what they rest on. */
const GROUPS: Readonly<
  Record<string, { readonly means: string; readonly severity: Severity; readonly page: string }>
> = {
  A: { means: 'Two readers may see different policies in it.', severity: 'high', page: 'key-policies.html' },
  B: {
    means: 'Somebody gets plaintext without an enclave.',
    severity: 'critical',
    page: 'conditions-attestation.html',
  },
  C: {
    means: 'Another image than the reviewed one gets plaintext.',
    severity: 'critical',
    page: 'conditions-attestation.html',
  },
  D: { means: 'A Deny does less than it seems to.', severity: 'high', page: 'conditions-attestation.html' },
  E: {
    means: 'Plaintext can be reached in one step around Decrypt.',
    severity: 'high',
    page: 'key-policies.html',
  },
  F: {
    means: 'What lies outside of the key policy opens the key.',
    severity: 'high',
    page: 'determining-access.html',
  },
  G: {
    means: 'Part of the policy is dead, or the reviewed image is refused.',
    severity: 'high',
    page: 'conditions-attestation.html',
  },
  H: {
    means: 'Integrity or availability depends on somebody outside the enclave.',
    severity: 'medium',
    page: 'key-policies.html',
  },
  I: {
    means: 'Nothing is open, but less holds it shut than could.',
    severity: 'low',
    page: 'key-policies.html',
  },
};

export function policyReviewSarif(report: PolicyReviewReport, toolVersion: string): object {
  const uri = sarifUri(report.policy.name);
  const suppressed = report.suppressions.flatMap(({ findings, state, reason, owner, expires }) =>
    state === 'applied'
      ? findings.map((finding) => ({ finding, why: `${reason} (${owner}, until ${expires})` }))
      : [],
  );
  const results = [
    ...report.findings.map((finding) => resultOf(finding, uri)),
    ...suppressed.map(({ finding, why }) => ({ ...resultOf(finding, uri), suppression: why })),
  ];
  const cannotDecide = report.verdict === 'MALFORMED' || report.verdict === 'AMBIGUOUS';
  return sarifLog({
    tool: { name: 'strongroom policy review', version: toolVersion },
    rules: Object.entries<FindingRule>(FINDING_RULES).map(([id, rule]) => ruleOf(id, rule, report)),
    results: numbered(results),
    notifications: cannotDecide ? [{ message: report.sentence, uri }] : [],
  });
}

/** GitHub takes the severity of the rule for that of the alert: here it is that of the worst finding of this report. */
function ruleOf(
  id: string,
  { group, title, prowler }: FindingRule,
  { findings }: PolicyReviewReport,
): SarifRule {
  const known = GROUPS[group] ?? { means: title, severity: 'medium', page: 'key-policies.html' };
  const { means, page } = known;
  const severity = findings.find(({ code }) => code === id)?.severity ?? known.severity;
  const same = prowler.map((name) => `Prowler ${PROWLER_PREFIX}${name}`).join(', ');
  const help = `${title}. ${means} The result names the request that shows it, and what to change.`;
  return {
    id,
    title,
    description: `${title}. ${means}`,
    help: same === '' ? help : `${help} Same as: ${same}.`,
    helpUri: `${AWS}/${page}`,
    level: LEVEL[severity],
    securitySeverity: SECURITY_SEVERITY[severity],
    tags: ['security', `group-${group}`, ...prowler.map((name) => `${PROWLER_PREFIX}${name}`)],
  };
}

function resultOf(
  { code, severity, location, why, witness, remedy, fingerprint }: Finding,
  uri: string,
): SarifResult {
  const shownBy =
    witness === null
      ? ''
      : ` Shown by: ${witness.principal.name} calls ${witness.action} with ${
          witness.attestation === null
            ? 'no attestation document'
            : `the document of ${witness.attestation.name}`
        }, and KMS ${witness.answer === 'allow' ? 'allows' : 'refuses'} it.`;
  return {
    ruleId: code,
    level: LEVEL[severity],
    message: `${why}${shownBy} Remedy: ${remedy.text}`,
    uri,
    region:
      location === null
        ? { startLine: 1 }
        : {
            startLine: location.line,
            startColumn: location.column,
            endLine: location.endLine,
            endColumn: location.endColumn + 1,
          },
    fingerprints: { 'strongroomPolicy/v1': fingerprint },
  };
}

/**
 * `primaryLocationLineHash` is what GitHub tells alerts apart by, a hash and a running number; where it is missing,
 * GitHub makes one of the line's text, which is the same brace for every statement.
 */
function numbered(results: readonly SarifResult[]): SarifResult[] {
  const seen = new Map<string, number>();
  return results.map((result) => {
    const own = (result.fingerprints['strongroomPolicy/v1'] ?? '').slice(0, 16);
    const count = (seen.get(own) ?? 0) + 1;
    seen.set(own, count);
    return {
      ...result,
      fingerprints: { ...result.fingerprints, primaryLocationLineHash: `${own}:${count}` },
    };
  });
}
