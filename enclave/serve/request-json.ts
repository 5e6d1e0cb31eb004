/**
 * JSON of request bodies (RFC 8259), strict, and exact where JSON.parse is not: an integer that a double
 * cannot hold becomes a bigint, because INT64 and UINT64 tensors hold such integers. Duplicate members, lone
 * surrogates, a byte order mark, a number beyond a double's range and deep nesting are refused.
 *
 * Three bytes of JSON can become two hundred of memory, so length, objects and members are bounded as well: a
 * request has a few objects for each tensor, and its large tensors are better sent as binary data.
 */
import { ApiError } from './errors.ts';

export type RequestJson = null | boolean | number | bigint | string | RequestJson[] | RequestObject;
/** Without a prototype, so that any member name is just a name. */
export interface RequestObject {
  [name: string]: RequestJson;
}

/** Tensors nest as deep as their rank; the rest of a request nests five deep. */
const MAX_DEPTH = 40;
const MAX_BYTES = 32 * 1024 * 1024;
const MAX_OBJECTS = 8192;
const MAX_MEMBERS = 64;

const INTEGER = /-?(?:0|[1-9][0-9]*)/y;
const FRACTION_AND_EXPONENT = /(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
/** What lists of numbers are made of. */
const NUMBERS = /[-+.0-9eE, \t\n\r]*/y;
const SPACE = /[ \t\n\r]*/y;
const SPACE_CODE = 0x20;
// biome-ignore lint/suspicious/noControlCharactersInRegex: JSON strings may not hold control characters
const PLAIN_CHARACTERS = /[^"\\\u0000-\u001f]*/y;

/** Throws ApiError API_INVALID with the position of the fault, or API_TOO_LARGE. */
export function parseRequestJson(bytes: Uint8Array): RequestJson {
  if (bytes.length > MAX_BYTES) {
    throw new ApiError(
      'API_TOO_LARGE',
      `body: expected at most ${MAX_BYTES} bytes of JSON: send binary data`,
    );
  }
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new ApiError('API_INVALID', 'body: expected UTF-8');
  }
  return new Parser(text).whole();
}

class Parser {
  readonly #text: string;
  #at = 0;
  #objects = 0;

  constructor(text: string) {
    this.#text = text;
  }

  whole(): RequestJson {
    const value = this.#value(1);
    this.#skipSpace();
    if (this.#at !== this.#text.length) throw this.#fault('expected the end');
    return value;
  }

  #value(depth: number): RequestJson {
    if (depth > MAX_DEPTH) throw this.#fault(`nested deeper than ${MAX_DEPTH}`);
    this.#skipSpace();
    switch (this.#text[this.#at]) {
      case '{':
        return this.#object(depth);
      case '[':
        return this.#array(depth);
      case '"':
        return this.#string();
      case 't':
        return this.#word('true', true);
      case 'f':
        return this.#word('false', false);
      case 'n':
        return this.#word('null', null);
      default:
        return this.#number();
    }
  }

  #object(depth: number): RequestObject {
    this.#objects += 1;
    if (this.#objects > MAX_OBJECTS) throw this.#fault(`more than ${MAX_OBJECTS} objects`);
    const object: RequestObject = Object.create(null);
    let members = 0;
    this.#at += 1;
    if (this.#takes('}')) return object;
    do {
      this.#skipSpace();
      if (this.#text[this.#at] !== '"') throw this.#fault('expected a member name');
      const name = this.#string();
      if (Object.hasOwn(object, name)) throw this.#fault('a member appears twice');
      members += 1;
      if (members > MAX_MEMBERS) throw this.#fault(`more than ${MAX_MEMBERS} members`);
      if (!this.#takes(':')) throw this.#fault('expected ":"');
      object[name] = this.#value(depth + 1);
    } while (this.#takes(','));
    if (!this.#takes('}')) throw this.#fault('expected "," or "}"');
    return object;
  }

  #array(depth: number): RequestJson[] {
    const numbers = this.#numbers();
    if (numbers !== undefined) return numbers;
    const array: RequestJson[] = [];
    this.#at += 1;
    if (this.#takes(']')) return array;
    do array.push(this.#value(depth + 1));
    while (this.#takes(','));
    if (!this.#takes(']')) throw this.#fault('expected "," or "]"');
    return array;
  }

  /**
   * A list of nothing but numbers, which tensors mostly are: JSON.parse reads it several times faster. Undefined for
   * any other list, one that is not JSON, and numbers that JSON.parse may have rounded.
   */
  #numbers(): number[] | undefined {
    NUMBERS.lastIndex = this.#at + 1;
    NUMBERS.test(this.#text);
    const end = NUMBERS.lastIndex + 1;
    if (end === this.#at + 2 || this.#text[end - 1] !== ']') return undefined;
    let numbers: number[];
    try {
      numbers = JSON.parse(this.#text.slice(this.#at, end));
    } catch {
      return undefined;
    }
    const exact = (value: number): boolean =>
      Number.isSafeInteger(value) || (Number.isFinite(value) && !Number.isInteger(value));
    if (!numbers.every(exact)) return undefined;
    this.#at = end;
    return numbers;
  }

  #string(): string {
    const start = this.#at;
    PLAIN_CHARACTERS.lastIndex = start + 1;
    PLAIN_CHARACTERS.test(this.#text);
    this.#at = PLAIN_CHARACTERS.lastIndex;
    if (this.#text[this.#at] === '"') {
      this.#at += 1;
      return this.#text.slice(start + 1, this.#at - 1);
    }
    while (this.#text[this.#at] === '\\') {
      PLAIN_CHARACTERS.lastIndex = this.#at + 2;
      PLAIN_CHARACTERS.test(this.#text);
      this.#at = Math.min(PLAIN_CHARACTERS.lastIndex, this.#text.length);
    }
    if (this.#text[this.#at] !== '"') throw this.#fault('expected the end of a string');
    this.#at += 1;
    let value: unknown;
    try {
      value = JSON.parse(this.#text.slice(start, this.#at));
    } catch {
      throw this.#fault('an unknown escape in a string');
    }
    if (typeof value !== 'string' || !value.isWellFormed()) throw this.#fault('a lone surrogate in a string');
    return value;
  }

  #number(): number | bigint {
    INTEGER.lastIndex = this.#at;
    if (!INTEGER.test(this.#text)) throw this.#fault('expected a value');
    FRACTION_AND_EXPONENT.lastIndex = INTEGER.lastIndex;
    FRACTION_AND_EXPONENT.test(this.#text);
    const text = this.#text.slice(this.#at, FRACTION_AND_EXPONENT.lastIndex);
    this.#at = FRACTION_AND_EXPONENT.lastIndex;
    const value = Number(text);
    if (!Number.isFinite(value)) throw this.#fault('a number out of range');
    const isInteger = INTEGER.lastIndex === this.#at;
    return isInteger && !Number.isSafeInteger(value) ? BigInt(text) : value;
  }

  #word<T extends boolean | null>(word: string, value: T): T {
    if (!this.#text.startsWith(word, this.#at)) throw this.#fault('expected a value');
    this.#at += word.length;
    return value;
  }

  #takes(character: string): boolean {
    this.#skipSpace();
    if (this.#text[this.#at] !== character) return false;
    this.#at += 1;
    return true;
  }

  #skipSpace(): void {
    // Most often there is none.
    if (this.#text.charCodeAt(this.#at) > SPACE_CODE) return;
    SPACE.lastIndex = this.#at;
    SPACE.test(this.#text);
    this.#at = SPACE.lastIndex;
  }

  #fault(what: string): ApiError {
    return new ApiError('API_INVALID', `body: not JSON at character ${this.#at}: ${what}`);
  }
}
