import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { collectErrorTables, ERRORS_PAGE, errorsPage } from '../../scripts/error-tables.ts';

describe('error codes', () => {
  it('stand in docs/errors.md, all of them and no others', async () => {
    expect(readFileSync(ERRORS_PAGE, 'utf8')).toBe(errorsPage(await collectErrorTables()));
  });

  it('are unique across the project', async () => {
    const codes = (await collectErrorTables()).flatMap(({ table }) => Object.keys(table));
    expect(codes.length).toBeGreaterThan(20);
    expect(codes.filter((code, index) => codes.indexOf(code) !== index)).toEqual([]);
  });

  it('are spelt in one way', async () => {
    for (const { table } of await collectErrorTables()) {
      for (const code of Object.keys(table)) expect(code).toMatch(/^[A-Z][A-Z0-9]*(_[A-Z0-9]+)*$/);
    }
  });
});
