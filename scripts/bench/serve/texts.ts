/** Tokens a second: of the engine in its own process, asked directly, and of the same model through parent, TLS and enclave. */
import { type Dispatcher, request } from 'undici';
import type { BareTextEngine } from '../../../simulator/bare-engines.ts';
import { median } from './latency.ts';

const PROMPT = 'the people of the world';

export interface TokenRates {
  readonly enginePerSecond: number;
  readonly enclavePerSecond: number;
  /** Of the enclave's rate to the engine's, round by round. */
  readonly ratio: number;
}

export interface TextCase {
  readonly bare: BareTextEngine;
  readonly model: string;
  readonly url: string;
  readonly dispatcher: Dispatcher;
  readonly tokens: number;
  readonly rounds: number;
}

/** In turns, so that both meet the same neighbours. The time to the first token is not counted. */
export async function timeTokens(text: TextCase): Promise<TokenRates> {
  const rounds: { engine: number; enclave: number }[] = [];
  for (let round = -1; round < text.rounds; round += 1) {
    const engine = await ofEngine(text);
    const enclave = await ofEnclave(text);
    if (round >= 0) rounds.push({ engine, enclave });
  }
  return {
    enginePerSecond: median(rounds.map(({ engine }) => engine)),
    enclavePerSecond: median(rounds.map(({ enclave }) => enclave)),
    ratio: median(rounds.map(({ engine, enclave }) => enclave / engine)),
  };
}

async function ofEngine({ bare, tokens }: TextCase): Promise<number> {
  const clock = new TokenClock();
  const generate = { prompt: { kind: 'text' as const, text: PROMPT }, maxTokens: tokens, seed: 1 };
  for await (const event of bare.engine.generate(generate, new AbortController().signal)) {
    clock.tick();
    if (event.kind === 'end') return clock.rate(event.completionTokens);
  }
  throw new Error('the engine ended without an end');
}

async function ofEnclave({ url, dispatcher, model, tokens }: TextCase): Promise<number> {
  const clock = new TokenClock();
  const { statusCode, body } = await request(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      model,
      prompt: PROMPT,
      max_tokens: tokens,
      seed: 1,
      stream: true,
      stream_options: { include_usage: true },
    }),
    dispatcher,
  });
  let text = '';
  for await (const chunk of body) {
    text += (chunk as Buffer).toString();
    clock.tick();
  }
  const usage = /"usage":\{"prompt_tokens":\d+,"completion_tokens":(\d+)/.exec(text);
  if (statusCode !== 200 || usage === null) throw new Error(`${statusCode}: ${text.slice(0, 200)}`);
  return clock.rate(Number(usage[1]));
}

class TokenClock {
  #firstMs: number | undefined;
  #lastMs = 0;

  tick(): void {
    this.#lastMs = performance.now();
    this.#firstMs ??= this.#lastMs;
  }

  rate(tokens: number): number {
    return (tokens - 1) / ((this.#lastMs - (this.#firstMs ?? 0)) / 1000);
  }
}
