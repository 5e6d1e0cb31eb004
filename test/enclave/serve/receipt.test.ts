/** Receipts as the server gives them: who gets one, where it stands, and what never has one. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { InferRequest, TextEngine } from '../../../enclave/engine/engine.ts';
import { EngineError } from '../../../enclave/engine/errors.ts';
import type { GenerateEvent } from '../../../enclave/engine/text.ts';
import type { ReceiptIssuer } from '../../../enclave/receipts.ts';
import { simulationAnchor } from '../../../shared/attestation/anchors.ts';
import { parseReceipt, readStreamEnding } from '../../../shared/receipt/decode.ts';
import type { AnswerHead, RequestHead } from '../../../shared/receipt/receipt.ts';
import {
  expectAnswer,
  expectRequest,
  parseSalt,
  type VerifiedReceipt,
  verifyReceipt,
} from '../../../shared/receipt/verify.ts';
import { newReceiptIssuer, startPlatform, type TestPlatform } from '../../client/test-enclave.ts';
import { codeFor } from '../../shared/attestation/code.ts';
import {
  type Answer,
  type Connection,
  echoReceipts,
  fakeEngine,
  servedModel,
  serveForTest,
  type TestServer,
} from '../../support/serving.ts';

const TENSORS = '/v2/models/tensors/infer';
const CHAT = '/v1/chat/completions';
const ASKED = { 'strongroom-receipt': '1' };
const JSON_TYPE = { 'content-type': 'application/json' };

const tensorEngine = fakeEngine(
  {
    inputs: [{ name: 'x', datatype: 'FP32', shape: [-1] }],
    outputs: [{ name: 'y', datatype: 'FP32', shape: [-1] }],
  },
  async ({ inputs }: InferRequest) => ({ outputs: inputs.map((input) => ({ ...input, name: 'y' })) }),
);

/** What the text engine does next; each request takes one. */
let generate: (signal: AbortSignal) => AsyncIterable<GenerateEvent>;
async function* words(): AsyncGenerator<GenerateEvent> {
  for (const text of ['once ', 'upon ', 'a time']) yield { kind: 'text', text };
  yield { kind: 'end', reason: 'stop', promptTokens: 3, completionTokens: 3 };
}
const textEngine: TextEngine = {
  kind: 'text',
  metadata: { architecture: 'llama', contextTokens: 100, sequences: 2, chat: true, vectorSize: 4 },
  ready: true,
  generate: (_request, signal) => generate(signal),
  embed: async (texts) => ({ vectors: texts.map(() => Float32Array.of(1, 0, 0, 0)), promptTokens: 1 }),
  close: async () => {},
};

let platform: TestPlatform;
let issuer: ReceiptIssuer;
let server: TestServer;
let connection: Connection;
const MODELS = [
  servedModel(textEngine, { name: 'texts', contentId: '11'.repeat(32) }),
  servedModel(tensorEngine, { name: 'tensors' }),
];
beforeAll(async () => {
  platform = await startPlatform();
  issuer = newReceiptIssuer(platform);
  server = await serveForTest({ models: MODELS, receipts: issuer });
  connection = await server.connect();
});
afterEach(() => {
  generate = words;
});
afterAll(async () => {
  connection.close();
  await server[Symbol.asyncDispose]();
});
generate = words;

const verified = (bytes: Uint8Array): VerifiedReceipt =>
  verifyReceipt(parseReceipt(bytes), {
    anchors: [simulationAnchor(platform.ca.rootPem)],
    at: new Date(),
  });
const header = ({ headers }: Answer, name: string) => headers[name] as string | undefined;
/** A refusal whose request was not read ends its connection. */
async function askAnew(
  method: string,
  path: string,
  body: string | undefined,
  headers: Record<string, string>,
) {
  const other = await server.connect();
  const answer = await other.ask(method, path, body, headers);
  other.close();
  return answer;
}
const saltOf = (answer: Answer) => parseSalt(header(answer, 'strongroom-receipt-salt'));
const headOf = (answer: Answer): AnswerHead => ({
  status: answer.status,
  contentType: header(answer, 'content-type'),
  framing: header(answer, 'inference-header-content-length'),
});
const requestTo = (target: string, changes: Partial<RequestHead> = {}): RequestHead => ({
  method: 'POST',
  target,
  contentType: 'application/json',
  framing: undefined,
  ...changes,
});

const question = JSON.stringify({ inputs: [{ name: 'x', datatype: 'FP32', shape: [2], data: [0.5, 2] }] });
const chat = (changes: object = {}) =>
  JSON.stringify({ model: 'texts', messages: [{ role: 'user', content: 'tell' }], ...changes });

describe('a whole answer', () => {
  it('of JSON has its receipt in the headers, and they fit what clients take', async () => {
    const answer = await connection.ask('POST', TENSORS, question, ASKED);
    expect(answer.status).toBe(200);
    const encoded = header(answer, 'strongroom-receipt') as string;
    expect(encoded).toMatch(/^[\w-]+$/);
    // Node's clients take 16 KiB of headers altogether, curl and Python's far more.
    expect(encoded.length).toBeLessThan(12_000);
    const receipt = verified(Buffer.from(encoded, 'base64url'));
    expectRequest(receipt, saltOf(answer), requestTo(TENSORS), [Buffer.from(question)]);
    expectAnswer(receipt, saltOf(answer), headOf(answer), [answer.body]);
    expect(receipt.model).toMatchObject({ name: 'tensors', version: 3 });
    expect(receipt.fields.models.map(({ name }) => name)).toEqual(['tensors', 'texts']);
    expect(receipt.key).toEqual(issuer.publicKey);
  });

  it('of binary tensors is bound to where its JSON ends, as the request is', async () => {
    const tensor = Buffer.from(Float32Array.of(1, 2).buffer);
    const framing = { 'inference-header-content-length': '0' };
    const type = 'application/octet-stream';
    const answer = await connection.ask('POST', TENSORS, tensor, {
      'content-type': type,
      ...framing,
      ...ASKED,
    });
    expect(answer.status).toBe(200);
    const receipt = verified(Buffer.from(header(answer, 'strongroom-receipt') as string, 'base64url'));
    const request = requestTo(TENSORS, { contentType: type, framing: '0' });
    expectRequest(receipt, saltOf(answer), request, [tensor]);
    expectAnswer(receipt, saltOf(answer), headOf(answer), [answer.body]);
    const otherwise = { ...request, framing: '1' };
    expect(codeFor(() => expectRequest(receipt, saltOf(answer), otherwise, [tensor]))).toBe(
      'RECEIPT_OTHER_REQUEST',
    );
  });

  it.each([
    [CHAT, chat()],
    ['/v1/completions', JSON.stringify({ model: 'texts', prompt: 'tell' })],
    ['/v1/embeddings', JSON.stringify({ model: 'texts', input: 'tell' })],
  ])('of %s has one', async (target, body) => {
    const answer = await connection.ask('POST', target, body, ASKED);
    expect(answer.status).toBe(200);
    const receipt = verified(Buffer.from(header(answer, 'strongroom-receipt') as string, 'base64url'));
    expectRequest(receipt, saltOf(answer), requestTo(target), [Buffer.from(body)]);
    expectAnswer(receipt, saltOf(answer), headOf(answer), [answer.body]);
    expect(receipt.model.name).toBe('texts');
  });

  it('whose request came byte by byte has one of the whole body', async () => {
    const other = await server.connect();
    const parts: Buffer[] = [];
    const whole = new Promise<string>((resolve) => {
      other.socket.on('data', (part: Buffer) => {
        parts.push(part);
        const text = Buffer.concat(parts).toString('latin1');
        if (text.includes('"outputs"')) resolve(text);
      });
    });
    const head = ['host: enclave', 'content-type: application/json', 'strongroom-receipt: 1'];
    other.socket.write(
      `POST ${TENSORS} HTTP/1.1\r\n${head.join('\r\n')}\r\ntransfer-encoding: chunked\r\n\r\n`,
    );
    for (const byte of question) other.socket.write(`1\r\n${byte}\r\n`);
    other.socket.write('0\r\n\r\n');
    const text = await whole;
    other.close();
    const found = /strongroom-receipt: ([\w-]+)/.exec(text)?.[1] ?? '';
    const salt = parseSalt(/strongroom-receipt-salt: ([\w-]+)/.exec(text)?.[1]);
    const receipt = verified(Buffer.from(found, 'base64url'));
    expectRequest(receipt, salt, requestTo(TENSORS), [Buffer.from(question)]);
  });
});

describe('a stream', () => {
  it.each<[string, object]>([
    ['as it is', {}],
    ['with usage', { stream_options: { include_usage: true } }],
  ])('%s ends with its receipt, after the last event', async (_what, options) => {
    const body = chat({ stream: true, ...options });
    const answer = await connection.ask('POST', CHAT, body, ASKED);
    expect(answer.headers['strongroom-receipt']).toBeUndefined();
    const ending = readStreamEnding(answer.body);
    const events = answer.body.subarray(0, answer.body.length - (ending?.endingBytes ?? 0));
    expect(events.toString()).toMatch(/\ndata: \[DONE\]\n\n$/);
    const receipt = verified(ending?.receipt as Uint8Array);
    expectRequest(receipt, saltOf(answer), requestTo(CHAT), [Buffer.from(body)]);
    expectAnswer(receipt, saltOf(answer), headOf(answer), [events]);
    const less = events.subarray(events.indexOf('\n\n') + 2);
    expect(codeFor(() => expectAnswer(receipt, saltOf(answer), headOf(answer), [less]))).toBe(
      'RECEIPT_OTHER_ANSWER',
    );
  });

  it('in which the engine failed ends without one, and no number is used up', async () => {
    const before = verified(
      Buffer.from(
        header(await connection.ask('POST', TENSORS, question, ASKED), 'strongroom-receipt') as string,
        'base64url',
      ),
    );
    generate = async function* () {
      yield { kind: 'text', text: 'once' };
      throw new EngineError('ENGINE_UNAVAILABLE', 'gone');
    };
    const answer = await connection.ask('POST', CHAT, chat({ stream: true }), ASKED);
    expect(answer.body.toString()).toContain('ENGINE_UNAVAILABLE');
    expect(answer.body.toString()).not.toContain('strongroom-receipt');
    const after = await connection.ask('POST', TENSORS, question, ASKED);
    const { sequence } = parseReceipt(
      Buffer.from(header(after, 'strongroom-receipt') as string, 'base64url'),
    ).untrusted;
    expect(sequence).toBe(before.fields.sequence + 1);
  });

  it('of a caller that goes away is given up, and the engine with it', async () => {
    const left = Promise.withResolvers<void>();
    generate = async function* () {
      try {
        for (;;) {
          yield { kind: 'text', text: 'and '.repeat(1000) };
          await new Promise((resolve) => setImmediate(resolve));
        }
      } finally {
        left.resolve();
      }
    };
    const other = await server.connect();
    const asked = other.ask('POST', CHAT, chat({ stream: true }), ASKED).catch(() => undefined);
    other.socket.once('data', () => other.close());
    await left.promise;
    await asked;
  });
});

describe('no receipt', () => {
  it('comes with an answer that nobody asked one for', async () => {
    for (const [path, body] of [
      [TENSORS, question],
      [CHAT, chat()],
      [CHAT, chat({ stream: true })],
    ] as const) {
      const answer = await connection.ask('POST', path, body);
      expect(answer.status).toBe(200);
      expect(Object.keys(answer.headers).filter((name) => name.startsWith('strongroom'))).toEqual([]);
      expect(answer.body.toString()).not.toContain('strongroom-receipt');
    }
  });

  it.each(['', '0', '2', 'true', '1, 1', ' 1x'])(
    'comes for the value %j, which is refused',
    async (value) => {
      const answer = await askAnew('POST', TENSORS, question, { 'strongroom-receipt': value });
      expect([answer.status, answer.json.code]).toEqual([400, 'API_INVALID']);
      expect(answer.json.error).toBe('Strongroom-Receipt: expected 1');
    },
  );

  it.each(['/v2', '/v2/models/tensors', '/v1/models', '/v2/health/live'])(
    'is given on %s, where asking for one is refused',
    async (path) => {
      const answer = await askAnew('GET', path, undefined, ASKED);
      expect(answer.status).toBe(400);
      expect(answer.body.toString()).toContain('Strongroom-Receipt: this path gives no receipts');
    },
  );

  it.each<[string, string, string, number]>([
    ['a request that does not fit', TENSORS, '{}', 400],
    ['a model that is not there', '/v2/models/none/infer', question, 404],
    ['a text model asked for tensors', '/v2/models/texts/infer', question, 404],
  ])('comes with a refusal: %s', async (_what, path, body, status) => {
    const answer = await askAnew('POST', path, body, { ...ASKED, ...JSON_TYPE });
    expect(answer.status).toBe(status);
    expect(header(answer, 'strongroom-receipt')).toBeUndefined();
    expect(header(answer, 'strongroom-receipt-salt')).toBeUndefined();
  });

  it('comes where the NSM fails: nothing is computed, and whoever asks for none is served', async () => {
    const failing = await serveForTest({
      models: MODELS,
      receipts: echoReceipts(async () => {
        throw new Error('a secret of the NSM');
      }),
    });
    const other = await failing.connect();
    let computed = false;
    generate = async function* () {
      computed = true;
      yield* words();
    };
    for (const body of [chat(), chat({ stream: true })]) {
      const answer = await other.ask('POST', CHAT, body, ASKED);
      expect([answer.status, answer.json.error.code]).toEqual([503, 'RECEIPT_UNAVAILABLE']);
      expect(answer.headers['retry-after']).toBe('1');
      expect(answer.body.toString()).not.toContain('secret');
    }
    expect(computed).toBe(false);
    expect((await other.ask('POST', CHAT, chat())).status).toBe(200);
    other.close();
    await failing[Symbol.asyncDispose]();
  });

  it('leaves the enclave by what is told of requests', () => {
    const told = JSON.stringify(server.events);
    expect(told.length).toBeGreaterThan(100);
    expect(told).not.toMatch(/receipt|salt/i);
  });
});

describe('after a model was replaced', () => {
  it('a connection has receipts of the models that its evidence named, and a new one of the others', async () => {
    const old = await server.connect();
    server.models.put(servedModel(tensorEngine, { name: 'tensors', version: 4 }));
    const versionIn = async (of: Connection) => {
      const answer = await of.ask('POST', TENSORS, question, ASKED);
      return verified(Buffer.from(header(answer, 'strongroom-receipt') as string, 'base64url')).model.version;
    };
    expect(await versionIn(old)).toBe(3);
    const renewed = await server.connect();
    expect(await versionIn(renewed)).toBe(4);
    renewed.close();
    old.close();
  });
});
