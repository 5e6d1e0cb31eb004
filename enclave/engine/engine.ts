/**
 * What the serving side may ask of an engine, whatever runs inside. Each engine is a confined process of its own
 * (docs/engine.md); these are the supervisor's promises about it.
 */
import type { ModelMetadata, Tensor } from './tensor.ts';
import type { GenerateEvent, GenerateRequest, TextMetadata, TextVectors } from './text.ts';

interface EngineLife {
  /** False while the engine is away or being started again, and for good once it was closed. */
  readonly ready: boolean;
  /** Resolves once no engine will run any more. */
  close(): Promise<void>;
}

export interface InferRequest {
  readonly inputs: readonly Tensor[];
  /** Names of the outputs wanted, in order; all outputs of the model if absent. */
  readonly outputs?: readonly string[];
}

export interface InferResponse {
  readonly outputs: readonly Tensor[];
}

/** Texts to vectors. */
export interface Embedder {
  /** Elements of a vector. */
  readonly vectorSize: number;
  /** Rejects as `TensorEngine.infer` does. */
  embed(texts: readonly string[], signal: AbortSignal): Promise<TextVectors>;
}

/** Tensors in, tensors out. */
export interface TensorEngine extends EngineLife {
  readonly kind: 'tensor';
  readonly metadata: ModelMetadata;
  /** Of a model that comes with a tokenizer and gives vectors. */
  readonly embedder?: Embedder | undefined;
  /**
   * Rejects with EngineError: ENGINE_REJECTED (these inputs do not run), ENGINE_UNAVAILABLE (the engine died,
   * hung or is not back yet), ENGINE_PROTOCOL (it answered nonsense), or with the signal's reason.
   */
  infer(request: InferRequest, signal?: AbortSignal): Promise<InferResponse>;
}

/** Text in, text out. Several requests run at once, up to `metadata.sequences`; the others wait their turn. */
export interface TextEngine extends EngineLife {
  readonly kind: 'text';
  readonly metadata: TextMetadata;
  /**
   * Ends with exactly one event of kind `end`, or throws as `TensorEngine.infer` rejects. Leaving the loop, or the
   * signal, frees the sequence at once. Events wait for whoever iterates, and generation waits with them.
   */
  generate(request: GenerateRequest, signal: AbortSignal): AsyncIterable<GenerateEvent>;
  /** Rejects as `TensorEngine.infer` does, and with ENGINE_REJECTED where the model gives no vectors. */
  embed(texts: readonly string[], signal: AbortSignal): Promise<TextVectors>;
}

export type Engine = TensorEngine | TextEngine;
