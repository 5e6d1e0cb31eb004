/**
 * Reads the members of a request. Stricter than AWS in two points, on purpose: a member that is not known here
 * and a member that is null are refused. A misspelt `Recipient` must never be answered with a plaintext.
 */
import { parseStrictJson } from '../../shared/json.ts';
import { KmsException, validation } from './exception.ts';

/** Room for the largest attestation document KMS takes (262,144 bytes) in base64, and everything else. */
export const BODY_MAX_BYTES = 512 * 1024;

type Json = Readonly<Record<string, unknown>>;

export class Input {
  readonly #members: Json;
  readonly #path: string;
  readonly #read = new Set<string>();

  constructor(members: Json, path = '') {
    this.#members = members;
    this.#path = path;
  }

  static parse(body: Uint8Array): Input {
    let value: unknown;
    try {
      value = parseStrictJson(body, { maxBytes: BODY_MAX_BYTES, maxDepth: 8 }).value;
    } catch (error) {
      throw serialization(`the body is not JSON: ${error instanceof Error ? error.message : ''}`);
    }
    return new Input(asObject(value, 'the body'));
  }

  string(name: string, rule: { readonly min?: number; readonly max: number }): string | undefined {
    const value = this.#take(name);
    if (value === undefined) return undefined;
    if (typeof value !== 'string') throw serialization(`${this.#at(name)} is not a string`);
    if (value.length < (rule.min ?? 1) || value.length > rule.max) {
      throw this.#invalid(name, `Member must have a length from ${rule.min ?? 1} to ${rule.max}`);
    }
    return value;
  }

  requiredString(name: string, rule: { readonly min?: number; readonly max: number }): string {
    return this.string(name, rule) ?? this.#missing(name);
  }

  oneOf<const T extends string>(name: string, allowed: readonly T[]): T | undefined {
    const value = this.string(name, { max: 256 });
    if (value === undefined) return undefined;
    const found = allowed.find((candidate) => candidate === value);
    if (found === undefined) {
      throw this.#invalid(name, `Member must satisfy enum value set: [${allowed.join(', ')}]`);
    }
    return found;
  }

  integer(name: string, rule: { readonly min: number; readonly max: number }): number | undefined {
    const value = this.#take(name);
    if (value === undefined) return undefined;
    if (!Number.isSafeInteger(value)) throw serialization(`${this.#at(name)} is not an integer`);
    const number = value as number;
    if (number < rule.min || number > rule.max) {
      throw this.#invalid(name, `Member must have value from ${rule.min} to ${rule.max}`);
    }
    return number;
  }

  flag(name: string): boolean {
    const value = this.#take(name);
    if (value === undefined) return false;
    if (typeof value !== 'boolean') throw serialization(`${this.#at(name)} is not a boolean`);
    return value;
  }

  blob(name: string, rule: { readonly max: number }): Uint8Array | undefined {
    const value = this.#take(name);
    if (value === undefined) return undefined;
    if (typeof value !== 'string') throw serialization(`${this.#at(name)} is not a string`);
    const bytes = new Uint8Array(Buffer.from(value, 'base64'));
    if (Buffer.from(bytes).toString('base64') !== value) {
      throw serialization(`${this.#at(name)} is not base64`);
    }
    if (bytes.length < 1 || bytes.length > rule.max) {
      throw this.#invalid(name, `Member must have a length from 1 to ${rule.max}`);
    }
    return bytes;
  }

  requiredBlob(name: string, rule: { readonly max: number }): Uint8Array {
    return this.blob(name, rule) ?? this.#missing(name);
  }

  stringMap(name: string): ReadonlyMap<string, string> | undefined {
    const value = this.#take(name);
    if (value === undefined) return undefined;
    const entries = Object.entries(asObject(value, this.#at(name)));
    return new Map(
      entries.map(([key, text]) => {
        if (typeof text !== 'string') throw serialization(`${this.#at(name)}.${key} is not a string`);
        return [key, text];
      }),
    );
  }

  strings(name: string, rule: { readonly max: number }): string[] | undefined {
    const value = this.#take(name);
    if (value === undefined) return undefined;
    if (!Array.isArray(value) || !value.every((entry) => typeof entry === 'string')) {
      throw serialization(`${this.#at(name)} is not a list of strings`);
    }
    if (value.length > rule.max) {
      throw this.#invalid(name, `Member must have length less than or equal to ${rule.max}`);
    }
    return value;
  }

  object(name: string): Input | undefined {
    const value = this.#take(name);
    return value === undefined ? undefined : new Input(asObject(value, this.#at(name)), this.#at(name));
  }

  has(name: string): boolean {
    return Object.hasOwn(this.#members, name);
  }

  /** To be called when every member has been asked for. */
  end(): void {
    const unknown = Object.keys(this.#members).filter((name) => !this.#read.has(name));
    if (unknown.length > 0) {
      throw serialization(
        `${unknown.map((name) => this.#at(name)).join(', ')}: not known to the simulated KMS`,
      );
    }
  }

  #take(name: string): unknown {
    this.#read.add(name);
    if (!Object.hasOwn(this.#members, name)) return undefined;
    const value = this.#members[name];
    if (value === null) throw serialization(`${this.#at(name)} is null`);
    return value;
  }

  #at(name: string): string {
    const member = `${name.charAt(0).toLowerCase()}${name.slice(1)}`;
    return this.#path === '' ? member : `${this.#path}.${member}`;
  }

  #invalid(name: string, constraint: string): KmsException {
    return validation(this.#at(name), constraint);
  }

  #missing(name: string): never {
    throw validation(this.#at(name), 'Member must not be null');
  }
}

function asObject(value: unknown, what: string): Json {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw serialization(`${what} is not an object`);
  }
  return value as Json;
}

function serialization(explanation: string): KmsException {
  return new KmsException('SerializationException', '', { explanation: [explanation] });
}
