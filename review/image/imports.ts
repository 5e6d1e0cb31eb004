/**
 * What one source file loads, read off its text: static imports, imports by `import()`, `require` and
 * `resolve` of a literal, and files named through `new URL('./x', import.meta.url)`, which is how our code
 * names workers, child processes and data. Imports of types alone are left out, as Node erases them. A name
 * that is computed is refused: then nobody could tell what the image holds.
 */
import { ImageError } from './errors.ts';
import { type Token, tokenize } from './tokens.ts';

export interface Loads {
  /** Module specifiers: `./x.ts`, `koffi`, `node:fs`. */
  readonly modules: readonly string[];
  /** Relative names of files, as given to `new URL`. */
  readonly files: readonly string[];
}

/** Throws ImageError IMAGE_IMPORT_UNCLEAR with the file and line of a computed name. */
export function loadsOf(source: string, name: string): Loads {
  const tokens = tokenize(source, name);
  const modules = new Set<string>();
  const files = new Set<string>();

  const literal = (index: number, construct: string): string => {
    const token = tokens[index];
    const closed = is(tokens[index + 1], ')') || is(tokens[index + 1], ',');
    if (token?.kind !== 'string' || token.text === '' || !closed) {
      const line = tokens[index - 1]?.line;
      throw new ImageError(
        'IMAGE_IMPORT_UNCLEAR',
        `${name}:${line}: ${construct} takes one string literal in code that goes into the image.`,
      );
    }
    return token.text;
  };

  for (const [index, token] of tokens.entries()) {
    if (token.kind !== 'word' || isMember(tokens, index)) continue;
    const next = tokens[index + 1];
    if (token.text === 'import') {
      if (is(next, '(')) modules.add(literal(index + 2, 'import()'));
      else if (is(next, '.')) {
        if (isImportMetaResolve(tokens, index)) modules.add(literal(index + 6, 'import.meta.resolve()'));
      } else addStatement(tokens, index, modules);
    } else if (token.text === 'export') {
      addStatement(tokens, index, modules);
    } else if (token.text === 'require') {
      if (is(next, '(')) modules.add(literal(index + 2, 'require()'));
      else if (is(next, '.') && is(tokens[index + 2], 'resolve')) {
        modules.add(literal(index + 4, 'require.resolve()'));
      }
    } else if (token.text === 'createRequire' && is(next, '(')) {
      if (!is(tokens[index - 2], 'require') || !is(tokens[index - 1], '=')) {
        throw new ImageError(
          'IMAGE_IMPORT_UNCLEAR',
          `${name}:${token.line}: what createRequire() returns must be called "require" to be followed.`,
        );
      }
    } else if (token.text === 'new' && is(next, 'URL') && namesOwnFile(tokens, index)) {
      files.add(literal(index + 3, 'new URL(…, import.meta.url)'));
    }
  }
  return { modules: [...modules], files: [...files] };
}

/** `import x from 'm'`, `import 'm'`, `export {x} from 'm'`, `export * from 'm'`. */
function addStatement(tokens: readonly Token[], index: number, modules: Set<string>): void {
  const first = tokens[index + 1];
  if (is(tokens[index], 'import') && first?.kind === 'string') {
    modules.add(first.text);
    return;
  }
  const typeOnly = is(first, 'type') && !is(tokens[index + 2], 'from') && !is(tokens[index + 2], ',');
  if (typeOnly) return;
  let at = index + 1;
  if (is(tokens[index], 'export') && !is(first, '{') && !is(first, '*')) return;
  // Between the keyword and `from` stand only names, commas, stars and braces.
  while (tokens[at] !== undefined && !(is(tokens[at], 'from') && tokens[at + 1]?.kind === 'string')) {
    const token = tokens[at] as Token;
    if (token.kind === 'other' || (token.kind === 'punctuation' && !'{},*'.includes(token.text))) return;
    at += 1;
  }
  const specifier = tokens[at + 1];
  if (specifier !== undefined) modules.add(specifier.text);
}

function isImportMetaResolve(tokens: readonly Token[], index: number): boolean {
  return is(tokens[index + 2], 'meta') && is(tokens[index + 3], '.') && is(tokens[index + 4], 'resolve');
}

/** Whether the `new URL(` at `index` ends in `, import.meta.url)`. */
function namesOwnFile(tokens: readonly Token[], index: number): boolean {
  let depth = 0;
  for (let at = index + 2; at < tokens.length; at += 1) {
    if (is(tokens[at], '(')) depth += 1;
    else if (is(tokens[at], ')')) {
      depth -= 1;
      if (depth === 0) return false;
    } else if (depth === 1 && is(tokens[at], ',')) {
      const rest = tokens.slice(at + 1, at + 6).map(({ text }) => text);
      return rest.join('') === 'import.meta.url';
    }
  }
  return false;
}

/** Whether the word is a property, as in `x.import`, and not spread, as in `...import(`. */
function isMember(tokens: readonly Token[], index: number): boolean {
  return is(tokens[index - 1], '.') && !is(tokens[index - 2], '.');
}

function is(token: Token | undefined, text: string): boolean {
  return token !== undefined && token.kind !== 'string' && token.kind !== 'other' && token.text === text;
}
