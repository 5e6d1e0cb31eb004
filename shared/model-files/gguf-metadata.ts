/** The key-value part of a GGUF file: what is needed of it is kept, the rest is walked over; all of it is bounded. */
import type { GgufReader } from './gguf-reader.ts';
import { GGUF_VALUES } from './gguf-schema.ts';
import { malformed } from './protobuf.ts';

/** Real files have some sixty. */
const MAX_KEYS = 4096;
const MAX_KEY_BYTES = 256;
/** Chat templates are the longest. */
const MAX_STRING_BYTES = 512 * 1024;
/** Merges of a vocabulary of half a million tokens. */
const MAX_ARRAY_ELEMENTS = 2 ** 21;
const MAX_ELEMENT_BYTES = 16 * 1024;
/** Lists of one number per layer are kept. */
const MAX_KEPT_ELEMENTS = 4096;

/** Printable ASCII, without a space. */
const KEY = /^[\x21-\x7e]+$/;

export interface GgufArray {
  readonly of: string;
  readonly length: number;
  /** Of a short array of numbers. */
  readonly numbers?: readonly number[];
}

export type GgufMetadata = ReadonlyMap<string, number | boolean | string | GgufArray>;

/** Called for each element of an array of strings or of int32, so that long ones are looked at and not kept. */
export type ElementCheck = (key: string, element: Uint8Array | number) => void;

/** Throws ModelFileError. */
export function readGgufMetadata(reader: GgufReader, count: number, check: ElementCheck): GgufMetadata {
  if (count > MAX_KEYS) throw malformed(`${count} metadata keys: expected at most ${MAX_KEYS}`);
  const metadata = new Map<string, number | boolean | string | GgufArray>();
  for (let index = 0; index < count; index += 1) {
    const key = reader.text(MAX_KEY_BYTES, 'a metadata key');
    if (!KEY.test(key)) throw malformed('a metadata key that is not printable ASCII');
    if (metadata.has(key)) throw malformed(`the metadata key ${key} is there twice`);
    const type = typeOf(reader.uint32(), key);
    metadata.set(key, type === 'array' ? readArray(reader, key, check) : readScalar(reader, type, key));
  }
  return metadata;
}

function readScalar(reader: GgufReader, type: string, key: string): number | boolean | string {
  switch (type) {
    case 'string':
      return reader.text(MAX_STRING_BYTES, key);
    case 'bool':
      return bool(reader.uint8(), key);
    case 'uint8':
      return reader.uint8();
    case 'uint32':
      return reader.uint32();
    case 'int32':
      return reader.int32();
    case 'float32':
      return reader.float32();
    case 'uint64':
      return reader.uint64();
    default: {
      const low = reader.uint8();
      if (type === 'int8') return (low << 24) >> 24;
      const value = low + reader.uint8() * 256;
      if (type === 'uint16') return value;
      if (type === 'int16') return (value << 16) >> 16;
      // int64 and float64: no key that is read here has such a value.
      reader.skip(6);
      return Number.NaN;
    }
  }
}

function readArray(reader: GgufReader, key: string, check: ElementCheck): GgufArray {
  const of = typeOf(reader.uint32(), key);
  // ggml reads none either, and whoever followed them would follow them without end.
  if (of === 'array') throw malformed(`${key} is an array of arrays`);
  const length = reader.uint64();
  if (length > MAX_ARRAY_ELEMENTS) {
    throw malformed(`${key} has ${length} elements: expected at most ${MAX_ARRAY_ELEMENTS}`);
  }
  if (of === 'string') {
    for (let index = 0; index < length; index += 1) {
      check(key, reader.bytes(MAX_ELEMENT_BYTES, `an element of ${key}`));
    }
    return { of, length };
  }
  if (of === 'int32' && length > MAX_KEPT_ELEMENTS) {
    for (let index = 0; index < length; index += 1) check(key, reader.int32());
    return { of, length };
  }
  if (of === 'bool') {
    for (let index = 0; index < length; index += 1) bool(reader.uint8(), key);
    return { of, length };
  }
  if (length > MAX_KEPT_ELEMENTS || of === 'float32') {
    reader.skip(length * sizeOf(of));
    return { of, length };
  }
  const numbers: number[] = [];
  for (let index = 0; index < length; index += 1) {
    const element = Number(readScalar(reader, of, key));
    if (of === 'int32') check(key, element);
    numbers.push(element);
  }
  return { of, length, numbers };
}

function typeOf(number: number, key: string): string {
  const type = GGUF_VALUES.get(number);
  if (type === undefined) throw malformed(`${key} has a value of the unknown type ${number}`);
  return type.name;
}

function sizeOf(name: string): number {
  for (const type of GGUF_VALUES.values()) if (type.name === name && type.sizeBytes) return type.sizeBytes;
  throw new TypeError(`no size of ${name}`);
}

function bool(byte: number, key: string): boolean {
  if (byte > 1) throw malformed(`${key} is neither true nor false`);
  return byte === 1;
}
