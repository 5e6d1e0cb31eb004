/** Text as it travels between server, supervisor and engine. */

export interface TextMetadata {
  /** `general.architecture` of the GGUF file. */
  readonly architecture: string;
  /** Tokens of one sequence, prompt and completion together. */
  readonly contextTokens: number;
  /** Requests that can run at once. */
  readonly sequences: number;
  /** Whether the file brings a chat template; without one, chat is refused. */
  readonly chat: boolean;
  /** Elements of an embedding vector. */
  readonly vectorSize: number;
}

export interface ChatMessage {
  readonly role: 'system' | 'user' | 'assistant';
  readonly content: string;
}

export type Prompt =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'chat'; readonly messages: readonly ChatMessage[] };

/** Sampling as the OpenAI API names it; absent members are the engine's defaults (docs/engine.md). */
export interface GenerateRequest {
  readonly prompt: Prompt;
  /** At most this many; the rest of the context if absent. */
  readonly maxTokens?: number;
  /** 0 takes the most likely token each time. */
  readonly temperature?: number;
  readonly topP?: number;
  readonly topK?: number;
  readonly minP?: number;
  readonly frequencyPenalty?: number;
  readonly presencePenalty?: number;
  /** The same prompt, sampling and seed give the same tokens. */
  readonly seed?: number;
  /** Generation ends before the first of these, which is not part of the text. */
  readonly stop?: readonly string[];
  /** The text is JSON that fits this schema. */
  readonly jsonSchema?: object;
  /** Alternatives to report for each token, from 0; absent for none at all. */
  readonly topLogprobs?: number;
}

export interface TokenLogprob {
  /** The bytes of the token, which alone may be no whole character. */
  readonly bytes: Uint8Array;
  /** Natural logarithm of its probability. */
  readonly logprob: number;
}

export interface GeneratedToken extends TokenLogprob {
  readonly top: readonly TokenLogprob[];
}

export type GenerateEvent =
  | {
      readonly kind: 'text';
      /** Whole characters; may be empty where a token ends within one. */
      readonly text: string;
      /** With `topLogprobs` only. */
      readonly tokens?: readonly GeneratedToken[];
    }
  | {
      readonly kind: 'end';
      /** `stop`: end of text or a stop string. `length`: maxTokens or the context was reached. */
      readonly reason: 'stop' | 'length';
      readonly promptTokens: number;
      readonly completionTokens: number;
    };

export interface TextVectors {
  /** One of `vectorSize` elements for each text, of Euclidean length 1. */
  readonly vectors: readonly Float32Array[];
  readonly promptTokens: number;
}
