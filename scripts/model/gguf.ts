/**
 * Writes GGUF files, version 3: key-value metadata, a table of tensors, then their data, with no library.
 * Deterministic: same input, same bytes. Specification: ggml's docs/gguf.md.
 */

/** gguf_metadata_value_type. */
export const GGUF_VALUE_TYPES = {
  uint8: 0,
  int8: 1,
  uint16: 2,
  int16: 3,
  uint32: 4,
  int32: 5,
  float32: 6,
  bool: 7,
  string: 8,
  array: 9,
  uint64: 10,
  int64: 11,
  float64: 12,
} as const;

export type GgufScalarType = Exclude<keyof typeof GGUF_VALUE_TYPES, 'array'>;

export type GgufValue =
  | { readonly type: GgufScalarType; readonly value: number | bigint | boolean | string }
  | {
      readonly type: 'array';
      readonly of: GgufScalarType;
      readonly values: readonly (number | bigint | boolean | string)[];
    };

/** ggml_type. */
export const GGML_TYPES = { F32: 0, F16: 1, Q8_0: 8 } as const;
export type GgmlType = keyof typeof GGML_TYPES;

export interface GgufTensor {
  readonly name: string;
  /** The length of a row first, as ggml counts. */
  readonly dimensions: readonly number[];
  readonly type: GgmlType;
  /** In as many pieces as are convenient; together as long as type and dimensions say. */
  readonly data: () => Iterable<Uint8Array>;
}

export interface GgufFile {
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: readonly GgufTensor[];
}

const VERSION = 3;
/** general.alignment if it is absent. */
const ALIGNMENT = 32;

export function ggmlSizeBytes(type: GgmlType, dimensions: readonly number[]): number {
  const elements = dimensions.reduce((product, size) => product * size, 1);
  // Q8_0: blocks of 32 elements, a 16-bit scale each.
  return type === 'Q8_0' ? (elements / 32) * 34 : elements * (type === 'F32' ? 4 : 2);
}

/** The file, piece by piece, in order. */
export function* encodeGguf({ metadata, tensors }: GgufFile): Generator<Uint8Array> {
  const header = new Writer();
  header.ascii('GGUF');
  header.number('uint32', VERSION);
  header.number('uint64', tensors.length);
  header.number('uint64', metadata.size);
  for (const [key, value] of metadata) {
    header.string(key);
    header.number('uint32', GGUF_VALUE_TYPES[value.type]);
    if (value.type === 'array') {
      header.number('uint32', GGUF_VALUE_TYPES[value.of]);
      header.number('uint64', value.values.length);
      for (const item of value.values) header.value(value.of, item);
    } else {
      header.value(value.type, value.value);
    }
  }
  let offset = 0;
  for (const { name, dimensions, type } of tensors) {
    header.string(name);
    header.number('uint32', dimensions.length);
    for (const size of dimensions) header.number('uint64', size);
    header.number('uint32', GGML_TYPES[type]);
    header.number('uint64', offset);
    offset += padded(ggmlSizeBytes(type, dimensions));
  }
  header.pad(padded(header.length) - header.length);
  yield header.bytes();
  for (const { type, dimensions, data } of tensors) {
    yield* data();
    const sizeBytes = ggmlSizeBytes(type, dimensions);
    if (padded(sizeBytes) > sizeBytes) yield new Uint8Array(padded(sizeBytes) - sizeBytes);
  }
}

const padded = (size: number): number => Math.ceil(size / ALIGNMENT) * ALIGNMENT;

class Writer {
  length = 0;
  readonly #parts: Uint8Array[] = [];

  ascii(text: string): void {
    this.#push(new TextEncoder().encode(text));
  }

  pad(count: number): void {
    this.#push(new Uint8Array(count));
  }

  string(text: string): void {
    const bytes = new TextEncoder().encode(text);
    this.number('uint64', bytes.length);
    this.#push(bytes);
  }

  value(type: GgufScalarType, value: number | bigint | boolean | string): void {
    if (type === 'string') this.string(String(value));
    else this.number(type, typeof value === 'bigint' ? value : Number(value));
  }

  number(type: Exclude<GgufScalarType, 'string'>, value: number | bigint): void {
    const view = new DataView(new ArrayBuffer(8));
    const whole = Number(value);
    const set = {
      uint8: () => view.setUint8(0, whole),
      int8: () => view.setInt8(0, whole),
      bool: () => view.setUint8(0, whole),
      uint16: () => view.setUint16(0, whole, true),
      int16: () => view.setInt16(0, whole, true),
      uint32: () => view.setUint32(0, whole, true),
      int32: () => view.setInt32(0, whole, true),
      float32: () => view.setFloat32(0, whole, true),
      float64: () => view.setFloat64(0, whole, true),
      uint64: () => view.setBigUint64(0, BigInt(value), true),
      int64: () => view.setBigInt64(0, BigInt(value), true),
    }[type];
    set();
    const sizes = { uint8: 1, int8: 1, bool: 1, uint16: 2, int16: 2, uint32: 4, int32: 4, float32: 4 };
    this.#push(new Uint8Array(view.buffer, 0, sizes[type as keyof typeof sizes] ?? 8));
  }

  bytes(): Uint8Array {
    return Buffer.concat(this.#parts);
  }

  #push(bytes: Uint8Array): void {
    this.#parts.push(bytes);
    this.length += bytes.length;
  }
}
