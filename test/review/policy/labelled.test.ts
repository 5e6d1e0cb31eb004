/**
 * The labelled policies: the verdict, every finding of severity medium or higher at its statement, nothing critical or
 * high too many on a policy that is safe, and for every witness the answer that the engine of the simulated KMS gives.
 */
import { expect, it } from 'vitest';
import { policyReviewSarif } from '../../../review/policy/report-sarif.ts';
import { reviewPolicy } from '../../../review/policy/review.ts';
import { sarifFaults } from '../../support/sarif-schema.ts';
import { describeWithVectors } from '../../vectors.ts';
import { isAt, labelled, requestFor } from './support.ts';

const SAFE = ['ONLY_IMAGE', 'ONLY_IMAGE_IF_ADMINS_TRUSTED', 'ONLY_IMAGE_ANY_ACCOUNT', 'DEAD', 'MALFORMED'];
const GRAVE = ['critical', 'high'];

describeWithVectors('labelled key policies under review', (folder) => {
  const expected = labelled(folder);

  it.each(expected.vectors)('$id $verdict: $title', (vector) => {
    const report = reviewPolicy(requestFor(folder, expected, vector));
    expect(report.verdict).toBe(vector.verdict);
    expect(sarifFaults(policyReviewSarif(report, '1.2.3'))).toEqual([]);
    const missing = vector.findings.filter(
      ({ code, severity, statement }) =>
        [...GRAVE, 'medium'].includes(severity) &&
        !report.findings.some((finding) => finding.code === code && isAt(finding, statement)),
    );
    expect(missing).toEqual([]);
    const tooMany = report.findings.filter(
      (finding) =>
        GRAVE.includes(finding.severity) &&
        !vector.findings.some(({ code, statement }) => finding.code === code && isAt(finding, statement)),
    );
    if (SAFE.includes(vector.verdict)) expect(tooMany).toEqual([]);

    if (report.verdict === 'MALFORMED') return;
    const witnesses = report.findings.filter(({ witness }) => witness !== null).length;
    expect(report.checks.find(({ id }) => id === 'evidence')).toMatchObject({
      outcome: 'passed',
      detail: `requests decided once more: ${witnesses}`,
    });
  });
});
