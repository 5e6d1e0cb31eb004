/**
 * A JSON schema as a grammar of llama.cpp (GBNF), so that every token that is sampled fits. Keywords that cannot be kept
 * this way are refused: a schema that is obeyed by half is worse than none.
 *
 * What is understood: type, enum, const, properties with required and additionalProperties false, items with minItems and
 * maxItems, minLength and maxLength, anyOf (and oneOf as anyOf), $ref into $defs or definitions, and annotations.
 * GBNF: llama.cpp's grammars/README.md. JSON: RFC 8259. Keywords: JSON Schema 2020-12.
 */
import { Rejected } from './rejected.ts';

const MAX_RULES = 2000;
const MAX_DEPTH = 64;
const MAX_GRAMMAR_LENGTH = 256 * 1024;
/** llama.cpp writes a repetition out. */
const MAX_REPETITION = 1000;
const MAX_REPETITIONS_TOGETHER = 5000;

/** They say something about a value and nothing about its form. */
const ANNOTATIONS = [
  'title',
  'description',
  'default',
  'examples',
  '$schema',
  '$id',
  '$comment',
  'deprecated',
];

/** White space is a single space or nothing: a model that may write more may write nothing else. */
const BASE_RULES: Readonly<Record<string, string>> = {
  space: '" "?',
  character: '[^"\\\\\\x00-\\x1F\\x7F] | "\\\\" (["\\\\/bfnrt] | "u" [0-9a-fA-F]{4})',
  string: '"\\"" character* "\\""',
  integer: '"-"? ("0" | [1-9] [0-9]{0,15})',
  number: 'integer ("." [0-9]{1,16})? ([eE] [-+]? [0-9]{1,3})?',
  boolean: '"true" | "false"',
  null: '"null"',
  value: 'object | array | string | number | boolean | null',
  object: '"{" space (member ("," space member)*)? space "}"',
  member: 'string space ":" space value',
  array: '"[" space (value ("," space value)*)? space "]"',
};

/** GBNF with the rule `root`. Throws Rejected. */
export function grammarOfJsonSchema(schema: unknown): string {
  const builder = new GrammarBuilder(schema);
  const root = builder.ruleOf(schema, 0);
  return builder.text(root);
}

type Schema = Readonly<Record<string, unknown>>;

class GrammarBuilder {
  readonly #root: unknown;
  readonly #rules = new Map<string, string>(Object.entries(BASE_RULES));
  /** Rules of what references point to, by pointer; there before their text is, because schemas refer to themselves. */
  readonly #references = new Map<string, string>();
  #repetitions = 0;

  constructor(root: unknown) {
    this.#root = root;
  }

  text(root: string): string {
    const text = [`root ::= ${root}`, ...[...this.#rules].map(([name, rule]) => `${name} ::= ${rule}`)].join(
      '\n',
    );
    if (text.length > MAX_GRAMMAR_LENGTH) throw refused('it is too large');
    return text;
  }

  /** The name of a rule, or an expression in parentheses, for one schema. */
  ruleOf(schema: unknown, depth: number): string {
    if (depth > MAX_DEPTH) throw refused(`more than ${MAX_DEPTH} schemas in one another`);
    if (schema === true) return 'value';
    if (typeof schema !== 'object' || schema === null || Array.isArray(schema)) {
      throw refused('a schema that is no object');
    }
    const given = schema as Schema;
    if ('$ref' in given) {
      onlyThese(given, ['$ref', '$defs', 'definitions']);
      return this.#reference(given.$ref, depth);
    }
    for (const union of ['anyOf', 'oneOf'] as const) {
      if (union in given) {
        onlyThese(given, [union, '$defs', 'definitions']);
        return this.#either(list(given[union], union).map((part) => this.ruleOf(part, depth + 1)));
      }
    }
    if ('const' in given) {
      onlyThese(given, ['const', 'type', '$defs', 'definitions']);
      return literal(given.const);
    }
    if ('enum' in given) {
      onlyThese(given, ['enum', 'type', '$defs', 'definitions']);
      return this.#either(list(given.enum, 'enum').map(literal));
    }
    if (Array.isArray(given.type)) {
      const types = list(given.type, 'type');
      return this.#either(types.map((type) => this.#typed(ofType(given, type), depth)));
    }
    return this.#typed(given, depth);
  }

  #typed(schema: Schema, depth: number): string {
    const { type } = schema;
    switch (type) {
      case 'object':
        return this.#object(schema, depth);
      case 'array':
        return this.#array(schema, depth);
      case 'string':
        return this.#string(schema);
      case 'integer':
      case 'number':
      case 'boolean':
      case 'null':
        onlyThese(schema, ['type', '$defs', 'definitions']);
        return type;
      case undefined:
        if ('properties' in schema) return this.#object(schema, depth);
        if ('items' in schema) return this.#array(schema, depth);
        onlyThese(schema, ['$defs', 'definitions']);
        return 'value';
      default:
        throw refused(`the type ${JSON.stringify(type)}`);
    }
  }

  /** Members in the order of `properties`; those that are not required may be left out. */
  #object(schema: Schema, depth: number): string {
    onlyThese(schema, ['type', 'properties', 'required', 'additionalProperties', '$defs', 'definitions']);
    const { properties, required = [], additionalProperties } = schema;
    if (properties === undefined) {
      if (additionalProperties === false) return '("{" space "}")';
      if (additionalProperties !== undefined && additionalProperties !== true) {
        throw refused('additionalProperties with a schema');
      }
      if (list(required, 'required').length > 0) throw refused('required without properties');
      return 'object';
    }
    if (additionalProperties !== undefined && additionalProperties !== false) {
      throw refused('additionalProperties beside properties: expected false');
    }
    if (typeof properties !== 'object' || properties === null) throw refused('properties that are no object');
    const names = Object.keys(properties);
    const needed = new Set(list(required, 'required'));
    for (const name of needed) {
      if (typeof name !== 'string' || !names.includes(name))
        throw refused('a required property that is not described');
    }
    // From the last to the first: what may follow once a member stands before it, and what may if none does.
    let following = '';
    let beginning = '';
    for (const name of names.reverse()) {
      const value = this.ruleOf((properties as Schema)[name], depth + 1);
      const member = `${literal(name)} space ":" space ${value}`;
      const whole = `${member}${following === '' ? '' : ` ${following}`}`;
      if (needed.has(name)) {
        beginning = this.#rule(whole);
        following = this.#rule(`"," space ${whole}`);
      } else {
        beginning = this.#rule(`${whole} | ${beginning === '' ? '""' : beginning}`);
        following = this.#rule(`("," space ${member})?${following === '' ? '' : ` ${following}`}`);
      }
    }
    return this.#rule(`"{" space ${beginning === '' ? '' : `${beginning} `}space "}"`);
  }

  #array(schema: Schema, depth: number): string {
    onlyThese(schema, ['type', 'items', 'minItems', 'maxItems', '$defs', 'definitions']);
    const item = schema.items === undefined ? 'value' : this.ruleOf(schema.items, depth + 1);
    const [least, most] = this.#range(schema.minItems, schema.maxItems);
    if (most === 0) return '("[" space "]")';
    const more = `("," space ${item}){${Math.max(0, least - 1)},${most === undefined ? '' : most - 1}}`;
    const items = `${item} ${more}`;
    return this.#rule(`"[" space ${least === 0 ? `(${items})?` : items} space "]"`);
  }

  #string(schema: Schema): string {
    onlyThese(schema, ['type', 'minLength', 'maxLength', '$defs', 'definitions']);
    if (schema.minLength === undefined && schema.maxLength === undefined) return 'string';
    const [least, most] = this.#range(schema.minLength, schema.maxLength);
    return `("\\"" character{${least},${most ?? ''}} "\\"")`;
  }

  #range(least: unknown = 0, most: unknown = undefined): [least: number, most: number | undefined] {
    const isSize = (value: unknown): value is number =>
      Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= MAX_REPETITION;
    if (!isSize(least) || (most !== undefined && (!isSize(most) || most < least))) {
      throw refused(`a length or number of items: expected 0 to ${MAX_REPETITION}, the least first`);
    }
    this.#repetitions += most ?? least;
    if (this.#repetitions > MAX_REPETITIONS_TOGETHER) throw refused('its lengths are too large together');
    return [least, most];
  }

  #reference(pointer: unknown, depth: number): string {
    if (typeof pointer !== 'string') throw refused('a $ref that is no text');
    const known = this.#references.get(pointer);
    if (known !== undefined) return known;
    const name = this.#rule('');
    this.#references.set(pointer, name);
    const rule = this.ruleOf(this.#resolve(pointer), depth + 1);
    if (rule === name) throw refused(`${JSON.stringify(pointer)} refers to nothing but itself`);
    this.#rules.set(name, rule);
    return name;
  }

  /** A JSON pointer (RFC 6901) into the schema itself. */
  #resolve(pointer: string): unknown {
    if (pointer !== '#' && !pointer.startsWith('#/')) throw refused('a $ref to another document');
    let found = this.#root;
    for (const part of pointer.split('/').slice(1)) {
      const name = part.replaceAll('~1', '/').replaceAll('~0', '~');
      if (typeof found !== 'object' || found === null || !Object.hasOwn(found, name)) {
        throw refused('a $ref to what is not there');
      }
      found = (found as Schema)[name];
    }
    return found;
  }

  #either(rules: readonly string[]): string {
    if (rules.length === 0) throw refused('a choice of nothing');
    return this.#rule(rules.join(' | '));
  }

  #rule(text: string): string {
    if (this.#rules.size >= MAX_RULES) throw refused('it has too many parts');
    const name = `rule-${this.#rules.size}`;
    this.#rules.set(name, text);
    return name;
  }
}

/** What a schema with several types says of one of them. */
function ofType(schema: Schema, type: unknown): Schema {
  const of: Readonly<Record<string, readonly string[]>> = {
    object: ['properties', 'required', 'additionalProperties'],
    array: ['items', 'minItems', 'maxItems'],
    string: ['minLength', 'maxLength'],
  };
  const others = Object.entries(of).flatMap(([name, keys]) => (name === type ? [] : keys));
  return { ...Object.fromEntries(Object.entries(schema).filter(([key]) => !others.includes(key))), type };
}

function onlyThese(schema: Schema, keys: readonly string[]): void {
  const other = Object.keys(schema).find((key) => !keys.includes(key) && !ANNOTATIONS.includes(key));
  if (other !== undefined) throw refused(`the keyword ${JSON.stringify(other.slice(0, 64))}`);
}

function list(value: unknown, what: string): unknown[] {
  if (!Array.isArray(value)) throw refused(`${what} is no list`);
  return value;
}

/** The value's JSON as a GBNF literal. */
function literal(value: unknown): string {
  const json = JSON.stringify(value);
  if (json === undefined) throw refused('a value that is not JSON');
  return `"${json.replaceAll(/[\\"]/g, '\\$&').replaceAll('\n', '\\n').replaceAll('\r', '\\r')}"`;
}

function refused(what: string): Rejected {
  return new Rejected(`the JSON schema is not supported: ${what}`);
}
