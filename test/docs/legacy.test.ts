import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { legacyErrors } from '../../owner/legacy/errors.ts';

it('docs/legacy.md lists the refusals that the code knows, and no others', () => {
  const page = readFileSync(join(import.meta.dirname, '..', '..', 'docs', 'legacy.md'), 'utf8');
  const listed = [...page.matchAll(/^\| `(LEGACY_[A-Z_]+)` \|/gm)].map(([, code]) => code);
  expect(listed.sort()).toEqual(Object.keys(legacyErrors).sort());
});
