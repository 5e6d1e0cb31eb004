/**
 * Hundreds of callers at once of which half misbehave: the others get every answer, and nothing is left when they have
 * gone. Counted, not timed.
 */
import { readdirSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterEach, describe, expect, it } from 'vitest';
import type { InferRequest, InferResponse, TextEngine } from '../../../enclave/engine/engine.ts';
import type { ModelMetadata } from '../../../enclave/engine/tensor.ts';
import type { GenerateEvent } from '../../../enclave/engine/text.ts';
import { ask } from '../../../scripts/bench/serve/caller.ts';
import {
  type HostileRequest,
  hostileHttp,
  hostileJson,
  hostileTensors,
  SMUGGLED,
} from '../../../scripts/bench/serve/hostile-requests.ts';
import {
  goodInference,
  goodStream,
  MISBEHAVIOURS,
  misbehave,
} from '../../../scripts/bench/serve/misbehave.ts';
import { eventually, PATIENCE_MS } from '../../support/eventually.ts';
import {
  type Connection,
  fakeEngine,
  servedModel,
  serveForTest,
  type TestServer,
} from '../../support/serving.ts';

const TARGETS = { tensors: 'm', input: 'x', text: 't' };
const CALLERS = 500;
const REQUESTS = 6;
const SEQUENCES = 4;
const TOKENS = 12;
const metadata: ModelMetadata = {
  inputs: [{ name: 'x', datatype: 'FP32', shape: [-1, 4] }],
  outputs: [{ name: 'y', datatype: 'FP32', shape: [-1, 4] }],
};

let server: TestServer;
afterEach(() => server[Symbol.asyncDispose]());

/** What the engines have seen. */
interface Seen {
  readonly firsts: Set<number>;
  atWork: number;
  most: number;
}

/** y = x, and a text that ends; both with a pause in the middle, so that requests meet. */
async function serve(): Promise<Seen> {
  const seen: Seen = { firsts: new Set(), atWork: 0, most: 0 };
  const begin = (): void => {
    seen.atWork += 1;
    seen.most = Math.max(seen.most, seen.atWork);
  };
  const infer = async ({ inputs }: InferRequest): Promise<InferResponse> => {
    begin();
    try {
      await new Promise(setImmediate);
      for (const { data } of inputs)
        seen.firsts.add(new DataView(data.buffer, data.byteOffset).getFloat32(0, true));
      return { outputs: inputs.map((input) => ({ ...input, name: 'y' })) };
    } finally {
      seen.atWork -= 1;
    }
  };
  const generate = async function* (_request: unknown, signal: AbortSignal): AsyncGenerator<GenerateEvent> {
    begin();
    try {
      for (let i = 0; i < TOKENS; i++) {
        await new Promise(setImmediate);
        signal.throwIfAborted();
        yield { kind: 'text', text: `word ${i} ` };
      }
      yield { kind: 'end', reason: 'stop', promptTokens: 3, completionTokens: TOKENS };
    } finally {
      seen.atWork -= 1;
    }
  };
  const text: TextEngine = {
    kind: 'text',
    ready: true,
    metadata: { architecture: 'llama', contextTokens: 512, sequences: SEQUENCES, chat: true, vectorSize: 2 },
    generate,
    embed: async () => ({ vectors: [], promptTokens: 0 }),
    close: async () => {},
  };
  server = await serveForTest({
    models: [servedModel(fakeEngine(metadata, infer)), servedModel(text, { name: 't' })],
    limits: { connections: 2 * CALLERS, queueLength: 2 * CALLERS },
  });
  return seen;
}

async function askRightly(connection: Connection, caller: number): Promise<string[]> {
  const wrong: string[] = [];
  for (let i = 0; i < REQUESTS; i++) {
    const data = [caller, i, 0.5, -1];
    const inference = await ask(connection.socket, 'POST', '/v2/models/m/infer', {
      inputs: [{ name: 'x', datatype: 'FP32', shape: [1, 4], data }],
    });
    const body = inference.body.toString();
    if (
      inference.status !== 200 ||
      JSON.stringify(JSON.parse(body).outputs[0].data) !== JSON.stringify(data)
    ) {
      wrong.push(`${inference.status} ${body}`);
    }
  }
  const stream = await ask(connection.socket, 'POST', '/v1/chat/completions', {
    model: 't',
    messages: [{ role: 'user', content: 'x' }],
    stream: true,
  });
  const events = stream.body.toString();
  const said = [...events.matchAll(/"content":"([^"]*)"/g)].map(([, word]) => word).join('');
  const expected = Array.from({ length: TOKENS }, (_, i) => `word ${i} `).join('');
  if (said !== expected || !events.endsWith('data: [DONE]\n\n')) wrong.push(events);
  return wrong;
}

/** One crowd, until the last of it has gone. */
async function crowd(size: number): Promise<void> {
  const connections = await Promise.all(Array.from({ length: size }, () => server.connect()));
  expect(server.server.connections).toBe(size);
  const wrong = await Promise.all(
    connections.map(async (connection, index) => {
      if (index % 2 === 0) return askRightly(connection, index).finally(() => connection.close());
      const how = MISBEHAVIOURS[(index >> 1) % MISBEHAVIOURS.length] as (typeof MISBEHAVIOURS)[number];
      await misbehave(connection.socket, how, { targets: TARGETS, patienceMs: 3_000 });
      return [];
    }),
  );
  expect(wrong.flat()).toEqual([]);
  await eventually(() => server.server.connections).toBe(0);
}

const descriptors = (): number => readdirSync('/proc/self/fd').length;

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

async function heapBytes(): Promise<number> {
  // Twice, with a turn between them: what a finaliser lets go is collected by the next.
  for (let i = 0; i < 3; i++) {
    collect();
    await new Promise(setImmediate);
  }
  const { heapUsed, external, arrayBuffers } = process.memoryUsage();
  return heapUsed + external + arrayBuffers;
}

/** All places of both engines and all of the queue can be taken at once: nobody who has gone holds one. */
async function expectNothingAtWork(seen: Seen): Promise<void> {
  await eventually(() => seen.atWork).toBe(0);
  seen.most = 0;
  const connections = await Promise.all(Array.from({ length: 2 * SEQUENCES }, () => server.connect()));
  const answers = await Promise.all(connections.map((connection, index) => askRightly(connection, index)));
  expect(answers.flat()).toEqual([]);
  for (const connection of connections) connection.close();
  await eventually(() => server.server.connections).toBe(0);
  const [before] = server.models.current.models;
  let closed = 0;
  const next = fakeEngine(metadata, async () => ({ outputs: [] }));
  server.models.put(servedModel(next, { version: 4, close: async () => void closed++ }));
  expect(server.models.inMemory).not.toContain(before);
  server.models.put({ ...(before as (typeof server.models.current.models)[0]), version: 5 });
  expect(closed).toBe(1);
}

describe('five hundred callers, of which half misbehave', () => {
  it('all the others get every answer, and nothing is left of anybody', { timeout: 300_000 }, async () => {
    const seen = await serve();
    const before = descriptors();
    await crowd(CALLERS);
    const between = { heap: await heapBytes(), descriptors: descriptors() };
    await crowd(CALLERS);
    const after = { heap: await heapBytes(), descriptors: descriptors() };
    expect(seen.most).toBeGreaterThan(SEQUENCES);
    expect([...seen.firsts]).not.toContain(SMUGGLED);
    expect(between.descriptors).toBeLessThanOrEqual(before + 2);
    expect(after.descriptors).toBeLessThanOrEqual(before + 2);
    // Less than a buffer of each: whatever stays, it is not a connection.
    expect(after.heap - between.heap).toBeLessThan(CALLERS * 4_096);
    await expectNothingAtWork(seen);
  });
});

describe.each([
  ['HTTP', hostileHttp(TARGETS)],
  ['JSON', hostileJson(TARGETS)],
  ['tensors', hostileTensors(TARGETS)],
] as const)('hostile %s', (_, requests) => {
  it('is refused, reaches no model, and ends neither the server nor the next request', {
    timeout: 120_000,
  }, async () => {
    const seen = await serve();
    const answered: string[] = [];
    for (const { name, bytes } of requests) {
      const statuses = await statusesOf(bytes);
      if ((statuses.length === 0) !== isCutWithoutAnswer(name)) answered.push(`${name}: ${statuses}`);
      if (statuses.some((status) => status >= 500)) answered.push(`${name}: ${statuses}`);
      if (!mayBeAnswered(name) && statuses.some((status) => status < 400 && status !== 100)) {
        answered.push(`${name}: ${statuses}`);
      }
    }
    expect(answered).toEqual([]);
    expect([...seen.firsts]).toEqual([]);
    await expectNothingAtWork(seen);
  });
});

/** Tunnels, too many at once, nothing at all; and what only the engine can judge, as its caller has gone meanwhile. */
function isCutWithoutAnswer(name: string): boolean {
  return [
    'CONNECT',
    'nothing but line ends',
    'a flood behind one another',
    'a prototype in a schema',
    'a schema that refers to itself',
    'a schema of great depth',
    'a prompt beyond the context',
  ].includes(name);
}

/** Well formed in itself, or begins so. */
function mayBeAnswered(name: string): boolean {
  return name === 'an upgrade to HTTP/2';
}

/** All that comes back until the connection ends; the server ends it when it has no more to say to an ended caller. */
async function statusesOf(bytes: HostileRequest['bytes']): Promise<number[]> {
  const { socket } = await server.connect();
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  const closed = new Promise((resolve) => socket.once('close', resolve));
  socket.end(bytes);
  await closed;
  const text = Buffer.concat(chunks).toString('latin1');
  return [...text.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, status]) => Number(status));
}

describe('a connection that is cut', () => {
  it.each([
    ['of an inference', goodInference(TARGETS)],
    ['of a stream', goodStream(TARGETS)],
  ])('after any byte %s leaves nothing behind', { timeout: 120_000 }, async (_, bytes) => {
    const seen = await serve();
    const before = descriptors();
    const cutAfter = async (count: number): Promise<void> => {
      const { socket } = await server.connect();
      const closed = new Promise((resolve) => socket.once('close', resolve));
      await new Promise((resolve) => socket.write(bytes.subarray(0, count), resolve));
      // By an end that is announced, or by none.
      if (count % 2 === 0) socket.destroy();
      else socket.resume().end();
      await closed;
    };
    for (let from = 1; from <= bytes.length; from += 50) {
      const counts = Array.from({ length: Math.min(50, bytes.length + 1 - from) }, (_unused, i) => from + i);
      await Promise.all(counts.map(cutAfter));
    }
    await eventually(() => server.server.connections).toBe(0);
    expect(descriptors()).toBeLessThanOrEqual(before + 2);
    await expectNothingAtWork(seen);
  });
});

describe('a caller who sends a byte a second', () => {
  it('is cut at the deadline of headers, however long it goes on', { timeout: 3 * PATIENCE_MS }, async () => {
    const seen = await serve();
    const { socket } = await server.connect();
    const startedMs = performance.now();
    await misbehave(socket, 'byte-by-byte', { targets: TARGETS, patienceMs: 2 * PATIENCE_MS });
    // Far from all of its bytes.
    expect(performance.now() - startedMs).toBeLessThan(2 * PATIENCE_MS);
    await eventually(() => server.server.connections).toBe(0);
    await expectNothingAtWork(seen);
  });
});
