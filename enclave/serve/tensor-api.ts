/** The Open Inference Protocol v2 (docs/serving.md section 3). */
import type { IncomingMessage } from 'node:http';
import type { TensorEngine } from '../engine/engine.ts';
import type { TensorMetadata } from '../engine/tensor.ts';
import type { ServedModel } from '../models/model-set.ts';
import { ApiError } from './errors.ts';
import { type ApiAnswer, type Exchange, json } from './exchange.ts';
import { parseInferRequest, readHeaderLength } from './infer-request.ts';
import { encodeInferResponse } from './infer-response.ts';
import type { Intake } from './intake.ts';
import type { TensorRoute } from './routes.ts';

const SERVER_VERSION = '0.1.0';

export class TensorApi {
  readonly #intake: Intake;

  constructor(intake: Intake) {
    this.#intake = intake;
  }

  /** Rejects with ApiError, EngineError or the signal's reason. */
  async answer(route: TensorRoute, exchange: Exchange): Promise<ApiAnswer> {
    if (route.kind === 'server') {
      return json(200, { name: 'strongroom', version: SERVER_VERSION, extensions: ['binary_tensor_data'] });
    }
    const model = find(exchange, route.model, route.version);
    if (route.kind === 'model') return json(200, describe(model));
    if (route.kind === 'model-ready') {
      return json(model.engine.ready ? 200 : 503, { name: model.name, ready: model.engine.ready });
    }
    return this.#infer(model, tensorEngineOf(model), exchange);
  }

  async #infer(model: ServedModel, engine: TensorEngine, exchange: Exchange): Promise<ApiAnswer> {
    const headerLength = readHeaderLength(singleHeader(exchange.request, 'inference-header-content-length'));
    using held = this.#intake.openBody();
    const contentType = headerLength === undefined ? 'application/json' : 'application/octet-stream';
    const body = await this.#intake.readBody(exchange, contentType, held);
    const { id, inputs, outputs } = parseInferRequest(body, headerLength, engine.metadata);
    const wanted = outputs.map(({ name }) => name);
    using _place = await this.#intake.enter(model, exchange);
    const result = await engine.infer({ inputs, outputs: wanted }, exchange.signal);
    return { status: 200, ...encodeInferResponse(model, id, outputs, result.outputs) };
  }
}

function find({ models }: Exchange, name: string, version: string | undefined): ServedModel {
  const found = models.find(name);
  if (found === undefined) throw new ApiError('API_NOT_FOUND', 'path: there is no such model');
  if (version !== undefined && version !== String(found.version)) {
    throw new ApiError('API_NOT_FOUND', `path: expected version ${found.version} of ${found.name}`);
  }
  return found;
}

function tensorEngineOf({ name, engine }: ServedModel): TensorEngine {
  if (engine.kind === 'tensor') return engine;
  throw new ApiError('API_NOT_FOUND', `path: ${name} takes text, under /v1, and no tensors`);
}

function describe({ name, version, engine }: ServedModel): object {
  const head = { name, versions: [String(version)] };
  if (engine.kind === 'text') return { ...head, platform: 'gguf_llamacpp', inputs: [], outputs: [] };
  const tensor = ({ name, datatype, shape }: TensorMetadata): object => ({ name, datatype, shape });
  return {
    ...head,
    platform: 'onnx_onnxruntime',
    inputs: engine.metadata.inputs.map(tensor),
    outputs: engine.metadata.outputs.map(tensor),
  };
}

/** Node joins repeated headers with a comma, which no number survives. */
function singleHeader(request: IncomingMessage, name: string): string | undefined {
  const value = request.headers[name];
  return Array.isArray(value) ? value.join() : value;
}
