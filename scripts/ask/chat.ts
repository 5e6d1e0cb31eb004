/** A chat over OpenAI's API, token by token as they come (docs/serving.md). */
import { EventSourceParserStream } from 'eventsource-parser/stream';
import { ClientError } from '../../client/index.ts';
import { expectAnswered } from './refusal.ts';

export interface ChatQuestion {
  readonly model: string;
  readonly prompt: string;
  readonly system?: string | undefined;
  readonly maxTokens?: number | undefined;
  readonly seed?: number | undefined;
  readonly temperature?: number | undefined;
}

export interface ChatAnswer {
  readonly text: string;
  /** OpenAI's word for why it ended: "stop", or "length" at the limit of tokens. */
  readonly finishReason: string | null;
  readonly usage: ChatUsage | null;
}

export interface ChatUsage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
}

interface Chunk {
  readonly choices?: readonly {
    readonly delta?: { readonly content?: string | null };
    readonly finish_reason?: string | null;
  }[];
  readonly usage?: ChatUsage | null;
}

export interface ChatReading {
  readonly signal: AbortSignal;
  /** Called with each piece; the next is read when it resolves. */
  readonly onText: (text: string) => void | Promise<void>;
}

/**
 * Rejects with ClientError `CLIENT_REQUEST_REFUSED` or `CLIENT_ANSWER_LOST`; a stream that ends without its last event
 * is lost, however it ended.
 */
export async function askChat(
  fetch: typeof globalThis.fetch,
  question: ChatQuestion,
  { signal, onText }: ChatReading,
): Promise<ChatAnswer> {
  const response = await fetch('/v1/chat/completions', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(requestOf(question)),
    signal,
  });
  await expectAnswered(response);
  const answer: { text: string; finishReason: string | null; usage: ChatUsage | null } = {
    text: '',
    finishReason: null,
    usage: null,
  };
  for await (const data of eventsOf(response)) {
    if (data === '[DONE]') return answer;
    const { choices = [], usage } = parseChunk(data);
    const [choice] = choices;
    const text = choice?.delta?.content ?? '';
    answer.finishReason = choice?.finish_reason ?? answer.finishReason;
    answer.usage = usage ?? answer.usage;
    if (text === '') continue;
    answer.text += text;
    await onText(text);
  }
  throw new ClientError(
    'CLIENT_ANSWER_LOST',
    'Expected the stream to end with [DONE], found that it just ends.',
  );
}

function requestOf({ model, prompt, system, maxTokens, seed, temperature }: ChatQuestion): object {
  return {
    model,
    messages: [
      ...(system === undefined ? [] : [{ role: 'system', content: system }]),
      { role: 'user', content: prompt },
    ],
    stream: true,
    stream_options: { include_usage: true },
    ...(maxTokens === undefined ? {} : { max_completion_tokens: maxTokens }),
    ...(seed === undefined ? {} : { seed }),
    ...(temperature === undefined ? {} : { temperature }),
  };
}

async function* eventsOf({ body }: Response): AsyncGenerator<string> {
  if (body === null) return;
  const decoded = (body as ReadableStream<Uint8Array<ArrayBuffer>>).pipeThrough(new TextDecoderStream());
  const events = decoded.pipeThrough(new EventSourceParserStream());
  for await (const { data } of events as unknown as AsyncIterable<{ readonly data: string }>) yield data;
}

function parseChunk(data: string): Chunk {
  try {
    return JSON.parse(data) as Chunk;
  } catch (cause) {
    throw new ClientError('CLIENT_ANSWER_MALFORMED', 'Expected JSON in each event of the stream.', cause);
  }
}
