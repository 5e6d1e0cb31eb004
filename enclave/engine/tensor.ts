/**
 * Tensors as they travel between server, supervisor and engine: raw little-endian bytes, row-major, as the
 * binary tensor data extension of the Open Inference Protocol lays them out.
 */

/** Bytes of one element; null for BYTES, whose elements carry a 4-byte little-endian length each. */
export const ELEMENT_BYTES = {
  BOOL: 1,
  UINT8: 1,
  UINT16: 2,
  UINT32: 4,
  UINT64: 8,
  INT8: 1,
  INT16: 2,
  INT32: 4,
  INT64: 8,
  FP16: 2,
  FP32: 4,
  FP64: 8,
  BYTES: null,
} as const;

export type Datatype = keyof typeof ELEMENT_BYTES;

export interface Tensor {
  readonly name: string;
  readonly datatype: Datatype;
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

export interface TensorMetadata {
  readonly name: string;
  readonly datatype: Datatype;
  /** -1 for a dimension that varies. */
  readonly shape: readonly number[];
}

export interface ModelMetadata {
  readonly inputs: readonly TensorMetadata[];
  readonly outputs: readonly TensorMetadata[];
}

export function isDatatype(value: unknown): value is Datatype {
  return typeof value === 'string' && Object.hasOwn(ELEMENT_BYTES, value);
}

/** Number of elements of a shape (1 for a scalar), or undefined if that is no safe integer. */
export function elementCount(shape: readonly number[]): number | undefined {
  let count = 1;
  for (const size of shape) {
    count *= size;
    if (!Number.isSafeInteger(count)) return undefined;
  }
  return count;
}

/** Says what is wrong with the bytes of a tensor for its datatype and shape; undefined if nothing is. */
export function tensorDataFault(tensor: Omit<Tensor, 'name'>): string | undefined {
  const count = elementCount(tensor.shape);
  if (count === undefined) return 'the shape has too many elements';
  const size = ELEMENT_BYTES[tensor.datatype];
  if (size === null) return bytesElementsFault(tensor.data, count);
  if (tensor.data.length !== count * size) {
    return `expected ${count * size} bytes for ${count} elements of ${tensor.datatype}, found ${tensor.data.length}`;
  }
  if (tensor.datatype === 'BOOL' && tensor.data.some((byte) => byte > 1)) {
    return 'a BOOL is the byte 0 or 1';
  }
  return undefined;
}

function bytesElementsFault(data: Uint8Array, count: number): string | undefined {
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  let offset = 0;
  let found = 0;
  while (offset < data.length) {
    if (data.length - offset < 4) return 'a BYTES element is cut off in its length';
    const length = view.getUint32(offset, true);
    if (length > data.length - offset - 4) return 'a BYTES element is longer than the data';
    offset += 4 + length;
    found += 1;
    if (found > count) break;
  }
  return found === count
    ? undefined
    : `expected ${count} BYTES elements, found ${found > count ? 'more' : found}`;
}

/** The elements of a BYTES tensor that tensorDataFault has found sound. */
export function readBytesElements(data: Uint8Array): Uint8Array[] {
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  const elements: Uint8Array[] = [];
  for (let offset = 0; offset < data.length; ) {
    const length = view.getUint32(offset, true);
    elements.push(data.subarray(offset + 4, offset + 4 + length));
    offset += 4 + length;
  }
  return elements;
}

export function writeBytesElements(elements: readonly Uint8Array[]): Uint8Array {
  const data = new Uint8Array(elements.reduce((sum, element) => sum + 4 + element.length, 0));
  const view = new DataView(data.buffer);
  let offset = 0;
  for (const element of elements) {
    view.setUint32(offset, element.length, true);
    data.set(element, offset + 4);
    offset += 4 + element.length;
  }
  return data;
}
