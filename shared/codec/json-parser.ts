/** The parser behind json.ts. It keeps where every value starts, so that findings can name a line. */
import { CodecError, type CodecErrorCode } from './errors.ts';

export type JsonValue = null | boolean | number | string | JsonValue[] | JsonObject;
/** Has no prototype: a member named like something of Object.prototype is a member and nothing else. */
export interface JsonObject {
  [name: string]: JsonValue;
}

/** Where a value starts, in UTF-16 units, and the same of what it holds. */
export interface JsonNode {
  readonly at: number;
  readonly children?: ReadonlyMap<string | number, JsonNode>;
}

interface Parsed {
  readonly value: JsonValue;
  readonly node: JsonNode;
}

/** 1-based line and column (in UTF-16 units) of a position in the text. */
export function lineAndColumn(text: string, at: number): { line: number; column: number } {
  const before = text.slice(0, at).split('\n');
  return { line: before.length, column: (before.at(-1) as string).length + 1 };
}

export class JsonParser {
  readonly #text: string;
  readonly #maxDepth: number;
  #at = 0;
  #depth = 0;

  constructor(text: string, maxDepth: number) {
    this.#text = text;
    this.#maxDepth = maxDepth;
  }

  parseWhole(): Parsed {
    const parsed = this.#value();
    this.#skipSpace();
    if (this.#at < this.#text.length) this.#fail('JSON_TRAILING_BYTES', 'expected the end of the text');
    return parsed;
  }

  #value(): Parsed {
    this.#skipSpace();
    const node = { at: this.#at };
    const next = this.#text[this.#at];
    if (next === '{') return this.#nested(() => this.#object());
    if (next === '[') return this.#nested(() => this.#array());
    if (next === '"') return { value: this.#string(), node };
    if (this.#take('true')) return { value: true, node };
    if (this.#take('false')) return { value: false, node };
    if (this.#take('null')) return { value: null, node };
    return { value: this.#number(), node };
  }

  #nested(parse: () => Parsed): Parsed {
    this.#depth += 1;
    if (this.#depth > this.#maxDepth) this.#fail('JSON_LIMIT', `expected at most ${this.#maxDepth} levels`);
    const parsed = parse();
    this.#depth -= 1;
    return parsed;
  }

  #object(): Parsed {
    const at = this.#at++;
    const value = Object.create(null) as JsonObject;
    const children = new Map<string, JsonNode>();
    this.#skipSpace();
    if (this.#take('}')) return { value, node: { at, children } };
    do {
      this.#skipSpace();
      const nameAt = this.#at;
      if (this.#text[nameAt] !== '"') this.#fail('JSON_MALFORMED', 'expected a member name');
      const name = this.#string();
      if (children.has(name)) {
        this.#fail('JSON_DUPLICATE_MEMBER', `the member ${JSON.stringify(name)} occurs twice`, nameAt);
      }
      if (name === '__proto__') this.#fail('JSON_FORBIDDEN_MEMBER', 'a member named __proto__', nameAt);
      this.#skipSpace();
      if (!this.#take(':')) this.#fail('JSON_MALFORMED', 'expected ":"');
      const member = this.#value();
      value[name] = member.value;
      children.set(name, member.node);
      this.#skipSpace();
    } while (this.#take(','));
    if (!this.#take('}')) this.#fail('JSON_MALFORMED', 'expected "," or "}"');
    return { value, node: { at, children } };
  }

  #array(): Parsed {
    const at = this.#at++;
    const value: JsonValue[] = [];
    const children = new Map<number, JsonNode>();
    this.#skipSpace();
    if (this.#take(']')) return { value, node: { at, children } };
    do {
      const item = this.#value();
      children.set(value.length, item.node);
      value.push(item.value);
      this.#skipSpace();
    } while (this.#take(','));
    if (!this.#take(']')) this.#fail('JSON_MALFORMED', 'expected "," or "]"');
    return { value, node: { at, children } };
  }

  #string(): string {
    const start = this.#at++;
    let value = '';
    for (;;) {
      const plain = this.#match(PLAIN_CHARACTERS);
      value += plain;
      if (this.#take('"')) break;
      if (this.#text[this.#at] !== '\\') {
        this.#fail('JSON_MALFORMED', 'expected the end of a string; control characters must be escaped');
      }
      value += this.#escape();
    }
    // Escapes can spell half of a surrogate pair; readers disagree about what that is.
    if (!value.isWellFormed()) this.#fail('JSON_ENCODING', 'a lone surrogate', start);
    return value;
  }

  #escape(): string {
    const unicode = this.#match(UNICODE_ESCAPE);
    if (unicode !== '') return String.fromCharCode(Number.parseInt(unicode.slice(2), 16));
    const character = ESCAPES.get(this.#text[this.#at + 1] ?? '');
    if (character === undefined) this.#fail('JSON_MALFORMED', 'an unknown escape');
    this.#at += 2;
    return character;
  }

  #number(): number {
    const start = this.#at;
    const digits = this.#match(NUMBER);
    if (digits === '') this.#fail('JSON_MALFORMED', 'expected a value');
    const value = Number(digits);
    // Beyond 2^53 readers round differently; zero has a sign for some; what rounds to zero has lost its value.
    const vanished = value === 0 && /[1-9]/.test(digits.replace(/[eE].*/, ''));
    if (Math.abs(value) > Number.MAX_SAFE_INTEGER || vanished || Object.is(value, -0)) {
      this.#fail('JSON_UNSAFE_NUMBER', `the number ${digits.slice(0, 40)} cannot be held exactly`, start);
    }
    return value;
  }

  #take(expected: string): boolean {
    if (!this.#text.startsWith(expected, this.#at)) return false;
    this.#at += expected.length;
    return true;
  }

  #match(pattern: RegExp): string {
    pattern.lastIndex = this.#at;
    const [found = ''] = pattern.exec(this.#text) ?? [];
    this.#at += found.length;
    return found;
  }

  #skipSpace(): void {
    this.#match(SPACE);
  }

  #fail(code: CodecErrorCode, what: string, at = this.#at): never {
    const { line, column } = lineAndColumn(this.#text, at);
    throw new CodecError(code, `${what} (line ${line}, column ${column})`);
  }
}

// RFC 8259, sections 2, 6 and 7. Sticky: each matches at the current position or not at all.
const SPACE = /[ \t\n\r]*/y;
const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what must not match.
const PLAIN_CHARACTERS = /[^"\\\u0000-\u001f]*/y;
const UNICODE_ESCAPE = /\\u[0-9a-fA-F]{4}/y;
const ESCAPES = new Map([
  ['"', '"'],
  ['\\', '\\'],
  ['/', '/'],
  ['b', '\b'],
  ['f', '\f'],
  ['n', '\n'],
  ['r', '\r'],
  ['t', '\t'],
]);
