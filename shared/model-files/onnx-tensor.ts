/** One TensorProto: its dimensions, its type, and the one place where its elements are, must agree. */
import { ModelFileError } from './errors.ts';
import { ELEMENT_BITS } from './onnx-schema.ts';
import { malformed } from './protobuf.ts';

/** What a walk found in one message, by field number; absent where the field is. */
export interface Found {
  /** How often a field stands there; of packed numbers, how many. */
  readonly counts: number[];
  readonly varints: number[];
  readonly texts: string[];
  /** Bytes of the last payload. */
  readonly sizes: number[];
  readonly children: Found[][];
  /** Of a tensor. */
  readonly dims: number[];
}

/** Part of another file: `location` as the ONNX file writes it. */
export interface ExternalData {
  readonly location: string;
  readonly offsetBytes: number;
  readonly sizeBytes: number;
}

const FIELD = { type: 2, name: 8, raw: 9, external: 13, location: 14 } as const;
/** Typed data fields: for which types, and how many numbers an element takes (onnx.proto, TensorProto). */
const TYPED: ReadonlyMap<number, ReadonlyMap<number, number>> = new Map([
  [4, new Map([1, 14].map((type) => [type, type === 14 ? 2 : 1]))],
  [
    5,
    new Map(
      [2, 3, 4, 5, 6, 9, 10, 16, 17, 18, 19, 20, 21, 22, 23, 24].map((type) => [
        type,
        type >= 21 && type <= 23 ? 0.5 : 1,
      ]),
    ),
  ],
  [6, new Map([[8, 1]])],
  [7, new Map([[7, 1]])],
  [10, new Map([11, 15].map((type) => [type, type === 15 ? 2 : 1]))],
  [11, new Map([12, 13].map((type) => [type, 1]))],
]);

/** Throws ModelFileError. Returns where the elements are if that is another file. */
export function checkTensor(found: Found): ExternalData | undefined {
  const type = found.varints[FIELD.type] ?? 0;
  const bits = ELEMENT_BITS[type];
  const what = `tensor ${JSON.stringify(found.texts[FIELD.name] ?? '')}`;
  if (bits === undefined)
    throw new ModelFileError('MODEL_FILE_UNSUPPORTED', `${what} has data type ${type}.`);
  const elements = found.dims.reduce((product, size) => product * size, 1);
  const sizeBytes = Math.ceil((elements * (bits ?? 0)) / 8);
  if (!Number.isSafeInteger(elements) || !Number.isSafeInteger(sizeBytes)) {
    throw malformed(`${what} has dimensions [${found.dims.join(', ')}]`);
  }
  const has = (field: number): boolean => (found.counts[field] ?? 0) > 0;
  const isExternal = (found.varints[FIELD.location] ?? 0) === 1;
  if ((found.varints[FIELD.location] ?? 0) > 1 || isExternal !== has(FIELD.external)) {
    throw malformed(`${what} does not say plainly whether its data are in another file`);
  }
  const places = [...TYPED.keys(), FIELD.raw, FIELD.external].filter(has);
  if (places.length > 1) throw malformed(`${what} has its data in ${places.length} places`);
  const [place] = places;
  if (place === undefined) {
    if (elements > 0) throw malformed(`${what} has ${elements} elements and no data`);
    return undefined;
  }
  const perElement = TYPED.get(place);
  if (perElement !== undefined) {
    const each = perElement.get(type);
    if (each === undefined) throw malformed(`${what} of data type ${type} has its data in field ${place}`);
    const expected = Math.ceil(elements * each);
    if (found.counts[place] !== expected) {
      throw malformed(`${what} needs ${expected} numbers and has ${found.counts[place]}`);
    }
    return undefined;
  }
  if (bits === null) throw malformed(`${what} holds texts as raw bytes`);
  if (place === FIELD.external) return externalData(what, found.children[place] ?? [], sizeBytes);
  if (found.sizes[place] !== sizeBytes) {
    throw malformed(`${what} needs ${sizeBytes} bytes and has ${found.sizes[place]}`);
  }
  return undefined;
}

const KEYS = ['location', 'offset', 'length', 'checksum'];

function externalData(what: string, entries: readonly Found[], sizeBytes: number): ExternalData {
  const values = new Map<string, string>();
  for (const { texts } of entries) {
    const [key, value] = [texts[1] ?? '', texts[2] ?? ''];
    if (!KEYS.includes(key) || values.has(key)) {
      throw malformed(
        `${what} has an unknown or repeated entry ${JSON.stringify(key)} for its external data`,
      );
    }
    values.set(key, value);
  }
  const location = values.get('location') ?? '';
  if (location === '') throw malformed(`${what} names no file for its external data`);
  const offsetBytes = decimal(what, values.get('offset') ?? '0');
  const length = decimal(what, values.get('length') ?? String(sizeBytes));
  if (length !== sizeBytes)
    throw malformed(`${what} needs ${sizeBytes} external bytes and announces ${length}`);
  return { location, offsetBytes, sizeBytes };
}

function decimal(what: string, text: string): number {
  if (!/^(0|[1-9][0-9]{0,14})$/.test(text)) {
    throw malformed(`${what} has ${JSON.stringify(text)} where an offset or a length belongs`);
  }
  return Number(text);
}
