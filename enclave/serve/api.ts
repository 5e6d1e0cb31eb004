/** The Open Inference Protocol v2 over the models of this enclave, for one request that may be served. */
import type { IncomingMessage } from 'node:http';
import type { Engine, TensorEngine } from '../engine/engine.ts';
import type { ModelMetadata, TensorMetadata } from '../engine/tensor.ts';
import { Admission, BodyBudget } from './admission.ts';
import { announcedSize, type BodyRules, readBody } from './body.ts';
import { ApiError } from './errors.ts';
import { parseInferRequest, readHeaderLength } from './infer-request.ts';
import { type ApiResponse, encodeInferResponse } from './infer-response.ts';
import type { ApiLimits, Deadlines } from './limits.ts';
import type { Route } from './routes.ts';

export interface ServedModel {
  readonly name: string;
  readonly version: number;
  /** SHA-256 of the sealed model's head, hexadecimal. */
  readonly contentId: string;
  readonly engine: Engine;
}

export interface ApiAnswer extends ApiResponse {
  readonly status: number;
}

/** One request at work and one ready to follow, so that the engine never waits for a body to be parsed. */
const CONCURRENT_REQUESTS = 2;
/** All bodies together take at most as much memory as this many of the largest size. */
const BUFFERED_REQUESTS = 16;
const SERVER_VERSION = '0.1.0';

export class Api {
  readonly #models: ReadonlyMap<string, { readonly model: ServedModel; readonly admission: Admission }>;
  readonly #bodyRules: BodyRules;
  readonly #budget: BodyBudget;

  constructor(models: readonly ServedModel[], limits: ApiLimits, deadlines: Deadlines) {
    this.#bodyRules = {
      limitBytes: limits.requestBytes,
      windowMs: deadlines.bodyWindowMs,
      bytesPerSecond: deadlines.bodyBytesPerSecond,
    };
    this.#budget = new BodyBudget(limits.requestBytes * BUFFERED_REQUESTS);
    this.#models = new Map(
      models.map((model) => [
        model.name,
        { model, admission: new Admission(CONCURRENT_REQUESTS, limits.queueLength) },
      ]),
    );
  }

  get ready(): boolean {
    return [...this.#models.values()].every(({ model }) => model.engine.ready);
  }

  /** Rejects with ApiError, EngineError or the signal's reason. `proceed` asks a waiting client for the body. */
  async answer(
    route: Exclude<Route, { kind: 'evidence' | 'live' | 'ready' }>,
    request: IncomingMessage,
    signal: AbortSignal,
    proceed: () => void,
  ): Promise<ApiAnswer> {
    if (route.kind === 'server') {
      return json(200, { name: 'strongroom', version: SERVER_VERSION, extensions: ['binary_tensor_data'] });
    }
    const { model, admission } = this.#find(route.model, route.version);
    if (route.kind === 'model') return json(200, describe(model));
    if (route.kind === 'model-ready') {
      return json(model.engine.ready ? 200 : 503, { name: model.name, ready: model.engine.ready });
    }
    return this.#infer(model, tensorEngineOf(model), admission, request, signal, proceed);
  }

  async #infer(
    model: ServedModel,
    engine: TensorEngine,
    admission: Admission,
    request: IncomingMessage,
    signal: AbortSignal,
    proceed: () => void,
  ): Promise<ApiAnswer> {
    const headerLength = readHeaderLength(singleHeader(request, 'inference-header-content-length'));
    requireContentType(request.headers['content-type'], headerLength !== undefined);
    const sizeBytes = announcedSize(request, this.#bodyRules.limitBytes);
    using held = this.#budget.open();
    proceed();
    const body = await readBody(request, sizeBytes, held, this.#bodyRules);
    const { id, inputs, outputs } = parseInferRequest(body, headerLength, engine.metadata);
    const wanted = outputs.map(({ name }) => name);
    const result = await admission.run(() => engine.infer({ inputs, outputs: wanted }, signal), signal);
    return { status: 200, ...encodeInferResponse(model, id, outputs, result.outputs) };
  }

  #find(name: string, version: string | undefined): { model: ServedModel; admission: Admission } {
    const found = this.#models.get(name);
    if (found === undefined) throw new ApiError('API_NOT_FOUND', 'path: there is no such model');
    if (version !== undefined && version !== String(found.model.version)) {
      throw new ApiError(
        'API_NOT_FOUND',
        `path: expected version ${found.model.version} of ${found.model.name}`,
      );
    }
    return found;
  }
}

function describe({ name, version, engine }: ServedModel): object {
  if (engine.kind === 'text') {
    return { name, versions: [String(version)], platform: 'gguf_llama', inputs: [], outputs: [] };
  }
  const { inputs, outputs }: ModelMetadata = engine.metadata;
  const tensor = ({ name, datatype, shape }: TensorMetadata): object => ({ name, datatype, shape });
  return {
    name,
    versions: [String(version)],
    platform: 'onnx_onnxruntime',
    inputs: inputs.map(tensor),
    outputs: outputs.map(tensor),
  };
}

function tensorEngineOf({ name, engine }: ServedModel): TensorEngine {
  if (engine.kind === 'tensor') return engine;
  throw new ApiError('API_NOT_FOUND', `path: ${name} takes text, not tensors`);
}

export function json(status: number, value: object): ApiAnswer {
  return {
    status,
    headers: { 'content-type': 'application/json' },
    body: [new TextEncoder().encode(JSON.stringify(value))],
  };
}

function requireContentType(value: string | undefined, binary: boolean): void {
  const type = value?.split(';', 1)[0]?.trim().toLowerCase();
  const expected = binary ? 'application/octet-stream' : 'application/json';
  if (type !== expected) throw new ApiError('API_MEDIA_TYPE', `Content-Type: expected ${expected}`);
}

/** Node joins repeated headers with a comma, which no number survives. */
function singleHeader(request: IncomingMessage, name: string): string | undefined {
  const value = request.headers[name];
  return Array.isArray(value) ? value.join() : value;
}
