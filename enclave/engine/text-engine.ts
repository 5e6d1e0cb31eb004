/**
 * The supervisor's side of a text engine: as many requests at once as it has sequences, one for vectors, the others in
 * their turn; and everything the engine says held against what it was asked.
 *
 * A request is waiting -> open -> closed. It is closed by exactly one answer of the engine, also after it was cancelled:
 * until then its place is taken, because in the engine it still is.
 */
import { totalmem } from 'node:os';
import { fileURLToPath } from 'node:url';
import type { TextEngine } from './engine.ts';
import type { EngineListener } from './engine-process.ts';
import { EngineError, gone } from './errors.ts';
import type { Frame } from './frames.ts';
import { broken, type TextStart } from './messages.ts';
import { type EngineOptions, Supervisor, unavailable } from './supervisor.ts';
import type { GenerateEvent, GenerateRequest, TextMetadata, TextVectors } from './text.ts';
import {
  INITIAL_CREDIT,
  packQuestion,
  readTextAnswer,
  readTextReady,
  type TextAnswer,
  type TextQuestion,
} from './text-messages.ts';
import { requireSoundRequest, requireSoundTexts } from './text-request.ts';

/** The engine's first file. It is in the image because it is named here. */
const LLAMA_ENGINE = fileURLToPath(new URL('./llama-main.ts', import.meta.url));

export interface TextEngineOptions extends EngineOptions {
  readonly capacity?: Partial<TextStart>;
  /**
   * For the next sign of life of a request that is at work: a token, or a step of reading its prompt. Default 60 s;
   * then the engine is killed and started again.
   */
  readonly tokenTimeoutMs?: number;
}

const TOKEN_TIMEOUT_MS = 60_000;
const SEQUENCES = 4;
const CONTEXT_TOKENS = 16_384;
/** Of the memory of the machine, for what the sequences remember; the weights are there besides. */
const CONTEXT_SHARE = 1 / 8;
/** Once so many events have been taken, the engine may make as many more. */
const CREDIT_STEP = INITIAL_CREDIT / 2;

/** Starts the engine and resolves once its model is loaded. Rejects with EngineError. */
export async function startTextEngine(options: TextEngineOptions): Promise<TextEngine> {
  const text: TextStart = {
    sequences: SEQUENCES,
    contextTokens: CONTEXT_TOKENS,
    contextBytes: Math.floor(totalmem() * CONTEXT_SHARE),
    ...options.capacity,
  };
  const supervisor = await Supervisor.start(options, LLAMA_ENGINE, {
    start: { text },
    readReady: readTextReady,
  });
  return new SupervisedTextEngine(supervisor, options.tokenTimeoutMs ?? TOKEN_TIMEOUT_MS);
}

/** What one request needs of the engine, and what becomes of it. */
interface Job {
  readonly lane: Lane;
  question(id: number): TextQuestion;
  /** Throws EngineError ENGINE_PROTOCOL for what cannot be an answer to it. */
  hear(answer: TextAnswer): void;
  fail(reason: unknown): void;
  /** Whether the engine has something to say to it, or waits for it. */
  readonly owed: boolean;
  state: 'waiting' | 'open' | 'closed';
  cancelled: boolean;
  id: number;
  timer: NodeJS.Timeout | undefined;
}

interface Lane {
  readonly places: number;
  readonly waiting: Job[];
  open: number;
}

const CLOSING: ReadonlySet<TextAnswer['kind']> = new Set(['end', 'vectors', 'rejected', 'cancelled']);

class SupervisedTextEngine implements TextEngine, EngineListener {
  readonly kind = 'text';
  readonly #supervisor: Supervisor<TextMetadata>;
  readonly #tokenTimeoutMs: number;
  readonly #generations: Lane;
  readonly #embeddings: Lane = { places: 1, waiting: [], open: 0 };
  readonly #open = new Map<number, Job>();
  #nextId = 1;

  constructor(supervisor: Supervisor<TextMetadata>, tokenTimeoutMs: number) {
    this.#supervisor = supervisor;
    this.#tokenTimeoutMs = tokenTimeoutMs;
    this.#generations = { places: supervisor.metadata.sequences, waiting: [], open: 0 };
    supervisor.listen(this);
  }

  get metadata(): TextMetadata {
    return this.#supervisor.metadata;
  }

  get ready(): boolean {
    return this.#supervisor.ready;
  }

  close(): Promise<void> {
    return this.#supervisor.close();
  }

  async *generate(request: GenerateRequest, signal: AbortSignal): AsyncGenerator<GenerateEvent, void> {
    signal.throwIfAborted();
    requireSoundRequest(request);
    const job = new Generation(this.#generations, request, this.metadata, (count) =>
      this.#credit(job, count),
    );
    const abort = (): void => this.#cancel(job, signal.reason);
    signal.addEventListener('abort', abort, { once: true });
    try {
      this.#enter(job);
      for (;;) {
        const event = await job.next();
        yield event;
        if (event.kind === 'end') return;
      }
    } finally {
      signal.removeEventListener('abort', abort);
      this.#cancel(job, undefined);
    }
  }

  async embed(texts: readonly string[], signal: AbortSignal): Promise<TextVectors> {
    signal.throwIfAborted();
    requireSoundTexts(texts);
    const job = new Embedding(this.#embeddings, texts);
    const abort = (): void => this.#cancel(job, signal.reason);
    signal.addEventListener('abort', abort, { once: true });
    try {
      this.#enter(job);
      return await job.result;
    } finally {
      signal.removeEventListener('abort', abort);
    }
  }

  hear(frame: Frame): void {
    const answer = readTextAnswer(frame, this.metadata);
    const job = this.#open.get(answer.id);
    if (job === undefined) throw broken('an answer to nothing');
    if (answer.kind === 'cancelled' && !job.cancelled) throw broken('the end of what nobody cancelled');
    job.hear(answer);
    if (CLOSING.has(answer.kind)) {
      this.#leave(job);
      this.#startNext(job.lane);
    } else {
      this.#watch(job);
    }
  }

  ended(reason: EngineError): void {
    for (const job of this.#open.values()) {
      this.#leave(job);
      job.fail(reason);
    }
    for (const lane of [this.#generations, this.#embeddings]) {
      for (const job of lane.waiting.splice(0)) {
        job.state = 'closed';
        job.fail(unavailable());
      }
    }
  }

  #enter(job: Job): void {
    if (!this.ready) throw unavailable();
    job.lane.waiting.push(job);
    this.#startNext(job.lane);
  }

  #startNext(lane: Lane): void {
    while (lane.open < lane.places) {
      const job = lane.waiting.shift();
      if (job === undefined) return;
      job.id = this.#nextId;
      this.#nextId += 1;
      try {
        const { header, body } = packQuestion(job.question(job.id));
        this.#supervisor.send(header, body);
      } catch (error) {
        job.state = 'closed';
        job.fail(error);
        continue;
      }
      job.state = 'open';
      lane.open += 1;
      this.#open.set(job.id, job);
      this.#watch(job);
    }
  }

  #leave(job: Job): void {
    clearTimeout(job.timer);
    this.#open.delete(job.id);
    job.lane.open -= 1;
    job.state = 'closed';
  }

  /** Answers the caller at once; the engine stops before its next step. */
  #cancel(job: Job, reason: unknown): void {
    if (job.state === 'closed' || job.cancelled) return;
    job.cancelled = true;
    job.fail(reason);
    if (job.state === 'waiting') {
      const index = job.lane.waiting.indexOf(job);
      if (index >= 0) job.lane.waiting.splice(index, 1);
      job.state = 'closed';
      return;
    }
    this.#tell({ kind: 'cancel', id: job.id });
    this.#watch(job);
  }

  #credit(job: Job, count: number): void {
    if (job.state !== 'open' || job.cancelled) return;
    this.#tell({ kind: 'credit', id: job.id, count });
    this.#watch(job);
  }

  #tell(question: TextQuestion): void {
    // An engine that ended a moment ago needs to be told nothing.
    if (!this.ready) return;
    const { header, body } = packQuestion(question);
    this.#supervisor.send(header, body);
  }

  /** Time runs while the engine owes an answer, and not while it waits for whoever reads. */
  #watch(job: Job): void {
    clearTimeout(job.timer);
    job.timer = undefined;
    if (!job.owed && !job.cancelled) return;
    job.timer = setTimeout(() => this.#giveUp(), this.#tokenTimeoutMs);
  }

  #giveUp(): void {
    this.#supervisor.end(gone(`no sign of life in ${this.#tokenTimeoutMs} ms`));
  }
}

abstract class JobState {
  readonly lane: Lane;
  state: Job['state'] = 'waiting';
  cancelled = false;
  id = 0;
  timer: NodeJS.Timeout | undefined;

  constructor(lane: Lane) {
    this.lane = lane;
  }
}

class Generation extends JobState implements Job {
  readonly #request: GenerateRequest;
  readonly #grant: (count: number) => void;
  readonly #events: GenerateEvent[] = [];
  readonly #maxTokens: number;
  #failure: { readonly reason: unknown } | undefined;
  #wake: (() => void) | undefined;
  #credit = INITIAL_CREDIT;
  #taken = 0;
  #textsLeft: number;
  #stepsLeft: number;

  constructor(
    lane: Lane,
    request: GenerateRequest,
    { contextTokens }: TextMetadata,
    grant: (count: number) => void,
  ) {
    super(lane);
    this.#request = request;
    this.#grant = grant;
    this.#maxTokens = Math.min(request.maxTokens ?? contextTokens, contextTokens);
    // One for each token, and one for what was held back.
    this.#textsLeft = this.#maxTokens + 1;
    this.#stepsLeft = contextTokens;
  }

  get owed(): boolean {
    return this.#credit > 0;
  }

  question(id: number): TextQuestion {
    return { kind: 'generate', id, request: this.#request };
  }

  /** The next event. Rejects with what ended the request. */
  async next(): Promise<GenerateEvent> {
    for (;;) {
      const event = this.#events.shift();
      if (event !== undefined) {
        if (event.kind === 'text') this.#took();
        return event;
      }
      if (this.#failure !== undefined) throw this.#failure.reason;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  hear(answer: TextAnswer): void {
    switch (answer.kind) {
      case 'working':
        this.#stepsLeft -= 1;
        if (this.#stepsLeft < 0) throw broken('more steps than its context has tokens');
        return;
      case 'text': {
        this.#credit -= 1;
        this.#textsLeft -= 1;
        // The last one, of what was held back, comes with the end and needs no credit.
        if (this.#credit < -1 || this.#textsLeft < 0) throw broken('more text than it may');
        this.#requireTokens(answer);
        const { text, tokens } = answer;
        this.#push({ kind: 'text', text, ...(tokens === undefined ? {} : { tokens }) });
        return;
      }
      case 'end': {
        const { reason, promptTokens, completionTokens } = answer;
        if (completionTokens > this.#maxTokens) throw broken('more tokens than it may');
        this.#push({ kind: 'end', reason, promptTokens, completionTokens });
        return;
      }
      case 'rejected':
        this.fail(new EngineError('ENGINE_REJECTED', answer.message));
        return;
      case 'cancelled':
        return;
      default:
        throw broken(`${answer.kind} in answer to a prompt`);
    }
  }

  fail(reason: unknown): void {
    // What a caller has not read by now, it does not want.
    if (this.cancelled) this.#events.length = 0;
    this.#failure ??= { reason };
    this.#wake?.();
  }

  #push(event: GenerateEvent): void {
    if (this.cancelled) return;
    this.#events.push(event);
    this.#wake?.();
  }

  #took(): void {
    this.#taken += 1;
    if (this.#taken % CREDIT_STEP !== 0) return;
    this.#credit += CREDIT_STEP;
    this.#grant(CREDIT_STEP);
  }

  #requireTokens({ tokens }: Extract<TextAnswer, { kind: 'text' }>): void {
    const { topLogprobs } = this.#request;
    if ((tokens === undefined) !== (topLogprobs === undefined)) throw broken('tokens that nobody asked for');
    if (tokens?.some(({ top }) => top.length !== topLogprobs)) throw broken('another number of alternatives');
  }
}

class Embedding extends JobState implements Job {
  readonly owed = true;
  readonly result: Promise<TextVectors>;
  readonly #texts: readonly string[];
  #settle: { resolve(vectors: TextVectors): void; reject(reason: unknown): void };
  #stepsLeft: number;

  constructor(lane: Lane, texts: readonly string[]) {
    super(lane);
    this.#texts = texts;
    this.#stepsLeft = texts.length;
    const { promise, resolve, reject } = Promise.withResolvers<TextVectors>();
    this.result = promise;
    this.#settle = { resolve, reject };
    // It is awaited only once it could be sent.
    promise.catch(() => {});
  }

  question(id: number): TextQuestion {
    return { kind: 'embed', id, texts: this.#texts };
  }

  hear(answer: TextAnswer): void {
    switch (answer.kind) {
      case 'working':
        this.#stepsLeft -= 1;
        if (this.#stepsLeft < 0) throw broken('more steps than there are texts');
        return;
      case 'vectors': {
        const { vectors, promptTokens } = answer;
        if (vectors.length !== this.#texts.length) throw broken('another number of vectors');
        this.#settle.resolve({ vectors, promptTokens });
        return;
      }
      case 'rejected':
        this.fail(new EngineError('ENGINE_REJECTED', answer.message));
        return;
      case 'cancelled':
        return;
      default:
        throw broken(`${answer.kind} in answer to texts`);
    }
  }

  fail(reason: unknown): void {
    this.#settle.reject(reason);
  }
}
