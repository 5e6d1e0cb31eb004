/**
 * Wildcards of IAM: `*` is any run of characters, `?` exactly one. Nothing else is special, and there is no escape
 * but the variables `${*}` and `${?}`. Runs in length of pattern times length of text, whatever the pattern.
 */

/** Text of a policy: wildcards in it count. Literal text: what a variable stood for, where they do not. */
export interface PatternPart {
  readonly text: string;
  readonly literal: boolean;
}

const ANY = -1;
const ONE = -2;

export function globMatches(pattern: string, text: string): boolean {
  if (!/[*?]/.test(pattern)) return pattern === text;
  if (pattern === '*') return true;
  return partsMatch([{ text: pattern, literal: false }], text);
}

export function partsMatch(parts: readonly PatternPart[], text: string): boolean {
  const [only] = parts;
  if (parts.length === 1 && only !== undefined && !only.literal && only.text === '*') return true;
  const pattern = parts.flatMap(tokens);
  const input = [...text].map((character) => character.codePointAt(0) ?? 0);
  let at = 0;
  let next = 0;
  let star = -1;
  let resume = 0;
  while (at < input.length) {
    const token = pattern[next];
    if (token === ANY) {
      star = next;
      resume = at;
      next += 1;
    } else if (token === ONE || token === input[at]) {
      next += 1;
      at += 1;
    } else if (star >= 0) {
      next = star + 1;
      resume += 1;
      at = resume;
    } else {
      return false;
    }
  }
  while (pattern[next] === ANY) next += 1;
  return next === pattern.length;
}

function tokens(part: PatternPart): number[] {
  return [...part.text].map((character) => {
    if (!part.literal && character === '*') return ANY;
    if (!part.literal && character === '?') return ONE;
    return character.codePointAt(0) ?? 0;
  });
}

/**
 * Lower case for A to Z only. Unicode case mapping would make U+212A (Kelvin) equal to `k`, and a look-alike key
 * name equal to a real one.
 */
export function asciiLower(text: string): string {
  // The built-in is many times faster, and folds nothing else in ASCII.
  if (!/[^ -~]/.test(text)) return text.toLowerCase();
  return text.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
}
