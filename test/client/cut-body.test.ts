/**
 * A connection that ends in the middle of a body: whoever reads the answer, and however, finds in the error that it was
 * lost, with `strongroomErrorIn` as client/README.md says.
 */
import { Readable, Writable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { runInNewContext } from 'node:vm';
import OpenAI, { OpenAIError } from 'openai';
import { pipeline, request, stream, fetch as undiciFetch } from 'undici';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  ClientError,
  connect,
  receiptOf,
  strongroomErrorIn,
  type VerifiedEnclave,
  withReceipts,
} from '../../client/index.ts';
import { type Handler, startTestEnclave, type TestEnclave } from './test-enclave.ts';

const BEGINNINGS = {
  json: ['application/json', '{"id":"1","choices":['],
  events: ['text/event-stream', 'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'],
  form: ['multipart/form-data; boundary=x', '--x\r\ncontent-disposition: form-data; name="a"\r\n\r\nb'],
} as const;

/** Begins an answer, and ends the connection when its head and the beginning of its body have gone out. */
const beginAndCut: Handler = async ({ url, headers }, response, body) => {
  const asked = JSON.parse(body) as { stream?: boolean };
  const kind = url === '/form' ? 'form' : asked.stream === true ? 'events' : 'json';
  const [type, beginning] = BEGINNINGS[kind];
  response.writeHead(200, {
    'content-type': type,
    ...(headers['x-sized'] === 'yes' ? { 'content-length': '1000' } : {}),
    ...(url === '/receipt' ? { 'strongroom-receipt-salt': 'A'.repeat(43) } : {}),
  });
  await new Promise((sent) => response.write(beginning, sent));
  await delay(10); // the client, of this very process, has read it by then
  response.socket?.destroy();
};

let server: TestEnclave;
let enclave: VerifiedEnclave;
beforeAll(async () => {
  server = await startTestEnclave({ handler: beginAndCut });
  enclave = await connect(server.url, server.expectations);
});
afterAll(async () => {
  await enclave.dispatcher.destroy();
  server.close();
});

const LOST = expect.objectContaining({ code: 'CLIENT_ANSWER_LOST', exitCode: 3 });

/** `thrown` is what the table of client/README.md says. */
async function expectLost(
  reading: Promise<unknown>,
  thrown: new (...args: never[]) => Error = TypeError,
): Promise<void> {
  const error = await reading.then(
    () => 'an end',
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(thrown);
  expect(strongroomErrorIn(error)).toEqual(LOST);
}

async function drained(body: unknown): Promise<void> {
  for await (const _ of body as AsyncIterable<unknown>);
}

type Bytes = ReadableStream<Uint8Array<ArrayBuffer>>;
const READERS: Readonly<Record<string, (response: Response) => Promise<unknown>>> = {
  text: (response) => response.text(),
  json: (response) => response.json(),
  arrayBuffer: (response) => response.arrayBuffer(),
  bytes: (response) => response.bytes(),
  blob: (response) => response.blob(),
  'a loop': ({ body }) => drained(body),
  'a reader': async ({ body }) => {
    const reader = (body as Bytes).getReader();
    while (!(await reader.read()).done);
  },
  'the text of a clone': (response) => Promise.race([response.clone().text(), response.text()]),
  'a stream of text': ({ body }) => drained((body as Bytes).pipeThrough(new TextDecoderStream())),
  'a stream of Node': ({ body }) => buffer(Readable.fromWeb(body as never)),
};

const viaDispatcher = (given: unknown) =>
  ((path: string, init: RequestInit) =>
    (given as typeof fetch)(new URL(path, server.url), {
      ...init,
      dispatcher: enclave.dispatcher,
    } as never)) as typeof fetch;
const FETCHES: Readonly<Record<string, () => typeof fetch>> = {
  'enclave.fetch': () => enclave.fetch,
  'a fetch with receipts': () => withReceipts(enclave, server.expectations),
  "the runtime's fetch over the dispatcher": () => viaDispatcher(fetch),
  "undici's fetch over the dispatcher": () => viaDispatcher(undiciFetch),
};

describe.each(Object.entries(FETCHES))('%s', (_name, fetchOf) => {
  test.each(Object.entries(READERS))('tells %s', async (_reader, read) => {
    for (const sized of ['yes', 'no']) {
      const init = { method: 'POST', body: '{}', headers: { 'x-sized': sized } };
      await expectLost(read(await fetchOf()('/a', init)));
    }
  });

  test('tells the reader of a form', async () => {
    const response = await fetchOf()('/form', { method: 'POST', body: '{}' });
    await expectLost(response.formData());
  });
});

test('receiptOf says that there is no receipt, because the answer was lost', async () => {
  const response = await withReceipts(enclave, server.expectations)('/receipt', {
    method: 'POST',
    body: '{}',
  });
  await response.text().catch(() => {});
  const error = await receiptOf(response).catch((reason: unknown) => reason);
  expect(strongroomErrorIn(error)).toMatchObject({ code: 'RECEIPT_MISSING' });
  expect(strongroomErrorIn((error as Error).cause)).toEqual(LOST);
});

describe.each<[string, () => object]>([
  ['a fetch', () => ({ fetch: enclave.fetch })],
  ['a fetch with receipts', () => ({ fetch: withReceipts(enclave, server.expectations) })],
  ['a dispatcher', () => ({ fetchOptions: { dispatcher: enclave.dispatcher } })],
])("OpenAI's client with %s", (_how, options) => {
  const question = { model: 'tiny', messages: [{ role: 'user' as const, content: 'x' }] };
  const completions = () => {
    const client = { baseURL: `${server.url}/v1`, apiKey: 'unused', maxRetries: 0, ...options() };
    return new OpenAI(client).chat.completions;
  };

  test('tells who waits for a whole answer', async () => {
    await expectLost(completions().create(question));
  });

  test('tells who reads a stream, and who lets it be read', async () => {
    await expectLost(drained(await completions().create({ ...question, stream: true })));
    await expectLost(completions().stream(question).finalContent(), OpenAIError);
  });

  test('tells who reads the answer without the client', async () => {
    const response = await completions().create(question).asResponse();
    await expectLost(response.text());
  });
});

describe("undici's functions tell", () => {
  const options = () => ({ dispatcher: enclave.dispatcher, method: 'POST', body: '{}' }) as const;

  test.each(['text', 'json', 'arrayBuffer', 'bytes', 'blob'] as const)('request, %s', async (how) => {
    const { body } = await request(`${server.url}/a`, options());
    await expectLost(body[how](), ClientError);
  });

  test('request, as a stream', async () => {
    const { body } = await request(`${server.url}/a`, options());
    await expectLost(drained(body), ClientError);
  });

  test('stream', async () => {
    const sink = () => new Writable({ write: (_chunk, _encoding, done) => done() });
    await expectLost(stream(`${server.url}/a`, options(), sink), ClientError);
  });

  test('pipeline', async () => {
    const duplex = pipeline(`${server.url}/a`, options(), ({ body }) => body);
    duplex.end('{}');
    await expectLost(drained(duplex), ClientError);
  });
});

describe('strongroomErrorIn', () => {
  const lost = new ClientError('CLIENT_ANSWER_LOST', 'The connection ended.');

  test('looks through errors of another realm, as Jest has them of the fetch of Node', () => {
    const foreign = Object.assign(runInNewContext(`new TypeError('terminated')`) as Error, { cause: lost });
    expect(foreign instanceof Error).toBe(false);
    expect(strongroomErrorIn(foreign)).toBe(lost);
  });

  test.each([undefined, null, 'text', 7, {}, new Error('other'), new Error('other', { cause: 'text' })])(
    'finds nothing in %s',
    (error) => {
      expect(strongroomErrorIn(error)).toBeUndefined();
    },
  );

  test('ends where causes go in a circle', () => {
    const circle = new Error('a');
    circle.cause = new Error('b', { cause: circle });
    expect(strongroomErrorIn(circle)).toBeUndefined();
  });
});
