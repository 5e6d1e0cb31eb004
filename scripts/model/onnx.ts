/**
 * Writes ONNX files: enough of the protobuf messages of onnx/onnx.proto (ModelProto, GraphProto, NodeProto,
 * TensorProto, ValueInfoProto) for small networks, with no library. Deterministic: same input, same bytes.
 *
 *     const model = encodeOnnxModel({
 *       inputs: [{ name: 'x', type: 'float', shape: ['batch', 4] }],
 *       outputs: [{ name: 'y', type: 'float', shape: ['batch', 3] }],
 *       initializers: [floatInitializer('w', [4, 3], weights)],
 *       nodes: [{ op: 'MatMul', inputs: ['x', 'w'], outputs: ['y'] }],
 *     });
 */

/** TensorProto.DataType of onnx.proto. */
export const ONNX_TYPES = {
  float: 1,
  uint8: 2,
  int8: 3,
  uint16: 4,
  int16: 5,
  int32: 6,
  int64: 7,
  string: 8,
  bool: 9,
  float16: 10,
  double: 11,
  uint32: 12,
  uint64: 13,
} as const;
export type OnnxType = keyof typeof ONNX_TYPES;

export interface OnnxValue {
  readonly name: string;
  readonly type: OnnxType;
  /** A number is a fixed dimension, a string names one that varies (for example `batch`). */
  readonly shape: readonly (number | string)[];
}

export interface OnnxInitializer {
  readonly name: string;
  readonly type: OnnxType;
  readonly shape: readonly number[];
  /** Little-endian elements, row-major: here, or in another file of the model. */
  readonly raw: Uint8Array | ExternalData;
}

export interface ExternalData {
  /** Relative to the folder of the ONNX file. */
  readonly location: string;
  readonly offsetBytes: number;
  readonly sizeBytes: number;
}

export type OnnxAttribute =
  | { readonly int: number }
  | { readonly float: number }
  | { readonly ints: readonly number[] };

export interface OnnxNode {
  readonly op: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes?: Readonly<Record<string, OnnxAttribute>>;
}

export interface OnnxGraph {
  readonly name?: string;
  readonly inputs: readonly OnnxValue[];
  readonly outputs: readonly OnnxValue[];
  readonly initializers?: readonly OnnxInitializer[];
  readonly nodes: readonly OnnxNode[];
}

const IR_VERSION = 8;
const OPSET_VERSION = 17;

/** A float initializer from numbers, row-major. */
export function floatInitializer(
  name: string,
  shape: readonly number[],
  values: ArrayLike<number>,
): OnnxInitializer {
  const floats = Float32Array.from(values);
  if (floats.length !== shape.reduce((product, size) => product * size, 1)) {
    throw new RangeError(`${name}: ${floats.length} values do not fill the shape [${shape.join(', ')}]`);
  }
  return { name, type: 'float', shape, raw: new Uint8Array(floats.buffer) };
}

/** The bytes of an .onnx file. */
export function encodeOnnxModel(graph: OnnxGraph): Uint8Array {
  return message([
    integer(1, IR_VERSION),
    text(2, 'strongroom'), // producer_name
    bytes(7, encodeGraph(graph)),
    bytes(8, message([text(1, ''), integer(2, OPSET_VERSION)])), // opset_import
  ]);
}

function encodeGraph(graph: OnnxGraph): Uint8Array {
  return message([
    ...graph.nodes.map((node) => bytes(1, encodeNode(node))),
    text(2, graph.name ?? 'graph'),
    ...(graph.initializers ?? []).map((tensor) => bytes(5, encodeInitializer(tensor))),
    ...graph.inputs.map((value) => bytes(11, encodeValue(value))),
    ...graph.outputs.map((value) => bytes(12, encodeValue(value))),
  ]);
}

function encodeNode(node: OnnxNode): Uint8Array {
  return message([
    ...node.inputs.map((name) => text(1, name)),
    ...node.outputs.map((name) => text(2, name)),
    text(3, `${node.op}_${node.outputs[0] ?? ''}`),
    text(4, node.op),
    ...Object.entries(node.attributes ?? {}).map(([name, value]) => bytes(5, encodeAttribute(name, value))),
  ]);
}

function encodeAttribute(name: string, value: OnnxAttribute): Uint8Array {
  // AttributeProto: name 1, f 2, i 3, ints 8, type 20 (FLOAT 1, INT 2, INTS 7)
  if ('float' in value) return message([text(1, name), float(2, value.float), integer(20, 1)]);
  if ('int' in value) return message([text(1, name), integer(3, value.int), integer(20, 2)]);
  return message([text(1, name), ...value.ints.map((int) => integer(8, int)), integer(20, 7)]);
}

function encodeInitializer(tensor: OnnxInitializer): Uint8Array {
  return message([
    ...tensor.shape.map((size) => integer(1, size)),
    integer(2, ONNX_TYPES[tensor.type]),
    text(8, tensor.name),
    ...encodeData(tensor.raw),
  ]);
}

function encodeData(raw: Uint8Array | ExternalData): Uint8Array[] {
  if (raw instanceof Uint8Array) return [bytes(9, raw)];
  const entries = { location: raw.location, offset: raw.offsetBytes, length: raw.sizeBytes };
  return [
    ...Object.entries(entries).map(([key, value]) =>
      bytes(13, message([text(1, key), text(2, String(value))])),
    ),
    integer(14, 1), // data_location: EXTERNAL
  ];
}

function encodeValue(value: OnnxValue): Uint8Array {
  const shape = message(
    value.shape.map((size) =>
      bytes(1, message([typeof size === 'number' ? integer(1, size) : text(2, size)])),
    ),
  );
  const tensorType = message([integer(1, ONNX_TYPES[value.type]), bytes(2, shape)]);
  return message([text(1, value.name), bytes(2, message([bytes(1, tensorType)]))]);
}

// Protobuf's wire format: a key (field number << 3 | wire type) before each value; varints are base 128,
// least significant group first (protobuf.dev/programming-guides/encoding).

function varint(value: number | bigint): Uint8Array {
  let rest = BigInt.asUintN(64, BigInt(value));
  const groups: number[] = [];
  do {
    const group = Number(rest & 0x7fn);
    rest >>= 7n;
    groups.push(rest === 0n ? group : group | 0x80);
  } while (rest !== 0n);
  return Uint8Array.from(groups);
}

function integer(field: number, value: number | bigint): Uint8Array {
  return message([varint((field << 3) | 0), varint(value)]);
}

function float(field: number, value: number): Uint8Array {
  return message([varint((field << 3) | 5), new Uint8Array(Float32Array.of(value).buffer)]);
}

function bytes(field: number, value: Uint8Array): Uint8Array {
  return message([varint((field << 3) | 2), varint(value.length), value]);
}

function text(field: number, value: string): Uint8Array {
  return bytes(field, new TextEncoder().encode(value));
}

function message(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    whole.set(part, offset);
    offset += part.length;
  }
  return whole;
}
