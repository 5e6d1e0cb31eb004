/**
 * What supervisor and tensor engine say to each other: one question, one answer, never more than one open.
 *
 *     supervisor: infer (tensors)       engine: result (tensors) | rejected (message)
 */
import type { Frame } from './frames.ts';
import { broken, isCount, printable, readHeader, record } from './messages.ts';
import {
  isDatatype,
  type ModelMetadata,
  type Tensor,
  type TensorMetadata,
  tensorDataFault,
} from './tensor.ts';

export interface InferMessage {
  readonly kind: 'infer';
  readonly inputs: readonly Tensor[];
  /** Names of the wanted outputs, in the order wanted. */
  readonly outputs: readonly string[];
}

export type TensorAnswer =
  | { readonly kind: 'result'; readonly outputs: readonly Tensor[] }
  | { readonly kind: 'rejected'; readonly message: string };

/** More inputs or outputs than any model has; a rank that ONNX Runtime does not reach either. */
const MAX_TENSORS = 1024;
const MAX_RANK = 32;
const MAX_NAME_LENGTH = 512;

/** Header and body of a frame that carries tensors. */
export function packTensors(tensors: readonly Tensor[]): { heads: object[]; body: Uint8Array[] } {
  return {
    heads: tensors.map(({ name, datatype, shape, data }) => ({
      name,
      datatype,
      shape,
      sizeBytes: data.length,
    })),
    body: tensors.map((tensor) => tensor.data),
  };
}

/** Reads how a tensor engine describes its model. Throws EngineError ENGINE_PROTOCOL for anything out of order. */
export function readTensorReady(frame: Frame): ModelMetadata {
  const { kind, inputs, outputs } = readHeader(frame);
  if (kind !== 'ready') throw broken('an answer before it was ready');
  if (frame.body.length > 0) throw broken('a body where none belongs');
  return {
    inputs: list(inputs, 'inputs').map((value) => readMetadata(value)),
    outputs: list(outputs, 'outputs').map((value) => readMetadata(value)),
  };
}

/** Reads an answer of the engine. Throws EngineError ENGINE_PROTOCOL for anything out of order. */
export function readTensorAnswer(frame: Frame): TensorAnswer {
  const { kind, outputs, message } = readHeader(frame);
  if (kind === 'result') return { kind, outputs: unpackTensors(outputs, frame.body) };
  if (frame.body.length > 0) throw broken('a body where none belongs');
  if (kind === 'rejected') return { kind, message: printable(message) };
  throw broken('an answer of unknown kind');
}

/** Throws EngineError ENGINE_PROTOCOL unless `outputs` are exactly the wanted ones, as the metadata describes. */
export function requireWantedOutputs(
  outputs: readonly Tensor[],
  wanted: readonly string[],
  metadata: ModelMetadata,
): void {
  if (outputs.length !== wanted.length) throw broken(`${outputs.length} outputs, expected ${wanted.length}`);
  outputs.forEach((output, index) => {
    const declared = metadata.outputs.find(({ name }) => name === wanted[index]);
    if (declared === undefined || output.name !== declared.name || output.datatype !== declared.datatype) {
      throw broken('an output that was not asked for');
    }
    if (output.datatype !== 'BYTES' && !fits(output.shape, declared.shape)) {
      throw broken('an output of another shape than declared');
    }
  });
}

/** Whether a shape agrees with a declared one, where -1 stands for any size. */
export function fits(shape: readonly number[], declared: readonly number[]): boolean {
  return (
    shape.length === declared.length && declared.every((size, index) => size === -1 || size === shape[index])
  );
}

/** The engine's side: reads a question. */
export function readInfer(frame: Frame): InferMessage {
  const header = readHeader(frame);
  if (header.kind !== 'infer') throw broken('expected an infer message');
  return {
    kind: 'infer',
    inputs: unpackTensors(header.inputs, frame.body),
    outputs: list(header.outputs, 'outputs').map(readName),
  };
}

function unpackTensors(heads: unknown, body: Uint8Array): Tensor[] {
  let offset = 0;
  const tensors = list(heads, 'tensors').map((value) => {
    const head = record(value);
    const { sizeBytes } = head;
    if (!isCount(sizeBytes) || sizeBytes > body.length - offset)
      throw broken('a tensor larger than the body');
    // Where there are several, copies: each has to be aligned for typed arrays.
    const data = sizeBytes === body.length ? body : body.slice(offset, offset + sizeBytes);
    offset += sizeBytes;
    const tensor = { ...readMetadata(value), data };
    if (tensor.shape.some((size) => size < 0)) throw broken('a tensor of unknown size');
    const fault = tensorDataFault(tensor);
    if (fault !== undefined) throw broken(`a tensor whose data does not fit: ${fault}`);
    return tensor;
  });
  if (offset !== body.length) throw broken('bytes beyond the last tensor');
  return tensors;
}

function readMetadata(value: unknown): TensorMetadata {
  const { name, datatype, shape } = record(value);
  if (!isDatatype(datatype)) throw broken('an unknown datatype');
  if (!Array.isArray(shape) || shape.length > MAX_RANK) throw broken('a shape that is no list');
  const sizes = shape.map((size: unknown) => {
    if (size !== -1 && !isCount(size)) throw broken('a dimension that is no size');
    return size;
  });
  return { name: readName(name), datatype, shape: sizes };
}

function readName(value: unknown): string {
  if (typeof value !== 'string' || value.length === 0 || value.length > MAX_NAME_LENGTH)
    throw broken('a bad name');
  return value;
}

function list(value: unknown, what: string): unknown[] {
  if (!Array.isArray(value) || value.length > MAX_TENSORS) throw broken(`${what} are no list of tensors`);
  return value;
}
