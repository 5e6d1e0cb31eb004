/**
 * The report as SARIF 2.1.0 (OASIS), as code scanning of GitHub reads it: all checks as rules; results are what
 * failed, warned, or needs somebody. Fingerprints are of rule and place, so that a finding is the same one tomorrow.
 */
import { createHash } from 'node:crypto';
import { type AuditReport, BUCKET_CHECKS } from './audit.ts';
import type { Finding, Outcome, Severity } from './finding.ts';
import { sameChecks } from './report-text.ts';

/** What GitHub sorts by: from 9.0 critical, from 7.0 high, from 4.0 medium. */
const SECURITY_SEVERITY: Readonly<Record<Severity, string>> = {
  critical: '9.5',
  high: '8.0',
  medium: '5.5',
  low: '2.0',
};
const LEVEL: Readonly<Record<Outcome, 'error' | 'warning' | 'note' | 'none'>> = {
  FAIL: 'error',
  UNKNOWN: 'warning',
  WARNING: 'warning',
  MANUAL: 'note',
  PASS: 'none',
};
export function auditSarif(report: AuditReport, toolVersion: string): object {
  const shown = report.findings.filter(({ outcome }) => outcome !== 'PASS');
  return {
    $schema: 'https://json.schemastore.org/sarif-2.1.0.json',
    version: '2.1.0',
    runs: [
      {
        tool: {
          driver: {
            name: 'strongroom bucket audit',
            semanticVersion: toolVersion,
            rules: BUCKET_CHECKS.map((check) => ({
              id: check.id,
              shortDescription: { text: check.title },
              fullDescription: { text: check.why },
              help: {
                text: [check.remedy, sameChecks(check)].filter((text) => text !== '').join(' Same as: '),
              },
              properties: {
                'security-severity': SECURITY_SEVERITY[check.severity],
                tags: ['security', ...check.securityHub, ...check.prowler],
              },
            })),
          },
        },
        invocations: [
          {
            executionSuccessful: report.counts.UNKNOWN === 0,
            toolExecutionNotifications: shown
              .filter(({ outcome }) => outcome === 'UNKNOWN')
              .map(({ id, found }) => ({
                level: 'error',
                message: { text: found },
                associatedRule: { id },
              })),
          },
        ],
        results: shown.flatMap((finding) => resultsOf(finding, report.bucket)),
      },
    ],
  };
}

/** One result a place: each object that is not as it should be can be settled by itself. */
function resultsOf(finding: Finding, bucket: string): object[] {
  const { id, outcome, found, line, objects } = finding;
  const places = objects ?? [undefined];
  return places.map((object) => {
    const uri =
      object === undefined ? `${bucket}/bucket-policy.json` : `${bucket}/objects/${encodeURI(object)}`;
    return {
      ruleId: id,
      ruleIndex: BUCKET_CHECKS.findIndex((check) => check.id === id),
      level: LEVEL[outcome],
      message: { text: `${finding.title}: ${found}` },
      locations: [
        {
          physicalLocation: {
            artifactLocation: { uri },
            region: { startLine: Math.max(1, line ?? 1) },
          },
        },
      ],
      partialFingerprints: {
        'strongroomBucket/v1': createHash('sha256')
          .update(JSON.stringify([id, uri]))
          .digest('hex'),
      },
    };
  });
}
