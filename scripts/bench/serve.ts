/**
 * What a caller pays for everything around the engine: parent, TLS, evidence's connection, admission, the strict reading
 * of requests, and the way to a confined process and back. The engine in this process, plain HTTP around the same engine,
 * and an enclave of the local stack are asked in turns, in one run.
 */
import { VerifiedAgent } from '../../client/index.ts';
import { startBareTextEngine } from '../../simulator/bare-engines.ts';
import { LocalStack } from '../../simulator/local-stack.ts';
import { pcrsOf, prepareRelease } from '../local/release.ts';
import { readFlowers, splitFlowers, trainIris } from '../model/iris.ts';
import { encodeIrisModel } from '../model/iris-onnx.ts';
import { BENCH_LLAMA, encodeRandomLlama } from '../model/random-llama.ts';
import { encodeMlp } from './serve/mlp.ts';
import { type TensorCase, type Timed, timeInTurns, waysTo } from './serve/tensors.ts';
import { timeTokens } from './serve/texts.ts';

const PROJECT = new URL('../..', import.meta.url).pathname;
const ROUNDS = 9;
/** Milliseconds that a caller of a small model may wait longer than the engine itself takes, at the median. */
const ADDED_BAR_MS = 0.5;
/** Of the engine's own tokens a second, what a caller gets. */
const TOKENS_BAR = 0.97;
const TOKENS = 128;
const MEDIUM_WIDTHS = [1024, 2048, 2048, 512];

export const bench = {
  name: 'serve',
  /** Resolves to the exit code: 0 if every bar is met. */
  async run(_args: readonly string[]): Promise<number> {
    await using stack = await startStack();
    const small: TensorCase = {
      model: 'small',
      onnx: encodeIrisModel(trainIris(splitFlowers(readFlowers()).training)),
      width: 4,
      requests: 2_000,
    };
    const medium: TensorCase = {
      model: 'medium',
      onnx: encodeMlp(MEDIUM_WIDTHS),
      width: MEDIUM_WIDTHS[0] as number,
      requests: 300,
    };
    const met = [
      await benchTensors(stack, small, ADDED_BAR_MS),
      await benchTensors(stack, medium, undefined),
    ];
    met.push(await benchTokens(stack));
    return met.every((one) => one) ? 0 : 1;
  },
};

async function startStack(): Promise<LocalStack & AsyncDisposable> {
  const stack = await LocalStack.start({ projectFolder: PROJECT, now: () => new Date() });
  return Object.assign(stack, { [Symbol.asyncDispose]: () => stack.close() });
}

type Model = { readonly onnx: Uint8Array } | { readonly gguf: Uint8Array };

/** An enclave that serves the model, and a pool of verified connections to it. */
async function serve(stack: LocalStack, name: string, model: Model) {
  const release = await prepareRelease(stack, { name, version: 1, ...model });
  const instance = await stack.startInstance(release);
  await instance.serving;
  const agent = new VerifiedAgent(instance.url, {
    pcrs: pcrsOf(stack, release.deployment),
    simulationRoot: stack.attestationRoot,
  });
  return {
    url: instance.url,
    dispatcher: agent,
    [Symbol.asyncDispose]: async () => {
      await agent.destroy();
      await instance.close();
    },
  };
}

async function benchTensors(
  stack: LocalStack,
  tensor: TensorCase,
  barMs: number | undefined,
): Promise<boolean> {
  await using enclave = await serve(stack, tensor.model, { onnx: tensor.onnx });
  await using peers = await waysTo(tensor, enclave);
  const timed = await timeInTurns(peers.ways, { rounds: ROUNDS, requests: tensor.requests });
  say(`${tensor.model} tensor model, ${tensor.requests} requests a round, medians of ${ROUNDS} rounds`);
  for (const one of timed) say(row(one));
  const [own, plain, ours] = timed.map(({ latency }) => latency.p50Ms) as [number, number, number];
  const added = ours - own;
  const verdict = barMs === undefined ? '' : `; bar ${barMs} ms: ${added <= barMs ? 'met' : 'MISSED'}`;
  say(
    `  added at p50: ${added.toFixed(3)} ms to the engine${verdict}; ${(ours - plain).toFixed(3)} ms to plain HTTP`,
  );
  return barMs === undefined || added <= barMs;
}

async function benchTokens(stack: LocalStack): Promise<boolean> {
  const gguf = Buffer.concat([...encodeRandomLlama(BENCH_LLAMA)]);
  await using enclave = await serve(stack, 'text', { gguf });
  await using bare = await startBareTextEngine([gguf]);
  const rates = await timeTokens({ bare, model: 'text', tokens: TOKENS, rounds: ROUNDS, ...enclave });
  const met = rates.ratio >= TOKENS_BAR;
  say(`${TOKENS} tokens of a model of 70 million parameters, medians of ${ROUNDS} rounds`);
  say(`  engine, asked directly  ${rates.enginePerSecond.toFixed(1)} tokens/s`);
  say(`  through the enclave     ${rates.enclavePerSecond.toFixed(1)} tokens/s`);
  say(`  ratio ${rates.ratio.toFixed(3)}; bar ${TOKENS_BAR}: ${met ? 'met' : 'MISSED'}`);
  return met;
}

function row({ name, latency, perSecond }: Timed): string {
  const ms = (value: number): string => `${value.toFixed(3).padStart(9)} ms`;
  return `  ${name.padEnd(12)} p50 ${ms(latency.p50Ms)}  p99 ${ms(latency.p99Ms)}  ${Math.round(perSecond).toString().padStart(7)} requests/s with 8 open`;
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
