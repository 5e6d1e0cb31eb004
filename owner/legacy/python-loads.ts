/**
 * JSON as Python's `json.loads` reads it, and kept as Python keeps it: integers of any size apart from floats, NaN
 * and the infinities, lone surrogates, and of a member that occurs twice the first place and the last value.
 * `python-dumps.ts` writes such a value again. Text, depth and digits are bounded, since files are hostile.
 */

/** `bigint` is Python's int, `number` its float, `Map` its dict. */
export type PythonValue = null | boolean | bigint | number | string | PythonValue[] | PythonDict;
export type PythonDict = Map<string, PythonValue>;

/** Where a member's value stands in the text, in UTF-16 units. */
export interface Span {
  readonly start: number;
  readonly end: number;
}

export interface PythonObject {
  readonly members: PythonDict;
  /** Of the outermost members; the last one of a name that occurs twice. */
  readonly spans: ReadonlyMap<string, Span>;
  /** Outermost names that occur more than once. */
  readonly repeated: ReadonlySet<string>;
}

const DEPTH_MAX = 100;
/** Python 3.11 and later refuse more (sys.get_int_max_str_digits). */
const INTEGER_DIGITS_MAX = 4300;

/** The text's one JSON object. Throws SyntaxError, with the place. */
export function pythonObject(text: string): PythonObject {
  const parser = new Parser(text);
  const parsed = parser.outermost();
  parser.end();
  return parsed;
}

// Sticky: each matches at the current position or not at all. As json.scanner and json.decoder have them.
const SPACE = /[ \t\n\r]*/y;
const NUMBER = /(-?(?:0|[1-9][0-9]*))(\.[0-9]+)?([eE][+-]?[0-9]+)?/y;
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what must not match.
const PLAIN_CHARACTERS = /[^"\\\u0000-\u001f]*/y;
const UNICODE_ESCAPE = /\\u([0-9a-fA-F]{4})/y;
const ESCAPES = new Map(
  Object.entries({ '"': '"', '\\': '\\', '/': '/', b: '\b', f: '\f', n: '\n', r: '\r', t: '\t' }),
);
const CONSTANTS: readonly (readonly [string, PythonValue])[] = [
  ['null', null],
  ['true', true],
  ['false', false],
  ['NaN', Number.NaN],
  ['Infinity', Number.POSITIVE_INFINITY],
  ['-Infinity', Number.NEGATIVE_INFINITY],
];

class Parser {
  readonly #text: string;
  #at = 0;
  #depth = 0;

  constructor(text: string) {
    this.#text = text;
  }

  outermost(): PythonObject {
    const spans = new Map<string, Span>();
    const repeated = new Set<string>();
    this.#space();
    const members = this.#object((name, span) => {
      if (spans.has(name)) repeated.add(name);
      spans.set(name, span);
    });
    return { members, spans, repeated };
  }

  end(): void {
    this.#space();
    if (this.#at !== this.#text.length) this.#fail('expected the end');
  }

  #value(): PythonValue {
    const next = this.#text[this.#at];
    if (next === '{') return this.#object();
    if (next === '[') return this.#list();
    if (next === '"') return this.#string();
    for (const [word, value] of CONSTANTS) if (this.#take(word)) return value;
    return this.#number();
  }

  #object(onMember?: (name: string, span: Span) => void): PythonDict {
    if (!this.#take('{')) this.#fail('expected an object');
    const members: PythonDict = new Map();
    this.#enter();
    this.#space();
    if (!this.#take('}')) {
      do {
        this.#space();
        const name = this.#string();
        this.#space();
        if (!this.#take(':')) this.#fail('expected ":"');
        this.#space();
        const start = this.#at;
        members.set(name, this.#value()); // a Map keeps the first place of a name, as a dict does
        onMember?.(name, { start, end: this.#at });
        this.#space();
      } while (this.#take(','));
      if (!this.#take('}')) this.#fail('expected "," or "}"');
    }
    this.#depth -= 1;
    return members;
  }

  #list(): PythonValue[] {
    const items: PythonValue[] = [];
    this.#take('[');
    this.#enter();
    this.#space();
    if (!this.#take(']')) {
      do {
        this.#space();
        items.push(this.#value());
        this.#space();
      } while (this.#take(','));
      if (!this.#take(']')) this.#fail('expected "," or "]"');
    }
    this.#depth -= 1;
    return items;
  }

  #string(): string {
    if (!this.#take('"')) this.#fail('expected a string');
    const parts: string[] = [];
    for (;;) {
      parts.push(this.#match(PLAIN_CHARACTERS)?.[0] ?? '');
      if (this.#take('"')) return parts.join('');
      const unicode = this.#match(UNICODE_ESCAPE)?.[1];
      if (unicode !== undefined) {
        parts.push(String.fromCharCode(Number.parseInt(unicode, 16)));
        continue;
      }
      const escaped = this.#take('\\') ? ESCAPES.get(this.#text[this.#at] ?? '') : undefined;
      if (escaped === undefined) this.#fail('expected the end of a string');
      this.#at += 1;
      parts.push(escaped);
    }
  }

  #number(): bigint | number {
    const found = this.#match(NUMBER);
    if (found === undefined) this.#fail('expected a value');
    const [whole, integer = '', fraction, exponent] = found;
    if (fraction !== undefined || exponent !== undefined) return Number(whole);
    if (integer.length > INTEGER_DIGITS_MAX)
      this.#fail(`an integer of more than ${INTEGER_DIGITS_MAX} digits`);
    return BigInt(integer);
  }

  #enter(): void {
    this.#depth += 1;
    if (this.#depth > DEPTH_MAX) this.#fail(`more than ${DEPTH_MAX} levels`);
  }

  #take(expected: string): boolean {
    if (!this.#text.startsWith(expected, this.#at)) return false;
    this.#at += expected.length;
    return true;
  }

  #match(pattern: RegExp): RegExpExecArray | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text) ?? undefined;
    this.#at += found?.[0].length ?? 0;
    return found;
  }

  #space(): void {
    this.#match(SPACE);
  }

  #fail(what: string): never {
    throw new SyntaxError(`${what} at character ${this.#at}`);
  }
}
