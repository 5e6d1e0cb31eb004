import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { AWS_NITRO_ROOT_G1_SHA256 } from '../../shared/attestation/anchors.ts';
import { CHECKS } from '../../shared/attestation/checks.ts';
import * as limits from '../../shared/attestation/limits.ts';

const page = readFileSync(join(import.meta.dirname, '..', '..', 'docs', 'attestation.md'), 'utf8');

it.each(CHECKS.map(({ section, id }) => [section, id]))(
  'docs/attestation.md explains check %s (%s)',
  (section) => {
    expect(page).toContain(`- **${section} `);
  },
);

it('docs/attestation.md has no check that the code does not make', () => {
  const explained = [...page.matchAll(/^- \*\*(\d\.\d) /gm)].map(([, section]) => section);
  // 4.1 is about the expectations themselves, not about the document.
  expect(explained.filter((section) => section !== '4.1')).toEqual(CHECKS.map(({ section }) => section));
});

it('docs/attestation.md states the numbers that the code uses', () => {
  for (const value of Object.values(limits)) {
    const shown =
      value === limits.FUTURE_TOLERANCE_MS
        ? `${value / 1000} s`
        : value.toLocaleString('en').replace(/^(\d),(\d{3})$/, '$1$2');
    expect(page).toContain(shown);
  }
  expect(page).toContain(AWS_NITRO_ROOT_G1_SHA256);
});
