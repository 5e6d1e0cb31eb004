/** A command line in a document that the command would refuse is worse than none. */
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { COMMANDS } from '../../scripts/commands.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const PAGES = ['README.md', 'client/README.md', ...globSync('docs/*.md', { cwd: ROOT })];
/** Longest first, so that `image build` is not taken for a command `image`. */
const NAMES = Object.keys(COMMANDS).sort((a, b) => b.length - a.length);

interface Use {
  readonly page: string;
  readonly line: string;
}

function usesIn(page: string): Use[] {
  const text = readFileSync(join(ROOT, page), 'utf8').replaceAll(/\\\n\s*/g, ' ');
  return [...text.matchAll(/(?:npx |`)strongroom ([^`\n|)>]+)/g)].map(([, line = '']) => ({ page, line }));
}

async function load(name: string) {
  const found = COMMANDS[name];
  if (found === undefined) throw new Error(`no command ${name}`);
  return found();
}

describe('command lines in the documents', () => {
  const uses = PAGES.flatMap(usesIn);

  it('are found', () => {
    expect(uses.length).toBeGreaterThan(30);
  });

  it.each(uses)('$page: strongroom $line', async ({ line }) => {
    if (line.startsWith('--') || line.startsWith('commands')) return;
    const name = NAMES.find((candidate) => `${line} `.startsWith(`${candidate} `));
    expect(name, 'is a command').toBeDefined();
    const { command } = await load(name as string);
    for (const [option] of line.matchAll(/(?<=\s)--?[a-z][\w-]*/g)) {
      expect(command.help, `--help of ${name} names ${option}`).toMatch(
        new RegExp(`(?<![\\w-])${option}(?![\\w-])`),
      );
    }
  });
});
