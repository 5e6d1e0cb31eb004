/**
 * Tensor data as JSON, both ways (Open Inference Protocol v2, "Tensor Data"): flat or nested, row-major.
 * FP16 has no agreed JSON form and is refused; INT64 and UINT64 stay exact.
 */
import {
  type Datatype,
  ELEMENT_BYTES,
  elementCount,
  readBytesElements,
  type Tensor,
  writeBytesElements,
} from '../engine/tensor.ts';
import { ApiError, invalid } from './errors.ts';
import type { RequestJson } from './request-json.ts';

type NumericDatatype = Exclude<Datatype, 'BYTES' | 'FP16' | 'BOOL'>;

/** Smallest and largest value of the integer datatypes. */
const INTEGER_RANGE: Readonly<Record<string, readonly [bigint, bigint]>> = {
  INT8: [-(2n ** 7n), 2n ** 7n - 1n],
  INT16: [-(2n ** 15n), 2n ** 15n - 1n],
  INT32: [-(2n ** 31n), 2n ** 31n - 1n],
  INT64: [-(2n ** 63n), 2n ** 63n - 1n],
  UINT8: [0n, 2n ** 8n - 1n],
  UINT16: [0n, 2n ** 16n - 1n],
  UINT32: [0n, 2n ** 32n - 1n],
  UINT64: [0n, 2n ** 64n - 1n],
};

/** Elements of one tensor as JSON, either way: as strings and lists they take many times their size in memory. */
export const JSON_MAX_ELEMENTS = 2 ** 20;

/** The little-endian bytes of JSON data. Throws ApiError API_INVALID that names `field`. */
export function tensorFromJson(
  field: string,
  datatype: Datatype,
  shape: readonly number[],
  data: RequestJson | undefined,
): Uint8Array {
  if (!Array.isArray(data)) throw invalid(field, 'expected a list');
  if (datatype === 'FP16') throw invalid(field, 'FP16 has no JSON form: send binary data');
  const elements = flatten(field, shape, data);
  if (datatype === 'BYTES') {
    const utf8 = new TextEncoder();
    return writeBytesElements(
      elements.map((element, index) => {
        if (typeof element !== 'string') throw invalid(`${field}[${index}]`, 'expected a string');
        return utf8.encode(element);
      }),
    );
  }
  if (datatype === 'BOOL') {
    return Uint8Array.from(elements, (element, index) => {
      if (typeof element !== 'boolean') throw invalid(`${field}[${index}]`, 'expected true or false');
      return element ? 1 : 0;
    });
  }
  const bytes = new Uint8Array(new ArrayBuffer(elements.length * ELEMENT_BYTES[datatype]));
  const view = new DataView(bytes.buffer);
  elements.forEach((element, index) => {
    const fault = writeNumber(view, index, datatype, element);
    if (fault !== undefined) throw invalid(`${field}[${index}]`, fault);
  });
  return bytes;
}

/** Flat data has as many elements as the shape; nested data has lists exactly as the shape says. */
function flatten(field: string, shape: readonly number[], data: readonly RequestJson[]): RequestJson[] {
  const count = elementCount(shape);
  if (count === undefined || count > JSON_MAX_ELEMENTS) {
    throw invalid(field, `expected at most ${JSON_MAX_ELEMENTS} elements as JSON: send binary data`);
  }
  if (!Array.isArray(data[0])) {
    if (data.length !== count) throw invalid(field, `expected ${count} elements, found ${data.length}`);
    if (data.some((element) => Array.isArray(element))) throw invalid(field, 'mixes elements and lists');
    return [...data];
  }
  const elements: RequestJson[] = [];
  const collect = (list: readonly RequestJson[], axis: number): void => {
    if (list.length !== shape[axis]) {
      throw invalid(
        field,
        `expected lists of ${shape[axis] ?? 0} at depth ${axis + 1}, found ${list.length}`,
      );
    }
    const last = axis === shape.length - 1;
    for (const element of list) {
      if (Array.isArray(element) === last) throw invalid(field, `expected lists ${shape.length} deep`);
      if (Array.isArray(element)) collect(element, axis + 1);
      else elements.push(element);
    }
  };
  collect(data, 0);
  return elements;
}

/** Writes one element, or says what was expected. */
function writeNumber(
  view: DataView,
  index: number,
  datatype: NumericDatatype,
  element: RequestJson,
): string | undefined {
  if (typeof element !== 'number' && typeof element !== 'bigint') return 'expected a number';
  const at = index * ELEMENT_BYTES[datatype];
  if (datatype === 'FP32' || datatype === 'FP64') {
    const value = Number(element);
    if (datatype === 'FP64') view.setFloat64(at, value, true);
    else if (Number.isFinite(Math.fround(value))) view.setFloat32(at, value, true);
    else return 'expected a number in the range of FP32';
    return undefined;
  }
  const [least, most] = INTEGER_RANGE[datatype] as readonly [bigint, bigint];
  const fault = `expected an integer from ${least} to ${most}`;
  if (typeof element === 'number' && !Number.isSafeInteger(element)) return fault;
  const value = BigInt(element);
  if (value < least || value > most) return fault;
  const small = Number(value);
  switch (datatype) {
    case 'INT8':
      view.setInt8(at, small);
      break;
    case 'UINT8':
      view.setUint8(at, small);
      break;
    case 'INT16':
      view.setInt16(at, small, true);
      break;
    case 'UINT16':
      view.setUint16(at, small, true);
      break;
    case 'INT32':
      view.setInt32(at, small, true);
      break;
    case 'UINT32':
      view.setUint32(at, small, true);
      break;
    case 'INT64':
      view.setBigInt64(at, value, true);
      break;
    case 'UINT64':
      view.setBigUint64(at, value, true);
      break;
  }
  return undefined;
}

/** The flat JSON list of a tensor's data. Throws ApiError API_NOT_REPRESENTABLE for what JSON cannot hold. */
export function tensorToJson(tensor: Tensor): string {
  return `[${elementTexts(tensor).join(',')}]`;
}

function elementTexts({ name, datatype, shape, data }: Tensor): string[] {
  const refused = (why: string): ApiError =>
    new ApiError('API_NOT_REPRESENTABLE', `output ${name}: ${why}: ask for it as binary data`);
  if (datatype === 'FP16') throw refused('FP16 has no JSON form');
  const count = elementCount(shape);
  if (count === undefined || count > JSON_MAX_ELEMENTS)
    throw refused(`more than ${JSON_MAX_ELEMENTS} elements`);
  if (datatype === 'BYTES') {
    const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
    return readBytesElements(data).map((element) => {
      try {
        return JSON.stringify(utf8.decode(element));
      } catch {
        throw refused('an element is not UTF-8');
      }
    });
  }
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  const size = ELEMENT_BYTES[datatype];
  const texts: string[] = [];
  for (let index = 0; index < count; index += 1) {
    const value = readElement(view, index * size, datatype);
    if (typeof value === 'number' && !Number.isFinite(value))
      throw refused('NaN and infinities have no JSON form');
    texts.push(Object.is(value, -0) ? '-0' : String(value));
  }
  return texts;
}

function readElement(
  view: DataView,
  at: number,
  datatype: NumericDatatype | 'BOOL',
): number | bigint | boolean {
  switch (datatype) {
    case 'BOOL':
      return view.getUint8(at) === 1;
    case 'UINT8':
      return view.getUint8(at);
    case 'INT8':
      return view.getInt8(at);
    case 'UINT16':
      return view.getUint16(at, true);
    case 'INT16':
      return view.getInt16(at, true);
    case 'UINT32':
      return view.getUint32(at, true);
    case 'INT32':
      return view.getInt32(at, true);
    case 'UINT64':
      return view.getBigUint64(at, true);
    case 'INT64':
      return view.getBigInt64(at, true);
    case 'FP32':
      return view.getFloat32(at, true);
    case 'FP64':
      return view.getFloat64(at, true);
  }
}
