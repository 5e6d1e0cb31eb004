import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { BUCKET_CHECKS } from '../../review/bucket/audit.ts';
import { ownStatements } from '../../review/bucket/policy-statements.ts';
import { WISH } from '../review/bucket/fixtures.ts';

const page = readFileSync(join(import.meta.dirname, '..', '..', 'docs', 'publishing.md'), 'utf8');

describe('docs/publishing.md', () => {
  it('lists every check of the audit as it is, and no other', () => {
    const listed = page.split('\n').filter((line) => /^\| `(?:bucket|objects|account|kms)-/.test(line));
    const expected = BUCKET_CHECKS.map(({ id, title, severity, securityHub, prowler }) => {
      const ids = prowler.map((name) => `\`${name}\``).join(', ');
      return `| \`${id}\` | ${title} | ${severity} | ${securityHub.join(', ')} | ${ids} |`;
    });
    expect(listed).toEqual(expected);
  });

  it('lists the statements that configure adds', () => {
    const listed = [...page.matchAll(/^\| `(Strongroom\w+)` \|/gm)].map(([, sid]) => sid);
    expect(listed).toEqual(ownStatements(WISH).map(({ Sid }) => Sid));
  });
});
