import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';

const ROOT = join(import.meta.dirname, '..', '..');
const PAGES = [
  'README.md',
  'SECURITY.md',
  'CHANGELOG.md',
  'client/README.md',
  ...globSync('docs/*.md', { cwd: ROOT }),
];

describe('the documents', () => {
  it('link only to files that exist', () => {
    for (const page of PAGES) {
      const text = readFileSync(join(ROOT, page), 'utf8');
      for (const [, target] of text.matchAll(/\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)/g)) {
        expect(existsSync(join(ROOT, dirname(page), target as string)), `${page} links to ${target}`).toBe(
          true,
        );
      }
    }
  });

  it('name only files of the project that exist', () => {
    for (const page of PAGES) {
      const text = readFileSync(join(ROOT, page), 'utf8');
      const named =
        /`((?:shared|link|enclave|parent|owner|client|review|simulator|scripts|test|docs|deploy)\/[\w./-]+)`/g;
      for (const [, path] of text.matchAll(named)) {
        expect(existsSync(join(ROOT, path as string)), `${page} names ${path}`).toBe(true);
      }
    }
  });

  it('have both commands of the README in package.json', () => {
    const { scripts } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
    const readme = readFileSync(join(ROOT, 'README.md'), 'utf8');
    expect(readme).toContain('    npm ci && npm start ');
    expect(readme).toContain('    npm ci && npm test ');
    expect(Object.keys(scripts)).toEqual(expect.arrayContaining(['start', 'test']));
  });
});
