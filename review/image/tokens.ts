/**
 * Splits a TypeScript or JavaScript file into the tokens that matter for finding what it loads: words,
 * strings, punctuation. Comments vanish; so does what templates and regular expressions hold, so that no
 * text inside them can be taken for code. This is no parser: it needs no grammar beyond ECMA-262 12 (lexical
 * grammar), and its one judgement is whether a slash divides or begins a regular expression.
 */
import { ImageError } from './errors.ts';

export type Token =
  | { readonly kind: 'word' | 'punctuation'; readonly text: string; readonly line: number }
  /** `text` is the string's value. A template without substitutions is a string too. */
  | { readonly kind: 'string'; readonly text: string; readonly line: number }
  /** A template with substitutions, a number or a regular expression: nothing that names a file. */
  | { readonly kind: 'other'; readonly text: string; readonly line: number };

const SPACE = /\s+/y;
const COMMENT = /\/\/[^\n]*|\/\*[\s\S]*?\*\//y;
const WORD = /[\p{ID_Start}$_#@][\p{ID_Continue}$\u200c\u200d]*/uy;
const NUMBER = /\.?\d[\w.]*/y;
const STRING = /'(?:[^'\\\n]|\\[\s\S])*'|"(?:[^"\\\n]|\\[\s\S])*"/y;
const REGEX = /\/(?:[^/\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/[a-z]*/y;
const TEMPLATE_TEXT = /(?:[^`\\$]|\\[\s\S]|\$(?!\{))*/y;

/** After these words a slash begins a regular expression; after any other word it divides. */
const WORDS_BEFORE_REGEX = new Set(
  'await case delete do else in instanceof new of return throw typeof void yield'.split(' '),
);

/** Throws ImageError IMAGE_IMPORT_UNCLEAR for text that does not end where a token must. */
export function tokenize(source: string, name: string): readonly Token[] {
  const tokens: Token[] = [];
  /** Open braces; true for one that a template's substitution opened. */
  const braces: boolean[] = [];
  let offset = source.startsWith('#!') ? Math.max(source.indexOf('\n'), 0) : 0;
  let line = 1;

  const take = (pattern: RegExp): string | undefined => {
    pattern.lastIndex = offset;
    const text = pattern.exec(source)?.[0];
    if (text === undefined || text === '') return undefined;
    offset += text.length;
    line += text.split('\n').length - 1;
    return text;
  };
  const push = (kind: Token['kind'], text: string, at: number) => tokens.push({ kind, text, line: at });
  const fail = (what: string): never => {
    throw new ImageError('IMAGE_IMPORT_UNCLEAR', `${name}:${line}: ${what}.`);
  };

  /** Reads template text up to the closing backtick (true) or to the next substitution (false). */
  const templateEnds = (): boolean => {
    take(TEMPLATE_TEXT);
    if (source[offset] === '`') {
      offset += 1;
      return true;
    }
    if (!source.startsWith('${', offset)) fail('a template does not end');
    offset += 2;
    braces.push(true);
    return false;
  };

  while (offset < source.length) {
    if (take(SPACE) !== undefined || take(COMMENT) !== undefined) continue;
    const at = line;
    const start = offset;
    let text = take(STRING);
    if (text !== undefined) {
      push('string', contentOf(text), at);
      continue;
    }
    text = take(WORD);
    if (text !== undefined) {
      push('word', text, at);
      continue;
    }
    text = take(NUMBER);
    if (text !== undefined) {
      push('other', text, at);
      continue;
    }
    const character = source[offset] as string;
    if (character === '`') {
      offset += 1;
      if (templateEnds()) push('string', contentOf(source.slice(start, offset)), at);
      else push('other', '`', at);
      continue;
    }
    if (character === '}' && braces.pop() === true) {
      offset += 1;
      if (templateEnds()) push('other', '`', at);
      continue;
    }
    if (character === '/' && regexMayFollow(tokens.at(-1))) {
      text = take(REGEX);
      if (text === undefined) fail('a regular expression does not end');
      push('other', '/', at);
      continue;
    }
    if (character === '"' || character === "'") fail('a string does not end');
    if (character === '{') braces.push(false);
    offset += 1;
    push('punctuation', character, at);
  }
  if (braces.includes(true)) fail('a template does not end');
  return tokens;
}

function regexMayFollow(previous: Token | undefined): boolean {
  if (previous === undefined) return true;
  if (previous.kind === 'word') return WORDS_BEFORE_REGEX.has(previous.text);
  return previous.kind === 'punctuation' && !')]}'.includes(previous.text);
}

/** Names of modules and files hold no escapes; a string that does cannot be one of them. */
function contentOf(literal: string): string {
  const inside = literal.slice(1, -1);
  return inside.includes('\\') ? '' : inside;
}
