/** The OpenAI API over the models of this enclave that take text (docs/serving.md section 4). */
import { randomBytes } from 'node:crypto';
import type { ApiLimits } from '../../../shared/deployment/deployment.ts';
import type { Embedder, TextEngine } from '../../engine/engine.ts';
import type { GeneratedToken, GenerateRequest } from '../../engine/text.ts';
import type { ServedModel } from '../../models/model-set.ts';
import { ApiError, invalid } from '../errors.ts';
import { type ApiAnswer, type Exchange, json } from '../exchange.ts';
import type { Intake } from '../intake.ts';
import { encodeRefusal, refusalOf } from '../refusal.ts';
import type { TextRoute } from '../routes.ts';
import {
  type AnswerHead,
  type AnswerShape,
  CHAT,
  type Choice,
  COMPLETIONS,
  type Ended,
  usageOf,
} from './answers.ts';
import { parseChatRequest, type TextRequest } from './chat-request.ts';
import { parseCompletionRequest } from './completion-request.ts';
import { encodeEmbeddings, parseEmbeddingsRequest } from './embeddings.ts';
import { DONE, EVENT_STREAM, encodeEvent } from './event-stream.ts';
import type { Streaming } from './sampling.ts';

const ID_BYTES = 16;
const FINGERPRINT_LENGTH = 16;

/** A request whose model has been found. */
interface Asked {
  readonly model: ServedModel;
  readonly engine: TextEngine;
  readonly request: TextRequest;
  readonly shape: AnswerShape;
}

export class TextApi {
  readonly #intake: Intake;
  readonly #limits: ApiLimits;
  readonly #now: () => Date;

  constructor(intake: Intake, limits: ApiLimits, now: () => Date) {
    this.#intake = intake;
    this.#limits = limits;
    this.#now = now;
  }

  /** Rejects with ApiError, EngineError or the signal's reason. */
  async answer(route: TextRoute, exchange: Exchange): Promise<ApiAnswer> {
    switch (route.kind) {
      case 'text-models':
        return json(200, { object: 'list', data: exchange.models.models.map(describe) });
      case 'text-model':
        return json(200, describe(find(exchange, route.model, 'path')));
      case 'embeddings':
        return this.#embed(exchange);
      case 'chat':
        return this.#generate(exchange, parseChatRequest, CHAT);
      case 'completions':
        return this.#generate(exchange, parseCompletionRequest, COMPLETIONS);
    }
  }

  async #embed(exchange: Exchange): Promise<ApiAnswer> {
    using held = this.#intake.openBody();
    const body = await this.#intake.readBody(exchange, 'application/json', held);
    const request = parseEmbeddingsRequest(body);
    const model = find(exchange, request.model, 'model');
    const embedder = embedderOf(model);
    const { dimensions } = request;
    if (dimensions !== undefined && dimensions !== embedder.vectorSize) {
      throw invalid('dimensions', `expected ${embedder.vectorSize}, the model's own, or nothing`);
    }
    using _place = await this.#intake.enter(model, exchange);
    return json(200, encodeEmbeddings(request, await embedder.embed(request.texts, exchange.signal)));
  }

  async #generate(
    exchange: Exchange,
    parse: (body: Uint8Array, mostTokens: number) => TextRequest,
    shape: AnswerShape,
  ): Promise<ApiAnswer> {
    using held = this.#intake.openBody();
    const body = await this.#intake.readBody(exchange, 'application/json', held);
    const request = parse(body, this.#limits.completionTokens);
    const model = find(exchange, request.model, 'model');
    const engine = textEngineOf(model);
    if (!engine.metadata.chat && request.generate.some(({ prompt }) => prompt.kind === 'chat')) {
      throw invalid('messages', 'this model has no chat template: use /v1/completions');
    }
    const asked = { model, engine, request, shape };
    return request.streaming === undefined
      ? this.#whole(asked, exchange)
      : this.#stream(asked, request.streaming, exchange);
  }

  async #whole(asked: Asked, exchange: Exchange): Promise<ApiAnswer> {
    using _place = await this.#intake.enter(asked.model, exchange);
    const choices: Choice[] = [];
    for (const generate of asked.request.generate) {
      choices.push(await collect(asked.engine, generate, exchange.signal));
    }
    const head = this.#head(asked);
    return json(200, {
      ...head,
      object: asked.shape.wholeObject,
      choices: asked.shape.whole(choices),
      usage: usageOf(choices.map(({ ended }) => ended)),
    });
  }

  /**
   * Resolves once the engine has given its first event, so that what it refuses is refused with a status. From then on
   * a fault is an event, and `[DONE]` does not follow.
   */
  async #stream(asked: Asked, streaming: Streaming, exchange: Exchange): Promise<ApiAnswer> {
    const parts = this.#parts(asked, streaming, exchange);
    // Also if nobody ever takes the second part.
    exchange.defer(() => void parts.return().catch(() => undefined));
    const first = await parts.next();
    return {
      status: 200,
      headers: { 'content-type': EVENT_STREAM },
      body: (async function* () {
        try {
          if (!first.done) yield first.value;
          yield* parts;
          yield DONE;
        } catch (error) {
          yield encodeEvent(encodeRefusal('text', refusalOf(error)), streaming.obfuscate);
        }
      })(),
    };
  }

  async *#parts(
    { model, engine, request, shape }: Asked,
    { includeUsage, obfuscate }: Streaming,
    exchange: Exchange,
  ): AsyncGenerator<Uint8Array, void, undefined> {
    const head = { ...this.#head({ model, shape }), object: shape.partObject };
    // As the API has it: with usage asked for, every part says that it has none, but the last, which has nothing else.
    const noUsage = includeUsage ? { usage: null } : {};
    const part = (choice: object): Uint8Array =>
      encodeEvent({ ...head, choices: [choice], ...noUsage }, obfuscate);
    using _place = await this.#intake.enter(model, exchange);
    const ended: Ended[] = [];
    for (const [index, generate] of request.generate.entries()) {
      let offset = 0;
      let begun = false;
      for await (const event of engine.generate(generate, exchange.signal)) {
        const opening = begun ? undefined : shape.first(index);
        begun = true;
        if (opening !== undefined) yield part(opening);
        if (event.kind === 'end') {
          ended.push(event);
          yield part(shape.last(index, event.reason));
        } else if (event.text !== '' || event.tokens !== undefined) {
          yield part(shape.part(index, event.text, event.tokens, offset));
          offset += event.text.length;
        }
      }
    }
    if (includeUsage) yield encodeEvent({ ...head, choices: [], usage: usageOf(ended) }, obfuscate);
  }

  #head({ model, shape }: Pick<Asked, 'model' | 'shape'>): AnswerHead {
    return {
      id: `${shape.idPrefix}${randomBytes(ID_BYTES).toString('hex')}`,
      created: Math.floor(this.#now().getTime() / 1000),
      model: model.name,
      system_fingerprint: model.contentId.slice(0, FINGERPRINT_LENGTH),
    };
  }
}

async function collect(engine: TextEngine, request: GenerateRequest, signal: AbortSignal): Promise<Choice> {
  let text = '';
  const tokens: GeneratedToken[] = [];
  let ended: Ended | undefined;
  for await (const event of engine.generate(request, signal)) {
    if (event.kind === 'end') ended = event;
    else {
      text += event.text;
      tokens.push(...(event.tokens ?? []));
    }
  }
  if (ended === undefined) throw new TypeError('the engine ended without an end');
  return { text, tokens, ended };
}

function find({ models }: Exchange, name: string, field: string): ServedModel {
  const found = models.find(name);
  if (found !== undefined) return found;
  throw new ApiError('API_NOT_FOUND', `${field}: there is no such model`, { field });
}

function embedderOf(model: ServedModel): Embedder {
  const { engine } = model;
  if (engine.kind === 'tensor' && engine.embedder !== undefined) return engine.embedder;
  const text = textEngineOf(model);
  return {
    vectorSize: text.metadata.vectorSize,
    embed: (texts, signal) => text.embed(texts, signal),
  };
}

function textEngineOf({ name, engine }: ServedModel): TextEngine {
  if (engine.kind === 'text') return engine;
  throw new ApiError('API_NOT_FOUND', `model: ${name} takes tensors, under /v2/models/${name}`, {
    field: 'model',
  });
}

function describe({ name, loadedAt }: ServedModel): object {
  return {
    id: name,
    object: 'model',
    created: Math.floor(loadedAt.getTime() / 1000),
    owned_by: 'strongroom',
  };
}
