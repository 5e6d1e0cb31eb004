import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { TRAIL_RULES } from '../../review/trail/codes.ts';

it('docs/trail.md lists every code as it is, and no other', () => {
  const page = readFileSync(join(import.meta.dirname, '..', '..', 'docs', 'trail.md'), 'utf8');
  const listed = [...page.matchAll(/^\| `([a-z-]+)` \| (\w+) \| ([^|]+) \|$/gm)].map(([, ...cells]) => cells);
  expect(listed).toEqual(
    Object.entries(TRAIL_RULES).map(([code, { severity, title }]) => [code, severity, title]),
  );
});
