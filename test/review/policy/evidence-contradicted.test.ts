/** What a review says when one of its own requests is wrong, as a fault of the search would bring about. */
import { expect, it, vi } from 'vitest';
import { exitCodeOf } from '../../../review/policy/outcome.ts';
import { policyReviewHtml } from '../../../review/policy/report-html.ts';
import { policyReviewSarif } from '../../../review/policy/report-sarif.ts';
import { policyReviewText } from '../../../review/policy/report-text.ts';
import { ACCOUNT, review } from './support.ts';

type Evidence = typeof import('../../../review/policy/evidence.ts');

vi.mock('../../../review/policy/evidence.ts', async (original) => {
  const real = await original<Evidence>();
  const evidenceOf: Evidence['evidenceOf'] = (findings, ...documents) => {
    const wrong = findings.map((finding) =>
      finding.witness?.answer === 'allow'
        ? { ...finding, witness: { ...finding.witness, answer: 'deny' as const } }
        : finding,
    );
    return real.evidenceOf(wrong, ...documents);
  };
  return { ...real, evidenceOf };
});

it('cannot decide, names the request, and is no success whatever the findings are', () => {
  const report = review([
    {
      Sid: 'Open',
      Effect: 'Allow',
      Principal: { AWS: `arn:aws:iam::${ACCOUNT}:role/Operator` },
      Action: 'kms:Decrypt',
      Resource: '*',
    },
  ]);
  const why = 'at "Open" is not as printed: printed is deny, and the engine says allow';
  expect(report.checks.at(-1)).toMatchObject({ group: 'J', outcome: 'failed', codes: [] });
  expect(report.checks.at(-1)?.detail).toContain(why);
  expect(report.verdict).toBe('AMBIGUOUS');
  expect(report.sentence).toContain(why);
  expect(exitCodeOf(report, 'critical')).toBe(3);
  expect(policyReviewText(report, false)).toMatch(/\n {2}J {2}failed {4}.*the engine says allow/);
  expect(policyReviewHtml(report, { toolVersion: '1.2.3', at: new Date(0) })).toContain(
    'the engine says allow',
  );
  expect(JSON.stringify(policyReviewSarif(report, '1.2.3'))).toContain('"executionSuccessful":false');
});
