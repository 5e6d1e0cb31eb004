/** The vocabulary of reports is that of the labelled policies. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { FINDING_RULES, PROWLER_PREFIX } from '../../../review/policy/codes.ts';
import {
  type PolicyReviewReport,
  REPORT_SCHEMA,
  SEVERITIES,
  VERDICTS,
} from '../../../review/policy/report.ts';
import { describeWithVectors } from '../../vectors.ts';

describeWithVectors('the report', (folder) => {
  const readme = readFileSync(join(folder, 'README.md'), 'utf8');
  const codesOf = (from: string, to: string): string[] =>
    [
      ...readme
        .slice(readme.indexOf(from), to === '' ? undefined : readme.indexOf(to))
        .matchAll(/^\| `([^`]+)` \|/gm),
    ].map(([, code]) => code ?? '');

  it('knows every verdict, and no other', () => {
    expect([...VERDICTS].sort()).toEqual(codesOf('### Verdicts', '### Finding codes').sort());
  });

  it('knows every finding code', () => {
    expect(Object.keys(FINDING_RULES)).toEqual(expect.arrayContaining(codesOf('### Finding codes', '')));
  });

  it('has a version, severities in order, and a rule for each code', () => {
    const schema: PolicyReviewReport['schema'] = REPORT_SCHEMA;
    expect(schema).toEqual({ name: 'strongroom-policy-review', version: 1 });
    expect(SEVERITIES[0]).toBe('critical');
    expect(PROWLER_PREFIX).toMatch(/_$/);
    for (const rule of Object.values(FINDING_RULES)) expect(rule.group).toMatch(/^[A-J]$/);
  });
});
