/**
 * llama.cpp as the native module of `@node-llama-cpp/linux-*` offers it, and as much of it as is used here.
 *
 * The module is taken without node-llama-cpp's own JavaScript, which is made for desktops: it forks a process to try
 * the module before it loads it, looks for GPUs, can download and compile, and brings more than a hundred packages, all
 * of which a reviewer of the image would have to trust. The price: these signatures are pinned with the version
 * (package.json), written from its llama/addon/*.cpp, and each of them is run by the tests.
 */
import { join } from 'node:path';

/** Attributes of a token: llama_token_attr of llama.h. */
export const TOKEN = {
  unknown: 1,
  normal: 4,
  control: 8,
  userDefined: 16,
  byte: 32,
  stripLeft: 128,
  stripRight: 256,
} as const;

export interface Model {
  init(): Promise<boolean>;
  /** Without BOS and EOS; spellings of control tokens become these tokens with `special` alone. */
  tokenize(text: string, special: boolean): Uint32Array;
  /** The token must be one: native code does not look. */
  getTokenString(token: number): string | undefined;
  getTokenAttributes(token: number): number;
  isEogToken(token: number): boolean;
  /** -1 where there is none. */
  tokenBos(): number;
  tokenEos(): number;
  shouldPrependBosToken(): boolean;
  shouldAppendEosToken(): boolean;
  getEmbeddingVectorSize(): number;
}

export interface Sampler {
  applyConfig(config: SamplerConfig): void;
}

/** Absent members leave that step out of the chain. A temperature of 0 takes the most likely token. */
export interface SamplerConfig {
  readonly temperature: number;
  readonly topP?: number;
  readonly topK?: number;
  readonly minP?: number;
  readonly seed?: number;
  readonly repeatPenaltyTokens?: Uint32Array;
  readonly repeatPenaltyMaxTokens?: number;
  readonly repeatPenaltyPresencePenalty?: number;
  readonly repeatPenaltyFrequencyPenalty?: number;
  readonly grammarEvaluationState?: GrammarState;
}

/** Tokens and their values, one after the other, and the sum of exp(logit - largest logit) of the vocabulary. */
export type SampledLogits = [
  token: number,
  probabilities: undefined,
  confidence: undefined,
  logits: number[],
  totalWeight: number,
];

export interface Context {
  init(): Promise<boolean>;
  /** Begins a batch of at most so many tokens, and forgets the one before. */
  initBatch(size: number): void;
  /** Indexes (of `tokens`) at which logits are wanted to indexes of the batch, for `sampleToken`. */
  addToBatch(sequence: number, position: number, tokens: Uint32Array, wanted: Uint32Array): Uint32Array;
  /** On another thread. */
  decodeBatch(): Promise<void>;
  /** On another thread; -1 if no token is possible. */
  sampleToken(index: number, sampler: Sampler): Promise<number>;
  sampleToken(
    index: number,
    sampler: Sampler,
    probabilities: false,
    confidence: false,
    logits: [tokens: number[], max: false, min: false, selected: false, top: number],
    totalWeight: true,
  ): Promise<SampledLogits>;
  disposeSequence(sequence: number): void;
  getEmbedding(tokens: number): Float64Array;
  dispose(): Promise<void>;
}

export type Grammar = object;
export type GrammarState = object;

export interface JinjaRenderer {
  render(variables: object): string;
}

export interface Llama {
  init(): Promise<void>;
  /** Loads the variant of the computing library that fits this processor best. */
  loadBackends(folder: string): void;
  setLoggerLogLevel(level: number): void;
  readonly AddonModel: new (
    path: string,
    options: {
      readonly addonExports: Llama;
      readonly gpuLayers: number;
      readonly useMmap: boolean;
      readonly overridesList: readonly (readonly [key: string, value: boolean])[];
    },
  ) => Model;
  readonly AddonContext: new (
    model: Model,
    options: {
      readonly contextSize: number;
      readonly batchSize: number;
      readonly sequences: number;
      readonly threads: number;
      readonly embeddings: boolean;
    },
  ) => Context;
  readonly AddonSampler: new (model: Model) => Sampler;
  /** Throws unless it is a grammar in GBNF. */
  readonly AddonGrammar: new (
    gbnf: string,
    options: { readonly addonExports: Llama; readonly rootRuleName: string },
  ) => Grammar;
  readonly AddonGrammarEvaluationState: new (model: Model, grammar: Grammar) => GrammarState;
  readonly AddonJinjaRenderer: new (template: string) => JinjaRenderer;
}

const LOG_NOTHING = 0;

/** Loads the native module, which computes on the CPU and on nothing else. */
export async function loadLlama(): Promise<Llama> {
  const { getBinsDir } =
    process.arch === 'arm64'
      ? await import('@node-llama-cpp/linux-arm64')
      : await import('@node-llama-cpp/linux-x64');
  const folder = join(getBinsDir().binsDir, `linux-${process.arch}`);
  const module: { exports: unknown } = { exports: {} };
  process.dlopen(module, join(folder, 'llama-addon.node'));
  const llama = module.exports as Llama;
  llama.setLoggerLogLevel(LOG_NOTHING);
  llama.loadBackends(folder);
  await llama.init();
  return llama;
}
