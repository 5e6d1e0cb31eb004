/**
 * docs/errors.md is written from the error tables beside the code: `node scripts/error-tables.ts --write`.
 * A test compares the two, so that no code is undocumented and no documented code is gone.
 */
import { globSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { ErrorEntry, ErrorTable } from '../shared/errors.ts';

const ROOT = join(import.meta.dirname, '..');
const AREAS = ['shared', 'link', 'enclave', 'parent', 'owner', 'client', 'review', 'simulator', 'scripts'];
export const ERRORS_PAGE = join(ROOT, 'docs', 'errors.md');

export interface ErrorArea {
  /** The file that holds the table, relative to the project. */
  readonly file: string;
  readonly table: ErrorTable;
}

/** Every table of every `errors.ts`, in the order of the tree. */
export async function collectErrorTables(): Promise<readonly ErrorArea[]> {
  const files = AREAS.flatMap((area) => globSync(`${area}/**/errors.ts`, { cwd: ROOT }).toSorted()).filter(
    (file) => file !== 'shared/errors.ts' && !file.includes('node_modules'),
  );
  const areas: ErrorArea[] = [];
  for (const file of files) {
    const module = (await import(pathToFileURL(join(ROOT, file)).href)) as Record<string, unknown>;
    for (const value of Object.values(module)) if (isErrorTable(value)) areas.push({ file, table: value });
  }
  return areas;
}

function isErrorTable(value: unknown): value is ErrorTable {
  if (typeof value !== 'object' || value === null) return false;
  const entries = Object.values(value) as Partial<ErrorEntry>[];
  return (
    entries.length > 0 &&
    entries.every((entry) => typeof entry?.means === 'string' && entry.exit !== undefined)
  );
}

/** The whole page. */
export function errorsPage(areas: readonly ErrorArea[]): string {
  const lines = [
    '# Errors',
    '',
    'Every error has a stable `code`. Match on the code, never on the text. This page is written from the tables beside the code by `node scripts/error-tables.ts --write`, and a test holds the two together.',
    '',
    '## Exit codes',
    '',
    '| Code | Meaning |',
    '|---|---|',
    '| 0 | done |',
    '| 1 | refused, or findings |',
    '| 2 | usage, or unreadable input |',
    '| 3 | cannot decide with what was supplied |',
    '',
    'Inside, errors are precise. Across a trust boundary they are coarse: a client of the enclave and the parent learn a class, never which check failed.',
  ];
  for (const { file, table } of areas) {
    lines.push(
      '',
      `## \`${file.replace(/\/errors\.ts$/, '')}\``,
      '',
      '| Code | Exit | Means | Do |',
      '|---|---|---|---|',
    );
    for (const [code, { exit, means, action }] of Object.entries(table).toSorted(([a], [b]) =>
      a < b ? -1 : 1,
    )) {
      lines.push(`| \`${code}\` | ${exit} | ${means} | ${action} |`);
    }
  }
  return `${lines.join('\n')}\n`;
}

if (import.meta.main) {
  const page = errorsPage(await collectErrorTables());
  if (process.argv.includes('--write')) writeFileSync(ERRORS_PAGE, page);
  else if (readFileSync(ERRORS_PAGE, 'utf8') !== page) {
    process.stderr.write(
      'docs/errors.md differs from the error tables; run node scripts/error-tables.ts --write\n',
    );
    process.exitCode = 1;
  }
}
