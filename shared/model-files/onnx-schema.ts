/**
 * The messages of onnx.proto (ONNX 1.19, IR version 11 and below), field by field: what may stand in an ONNX
 * file. A field that is not here is refused, for nobody has said what the runtime would do with it; so are those
 * that are left out on purpose: functions (inlining them can grow a file without bound), training information,
 * segments, devices, opaque types.
 */
export type Field =
  | { readonly name: string; readonly kind: 'varint' | 'fixed32' | 'fixed64'; readonly many?: true }
  /** `keep`: the text is read and handed on; otherwise only its length is looked at. */
  | { readonly name: string; readonly kind: 'text'; readonly many?: true; readonly keep?: true }
  | { readonly name: string; readonly kind: 'bytes'; readonly many?: true }
  /** `keep`: what was found in each is handed on to the message around it. */
  | { readonly name: string; readonly kind: MessageName; readonly many?: true; readonly keep?: true };

export type MessageName = keyof typeof FIELDS;

const one = <const K extends string>(name: string, kind: K) => ({ name, kind });
const many = <const K extends string>(name: string, kind: K) => ({ name, kind, many: true as const });
const kept = <T extends object>(field: T) => ({ ...field, keep: true as const });

const FIELDS = {
  Model: {
    1: one('ir_version', 'varint'),
    2: one('producer_name', 'text'),
    3: one('producer_version', 'text'),
    4: one('domain', 'text'),
    5: one('model_version', 'varint'),
    6: one('doc_string', 'text'),
    7: kept(one('graph', 'Graph')),
    8: kept(many('opset_import', 'OperatorSet')),
    14: many('metadata_props', 'Entry'),
  },
  OperatorSet: { 1: kept(one('domain', 'text')), 2: one('version', 'varint') },
  Entry: { 1: kept(one('key', 'text')), 2: one('value', 'text') },
  ExternalEntry: { 1: kept(one('key', 'text')), 2: kept(one('value', 'text')) },
  Graph: {
    1: many('node', 'Node'),
    2: one('name', 'text'),
    5: many('initializer', 'Tensor'),
    10: one('doc_string', 'text'),
    11: many('input', 'Value'),
    12: many('output', 'Value'),
    13: many('value_info', 'Value'),
    14: many('quantization_annotation', 'Annotation'),
    15: many('sparse_initializer', 'SparseTensor'),
    16: many('metadata_props', 'Entry'),
  },
  Annotation: { 1: one('tensor_name', 'text'), 2: many('quant_parameter_tensor_names', 'Entry') },
  Node: {
    1: many('input', 'text'),
    2: many('output', 'text'),
    3: one('name', 'text'),
    4: kept(one('op_type', 'text')),
    5: many('attribute', 'Attribute'),
    6: one('doc_string', 'text'),
    7: kept(one('domain', 'text')),
    8: one('overload', 'text'),
    9: many('metadata_props', 'Entry'),
  },
  Attribute: {
    1: one('name', 'text'),
    2: one('f', 'fixed32'),
    3: one('i', 'varint'),
    4: one('s', 'bytes'),
    5: one('t', 'Tensor'),
    6: one('g', 'Graph'),
    7: many('floats', 'fixed32'),
    8: many('ints', 'varint'),
    9: many('strings', 'bytes'),
    10: many('tensors', 'Tensor'),
    11: many('graphs', 'Graph'),
    13: one('doc_string', 'text'),
    14: one('tp', 'Type'),
    15: many('type_protos', 'Type'),
    20: one('type', 'varint'),
    22: one('sparse_tensor', 'SparseTensor'),
    23: many('sparse_tensors', 'SparseTensor'),
  },
  Tensor: {
    1: many('dims', 'varint'),
    2: one('data_type', 'varint'),
    4: many('float_data', 'fixed32'),
    5: many('int32_data', 'varint'),
    6: many('string_data', 'bytes'),
    7: many('int64_data', 'varint'),
    8: kept(one('name', 'text')),
    9: one('raw_data', 'bytes'),
    10: many('double_data', 'fixed64'),
    11: many('uint64_data', 'varint'),
    12: one('doc_string', 'text'),
    13: kept(many('external_data', 'ExternalEntry')),
    14: one('data_location', 'varint'),
    16: many('metadata_props', 'Entry'),
  },
  SparseTensor: { 1: one('values', 'Tensor'), 2: one('indices', 'Tensor'), 3: many('dims', 'varint') },
  Value: {
    1: one('name', 'text'),
    2: one('type', 'Type'),
    3: one('doc_string', 'text'),
    4: many('metadata_props', 'Entry'),
  },
  Type: {
    1: one('tensor_type', 'TensorType'),
    4: one('sequence_type', 'ElementType'),
    5: one('map_type', 'MapType'),
    6: one('denotation', 'text'),
    8: one('sparse_tensor_type', 'TensorType'),
    9: one('optional_type', 'ElementType'),
  },
  TensorType: { 1: one('elem_type', 'varint'), 2: one('shape', 'Shape') },
  ElementType: { 1: one('elem_type', 'Type') },
  MapType: { 1: one('key_type', 'varint'), 2: one('value_type', 'Type') },
  Shape: { 1: many('dim', 'Dimension') },
  Dimension: { 1: one('dim_value', 'varint'), 2: one('dim_param', 'text'), 3: one('denotation', 'text') },
} as const;

/** Field numbers in the order of the table, for each message. */
export const MESSAGES: Readonly<Record<MessageName, ReadonlyMap<number, Field>>> = Object.fromEntries(
  Object.entries(FIELDS).map(([name, fields]) => [
    name,
    new Map(Object.entries(fields).map(([number, field]) => [Number(number), field as Field])),
  ]),
) as never;

/** Bits of one element of a TensorProto.DataType, 1 and on; null for text. */
export const ELEMENT_BITS: readonly (number | null | undefined)[] = [
  undefined, // UNDEFINED
  32, // FLOAT
  8, // UINT8
  8, // INT8
  16, // UINT16
  16, // INT16
  32, // INT32
  64, // INT64
  null, // STRING
  8, // BOOL
  16, // FLOAT16
  64, // DOUBLE
  32, // UINT32
  64, // UINT64
  64, // COMPLEX64
  128, // COMPLEX128
  16, // BFLOAT16
  8, // FLOAT8E4M3FN
  8, // FLOAT8E4M3FNUZ
  8, // FLOAT8E5M2
  8, // FLOAT8E5M2FNUZ
  4, // UINT4
  4, // INT4
  4, // FLOAT4E2M1
  8, // FLOAT8E8M0
];
