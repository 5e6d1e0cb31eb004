/** Between our tensors (raw bytes) and ONNX Runtime's (typed arrays, strings). */
import { Tensor as OrtTensor } from 'onnxruntime-node';
import { type Datatype, readBytesElements, type Tensor, writeBytesElements } from './tensor.ts';

const ORT_TYPES = {
  BOOL: 'bool',
  UINT8: 'uint8',
  UINT16: 'uint16',
  UINT32: 'uint32',
  UINT64: 'uint64',
  INT8: 'int8',
  INT16: 'int16',
  INT32: 'int32',
  INT64: 'int64',
  FP16: 'float16',
  FP32: 'float32',
  FP64: 'float64',
  BYTES: 'string',
} as const satisfies Record<Datatype, OrtTensor.Type>;

/** Throws TypeError for a type that the protocol has no name for (for example uint4). */
export function fromOrtType(type: OrtTensor.Type): Datatype {
  for (const [datatype, ortType] of Object.entries(ORT_TYPES)) {
    if (ortType === type) return datatype as Datatype;
  }
  throw new TypeError(`tensors of ${type} are not served`);
}

/** `tensor.data` has a buffer of its own, so its start is aligned. Throws TypeError for BYTES that are not UTF-8. */
export function toOrtTensor(tensor: Tensor): OrtTensor {
  if (tensor.datatype === 'BYTES') {
    const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
    const strings = readBytesElements(tensor.data).map((element) => {
      try {
        return utf8.decode(element);
      } catch {
        throw new TypeError(`input ${tensor.name}: a string element is not UTF-8`);
      }
    });
    return new OrtTensor('string', strings, tensor.shape);
  }
  return new OrtTensor(ORT_TYPES[tensor.datatype], elementsOf(tensor.datatype, tensor.data), tensor.shape);
}

export function fromOrtTensor(name: string, tensor: OrtTensor): Tensor {
  const datatype = fromOrtType(tensor.type);
  const shape = [...tensor.dims];
  if (tensor.type === 'string') {
    const utf8 = new TextEncoder();
    const data = writeBytesElements((tensor.data as string[]).map((element) => utf8.encode(element)));
    return { name, datatype, shape, data };
  }
  const view = tensor.data as ArrayBufferView;
  return { name, datatype, shape, data: new Uint8Array(view.buffer, view.byteOffset, view.byteLength) };
}

function elementsOf(datatype: Exclude<Datatype, 'BYTES'>, data: Uint8Array): OrtTensor.DataType {
  const { buffer, byteOffset, length } = data;
  switch (datatype) {
    case 'BOOL':
    case 'UINT8':
      return data;
    case 'INT8':
      return new Int8Array(buffer, byteOffset, length);
    case 'UINT16':
      return new Uint16Array(buffer, byteOffset, length / 2);
    case 'INT16':
      return new Int16Array(buffer, byteOffset, length / 2);
    case 'FP16':
      return new Uint16Array(buffer, byteOffset, length / 2);
    case 'UINT32':
      return new Uint32Array(buffer, byteOffset, length / 4);
    case 'INT32':
      return new Int32Array(buffer, byteOffset, length / 4);
    case 'FP32':
      return new Float32Array(buffer, byteOffset, length / 4);
    case 'UINT64':
      return new BigUint64Array(buffer, byteOffset, length / 8);
    case 'INT64':
      return new BigInt64Array(buffer, byteOffset, length / 8);
    case 'FP64':
      return new Float64Array(buffer, byteOffset, length / 8);
  }
}
