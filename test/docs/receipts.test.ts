import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { RECEIPT_CHECKS } from '../../shared/receipt/checks.ts';
import {
  DOCUMENT_LIFE_MS,
  RECEIPT_HEADER,
  RECEIPT_MAX_BYTES,
  RECEIPT_SALT_HEADER,
  RECEIPT_TYPE,
  STREAM_COMMENT,
} from '../../shared/receipt/receipt.ts';

const page = readFileSync(join(import.meta.dirname, '..', '..', 'docs', 'receipts.md'), 'utf8');

it('docs/receipts.md explains every check that the code makes, and no other', () => {
  const explained = [...page.matchAll(/^- \*\*([4-7]\.\d) /gm)].map(([, section]) => section);
  expect(explained).toEqual(RECEIPT_CHECKS.map(({ section }) => section));
});

it('docs/receipts.md states the values that the code uses', () => {
  expect(page).toContain(RECEIPT_MAX_BYTES.toLocaleString('en'));
  expect(page).toContain(`${DOCUMENT_LIFE_MS / 60_000} minutes`);
  expect(page).toContain(RECEIPT_TYPE);
  expect(page).toContain(STREAM_COMMENT.trimEnd());
  for (const name of [RECEIPT_HEADER, RECEIPT_SALT_HEADER]) expect(page.toLowerCase()).toContain(name);
});
