/**
 * Reads an inference request of the Open Inference Protocol v2, with its binary tensor data extension, into
 * tensors that fit the model (docs/serving.md). Whatever is not understood is refused, never ignored: a
 * parameter that a client relies on must not be dropped silently.
 */

import {
  type Datatype,
  ELEMENT_BYTES,
  elementCount,
  type ModelMetadata,
  type Tensor,
  type TensorMetadata,
  tensorDataFault,
  writeBytesElements,
} from '../engine/tensor.ts';
import { fits } from '../engine/tensor-messages.ts';
import { ApiError, invalid } from './errors.ts';
import { tensorFromJson } from './json-tensor.ts';
import { parseRequestJson, type RequestJson, type RequestObject } from './request-json.ts';

export interface WantedOutput {
  readonly name: string;
  readonly binary: boolean;
}

export interface ApiInferRequest {
  /** Echoed in the response. */
  readonly id: string | undefined;
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly WantedOutput[];
}

const MAX_ID_LENGTH = 256;

/**
 * `headerLength` is the value of Inference-Header-Content-Length: undefined for a body of JSON alone, 0 for a
 * raw request. Throws ApiError API_INVALID that names the field.
 */
export function parseInferRequest(
  body: Uint8Array,
  headerLength: number | undefined,
  metadata: ModelMetadata,
): ApiInferRequest {
  if (headerLength === 0) return rawRequest(body, metadata);
  if (headerLength !== undefined && headerLength > body.length) {
    throw invalid('Inference-Header-Content-Length', 'larger than the body');
  }
  const json = parseRequestJson(headerLength === undefined ? body : body.subarray(0, headerLength));
  const request = members(json, 'body', ['id', 'parameters', 'inputs', 'outputs']);
  const { binary_data_output: binaryByDefault } = parameters(request.parameters, 'parameters', {
    binary_data_output: 'boolean',
  });
  const binaryPart = headerLength === undefined ? undefined : new BinaryPart(body.subarray(headerLength));
  const inputs = readInputs(request.inputs, metadata, binaryPart);
  binaryPart?.requireEnd();
  return {
    id: readId(request.id),
    inputs,
    outputs: readOutputs(request.outputs, metadata, binaryByDefault === true),
  };
}

/**
 * "Raw binary request" of the extension: the body is the only input's data, datatype and shape are the
 * model's. One dimension may vary, its size follows; a BYTES input is one element, without its length.
 * The answer is binary as well.
 */
function rawRequest(body: Uint8Array, metadata: ModelMetadata): ApiInferRequest {
  const [input] = metadata.inputs;
  if (input === undefined || metadata.inputs.length !== 1) {
    throw invalid('Inference-Header-Content-Length', '0 needs a model with exactly one input');
  }
  const { name, datatype } = input;
  const outputs = metadata.outputs.map((output) => ({ name: output.name, binary: true }));
  if (datatype === 'BYTES') {
    const shape = input.shape.map((size) => (size === -1 ? 1 : size));
    if (elementCount(shape) !== 1)
      throw invalid('body', 'a raw request holds one BYTES element, the model takes more');
    return { id: undefined, inputs: [{ name, datatype, shape, data: writeBytesElements([body]) }], outputs };
  }
  const tensor: Tensor = {
    name,
    datatype,
    shape: rawShape(input, ELEMENT_BYTES[datatype], body.length),
    data: body,
  };
  requireSoundData('body', tensor);
  return { id: undefined, inputs: [tensor], outputs };
}

function rawShape(input: TensorMetadata, elementBytes: number, sizeBytes: number): number[] {
  const varying = input.shape.filter((size) => size === -1).length;
  if (varying > 1)
    throw invalid('body', 'a raw request needs a model with at most one dimension that varies');
  const fixed = input.shape.reduce((product, size) => (size === -1 ? product : product * size), elementBytes);
  const rest = sizeBytes / fixed;
  if (varying === 1 && (!Number.isSafeInteger(rest) || rest === 0)) {
    throw invalid('body', `expected a positive multiple of ${fixed} bytes, found ${sizeBytes}`);
  }
  return input.shape.map((size) => (size === -1 ? rest : size));
}

/** The tensors that follow the JSON, one after the other in the order of the inputs. */
class BinaryPart {
  readonly #bytes: Uint8Array;
  #taken = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  take(field: string, sizeBytes: number): Uint8Array {
    if (sizeBytes > this.#bytes.length - this.#taken) throw invalid(field, 'larger than what the body holds');
    this.#taken += sizeBytes;
    return this.#bytes.subarray(this.#taken - sizeBytes, this.#taken);
  }

  requireEnd(): void {
    const rest = this.#bytes.length - this.#taken;
    if (rest > 0) throw invalid('body', `${rest} bytes are left after the last binary tensor`);
  }
}

function readInputs(
  value: RequestJson | undefined,
  metadata: ModelMetadata,
  binaryPart: BinaryPart | undefined,
): Tensor[] {
  if (!Array.isArray(value)) throw invalid('inputs', 'expected a list');
  const inputs: Tensor[] = [];
  for (const [index, entry] of value.entries()) {
    const input = readInput(entry, `inputs[${index}]`, metadata, binaryPart);
    if (inputs.some(({ name }) => name === input.name)) throw invalid(`inputs[${index}].name`, 'given twice');
    inputs.push(input);
  }
  for (const { name } of metadata.inputs) {
    if (!inputs.some((input) => input.name === name)) throw invalid('inputs', `${name} is missing`);
  }
  return inputs;
}

function readInput(
  value: RequestJson,
  field: string,
  metadata: ModelMetadata,
  binaryPart: BinaryPart | undefined,
): Tensor {
  const input = members(value, field, ['name', 'shape', 'datatype', 'parameters', 'data']);
  const declared = metadata.inputs.find(({ name }) => name === input.name);
  if (declared === undefined) throw invalid(`${field}.name`, `expected one of ${names(metadata.inputs)}`);
  const { name, datatype } = declared;
  if (input.datatype !== datatype) throw invalid(`${field}.datatype`, `expected ${datatype} for ${name}`);
  const shape = readShape(input.shape, `${field}.shape`, declared);
  const data = readData(input, field, datatype, shape, binaryPart);
  const tensor: Tensor = { name, datatype, shape, data };
  requireSoundData(`${field}.data`, tensor);
  return tensor;
}

function readShape(value: RequestJson | undefined, field: string, declared: TensorMetadata): number[] {
  const unexpected = (): ApiError =>
    invalid(field, `expected [${declared.shape.join(', ')}], -1 for any size of at least 1`);
  if (!Array.isArray(value)) throw unexpected();
  const shape = value.map((size) => {
    // A dimension of 0 makes an empty tensor, which kernels handle badly.
    if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 1) throw unexpected();
    return size;
  });
  if (!fits(shape, declared.shape)) throw unexpected();
  if (elementCount(shape) === undefined) throw invalid(field, 'too many elements');
  return shape;
}

function readData(
  input: RequestObject,
  field: string,
  datatype: Datatype,
  shape: readonly number[],
  binaryPart: BinaryPart | undefined,
): Uint8Array {
  const { binary_data_size: sizeBytes } = parameters(input.parameters, `${field}.parameters`, {
    binary_data_size: 'number',
  });
  if (sizeBytes === undefined) return tensorFromJson(`${field}.data`, datatype, shape, input.data);
  const sizeField = `${field}.parameters.binary_data_size`;
  if (Object.hasOwn(input, 'data')) throw invalid(`${field}.data`, 'given beside binary_data_size');
  if (binaryPart === undefined) throw invalid(sizeField, 'needs the header Inference-Header-Content-Length');
  if (typeof sizeBytes !== 'number' || !Number.isSafeInteger(sizeBytes) || sizeBytes < 0) {
    throw invalid(sizeField, 'expected a number of bytes');
  }
  return binaryPart.take(sizeField, sizeBytes);
}

function readOutputs(
  value: RequestJson | undefined,
  metadata: ModelMetadata,
  binaryByDefault: boolean,
): WantedOutput[] {
  if (value === undefined) return metadata.outputs.map(({ name }) => ({ name, binary: binaryByDefault }));
  if (!Array.isArray(value) || value.length === 0)
    throw invalid('outputs', 'expected a list of at least one output');
  const outputs: WantedOutput[] = [];
  for (const [index, entry] of value.entries()) {
    const field = `outputs[${index}]`;
    const output = members(entry, field, ['name', 'parameters']);
    const declared = metadata.outputs.find(({ name }) => name === output.name);
    if (declared === undefined) throw invalid(`${field}.name`, `expected one of ${names(metadata.outputs)}`);
    if (outputs.some(({ name }) => name === declared.name)) throw invalid(`${field}.name`, 'given twice');
    const { binary_data: binary } = parameters(output.parameters, `${field}.parameters`, {
      binary_data: 'boolean',
    });
    outputs.push({ name: declared.name, binary: binary === undefined ? binaryByDefault : binary === true });
  }
  return outputs;
}

function readId(value: RequestJson | undefined): string | undefined {
  if (value === undefined) return undefined;
  if (typeof value !== 'string' || value.length > MAX_ID_LENGTH) {
    throw invalid('id', `expected a string of at most ${MAX_ID_LENGTH} characters`);
  }
  return value;
}

function requireSoundData(field: string, tensor: Tensor): void {
  const fault = tensorDataFault(tensor);
  if (fault !== undefined) throw invalid(field, fault);
}

function members(value: RequestJson | undefined, field: string, known: readonly string[]): RequestObject {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw invalid(field, 'expected an object');
  const stranger = Object.keys(value).find((name) => !known.includes(name));
  if (stranger !== undefined) throw invalid(field, `unknown member ${printable(stranger)}`);
  return value;
}

function parameters<Name extends string>(
  value: RequestJson | undefined,
  field: string,
  known: Readonly<Record<Name, 'boolean' | 'number'>>,
): { readonly [K in Name]: RequestJson | undefined } {
  const found: Record<string, RequestJson | undefined> = {};
  if (value === undefined) return found as { readonly [K in Name]: undefined };
  const given = members(value, field, Object.keys(known));
  for (const [name, type] of Object.entries(known)) {
    const parameter = Object.hasOwn(given, name) ? given[name] : undefined;
    if (parameter !== undefined && typeof parameter !== type)
      throw invalid(`${field}.${name}`, `expected a ${type}`);
    found[name] = parameter;
  }
  return found as { readonly [K in Name]: RequestJson | undefined };
}

const names = (tensors: readonly TensorMetadata[]): string => tensors.map(({ name }) => name).join(', ');

/** The caller's own word, shortened: it goes back to the caller and nowhere else. */
const printable = (name: string): string => JSON.stringify(name.slice(0, 64));

/** The value of the header Inference-Header-Content-Length. Throws ApiError API_INVALID. */
export function readHeaderLength(value: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  if (!/^(?:0|[1-9][0-9]{0,9})$/.test(value)) {
    throw new ApiError('API_INVALID', 'Inference-Header-Content-Length: expected a number of bytes');
  }
  return Number(value);
}
