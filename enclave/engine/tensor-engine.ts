/** The supervisor's side of a tensor engine: one question at a time, the others wait. */
import { fileURLToPath } from 'node:url';
import type { InferRequest, InferResponse, TensorEngine } from './engine.ts';
import type { EngineListener } from './engine-process.ts';
import { EngineError, gone } from './errors.ts';
import type { Frame } from './frames.ts';
import { embedderOver } from './onnx-text/embedder.ts';
import { type EngineOptions, Supervisor, unavailable } from './supervisor.ts';
import { type ModelMetadata, type Tensor, tensorDataFault } from './tensor.ts';
import {
  fits,
  packTensors,
  readTensorAnswer,
  readTensorReady,
  requireWantedOutputs,
} from './tensor-messages.ts';

/** The engine's first file. It is in the image because it is named here. */
const ONNX_ENGINE = fileURLToPath(new URL('./onnx-main.ts', import.meta.url));

export interface TensorEngineOptions extends EngineOptions {
  /** For one answer. Default 30 s; then the engine is killed and started again. */
  readonly inferTimeoutMs?: number;
}

const INFER_TIMEOUT_MS = 30_000;

/** Starts the engine and resolves once its model is loaded. Rejects with EngineError. */
export async function startTensorEngine(options: TensorEngineOptions): Promise<TensorEngine> {
  const kind = { start: {}, readReady: readTensorReady };
  const supervisor = await Supervisor.start(options, ONNX_ENGINE, kind);
  const engine = new SupervisedTensorEngine(supervisor, options.inferTimeoutMs ?? INFER_TIMEOUT_MS);
  if (options.tokenizer === undefined || options.tokenizer.length === 0) return engine;
  return Object.assign(engine, { embedder: embedderOver(engine) });
}

interface Waiting {
  readonly request: InferRequest;
  readonly outputs: readonly string[];
  readonly signal: AbortSignal | undefined;
  readonly resolve: (response: InferResponse) => void;
  readonly reject: (error: unknown) => void;
}

class SupervisedTensorEngine implements TensorEngine, EngineListener {
  readonly kind = 'tensor';
  readonly #supervisor: Supervisor<ModelMetadata>;
  readonly #inferTimeoutMs: number;
  readonly #queue: Waiting[] = [];
  #asked: Waiting | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(supervisor: Supervisor<ModelMetadata>, inferTimeoutMs: number) {
    this.#supervisor = supervisor;
    this.#inferTimeoutMs = inferTimeoutMs;
    supervisor.listen(this);
  }

  get metadata(): ModelMetadata {
    return this.#supervisor.metadata;
  }

  get ready(): boolean {
    return this.#supervisor.ready;
  }

  infer(request: InferRequest, signal?: AbortSignal): Promise<InferResponse> {
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      if (!this.ready) throw unavailable();
      const outputs = request.outputs ?? this.metadata.outputs.map(({ name }) => name);
      requireKnownTensors(request.inputs, outputs, this.metadata);
      const waiting: Waiting = { request, outputs, signal, resolve, reject };
      signal?.addEventListener('abort', () => this.#cancel(waiting), { once: true });
      this.#queue.push(waiting);
      this.#askNext();
    });
  }

  close(): Promise<void> {
    return this.#supervisor.close();
  }

  hear(frame: Frame): void {
    const asked = this.#asked;
    if (asked === undefined) throw new EngineError('ENGINE_PROTOCOL', 'the engine spoke unasked');
    const answer = readTensorAnswer(frame);
    if (answer.kind === 'result') {
      requireWantedOutputs(answer.outputs, asked.outputs, this.metadata);
      asked.resolve({ outputs: answer.outputs });
    } else {
      asked.reject(new EngineError('ENGINE_REJECTED', answer.message));
    }
    this.#settled();
    this.#askNext();
  }

  ended(reason: EngineError): void {
    this.#asked?.reject(reason);
    this.#settled();
    for (const waiting of this.#queue.splice(0)) waiting.reject(unavailable());
  }

  #settled(): void {
    clearTimeout(this.#timer);
    this.#asked = undefined;
  }

  #askNext(): void {
    while (this.#asked === undefined) {
      const next = this.#queue.shift();
      if (next === undefined) return;
      const { heads, body } = packTensors(next.request.inputs);
      try {
        this.#supervisor.send({ kind: 'infer', inputs: heads, outputs: next.outputs }, body);
      } catch (error) {
        next.reject(error);
        continue;
      }
      this.#asked = next;
      this.#timer = setTimeout(() => this.#giveUp(), this.#inferTimeoutMs);
    }
  }

  #giveUp(): void {
    this.#supervisor.end(gone(`no answer in ${this.#inferTimeoutMs} ms`));
  }

  /** Answers the caller at once. An engine that is computing already goes on; its answer is dropped. */
  #cancel(waiting: Waiting): void {
    const index = this.#queue.indexOf(waiting);
    if (index >= 0) this.#queue.splice(index, 1);
    waiting.reject(waiting.signal?.reason);
  }
}

/** Throws EngineError ENGINE_REJECTED unless every input of the model is given once and fits its metadata. */
function requireKnownTensors(
  inputs: readonly Tensor[],
  outputs: readonly string[],
  metadata: ModelMetadata,
): void {
  const rejected = (why: string): EngineError => new EngineError('ENGINE_REJECTED', why);
  if (inputs.length !== metadata.inputs.length) {
    throw rejected(`expected ${metadata.inputs.length} inputs, found ${inputs.length}`);
  }
  for (const declared of metadata.inputs) {
    const input = inputs.find(({ name }) => name === declared.name);
    if (input === undefined) throw rejected(`input ${declared.name} is missing`);
    if (input.datatype !== declared.datatype) {
      throw rejected(`input ${declared.name}: expected ${declared.datatype}, found ${input.datatype}`);
    }
    if (!fits(input.shape, declared.shape)) {
      throw rejected(`input ${declared.name}: expected shape [${declared.shape}], found [${input.shape}]`);
    }
    const fault = tensorDataFault(input);
    if (fault !== undefined) throw rejected(`input ${declared.name}: ${fault}`);
  }
  for (const output of outputs) {
    if (!metadata.outputs.some(({ name }) => name === output)) throw rejected(`there is no output ${output}`);
  }
}
