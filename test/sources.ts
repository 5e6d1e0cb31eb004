/** Our own source files as tokens, for tests of what they import and use. */
import { readdirSync, readFileSync } from 'node:fs';
import { join, posix } from 'node:path';
import { type Token, tokenize } from '../review/image/tokens.ts';

export const ROOT = join(import.meta.dirname, '..');

export interface Source {
  readonly path: string;
  readonly tokens: readonly Token[];
}

export function sourcesOf(folder: string): readonly Source[] {
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.ts$/.test(name) && !name.includes('node_modules'))
    .map((name) => posix.join(folder, name))
    .sort()
    .map((path) => ({ path, tokens: tokenize(readFileSync(join(ROOT, path), 'utf8'), path) }));
}

/** Module specifiers, those of types and of files named by URL included. */
export function specifiersOf({ tokens }: Source): readonly string[] {
  return tokens.flatMap((token, index) => {
    if (token.kind !== 'string') return [];
    const before = tokens.slice(Math.max(index - 3, 0), index).map(({ text }) => text);
    const statement = ['from', 'import'].includes(before.at(-1) ?? '');
    const call = before.at(-1) === '(' && ['import', 'require'].includes(before.at(-2) ?? '');
    const url =
      before.join(' ') === 'new URL (' &&
      tokens
        .slice(index + 1, index + 7)
        .map(({ text }) => text)
        .join('') === ',import.meta.url)';
    return statement || call ? [token.text] : url ? [`./${token.text}`] : [];
  });
}
