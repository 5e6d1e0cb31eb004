/**
 * Continuous batching: every step decodes, in one batch, the next token of each sequence that is generating and as many
 * tokens of new prompts as there is room for. A request joins and leaves between two steps, without waiting for others.
 */
import type { GeneratedToken, GenerateRequest, TokenLogprob } from '../text.ts';
import { INITIAL_CREDIT, type TextAnswer } from '../text-messages.ts';
import type { Context, Llama, Model, Sampler, SamplerConfig } from './binding.ts';
import { Completion, type Emitted } from './completion.ts';
import { grammarOfJsonSchema } from './json-grammar.ts';
import { Rejected } from './rejected.ts';
import type { Vocabulary } from './vocabulary.ts';

export interface SchedulerOptions {
  readonly llama: Llama;
  readonly model: Model;
  readonly vocabulary: Vocabulary;
  readonly context: Context;
  readonly sequences: number;
  /** Of one sequence. */
  readonly contextTokens: number;
  readonly batchTokens: number;
  readonly say: (answer: TextAnswer) => void;
}

/** What is reported of a token that cannot be: its logarithm is not a number in JSON. */
const LEAST_LOGPROB = -9999;

/** Two of each sequence alone: sequences are sampled at the same time, on several threads. */
interface Samplers {
  readonly sampler: Sampler;
  /** Takes the most likely token of what the model says, with nothing between: for its probabilities. */
  readonly plain: Sampler;
}

interface Sequence {
  readonly id: number;
  readonly index: number;
  readonly samplers: Samplers;
  readonly completion: Completion;
  /** Tokens that are not in the context yet: of the prompt, or the one that was sampled last. */
  pending: Uint32Array;
  position: number;
  readonly promptTokens: number;
  readonly maxTokens: number;
  readonly topLogprobs: number | undefined;
  completionTokens: number;
  credit: number;
  cancelled: boolean;
  ended: boolean;
}

export class Scheduler {
  readonly #options: SchedulerOptions;
  readonly #sequences = new Map<number, Sequence>();
  /** Said while the next batch is computed, so that nobody waits for it to be written. */
  readonly #unsaid: TextAnswer[] = [];
  /**
   * One for each place, for good: a sampler holds a list as long as the vocabulary, and gives it back only when
   * JavaScript happens to collect it.
   */
  readonly #samplers: readonly Samplers[];

  constructor(options: SchedulerOptions) {
    this.#options = options;
    const places = Array.from({ length: options.sequences });
    this.#samplers = places.map(() => {
      const plain = new options.llama.AddonSampler(options.model);
      plain.applyConfig({ temperature: 0 });
      return { sampler: new options.llama.AddonSampler(options.model), plain };
    });
  }

  /** Takes a request in, for the next step. Throws Rejected. The supervisor sends no more than there are sequences. */
  add(id: number, request: GenerateRequest, tokens: Uint32Array): void {
    const { contextTokens } = this.#options;
    if (tokens.length >= contextTokens) {
      throw new Rejected(
        `the prompt has ${tokens.length} tokens: expected at most ${contextTokens - 1}, which leave room for an answer`,
      );
    }
    if (tokens.length === 0) throw new Rejected('the prompt is empty');
    const used = new Set([...this.#sequences.values()].map(({ index }) => index));
    const index = this.#samplers.findIndex((_, at) => !used.has(at));
    const samplers = this.#samplers[index];
    if (samplers === undefined) throw new Rejected('every sequence is taken');
    this.#configure(samplers.sampler, request);
    this.#sequences.set(id, {
      id,
      index,
      samplers,
      completion: new Completion(request.stop ?? []),
      pending: tokens,
      position: 0,
      promptTokens: tokens.length,
      maxTokens: Math.min(request.maxTokens ?? contextTokens, contextTokens - tokens.length),
      topLogprobs: request.topLogprobs,
      completionTokens: 0,
      credit: INITIAL_CREDIT,
      cancelled: false,
      ended: false,
    });
  }

  credit(id: number, count: number): void {
    const sequence = this.#sequences.get(id);
    if (sequence !== undefined) sequence.credit += count;
  }

  /** Says `cancelled` before the next step. False if there is no such request any more. */
  cancel(id: number): boolean {
    const sequence = this.#sequences.get(id);
    if (sequence !== undefined) sequence.cancelled = true;
    return sequence !== undefined;
  }

  /** One batch. False if there was nothing to do. */
  async step(): Promise<boolean> {
    for (const sequence of this.#sequences.values()) {
      if (!sequence.cancelled) continue;
      this.#free(sequence);
      this.#unsaid.push({ kind: 'cancelled', id: sequence.id });
    }
    const planned = this.#plan();
    if (planned.length === 0) {
      this.flush();
      return false;
    }
    const { context, batchTokens } = this.#options;
    context.initBatch(batchTokens);
    const sampled: { readonly sequence: Sequence; readonly index: number }[] = [];
    for (const { sequence, tokens } of planned) {
      const last = tokens.length === sequence.pending.length ? [tokens.length - 1] : [];
      const [index] = context.addToBatch(sequence.index, sequence.position, tokens, Uint32Array.from(last));
      sequence.position += tokens.length;
      sequence.pending = sequence.pending.subarray(tokens.length);
      if (index === undefined) this.#unsaid.push({ kind: 'working', id: sequence.id });
      else sampled.push({ sequence, index });
    }
    const decoded = context.decodeBatch();
    this.flush();
    await decoded;
    await Promise.all(sampled.map(({ sequence, index }) => this.#sample(sequence, index)));
    // Not while others are sampled on their threads.
    for (const { sequence } of sampled) if (sequence.ended) this.#free(sequence);
    return true;
  }

  /** Says what the last step has left to say. */
  flush(): void {
    for (const answer of this.#unsaid.splice(0)) this.#options.say(answer);
  }

  /** Those that generate first, one token each; prompts share what room is left. */
  #plan(): { sequence: Sequence; tokens: Uint32Array }[] {
    const able = [...this.#sequences.values()].filter(({ credit }) => credit > 0);
    const generating = able.filter(
      ({ pending, completionTokens }) => completionTokens > 0 && pending.length > 0,
    );
    const reading = able.filter(({ completionTokens }) => completionTokens === 0);
    let room = this.#options.batchTokens - generating.length;
    const planned = generating.map((sequence) => ({ sequence, tokens: sequence.pending }));
    for (const sequence of reading) {
      const tokens = sequence.pending.subarray(0, room);
      room -= tokens.length;
      if (tokens.length > 0) planned.push({ sequence, tokens });
    }
    return planned;
  }

  async #sample(sequence: Sequence, index: number): Promise<void> {
    const { context, model, vocabulary } = this.#options;
    const token = await context.sampleToken(index, sequence.samplers.sampler);
    if (sequence.cancelled) return;
    // No token is possible: a grammar that has come to its end says so by this.
    if (token < 0 || model.isEogToken(token)) {
      this.#end(sequence, 'stop', sequence.completion.finish());
      return;
    }
    sequence.completionTokens += 1;
    const report =
      sequence.topLogprobs === undefined
        ? undefined
        : await this.#report(index, token, sequence.samplers.plain, sequence.topLogprobs);
    const emitted = sequence.completion.push(vocabulary.bytesOf(token), report);
    if (emitted.stopped) {
      this.#end(sequence, 'stop', emitted);
    } else if (sequence.completionTokens >= sequence.maxTokens) {
      const rest = sequence.completion.finish();
      const text = emitted.text + rest.text;
      const reason = rest.stopped ? 'stop' : 'length';
      this.#end(sequence, reason, { ...rest, text, tokens: [...emitted.tokens, ...rest.tokens] });
    } else {
      sequence.pending = Uint32Array.of(token);
      sequence.credit -= 1;
      this.#say(sequence, emitted);
    }
  }

  /** From the model's own distribution, before temperature, penalties and grammar. */
  async #report(index: number, token: number, plain: Sampler, top: number): Promise<GeneratedToken> {
    const { context, vocabulary } = this.#options;
    const wanted = Math.max(1, top);
    const [, , , logits, totalWeight] = await context.sampleToken(
      index,
      plain,
      false,
      false,
      [[token], false, false, false, wanted],
      true,
    );
    const base = (logits[1] ?? 0) + Math.log(totalWeight);
    const at = (pair: number): TokenLogprob => ({
      bytes: vocabulary.bytesOf(logits[pair * 2] ?? 0),
      logprob: Math.max(LEAST_LOGPROB, Math.min(0, (logits[pair * 2 + 1] ?? -Infinity) - base)),
    });
    return { ...at(logits.length / 2 - 1), top: Array.from({ length: top }, (_, pair) => at(pair)) };
  }

  #say({ id, topLogprobs }: Sequence, { text, tokens }: Emitted): void {
    this.#unsaid.push({ kind: 'text', id, text, ...(topLogprobs === undefined ? {} : { tokens }) });
  }

  #end(sequence: Sequence, reason: 'stop' | 'length', last: Emitted): void {
    const { id, promptTokens, completionTokens } = sequence;
    if (last.text !== '' || last.tokens.length > 0) this.#say(sequence, last);
    sequence.ended = true;
    this.#unsaid.push({ kind: 'end', id, reason, promptTokens, completionTokens });
  }

  /** Nothing of a request stays in the context for the next one. */
  #free(sequence: Sequence): void {
    this.#sequences.delete(sequence.id);
    this.#options.context.disposeSequence(sequence.index);
    sequence.samplers.sampler.applyConfig({ temperature: 0 });
  }

  #configure(sampler: Sampler, request: GenerateRequest): void {
    const { contextTokens } = this.#options;
    const { temperature = 1, topP, topK, minP, frequencyPenalty = 0, presencePenalty = 0 } = request;
    const seed = seedOf(request.seed);
    const config: SamplerConfig = {
      temperature,
      seed,
      ...(topP === undefined || topP >= 1 ? {} : { topP }),
      ...(topK === undefined || topK === 0 ? {} : { topK }),
      ...(minP === undefined || minP === 0 ? {} : { minP }),
      // Of the completion alone, as the OpenAI API describes them.
      ...(frequencyPenalty === 0 && presencePenalty === 0
        ? {}
        : {
            repeatPenaltyTokens: new Uint32Array(0),
            repeatPenaltyMaxTokens: contextTokens,
            repeatPenaltyFrequencyPenalty: frequencyPenalty,
            repeatPenaltyPresencePenalty: presencePenalty,
          }),
      ...(request.jsonSchema === undefined
        ? {}
        : { grammarEvaluationState: this.#grammarState(request.jsonSchema) }),
    };
    // What a sampler is told again it keeps as it is, with what it has drawn from a seed so far.
    sampler.applyConfig({ temperature: 0, seed: (seed ^ 1) >>> 0 });
    sampler.applyConfig(config);
  }

  #grammarState(schema: object): object {
    const { llama, model } = this.#options;
    const gbnf = grammarOfJsonSchema(schema);
    try {
      const grammar = new llama.AddonGrammar(gbnf, { addonExports: llama, rootRuleName: 'root' });
      return new llama.AddonGrammarEvaluationState(model, grammar);
    } catch {
      throw new Rejected(
        'the JSON schema is not supported: it makes no grammar, perhaps because it refers to itself',
      );
    }
  }
}

/** LLAMA_DEFAULT_SEED of llama.h, which asks for a random one. */
const RANDOM_SEED = 0xffffffff;

/** llama.cpp's seeds have 32 bits; those that callers give may have more. */
function seedOf(seed: number | undefined): number {
  if (seed === undefined) return RANDOM_SEED;
  const bits = BigInt.asUintN(64, BigInt(seed));
  const folded = Number(BigInt.asUintN(32, bits ^ (bits >> 32n)));
  return folded === RANDOM_SEED ? 0 : folded;
}
