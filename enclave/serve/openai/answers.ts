/** The objects of the OpenAI API that answers are made of. */
import type { GeneratedToken, GenerateEvent, TokenLogprob } from '../../engine/text.ts';

export type Ended = Extract<GenerateEvent, { kind: 'end' }>;

/** What all parts of one answer say of it. */
export interface AnswerHead {
  readonly id: string;
  readonly created: number;
  readonly model: string;
  /** Changes with the weights: the beginning of the content id. */
  readonly system_fingerprint: string;
}

export interface Choice {
  readonly text: string;
  readonly tokens: readonly GeneratedToken[];
  readonly ended: Ended;
}

/** How chat and completions write the same things. */
export interface AnswerShape {
  readonly idPrefix: string;
  whole(choices: readonly Choice[]): readonly object[];
  /** The first part of a streamed choice; undefined where the API has none. */
  first(index: number): object | undefined;
  part(index: number, text: string, tokens: readonly GeneratedToken[] | undefined, offset: number): object;
  last(index: number, reason: Ended['reason']): object;
  readonly wholeObject: string;
  readonly partObject: string;
}

export const CHAT: AnswerShape = {
  idPrefix: 'chatcmpl-',
  wholeObject: 'chat.completion',
  partObject: 'chat.completion.chunk',
  whole: (choices) =>
    choices.map(({ text, tokens, ended }, index) => ({
      index,
      message: { role: 'assistant', content: text, refusal: null },
      logprobs: chatLogprobs(tokens),
      finish_reason: ended.reason,
    })),
  first: (index) => ({ index, delta: { role: 'assistant', content: '' }, finish_reason: null }),
  part: (index, content, tokens) => ({
    index,
    delta: { content },
    ...(tokens === undefined ? {} : { logprobs: chatLogprobs(tokens) }),
    finish_reason: null,
  }),
  last: (index, reason) => ({ index, delta: {}, finish_reason: reason }),
};

export const COMPLETIONS: AnswerShape = {
  idPrefix: 'cmpl-',
  wholeObject: 'text_completion',
  partObject: 'text_completion',
  whole: (choices) =>
    choices.map(({ text, tokens, ended }, index) => ({
      index,
      text,
      logprobs: completionLogprobs(tokens, 0),
      finish_reason: ended.reason,
    })),
  first: () => undefined,
  part: (index, text, tokens, offset) => ({
    index,
    text,
    logprobs: tokens === undefined ? null : completionLogprobs(tokens, offset),
    finish_reason: null,
  }),
  last: (index, reason) => ({ index, text: '', logprobs: null, finish_reason: reason }),
};

export function usageOf(ended: readonly Ended[]): object {
  const promptTokens = ended.reduce((sum, end) => sum + end.promptTokens, 0);
  const completionTokens = ended.reduce((sum, end) => sum + end.completionTokens, 0);
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
  };
}

/** A token that is no whole character is shown with replacement characters; its bytes are exact. */
function shown({ bytes, logprob }: TokenLogprob): object {
  return { token: textOf(bytes), logprob, bytes: [...bytes] };
}

function chatLogprobs(tokens: readonly GeneratedToken[]): object | null {
  if (tokens.length === 0) return null;
  return {
    content: tokens.map((token) => ({ ...shown(token), top_logprobs: token.top.map(shown) })),
    refusal: null,
  };
}

/** `offset`: characters of the text before these tokens. */
function completionLogprobs(tokens: readonly GeneratedToken[], offset: number): object | null {
  if (tokens.length === 0) return null;
  const texts = tokens.map(({ bytes }) => textOf(bytes));
  let at = offset;
  return {
    tokens: texts,
    token_logprobs: tokens.map(({ logprob }) => logprob),
    top_logprobs: tokens.map(({ top }) =>
      Object.fromEntries(top.map(({ bytes, logprob }) => [textOf(bytes), logprob])),
    ),
    text_offset: texts.map((text) => {
      const start = at;
      at += text.length;
      return start;
    }),
  };
}

function textOf(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}
