/** docs/policy-review.md names every verdict, code and Prowler check that there is. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { FINDING_RULES, PROWLER_PREFIX } from '../../review/policy/codes.ts';
import { VERDICTS } from '../../review/policy/report.ts';

const page = readFileSync(join(import.meta.dirname, '..', '..', 'docs', 'policy-review.md'), 'utf8');

it('lists the verdicts in their order', () => {
  const listed = [...page.matchAll(/^\| `([A-Z_]+)` \| /gm)].map(([, name]) => name);
  expect(listed).toEqual([...VERDICTS]);
});

it('lists every code with its group and title', () => {
  for (const [code, { group, title }] of Object.entries(FINDING_RULES)) {
    expect(page).toContain(`| \`${code}\` | ${group} | ${title} |`);
  }
});

it('maps the codes to the six checks of Prowler', () => {
  expect(page).toContain(PROWLER_PREFIX);
  const checks = new Set(Object.values(FINDING_RULES).flatMap(({ prowler }): readonly string[] => prowler));
  expect(checks.size).toBe(6);
  for (const check of checks) {
    const codes = Object.entries(FINDING_RULES)
      .filter(([, { prowler }]) => (prowler as readonly string[]).includes(check))
      .map(([code]) => `\`${code}\``);
    expect(page).toContain(`| \`${check}\` | ${codes.join(', ')} |`);
  }
});
