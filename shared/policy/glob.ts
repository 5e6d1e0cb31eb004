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
  // Most actions are written as a prefix.
  if (/^[^*?]*\*$/.test(pattern)) return text.startsWith(pattern.slice(0, -1));
  return matches(compile([{ text: pattern, literal: false }]), text);
}

export function partsMatch(parts: readonly PatternPart[], text: string): boolean {
  const [only] = parts;
  if (parts.length === 1 && only !== undefined && !only.literal && only.text === '*') return true;
  return matches(COMPILED.get(parts) ?? compile(parts), text);
}

/** For parts that will be compared many times: what they compile to is kept as long as they are. */
export function keepCompiled<P extends readonly PatternPart[]>(parts: P): P {
  COMPILED.set(parts, compile(parts));
  return parts;
}

function matches({ exact, tokens: pattern }: Compiled, text: string): boolean {
  if (exact !== undefined) return text === exact;
  const input = codePoints(text);
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

interface Compiled {
  /** Without a wildcard: the one text that matches. */
  readonly exact: string | undefined;
  readonly tokens: readonly number[];
}

const COMPILED = new WeakMap<readonly PatternPart[], Compiled>();

function compile(parts: readonly PatternPart[]): Compiled {
  const pattern = parts.flatMap(tokens);
  const isExact = pattern.every((token) => token >= 0);
  return { exact: isExact ? parts.map((part) => part.text).join('') : undefined, tokens: pattern };
}

function codePoints(text: string): number[] {
  const found: number[] = [];
  for (let at = 0; at < text.length; at += 1) {
    const code = text.codePointAt(at) ?? 0;
    found.push(code);
    if (code > 0xffff) at += 1;
  }
  return found;
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
