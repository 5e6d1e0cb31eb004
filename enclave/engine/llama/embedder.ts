/** Texts to vectors, one text after the other, in a context of their own that is made when it is first needed. */
import type { Context, Llama, Model } from './binding.ts';
import { Rejected } from './rejected.ts';

export interface EmbedderOptions {
  readonly llama: Llama;
  readonly model: Model;
  readonly contextTokens: number;
  readonly batchTokens: number;
  readonly threads: number;
}

export class Embedder {
  readonly #options: EmbedderOptions;
  #context: Context | undefined;

  constructor(options: EmbedderOptions) {
    this.#options = options;
  }

  /** Of Euclidean length 1. Throws Rejected. */
  async vectorOf(tokens: Uint32Array): Promise<Float32Array> {
    const { contextTokens, batchTokens } = this.#options;
    if (tokens.length === 0) throw new Rejected('a text is empty');
    if (tokens.length > contextTokens) {
      throw new Rejected(`a text has ${tokens.length} tokens: expected at most ${contextTokens}`);
    }
    const context = await this.#open();
    context.disposeSequence(0);
    for (let position = 0; position < tokens.length; position += batchTokens) {
      const some = tokens.subarray(position, position + batchTokens);
      context.initBatch(batchTokens);
      // What a model that continues text knows of a text is in the state of its last token.
      context.addToBatch(0, position, some, Uint32Array.of(some.length - 1));
      await context.decodeBatch();
    }
    const state = context.getEmbedding(tokens.length);
    const length = Math.hypot(...state);
    if (!(length > 0 && length < Infinity)) throw new Rejected('the model gives no vector for a text');
    return Float32Array.from(state, (value) => value / length);
  }

  async #open(): Promise<Context> {
    if (this.#context !== undefined) return this.#context;
    const { llama, model, contextTokens, batchTokens, threads } = this.#options;
    const options = {
      contextSize: contextTokens,
      batchSize: batchTokens,
      sequences: 1,
      threads,
      embeddings: true,
    };
    const context = new llama.AddonContext(model, options);
    if (!(await context.init())) throw new Rejected('the model gives no vectors');
    this.#context = context;
    return context;
  }
}
