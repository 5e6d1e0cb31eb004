import type { AuditReport } from './audit.ts';
import type { Finding, Outcome } from './finding.ts';

const ORDER: readonly Outcome[] = ['FAIL', 'UNKNOWN', 'WARNING', 'MANUAL', 'PASS'];
const COLOURS: Readonly<Record<Outcome, number>> = {
  FAIL: 31,
  UNKNOWN: 35,
  WARNING: 33,
  MANUAL: 36,
  PASS: 32,
};

/** The verdict, then what needs somebody, then every check that passed. */
export function auditText({ verdict, findings }: AuditReport, colour: boolean): string {
  const paint = (outcome: Outcome): string => {
    const word = outcome.padEnd(7);
    return colour ? `\x1b[${COLOURS[outcome]}m${word}\x1b[0m` : word;
  };
  const lines = [verdict, ''];
  for (const outcome of ORDER) {
    for (const finding of findings.filter((one) => one.outcome === outcome)) {
      lines.push(`${paint(outcome)}  ${finding.title} (${finding.id})`, `         seen: ${finding.found}`);
      if (outcome === 'PASS') continue;
      if (finding.line !== undefined) lines.push(`         where: line ${finding.line} of the bucket policy`);
      lines.push(`         why: ${finding.why}`);
      if (outcome !== 'MANUAL') lines.push(`         remedy: ${finding.remedy}`);
      const same = sameChecks(finding);
      if (same !== '') lines.push(`         same as: ${same}`);
      lines.push('');
    }
  }
  return `${lines.join('\n').trimEnd()}\n`;
}

export function sameChecks({ securityHub, prowler }: Pick<Finding, 'securityHub' | 'prowler'>): string {
  return [...securityHub.map((id) => `Security Hub ${id}`), ...prowler.map((id) => `Prowler ${id}`)].join(
    ', ',
  );
}
