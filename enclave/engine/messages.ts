/**
 * What supervisor and engine say to each other: one question, one answer, never more than one open.
 *
 *     supervisor: start                 engine: ready (metadata) | failed (message)
 *     supervisor: infer (tensors)       engine: result (tensors) | rejected (message)
 *
 * The engine may have been taken over by its model, so everything it says is checked here, against bounds and
 * against the metadata that it gave when it started.
 */
import { EngineError } from './errors.ts';
import type { Frame } from './frames.ts';
import {
  isDatatype,
  type ModelMetadata,
  type Tensor,
  type TensorMetadata,
  tensorDataFault,
} from './tensor.ts';

export interface StartMessage {
  readonly kind: 'start';
  readonly threads: number;
  /** The model's other files, in the order of their descriptors. */
  readonly external: readonly string[];
}

export interface InferMessage {
  readonly kind: 'infer';
  readonly inputs: readonly Tensor[];
  /** Names of the wanted outputs, in the order wanted. */
  readonly outputs: readonly string[];
}

export type EngineAnswer =
  | { readonly kind: 'ready'; readonly metadata: ModelMetadata }
  | { readonly kind: 'failed'; readonly message: string }
  | { readonly kind: 'result'; readonly outputs: readonly Tensor[] }
  | { readonly kind: 'rejected'; readonly message: string };

/** More inputs or outputs than any model has; a rank that ONNX Runtime does not reach either. */
const MAX_TENSORS = 1024;
const MAX_RANK = 32;
const MAX_NAME_LENGTH = 512;
const MAX_MESSAGE_LENGTH = 1000;

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

/** Reads an answer of the engine. Throws EngineError ENGINE_PROTOCOL for anything out of order. */
export function readAnswer(frame: Frame): EngineAnswer {
  const header = readHeader(frame);
  if (header.kind === 'result') {
    return { kind: 'result', outputs: unpackTensors(header.outputs, frame.body) };
  }
  if (frame.body.length > 0) throw broken('a body where none belongs');
  if (header.kind === 'ready') {
    return {
      kind: 'ready',
      metadata: {
        inputs: list(header.inputs, 'inputs').map((value) => readMetadata(value)),
        outputs: list(header.outputs, 'outputs').map((value) => readMetadata(value)),
      },
    };
  }
  if (header.kind === 'failed' || header.kind === 'rejected') {
    return { kind: header.kind, message: printable(header.message) };
  }
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

/** The engine's side: reads what the supervisor sends. */
export function readStart(frame: Frame): StartMessage {
  const header = readHeader(frame);
  const { kind, threads, external } = header;
  if (kind !== 'start' || !isCount(threads) || !Array.isArray(external)) {
    throw broken('expected a start message');
  }
  return { kind, threads, external: external.map(String) };
}

export function readInfer(frame: Frame): InferMessage {
  const header = readHeader(frame);
  if (header.kind !== 'infer') throw broken('expected an infer message');
  return {
    kind: 'infer',
    inputs: unpackTensors(header.inputs, frame.body),
    outputs: list(header.outputs, 'outputs').map(readName),
  };
}

function readHeader(frame: Frame): Record<string, unknown> {
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(frame.header));
  } catch {
    throw broken('a header that is not JSON');
  }
  return record(header);
}

function unpackTensors(heads: unknown, body: Uint8Array): Tensor[] {
  let offset = 0;
  const tensors = list(heads, 'tensors').map((value) => {
    const head = record(value);
    const { sizeBytes } = head;
    if (!isCount(sizeBytes) || sizeBytes > body.length - offset)
      throw broken('a tensor larger than the body');
    // A copy of its own: typed arrays need aligned buffers, and tensors outlive the frame separately.
    const data = body.slice(offset, offset + sizeBytes);
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

function record(value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw broken('expected an object');
  return value as Record<string, unknown>;
}

function list(value: unknown, what: string): unknown[] {
  if (!Array.isArray(value) || value.length > MAX_TENSORS) throw broken(`${what} are no list of tensors`);
  return value;
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function printable(value: unknown): string {
  if (typeof value !== 'string') throw broken('a message that is no text');
  return value.slice(0, MAX_MESSAGE_LENGTH).replaceAll(/[^\x20-\x7e]/g, '?');
}

function broken(what: string): EngineError {
  return new EngineError('ENGINE_PROTOCOL', `the engine sent ${what}`);
}
