/**
 * CBOR (RFC 8949): reading within a stated subset, and writing. A primer:
 *
 * Every item begins with a head: three bits of major type (unsigned, negative, bytes, text, array, map, tag,
 * simple) and an argument of 0 to 8 bytes, which is the value, the length or the count. Arrays and maps may
 * leave the count open ("indefinite length") and end with a break, byte FF.
 *
 * The accepted subset: exactly one item and nothing after it; integers to 64 bits; definite byte strings and
 * text (valid UTF-8); arrays and maps, definite or indefinite; false, true, null. Map keys are integers or text
 * and occur once. Refused: tags (but for one outer tag that the caller names), floats, undefined and other
 * simple values, strings in chunks, a break anywhere but at the end of an indefinite array or of a whole number
 * of pairs. Heads longer than needed are refused unless the caller accepts them. Size, depth and number of
 * items are bounded before anything is built.
 *
 * cbor-x decodes what the scan (codec/cbor-scan.ts) let through. Its `decode-no-eval` build is one file without
 * native code, run-time code generation or environment variables. It takes the text "[object Object]" for the
 * end of an indefinite container; a break is then left over, by which such items are refused.
 */
import { Decoder } from 'cbor-x/decode-no-eval';
import { type CborLimits, scanCbor } from './codec/cbor-scan.ts';
import { CodecError } from './codec/errors.ts';

export type { CborLimits };

/** Integers beyond ±(2^53 - 1) are bigint. Byte strings are views of the input. */
export type CborValue =
  | number
  | bigint
  | string
  | boolean
  | null
  | Uint8Array
  | CborValue[]
  | Map<CborValue, CborValue>;

/** NSM messages stay below 12,288 bytes and attestation documents below 16 KiB, both three levels deep. */
const DEFAULT_LIMITS: CborLimits = {
  maxBytes: 65_536,
  maxDepth: 8,
  maxItems: 4096,
  outerTag: undefined,
  nonMinimal: 'refuse',
};

const decoder = new Decoder({ mapsAsObjects: false, useRecords: false });

/** Reads exactly one item. Throws CodecError (CBOR_*). */
export function decodeCbor(bytes: Uint8Array, limits: Partial<CborLimits> = {}): CborValue {
  const start = scanCbor(bytes, { ...DEFAULT_LIMITS, ...limits });
  let decoded: unknown;
  try {
    // A view of our own: cbor-x hangs a property on the array it reads, and a Buffer would yield Buffers.
    decoded = decoder.decode(new Uint8Array(bytes.buffer, bytes.byteOffset + start, bytes.length - start));
  } catch (cause) {
    throw new CodecError('CBOR_MALFORMED', 'the item could not be decoded', cause);
  }
  return settle(decoded);
}

/**
 * Gives every integer its one representation: number where exact, bigint beyond. Refuses what no accepted item
 * decodes to, such as a break that was left over because cbor-x ended a container early.
 */
function settle(value: unknown): CborValue {
  if (typeof value === 'bigint') {
    const number = Number(value);
    return Number.isSafeInteger(number) ? number : value;
  }
  if (typeof value === 'string' || typeof value === 'boolean' || value === null) return value;
  if (Number.isSafeInteger(value)) return value as number;
  if (value instanceof Uint8Array) return value;
  if (Array.isArray(value)) return value.map(settle);
  if (value instanceof Map) {
    const map = new Map<CborValue, CborValue>();
    for (const [key, item] of value) map.set(settle(key), settle(item));
    return map;
  }
  throw new CodecError('CBOR_MALFORMED', 'two readers disagree about the kind of an item');
}

/** Writes definite lengths, minimal heads, and maps in the order given. */
export function encodeCbor(value: CborValue): Uint8Array {
  const parts: Uint8Array[] = [];
  write(value, parts);
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

const SIMPLE = new Map<CborValue, number>([
  [false, 0xf4],
  [true, 0xf5],
  [null, 0xf6],
]);

function write(value: CborValue, parts: Uint8Array[]): void {
  const simple = SIMPLE.get(value);
  if (simple !== undefined) {
    parts.push(Uint8Array.of(simple));
  } else if (typeof value === 'number' || typeof value === 'bigint') {
    parts.push(integer(value));
  } else if (typeof value === 'string') {
    if (!value.isWellFormed()) throw new CodecError('CBOR_REFUSED', 'text with a lone surrogate');
    const text = new TextEncoder().encode(value);
    parts.push(head(3, BigInt(text.length)), text);
  } else if (value instanceof Uint8Array) {
    parts.push(head(2, BigInt(value.length)), value);
  } else if (Array.isArray(value)) {
    parts.push(head(4, BigInt(value.length)));
    for (const item of value) write(item, parts);
  } else if (value instanceof Map) {
    parts.push(head(5, BigInt(value.size)));
    for (const [key, item] of value) {
      write(key, parts);
      write(item, parts);
    }
  } else {
    throw new CodecError('CBOR_REFUSED', `${typeof value} cannot be written`);
  }
}

function integer(value: number | bigint): Uint8Array {
  if (typeof value === 'number' && !Number.isSafeInteger(value)) {
    throw new CodecError('CBOR_REFUSED', `${value} is not an exact integer`);
  }
  const exact = BigInt(value);
  return exact >= 0n ? head(0, exact) : head(1, -1n - exact);
}

/** RFC 8949 3: the argument in the initial byte if below 24, otherwise in the fewest of 1, 2, 4 or 8 bytes. */
function head(major: number, argument: bigint): Uint8Array {
  if (argument < 24n) return Uint8Array.of((major << 5) | Number(argument));
  const size = [0, 1, 2, 3].find((power) => argument < 1n << BigInt(8 << power));
  if (size === undefined) throw new CodecError('CBOR_REFUSED', 'an integer of more than 64 bits');
  const bytes = new Uint8Array(1 + (1 << size));
  bytes[0] = (major << 5) | (24 + size);
  for (let i = bytes.length - 1, rest = argument; i > 0; i--, rest >>= 8n) bytes[i] = Number(rest & 0xffn);
  return bytes;
}
