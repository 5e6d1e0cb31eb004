/** The report as SARIF: all checks as rules; results are what failed, warned, or needs somebody. */
import { createHash } from 'node:crypto';
import { type SarifLevel, type SarifResult, sarifLog } from '../sarif.ts';
import { type AuditReport, BUCKET_CHECKS } from './audit.ts';
import type { Finding, Outcome, Severity } from './finding.ts';
import { sameChecks } from './report-text.ts';

const SECURITY_SEVERITY: Readonly<Record<Severity, string>> = {
  critical: '9.5',
  high: '8.0',
  medium: '5.5',
  low: '2.0',
};
const LEVEL: Readonly<Record<Outcome, SarifLevel>> = {
  FAIL: 'error',
  UNKNOWN: 'warning',
  WARNING: 'warning',
  MANUAL: 'note',
  PASS: 'none',
};

export function auditSarif(report: AuditReport, toolVersion: string): object {
  const shown = report.findings.filter(({ outcome }) => outcome !== 'PASS');
  return sarifLog({
    tool: { name: 'strongroom bucket audit', version: toolVersion },
    rules: BUCKET_CHECKS.map((check) => ({
      id: check.id,
      title: check.title,
      description: check.why,
      help: [check.remedy, sameChecks(check)].filter((text) => text !== '').join(' Same as: '),
      level: 'error',
      securitySeverity: SECURITY_SEVERITY[check.severity],
      tags: ['security', ...check.securityHub, ...check.prowler],
    })),
    results: shown.flatMap((finding) => resultsOf(finding, report.bucket)),
    notifications: shown
      .filter(({ outcome }) => outcome === 'UNKNOWN')
      .map(({ id, found }) => ({ message: found, ruleId: id })),
  });
}

/** One result a place: each object that is not as it should be can be settled by itself. */
function resultsOf({ id, outcome, found, line, objects, title }: Finding, bucket: string): SarifResult[] {
  const places = objects ?? [undefined];
  return places.map((object) => {
    const uri =
      object === undefined ? `${bucket}/bucket-policy.json` : `${bucket}/objects/${encodeURI(object)}`;
    const fingerprint = createHash('sha256')
      .update(JSON.stringify([id, uri]))
      .digest('hex');
    return {
      ruleId: id,
      level: LEVEL[outcome],
      message: `${title}: ${found}`,
      uri,
      region: { startLine: Math.max(1, line ?? 1) },
      fingerprints: { 'strongroomBucket/v1': fingerprint },
    };
  });
}
