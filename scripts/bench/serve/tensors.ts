/** A tensor model asked in three ways, in turns: in this process, over plain HTTP, and through parent, TLS and enclave. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { Agent, type Dispatcher, request } from 'undici';
import { type Latency, latencyOf, median, rateOf } from './latency.ts';

const PLAIN_SERVER = join(import.meta.dirname, 'plain-server.ts');

export interface TensorCase {
  readonly model: string;
  readonly onnx: Uint8Array;
  readonly width: number;
  readonly requests: number;
}

export interface Way {
  readonly name: string;
  ask(): Promise<unknown>;
}

export interface Timed {
  readonly name: string;
  readonly latency: Latency;
  readonly perSecond: number;
}

/** Each way in each round, one after the other; medians over the rounds. */
export async function timeInTurns(
  ways: readonly Way[],
  { rounds, requests }: { readonly rounds: number; readonly requests: number },
): Promise<readonly Timed[]> {
  const found = ways.map((way) => ({ way, latencies: [] as Latency[], rates: [] as number[] }));
  for (let round = -1; round < rounds; round += 1) {
    for (const { way, latencies, rates } of found) {
      const latency = await latencyOf(() => way.ask(), requests);
      const rate = await rateOf(() => way.ask(), 8, requests);
      // The first round warms up.
      if (round < 0) continue;
      latencies.push(latency);
      rates.push(rate);
    }
  }
  return found.map(({ way, latencies, rates }) => ({
    name: way.name,
    latency: {
      p50Ms: median(latencies.map(({ p50Ms }) => p50Ms)),
      p99Ms: median(latencies.map(({ p99Ms }) => p99Ms)),
    },
    perSecond: median(rates),
  }));
}

/** The three ways to one model; disposed with what they started. */
export async function waysTo(
  { model, onnx, width }: TensorCase,
  enclave: { readonly url: string; readonly dispatcher: Dispatcher },
): Promise<{ readonly ways: readonly Way[] } & AsyncDisposable> {
  const folder = mkdtempSync(join(tmpdir(), 'strongroom-bench-'));
  const path = join(folder, 'model.onnx');
  writeFileSync(path, onnx);
  const threads = Math.max(1, availableParallelism() - 1);
  const session = await InferenceSession.create(path, {
    executionProviders: ['cpu'],
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    extra: { session: { intra_op: { allow_spinning: '0' } } },
  });
  const server = spawn(process.execPath, [PLAIN_SERVER, path, String(threads)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const port = await portOf(server);
  const plain = new Agent();
  const values = Float32Array.from({ length: width }, (_, index) => (index % 17) / 17);
  const body = JSON.stringify({
    inputs: [{ name: session.inputNames[0], datatype: 'FP32', shape: [1, width], data: [...values] }],
  });
  const post = async (url: string, dispatcher: Dispatcher): Promise<unknown> => {
    const answer = await request(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body,
      dispatcher,
    });
    const text = await answer.body.text();
    if (answer.statusCode !== 200) throw new Error(`${url}: ${answer.statusCode} ${text.slice(0, 200)}`);
    return JSON.parse(text);
  };
  const input = session.inputNames[0] as string;
  return {
    ways: [
      {
        name: 'in process',
        ask: () => session.run({ [input]: new Tensor('float32', Float32Array.from(values), [1, width]) }),
      },
      { name: 'plain HTTP', ask: () => post(`http://127.0.0.1:${port}/`, plain) },
      {
        name: 'enclave',
        ask: () => post(`${enclave.url}/v2/models/${model}/infer`, enclave.dispatcher),
      },
    ],
    [Symbol.asyncDispose]: async () => {
      await plain.close();
      server.stdin?.end();
      await once(server, 'exit');
      await session.release();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function portOf(server: ChildProcess): Promise<number> {
  const [line] = (await once(server.stdout as NodeJS.ReadableStream, 'data')) as [Buffer];
  return (JSON.parse(line.toString()) as { port: number }).port;
}
