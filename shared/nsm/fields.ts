/** Reads one message of the security module: its name, and its fields by name in any order. */
import { type CborLimits, type CborValue, decodeCbor } from '../cbor.ts';
import { NsmMessageError, type nsmMessageErrors } from './errors.ts';

type Code = keyof typeof nsmMessageErrors;

export class NsmFields {
  readonly kind: string;
  readonly #fields: ReadonlyMap<CborValue, CborValue>;
  readonly #code: Code;

  constructor(kind: string, fields: ReadonlyMap<CborValue, CborValue>, code: Code) {
    this.kind = kind;
    this.#fields = fields;
    this.#code = code;
  }

  /** Refuses missing and unknown fields; order is free, because implementations differ (QEMU, the Rust crate). */
  expectOnly(names: readonly string[]): void {
    const found = [...this.#fields.keys()];
    if (found.length !== names.length || !names.every((name) => this.#fields.has(name))) {
      this.#fail(`expected the fields ${names.join(', ') || 'none'}, found ${found.map(String).join(', ')}`);
    }
  }

  u16(name: string): number {
    const value = this.#fields.get(name);
    if (!isU16(value)) this.#fail(`expected ${name} from 0 to 65535`);
    return value;
  }

  u16List(name: string): number[] {
    const value = this.#fields.get(name);
    if (!Array.isArray(value) || !value.every(isU16)) this.#fail(`expected ${name} to be a list of integers`);
    return value;
  }

  text(name: string): string {
    const value = this.#fields.get(name);
    if (typeof value !== 'string') this.#fail(`expected ${name} to be text`);
    return value;
  }

  flag(name: string): boolean {
    const value = this.#fields.get(name);
    if (typeof value !== 'boolean') this.#fail(`expected ${name} to be true or false`);
    return value;
  }

  bytes(name: string, exactBytes?: number): Uint8Array {
    const value = this.#fields.get(name);
    if (!(value instanceof Uint8Array)) this.#fail(`expected ${name} to be bytes`);
    if (exactBytes !== undefined && value.length !== exactBytes) {
      this.#fail(`expected ${name} of ${exactBytes} bytes, found ${value.length}`);
    }
    return value;
  }

  bytesOrNull(name: string): Uint8Array | null {
    return this.#fields.get(name) === null ? null : this.bytes(name);
  }

  #fail(what: string): never {
    throw new NsmMessageError(this.#code, `${this.kind}: ${what}`);
  }
}

function isU16(value: CborValue | undefined): value is number {
  return typeof value === 'number' && value >= 0 && value <= 0xffff;
}

/**
 * A message is the text of its name, or a map of one entry: its name and a map of its fields, or text. A message
 * without fields is never a map: serde's unit variants have one form.
 */
export function readNsmMessage(
  bytes: Uint8Array,
  code: Code,
  limits: Partial<CborLimits>,
): NsmFields | { readonly kind: string; readonly text: string } {
  let value: CborValue;
  try {
    value = decodeCbor(bytes, limits);
  } catch (cause) {
    throw new NsmMessageError(code, `unreadable: ${(cause as Error).message}`, cause);
  }
  if (typeof value === 'string') return new NsmFields(value, new Map(), code);
  if (value instanceof Map && value.size === 1) {
    const [[kind, fields]] = [...value] as [[CborValue, CborValue]];
    if (typeof kind === 'string' && fields instanceof Map && fields.size > 0)
      return new NsmFields(kind, fields, code);
    if (typeof kind === 'string' && typeof fields === 'string') return { kind, text: fields };
  }
  throw new NsmMessageError(code, 'expected a name, or one name with its fields');
}
