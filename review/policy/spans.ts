/** Where the statements stand in the text of a policy, also of one that no strict reader accepts. */

export interface Span {
  /** Offsets in UTF-16 units; `end` is the offset after the closing brace. */
  readonly start: number;
  readonly end: number;
}

/**
 * The objects of the top-level member `Statement`, or the one object that stands there. Only strings and brackets
 * are looked at, so that a document with a repeated member or a trailing comma still has its statements found.
 */
export function statementSpans(text: string): Span[] {
  const spans: Span[] = [];
  const open: number[] = [];
  let statementDepth = -1;
  let member = '';
  for (let at = 0; at < text.length; at += 1) {
    const character = text[at];
    if (character === '"') {
      const end = endOfString(text, at);
      if (open.length === 1) member = text.slice(at + 1, end);
      at = end;
    } else if (character === '{' || character === '[') {
      open.push(at);
      if (open.length === 2 && member === 'Statement') statementDepth = character === '[' ? 3 : 2;
      else if (open.length === 2) statementDepth = -1;
    } else if (character === '}' || character === ']') {
      const start = open.pop() ?? 0;
      if (character === '}' && open.length + 1 === statementDepth) spans.push({ start, end: at + 1 });
    }
  }
  return spans;
}

function endOfString(text: string, from: number): number {
  for (let at = from + 1; at < text.length; at += 1) {
    if (text[at] === '\\') at += 1;
    else if (text[at] === '"') return at;
  }
  return text.length;
}

/** Line and column from 1. */
export function placeOf(text: string, offset: number): { readonly line: number; readonly column: number } {
  const before = text.slice(0, offset);
  const lineStart = before.lastIndexOf('\n') + 1;
  return { line: before.split('\n').length, column: offset - lineStart + 1 };
}
