/** The supervisor of text engines against engines that were taken over, wedged, or killed. */
import { closeSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { TextEngine } from '../../../enclave/engine/engine.ts';
import type { GenerateRequest, TextMetadata } from '../../../enclave/engine/text.ts';
import { startTextEngine } from '../../../enclave/engine/text-engine.ts';
import {
  packAnswer,
  readTextAnswer,
  readTextReady,
  type TextAnswer,
} from '../../../enclave/engine/text-messages.ts';
import { eventually } from '../../support/eventually.ts';
import { ENGINE_UID, modelDescriptor } from '../../support/onnx-models.ts';
import { reachableProject } from '../../support/reachable.ts';

const entry = join(reachableProject(), 'test', 'enclave', 'engine', 'misbehaving', 'text-on-demand.ts');
const never = new AbortController().signal;
const LONG_MS = 60_000;
let modelFd: number;
let engine: TextEngine;
beforeAll(async () => {
  modelFd = modelDescriptor(Buffer.from('model'));
  engine = await start(20_000);
}, LONG_MS);
afterAll(async () => {
  await engine.close();
  closeSync(modelFd);
});

function start(tokenTimeoutMs: number): Promise<TextEngine> {
  return startTextEngine({
    modelFd,
    threads: 1,
    entry,
    tokenTimeoutMs,
    restartDelayMs: () => 1,
    ...ENGINE_UID,
  });
}
async function ask(
  of: TextEngine,
  behaviour: string,
  request: Partial<GenerateRequest> = {},
): Promise<string> {
  let text = '';
  const prompt = { kind: 'text', text: behaviour } as const;
  for await (const event of of.generate({ prompt, maxTokens: 3, ...request }, never)) {
    if (event.kind === 'text') text += event.text;
  }
  return text;
}
const withCode = (code: string) => expect.objectContaining({ code });
async function isBack(): Promise<void> {
  await eventually(() => engine.ready).toBe(true);
  expect(await ask(engine, 'well')).toMatch(/^\d+$/);
}

describe('a text engine that breaks the protocol is killed, and started again', { timeout: LONG_MS }, () => {
  it.each([
    ['huge frame', {}],
    ['not JSON', {}],
    ['flood', { maxTokens: 100 }],
    ['never ends', {}],
    ['more text than tokens', {}],
    ['another id', {}],
    ['no id', {}],
    ['unknown kind', {}],
    ['huge text', {}],
    ['half a character', {}],
    ['a body', {}],
    ['tokens unasked', {}],
    ['end for no reason', {}],
    ['too many tokens', { maxTokens: 101 }],
    ['more tokens than wanted', {}],
    ['cancelled', {}],
    ['vectors for a prompt', {}],
  ])('by %s', async (behaviour, request) => {
    await expect(ask(engine, behaviour, request)).rejects.toEqual(withCode('ENGINE_PROTOCOL'));
    await isBack();
  });

  it.each(['text for vectors', 'too few vectors', 'short vectors', 'no vectors'])(
    'by %s',
    async (behaviour) => {
      await expect(engine.embed([behaviour, 'y'], never)).rejects.toEqual(withCode('ENGINE_PROTOCOL'));
      await isBack();
    },
  );

  it('by an end after the end, which harms nobody before it', async () => {
    expect(await ask(engine, 'end twice')).toBe('');
    await eventually(() => engine.ready).toBe(false);
    await isBack();
  });
});

describe('a text engine that ends', { timeout: LONG_MS }, () => {
  it.each(['exit', 'failed'])('by %s fails what is at work and what waits', async (behaviour) => {
    const results = await Promise.allSettled([
      ask(engine, 'silence'),
      ask(engine, behaviour),
      ask(engine, 'well'),
      engine.embed(['silence'], never),
      engine.embed(['well'], never),
    ]);
    for (const result of results) {
      expect(result).toMatchObject({ status: 'rejected', reason: { code: 'ENGINE_UNAVAILABLE' } });
    }
    await isBack();
  });

  it('is asked nothing while it is away', async () => {
    const slow = await startTextEngine({
      modelFd,
      threads: 1,
      entry,
      restartDelayMs: () => 2 ** 31 - 1,
      ...ENGINE_UID,
    });
    await expect(ask(slow, 'exit')).rejects.toEqual(withCode('ENGINE_UNAVAILABLE'));
    expect(slow.ready).toBe(false);
    await expect(ask(slow, 'well')).rejects.toEqual(withCode('ENGINE_UNAVAILABLE'));
    await expect(slow.embed(['well'], never)).rejects.toEqual(withCode('ENGINE_UNAVAILABLE'));
    await slow.close();
  });
});

describe('a text engine that gives no sign of life', { timeout: LONG_MS }, () => {
  it.each(['silence', 'hang'])('by %s is killed', async (behaviour) => {
    const impatient = await start(300);
    await expect(ask(impatient, behaviour)).rejects.toEqual(withCode('ENGINE_UNAVAILABLE'));
    await eventually(() => impatient.ready).toBe(true);
    await expect(impatient.embed([behaviour], never)).rejects.toEqual(withCode('ENGINE_UNAVAILABLE'));
    await impatient.close();
  });

  it('also for a request that was cancelled, which would keep its place for ever', async () => {
    const impatient = await start(300);
    const controller = new AbortController();
    const prompt = { kind: 'text', text: 'hang' } as const;
    const asked = impatient.generate({ prompt }, controller.signal)[Symbol.asyncIterator]().next();
    controller.abort(new Error('gone'));
    await expect(asked).rejects.toThrow('gone');
    await eventually(() => impatient.ready).toBe(false);
    await impatient.close();
  });
});

describe('what a text engine says', () => {
  it('of a refusal is bounded and made printable', async () => {
    const refusal = { code: 'ENGINE_REJECTED', message: expect.stringMatching(/^no\?\[31mx{993}$/) };
    await expect(ask(engine, 'reject')).rejects.toMatchObject(refusal);
    await expect(engine.embed(['reject'], never)).rejects.toMatchObject(refusal);
  });

  const METADATA: TextMetadata = {
    architecture: 'llama',
    contextTokens: 9,
    sequences: 1,
    chat: true,
    vectorSize: 2,
  };
  const frame = (header: object, body: Uint8Array = new Uint8Array(0)) => ({
    header: Buffer.from(JSON.stringify(header)),
    body,
  });

  it('of its model is read, if it can be', () => {
    expect(readTextReady(frame({ kind: 'ready', ...METADATA }))).toEqual(METADATA);
  });

  it.each([
    { kind: 'text' },
    { architecture: '' },
    { architecture: 'a\nb' },
    { contextTokens: 0 },
    { contextTokens: 1.5 },
    { sequences: 0 },
    { chat: 'yes' },
    { vectorSize: 0 },
    { vectorSize: 2 ** 18 + 1 },
  ])('of its model is refused with %j', (change) => {
    const bad = frame({ kind: 'ready', ...METADATA, ...change });
    expect(() => readTextReady(bad)).toThrow(withCode('ENGINE_PROTOCOL'));
  });

  const token = { bytes: Uint8Array.of(0xc3), logprob: -0.5 };
  it.each<TextAnswer>([
    { kind: 'working', id: 1 },
    { kind: 'text', id: 1, text: 'é' },
    { kind: 'text', id: 2, text: '', tokens: [{ ...token, top: [token, { ...token, logprob: -9999 }] }] },
    { kind: 'end', id: 1, reason: 'length', promptTokens: 9, completionTokens: 0 },
    { kind: 'vectors', id: 1, vectors: [Float32Array.of(1, 0), Float32Array.of(0, 1)], promptTokens: 2 },
    { kind: 'rejected', id: 1, message: 'no' },
    { kind: 'cancelled', id: 1 },
  ])('comes out as it went in: %j', (answer) => {
    const { header, body } = packAnswer(answer);
    const read = readTextAnswer(
      { header: Buffer.from(JSON.stringify(header)), body: Buffer.concat(body) },
      METADATA,
    );
    expect(read).toEqual(answer);
  });

  const good = { bytes: 'ww==', logprob: -1 };
  it.each([
    { bytes: 7, logprob: -1, top: [] },
    { bytes: '#', logprob: -1, top: [] },
    { bytes: 'A'.repeat(30_000), logprob: -1, top: [] },
    { ...good, logprob: 0.1, top: [] },
    { ...good, logprob: null, top: [] },
    { ...good, top: {} },
    { ...good, top: [{}] },
    { ...good, top: Array(21).fill(good) },
  ])('of tokens is refused with %j', (bad) => {
    const text = frame({ kind: 'text', id: 1, text: '', tokens: [bad] });
    expect(() => readTextAnswer(text, METADATA)).toThrow(withCode('ENGINE_PROTOCOL'));
  });
});
