/** What code scanning gets: valid by the schema, one alert a finding, the same alert when lines have moved. */
import { describe, expect, it } from 'vitest';
import { FINDING_RULES } from '../../../review/policy/codes.ts';
import type { Finding, PolicyReviewReport } from '../../../review/policy/report.ts';
import { policyReviewSarif } from '../../../review/policy/report-sarif.ts';
import { sarifUri } from '../../../review/sarif.ts';
import { sarifFaults } from '../../support/sarif-schema.ts';
import { reportOf } from './made-reports.ts';

const made = reportOf('x');
const findings = made.findings.map((finding): Finding => ({ ...finding, code: 'unattested-plaintext' }));
const report: PolicyReviewReport = {
  ...made,
  findings,
  policy: { ...made.policy, name: 'policies/my key.json' },
};

// biome-ignore lint/suspicious/noExplicitAny: read as a consumer reads it
const runOf = (one: PolicyReviewReport): any => (policyReviewSarif(one, '1.2.3') as any).runs[0];

describe('the SARIF of a review', () => {
  it('is valid by the schema of SARIF 2.1.0', () => {
    expect(sarifFaults(policyReviewSarif(report, '1.2.3'))).toEqual([]);
  });

  it('would not be valid with a member that SARIF does not have, or without a version', () => {
    const log = policyReviewSarif(report, '1.2.3') as Record<string, unknown>;
    expect(sarifFaults({ ...log, extra: 1 })).not.toEqual([]);
    const { version: _, ...without } = log;
    expect(sarifFaults(without)).not.toEqual([]);
  });

  it('has a rule for every code, with descriptions, help and a severity that GitHub sorts by', () => {
    const { rules } = runOf(report).tool.driver;
    expect(rules.map(({ id }: { id: string }) => id)).toEqual(Object.keys(FINDING_RULES));
    for (const rule of rules) {
      expect(rule.shortDescription.text).not.toBe('');
      expect(rule.fullDescription.text).not.toBe('');
      expect(rule.help.text).not.toBe('');
      expect(rule.helpUri).toMatch(/^https:\/\/docs\.aws\.amazon\.com\//);
      expect(Number(rule.properties['security-severity'])).toBeGreaterThan(0);
    }
  });

  it('puts each finding at its statement, in a file of the repository', () => {
    const [first, second] = runOf(report).results;
    expect(first).toMatchObject({
      ruleId: 'unattested-plaintext',
      level: 'error',
      locations: [
        {
          physicalLocation: {
            artifactLocation: { uri: 'policies/my%20key.json' },
            region: { startLine: 4, startColumn: 5, endLine: 8, endColumn: 6 },
          },
        },
      ],
    });
    expect(second.locations[0].physicalLocation.region).toEqual({ startLine: 1 });
  });

  it('gives the severity of the finding, for alerts have that of their rule', () => {
    const severityIn = (one: PolicyReviewReport) =>
      runOf(one).tool.driver.rules.find(({ id }: { id: string }) => id === 'unattested-plaintext').properties[
        'security-severity'
      ];
    expect(severityIn(report)).toBe('9.5');
    const low = findings.map((finding): Finding => ({ ...finding, severity: 'low' }));
    expect(severityIn({ ...report, findings: low })).toBe('2.0');
  });

  it('knows a finding again when its lines have moved, and tells two alike apart', () => {
    const moved = findings.map((finding): Finding => {
      const { location } = finding;
      return { ...finding, location: location && { ...location, line: location.line + 7, endLine: 30 } };
    });
    const prints = (one: PolicyReviewReport) =>
      runOf(one).results.map(
        ({ partialFingerprints }: { partialFingerprints: object }) => partialFingerprints,
      );
    expect(prints({ ...report, findings: moved })).toEqual(prints(report));
    const hashes = prints(report).map((one: Record<string, string>) => one.primaryLocationLineHash);
    expect(new Set(hashes).size).toBe(hashes.length);
    expect(hashes[0]).toMatch(/^[0-9a-f]{16}:1$/);
  });

  it('shows what somebody accepted as suppressed, with the reason', () => {
    const [suppressed] = runOf(report).results.filter(
      ({ suppressions }: { suppressions?: object }) => suppressions,
    );
    expect(suppressed.ruleId).toBe('no-host-binding');
    expect(suppressed.suppressions).toEqual([
      { kind: 'external', status: 'accepted', justification: 'x (x, until x)' },
    ]);
    const expired = made.suppressions.map((one) => ({ ...one, state: 'expired' as const }));
    expect(runOf({ ...report, suppressions: expired }).results).toHaveLength(findings.length);
  });

  it('says that a document was refused, as what kept the tool from its work', () => {
    expect(runOf(report).invocations[0]).toEqual({
      executionSuccessful: true,
      toolExecutionNotifications: [],
    });
    for (const verdict of ['MALFORMED', 'AMBIGUOUS'] as const) {
      const log = policyReviewSarif({ ...report, verdict, findings: [], sentence: 'why not' }, '1.2.3');
      expect(sarifFaults(log)).toEqual([]);
      expect(runOf({ ...report, verdict, sentence: 'why not' }).invocations[0]).toMatchObject({
        executionSuccessful: false,
        toolExecutionNotifications: [{ level: 'error', message: { text: 'why not' } }],
      });
    }
  });
});

describe('the place of a file', () => {
  it.each([
    ['policy.json', 'policy.json'],
    ['./keys/a b.json', 'keys/a%20b.json'],
    ['/tmp/ä.json', 'file:///tmp/%C3%A4.json'],
    [
      'arn:aws:kms:eu-central-1:111122223333:key/1234',
      'arn%3Aaws%3Akms%3Aeu-central-1%3A111122223333%3Akey/1234',
    ],
  ])('%s is %s', (path, uri) => expect(sarifUri(path)).toBe(uri));
});
