/** OpenAI's routes with answers that can be foreseen: what the client's side makes of them is what is under test. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';

interface ChatRequest {
  readonly model: string;
  readonly stream?: boolean;
  readonly messages: readonly { readonly role: string; readonly content: string }[];
  readonly max_tokens?: number;
  readonly max_completion_tokens?: number;
}

export interface OpenAiStub {
  readonly handler: (request: IncomingMessage, response: ServerResponse, body: string) => void;
  /** Bodies and headers of what was asked, in order. */
  readonly asked: {
    readonly path: string;
    readonly headers: IncomingMessage['headers'];
    readonly body: unknown;
  }[];
  /** Streams that their reader has given up. */
  givenUp: number;
}

/** Answers with the words of the last message, a token a word. `tokenMs` lies between two of them. */
export function openAiStub({ tokenMs = 0 } = {}): OpenAiStub {
  const stub: OpenAiStub = {
    asked: [],
    givenUp: 0,
    handler: (request, response, body) => {
      const path = request.url ?? '';
      stub.asked.push({ path, headers: request.headers, body: body === '' ? undefined : JSON.parse(body) });
      void answer(path, response, body);
    },
  };

  async function answer(path: string, response: ServerResponse, body: string): Promise<void> {
    if (path === '/v1/models') return json(response, 200, { object: 'list', data: [MODEL] });
    if (path === '/v1/embeddings') {
      const embedding = Buffer.from(Float32Array.of(0.5, -1, 2).buffer).toString('base64');
      const data = [{ object: 'embedding', index: 0, embedding }];
      return json(response, 200, {
        object: 'list',
        model: 'tiny',
        data,
        usage: { prompt_tokens: 1, total_tokens: 1 },
      });
    }
    if (path !== '/v1/chat/completions') return refuse(response, 404, 'not_found', 'no such path');
    const asked = JSON.parse(body) as ChatRequest;
    if (asked.model !== 'tiny') return refuse(response, 404, 'model_not_found', 'there is no such model');
    const tokens = (asked.messages.at(-1)?.content.split(' ') ?? []).slice(
      0,
      asked.max_completion_tokens ?? asked.max_tokens ?? 100,
    );
    if (tokens.at(-1) === 'busy') {
      response.setHeader('retry-after', '2');
      return refuse(response, 503, 'overloaded', 'come back');
    }
    if (asked.stream === true) return stream(response, tokens);
    const message = { role: 'assistant', content: tokens.join(' '), refusal: null };
    const choices = [{ index: 0, message, finish_reason: 'stop', logprobs: null }];
    return json(response, 200, { ...HEAD, object: 'chat.completion', choices, usage: usageOf(tokens) });
  }

  async function stream(response: ServerResponse, tokens: readonly string[]): Promise<void> {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.on('close', () => {
      if (!response.writableFinished) stub.givenUp++;
    });
    const send = (choices: object[], more: object = {}) =>
      response.write(
        `data: ${JSON.stringify({ ...HEAD, object: 'chat.completion.chunk', choices, ...more })}\n\n`,
      );
    send([{ index: 0, delta: { role: 'assistant', content: '' }, finish_reason: null }]);
    for (const [i, token] of tokens.entries()) {
      if (response.destroyed) return;
      send([{ index: 0, delta: { content: i === 0 ? token : ` ${token}` }, finish_reason: null }]);
      if (tokenMs > 0) await delay(tokenMs);
    }
    // A message that ends so was cut by the server's death.
    if (tokens.at(-1) === 'cut') {
      response.write(': the end\n\n', () => response.socket?.destroy());
      return;
    }
    send([{ index: 0, delta: {}, finish_reason: tokens.at(-1) === 'limit' ? 'length' : 'stop' }]);
    send([], { usage: usageOf(tokens) });
    response.end(tokens.at(-1) === 'unfinished' ? undefined : 'data: [DONE]\n\n');
  }
  return stub;
}

const MODEL = { id: 'tiny', object: 'model', created: 0, owned_by: 'strongroom' };
const HEAD = { id: 'chatcmpl-1', created: 0, model: 'tiny' };

function usageOf(tokens: readonly string[]) {
  return { prompt_tokens: 1, completion_tokens: tokens.length, total_tokens: 1 + tokens.length };
}

function json(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}

function refuse(response: ServerResponse, status: number, code: string, message: string): void {
  json(response, status, { error: { message, type: 'invalid_request_error', param: null, code } });
}
