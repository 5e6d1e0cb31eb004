/**
 * The text engine: loads the one GGUF file it was given and serves requests, several at once. llama.cpp computes on
 * threads of its own; this one reads what the supervisor says meanwhile.
 */
import { read } from 'node:fs';
import { promisify } from 'node:util';
import type { GgufFile } from '../../../shared/model-files/gguf-file.ts';
import { CHANNEL_DESCRIPTOR, MODEL_DESCRIPTOR, tell } from '../channel.ts';
import { FrameReader } from '../frames.ts';
import type { StartMessage, TextStart } from '../messages.ts';
import type { Prompt } from '../text.ts';
import { packAnswer, readQuestion, type TextAnswer, type TextQuestion } from '../text-messages.ts';
import { type Context, type Llama, loadLlama, type Model } from './binding.ts';
import { ChatTemplate } from './chat-template.ts';
import { Embedder } from './embedder.ts';
import { Rejected } from './rejected.ts';
import { Scheduler } from './scheduler.ts';
import { Vocabulary } from './vocabulary.ts';

/** A prompt is read in steps of this many tokens; whoever generates waits for one step at most. */
const BATCH_TOKENS = 256;
/** Less is no conversation. */
const LEAST_CONTEXT_TOKENS = 64;
const READ_BYTES = 64 * 1024;

export async function run(start: StartMessage, file: GgufFile): Promise<void> {
  if (start.text === undefined) throw new TypeError('expected to be started for text');
  const { sequences, contextTokens } = capacityOf(file, start.text);
  const llama = await loadLlama();
  const model = await loadModel(llama, file);
  const vocabulary = new Vocabulary(model, {
    tokenizer: file.tokenizer,
    tokens: file.vocabularyTokens,
    spacePrefix: file.spacePrefix,
    chatTemplate: file.chatTemplate,
  });
  const template =
    file.chatTemplate === undefined
      ? undefined
      : new ChatTemplate(llama, file.chatTemplate, { bos_token: vocabulary.bos, eos_token: vocabulary.eos });
  const batchTokens = Math.min(BATCH_TOKENS, contextTokens);
  const { threads } = start;
  const context = await openContext(llama, model, { sequences, contextTokens, batchTokens, threads });
  const engine = new TextServer({
    vocabulary,
    template,
    addEos: model.shouldAppendEosToken() && model.tokenEos() >= 0 ? model.tokenEos() : undefined,
    contextTokens,
    scheduler: new Scheduler({
      llama,
      model,
      vocabulary,
      context,
      sequences,
      contextTokens,
      batchTokens,
      say,
    }),
    embedder: new Embedder({ llama, model, contextTokens, batchTokens, threads }),
  });
  const vectorSize = model.getEmbeddingVectorSize();
  const chat = template !== undefined;
  tell({ kind: 'ready', architecture: file.architecture, contextTokens, sequences, chat, vectorSize });
  await Promise.race([listen((question) => engine.take(question)), engine.serve()]);
}

function say(answer: TextAnswer): void {
  const { header, body } = packAnswer(answer);
  tell(header, body);
}

/** As many sequences as wanted and a context as long as may be, within the memory that they may take. */
function capacityOf(file: GgufFile, start: TextStart): { sequences: number; contextTokens: number } {
  const wanted = Math.min(file.contextTokens, start.contextTokens);
  const affordable = Math.floor(start.contextBytes / Math.max(1, file.contextBytesPerToken));
  // A conversation comes before the number of those who may have one.
  const sequences = Math.max(1, Math.min(start.sequences, Math.floor(affordable / Math.min(wanted, 2048))));
  const contextTokens = Math.min(wanted, Math.floor(affordable / sequences));
  if (contextTokens < LEAST_CONTEXT_TOKENS) {
    throw new Error(
      `${start.contextBytes} bytes hold ${contextTokens} tokens of context: expected at least ${LEAST_CONTEXT_TOKENS}`,
    );
  }
  return { sequences, contextTokens };
}

async function loadModel(llama: Llama, file: GgufFile): Promise<Model> {
  const model = new llama.AddonModel(`/proc/self/fd/${MODEL_DESCRIPTOR}`, {
    addonExports: llama,
    gpuLayers: 0,
    useMmap: true,
    // Where the space goes is for the vocabulary to say, which knows where text begins.
    overridesList: file.spacePrefix ? [['tokenizer.ggml.add_space_prefix', false]] : [],
  });
  if (!(await model.init())) throw new Error('llama.cpp does not load this model');
  return model;
}

async function openContext(
  llama: Llama,
  model: Model,
  options: {
    readonly sequences: number;
    readonly contextTokens: number;
    readonly batchTokens: number;
    readonly threads: number;
  },
): Promise<Context> {
  const context = new llama.AddonContext(model, {
    contextSize: options.contextTokens * options.sequences,
    batchSize: options.batchTokens,
    sequences: options.sequences,
    threads: options.threads,
    embeddings: false,
  });
  if (!(await context.init())) throw new Error('llama.cpp makes no context for this model');
  return context;
}

/** Resolves when the supervisor has closed the channel. */
async function listen(take: (question: TextQuestion) => void): Promise<void> {
  const reader = new FrameReader((frame) => take(readQuestion(frame)));
  const chunk = new Uint8Array(new ArrayBuffer(READ_BYTES));
  // A stream would ask the socket for its kind, which a confined process may not.
  const readSome = promisify(read);
  for (;;) {
    const { bytesRead } = await readSome(CHANNEL_DESCRIPTOR, chunk, 0, chunk.length, null);
    if (bytesRead === 0) return;
    reader.push(chunk.subarray(0, bytesRead));
  }
}

interface TextServerOptions {
  readonly vocabulary: Vocabulary;
  readonly template: ChatTemplate | undefined;
  /** What the model wants at the end of a text that is not continued. */
  readonly addEos: number | undefined;
  readonly contextTokens: number;
  readonly scheduler: Scheduler;
  readonly embedder: Embedder;
}

/** No token of any vocabulary is as long: a text of more bytes than this for each token does not fit either. */
const MAX_BYTES_PER_TOKEN = 256;

class TextServer {
  readonly #options: TextServerOptions;
  readonly #embeddings: { readonly id: number; readonly texts: readonly string[]; cancelled: boolean }[] = [];
  #wake: () => void = () => {};

  constructor(options: TextServerOptions) {
    this.#options = options;
  }

  take(question: TextQuestion): void {
    const { scheduler } = this.#options;
    switch (question.kind) {
      case 'generate':
        this.#answering(question.id, () =>
          scheduler.add(question.id, question.request, this.#promptTokens(question.request.prompt)),
        );
        break;
      case 'embed':
        this.#embeddings.push({ id: question.id, texts: question.texts, cancelled: false });
        break;
      case 'credit':
        scheduler.credit(question.id, question.count);
        break;
      case 'cancel': {
        scheduler.cancel(question.id);
        const embedding = this.#embeddings.find(({ id }) => id === question.id);
        if (embedding !== undefined) embedding.cancelled = true;
      }
    }
    this.#wake();
  }

  /** Never resolves. One text is embedded for each step of those that generate. */
  async serve(): Promise<never> {
    let embedding = this.#embedNext();
    for (;;) {
      if (this.#embeddings.length > 0) this.#options.scheduler.flush();
      const { done } = await embedding.next();
      if (done === true) embedding = this.#embedNext();
      const worked = await this.#options.scheduler.step();
      if (!worked && done === true && this.#embeddings.length === 0) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }

  /** Yields after each text of the request that came first, and ends once it is answered, or if there is none. */
  async *#embedNext(): AsyncGenerator<void, void> {
    const job = this.#embeddings[0];
    if (job === undefined) return;
    const { id, texts } = job;
    const vectors: Float32Array[] = [];
    let promptTokens = 0;
    try {
      for (const text of texts) {
        if (job.cancelled) break;
        const tokens = this.#textTokens(text);
        promptTokens += tokens.length;
        vectors.push(await this.#options.embedder.vectorOf(tokens));
        say({ kind: 'working', id });
        yield;
      }
      if (job.cancelled) say({ kind: 'cancelled', id });
      else say({ kind: 'vectors', id, vectors, promptTokens });
    } catch (error) {
      if (!(error instanceof Rejected)) throw error;
      say({ kind: 'rejected', id, message: error.message });
    }
    this.#embeddings.shift();
  }

  #answering(id: number, work: () => void): void {
    try {
      work();
    } catch (error) {
      if (!(error instanceof Rejected)) throw error;
      say({ kind: 'rejected', id, message: error.message });
    }
  }

  #promptTokens(prompt: Prompt): Uint32Array {
    const { vocabulary, template } = this.#options;
    if (prompt.kind === 'text') {
      this.#requirePlausible([prompt.text]);
      return vocabulary.tokensOf([{ text: prompt.text, trusted: false }]);
    }
    if (template === undefined) throw new Rejected('the model has no chat template: ask it for a completion');
    this.#requirePlausible(prompt.messages.map(({ content }) => content));
    return vocabulary.tokensOf(template.render(prompt.messages));
  }

  #textTokens(text: string): Uint32Array {
    const { vocabulary, addEos } = this.#options;
    this.#requirePlausible([text]);
    const tokens = vocabulary.tokensOf([{ text, trusted: false }]);
    return addEos === undefined ? tokens : Uint32Array.of(...tokens, addEos);
  }

  /** So that nobody waits for the tokens of a text that cannot fit. */
  #requirePlausible(texts: readonly string[]): void {
    const most = this.#options.contextTokens * MAX_BYTES_PER_TOKEN;
    const length = texts.reduce((sum, text) => sum + text.length, 0);
    if (length > most) {
      throw new Rejected(
        `the prompt has ${length} characters, too many for ${this.#options.contextTokens} tokens`,
      );
    }
  }
}
