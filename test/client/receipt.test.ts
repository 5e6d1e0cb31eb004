/** Receipts as a client gets them: over verified connections, from whole answers and streams, and what it refuses. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { TLSSocket } from 'node:tls';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { connect } from '../../client/index.ts';
import { receiptOf, withReceipts } from '../../client/receipt.ts';
import type { VerifiedEnclave } from '../../client/verified-enclave.ts';
import type { PendingReceipt, ReceiptIssuer } from '../../enclave/receipts.ts';
import { parseReceipt } from '../../shared/receipt/decode.ts';
import { type RequestHead, streamEnding } from '../../shared/receipt/receipt.ts';
import {
  IRIS,
  newIdentity,
  newIssuer,
  newReceiptIssuer,
  type RawServer,
  startPlatform,
  startRawServer,
  type TestPlatform,
} from './test-enclave.ts';

const base64url = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64url');
type Responder = (response: ServerResponse, receipt: PendingReceipt, body: Buffer) => void;

let platform: TestPlatform;
let raw: RawServer;
let issuer: ReceiptIssuer;
let enclave: VerifiedEnclave;
let respond: Responder;
const seen: IncomingMessage[] = [];

async function begun(of: ReceiptIssuer, head: RequestHead, body: Buffer): Promise<PendingReceipt> {
  const pending = of.begin([IRIS], head);
  pending.readRequest(body);
  await pending.vouch('iris');
  return pending;
}

beforeAll(async () => {
  platform = await startPlatform();
  issuer = newReceiptIssuer(platform);
  const identity = newIdentity();
  const evidence = newIssuer(platform, identity, { receiptKey: issuer.publicKey });
  const http = createServer(async (request, response) => {
    const { pathname, searchParams } = new URL(request.url ?? '/', 'https://enclave');
    if (pathname === '/attestation') {
      const answer = await evidence.answer(request.socket as TLSSocket, searchParams.get('nonce'));
      response.writeHead(answer.status, answer.headers).end(answer.body);
      return;
    }
    seen.push(request);
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    await once(request, 'end');
    if (request.headers['strongroom-receipt'] !== '1') {
      response.end('no receipt was asked for');
      return;
    }
    const body = Buffer.concat(chunks);
    const head = {
      method: request.method ?? '',
      target: request.url ?? '',
      contentType: request.headers['content-type'],
      framing: request.headers['inference-header-content-length'] as string | undefined,
    };
    respond(response, await begun(issuer, head, body), body);
  });
  raw = await startRawServer(
    () => identity,
    (socket) => http.emit('connection', socket),
  );
  enclave = await connect(raw.url, platform.expectations);
});
afterAll(async () => {
  raw.close();
  await enclave.close();
});

const JSON_TYPE = 'application/json';
const whole: Responder = (response, receipt, body) => {
  receipt.beginAnswer({ status: 200, contentType: JSON_TYPE, framing: undefined });
  receipt.readAnswer(body);
  response
    .writeHead(200, {
      'content-type': JSON_TYPE,
      'strongroom-receipt': base64url(receipt.finish()),
      'strongroom-receipt-salt': base64url(receipt.salt),
    })
    .end(body);
};

const EVENTS = [
  ...Array.from({ length: 50 }, (_, i) => `data: ${'x'.repeat(i * 40)}\n\n`),
  'data: [DONE]\n\n',
];
function streamed(change: (ending: Uint8Array) => Uint8Array | undefined): Responder {
  return (response, receipt) => {
    const type = 'text/event-stream';
    receipt.beginAnswer({ status: 200, contentType: type, framing: undefined });
    response.writeHead(200, { 'content-type': type, 'strongroom-receipt-salt': base64url(receipt.salt) });
    for (const event of EVENTS) {
      receipt.readAnswer(Buffer.from(event));
      response.write(event);
    }
    response.end(change(streamEnding(receipt.finish())));
  };
}

beforeEach(() => {
  respond = whole;
  seen.length = 0;
});

const asking = () => withReceipts(enclave, platform.expectations);
const PATH = '/v2/models/iris/infer';
const post = (
  body: NonNullable<RequestInit['body']> | null,
  headers: Record<string, string> = { 'content-type': JSON_TYPE },
) => asking()(PATH, { method: 'POST', body, headers });
const codeOf = async (response: Response) =>
  receiptOf(response).then(
    () => undefined,
    (error: { code?: string }) => error.code,
  );

describe('a receipt of a whole answer', () => {
  it('is checked against what was sent and what came', async () => {
    const response = await post('{"inputs":[]}');
    expect(await response.json()).toEqual({ inputs: [] });
    const receipt = await receiptOf(response);
    expect(receipt).toMatchObject({ trust: 'simulation', model: IRIS });
    expect(receipt.salt).toHaveLength(32);
    expect(parseReceipt(receipt.receipt).untrusted.sequence).toBe(receipt.sequence);
    expect(Math.abs(receipt.answeredAt.getTime() - Date.now())).toBeLessThan(60_000);
  });

  it.each<[string, NonNullable<RequestInit['body']> | null, Record<string, string>]>([
    ['bytes with tensors behind JSON', Uint8Array.of(1, 2, 3), { 'inference-header-content-length': '1' }],
    ['text without a content type', 'text', {}],
    ['a query', new URLSearchParams({ a: '1' }), {}],
    ['nothing', null, {}],
  ])('is of a request whose body is %s', async (_what, body, headers) => {
    const response = await post(body, headers);
    await response.arrayBuffer();
    expect((await receiptOf(response)).model.name).toBe('iris');
  });

  it('is got through a Request and its whole URL, query included', async () => {
    const request = new Request(`${raw.url}/v1/completions?a=b`, { method: 'POST', body: '{}' });
    const response = await asking()(request);
    await response.text();
    await receiptOf(response);
    expect(seen.map(({ url }) => url)).toEqual(['/v1/completions?a=b']);
  });

  it('is not asked for with a GET, which no model answers', async () => {
    const response = await asking()('/v2/models/iris');
    expect(await response.text()).toBe('no receipt was asked for');
    expect(await codeOf(response)).toBe('RECEIPT_MISSING');
  });

  it('goes to no other server', async () => {
    const foreign = asking()('https://other.example/v2', { method: 'POST', body: '' });
    await expect(foreign).rejects.toMatchObject({ code: 'CLIENT_OTHER_ORIGIN' });
  });
});

describe('a receipt of a stream', () => {
  it('comes last, and every byte comes as it was sent', async () => {
    respond = streamed((ending) => ending);
    const response = await post('{}');
    const text = await response.text();
    expect(text.startsWith(EVENTS.join(''))).toBe(true);
    expect(text.slice(EVENTS.join('').length)).toMatch(/^: strongroom-receipt [\w-]+\n\n$/);
    expect((await receiptOf(response)).model).toEqual(IRIS);
  });

  it('does not hold events back', async () => {
    const more = Promise.withResolvers<void>();
    respond = (response, receipt) => {
      receipt.beginAnswer({ status: 200, contentType: 'text/event-stream', framing: undefined });
      receipt.readAnswer(Buffer.from('data: 1\n\n'));
      response.writeHead(200, {
        'content-type': 'text/event-stream',
        'strongroom-receipt-salt': base64url(receipt.salt),
      });
      response.write('data: 1\n\n');
      void more.promise.then(() => response.end(streamEnding(receipt.finish())));
    };
    const response = await post('{}');
    const reader = (response.body as ReadableStream<Uint8Array>).getReader();
    expect(Buffer.from((await reader.read()).value as Uint8Array).toString()).toBe('data: 1\n\n');
    more.resolve();
    while (!(await reader.read()).done);
    await receiptOf(response);
  });

  it.each<[string, (ending: Uint8Array) => Uint8Array | undefined, string]>([
    ['that is not there', () => undefined, 'RECEIPT_MISSING'],
    ['that is cut short', (ending) => ending.subarray(0, -1), 'RECEIPT_MISSING'],
    ['that says nothing', () => Buffer.from(': strongroom-receipt \n\n'), 'RECEIPT_MISSING'],
    [
      'before something else',
      (ending) => Buffer.concat([ending, Buffer.from('data: x\n\n')]),
      'RECEIPT_MISSING',
    ],
    [
      'after something else',
      (ending) => Buffer.concat([Buffer.from('data: x\n\n'), ending]),
      'RECEIPT_OTHER_ANSWER',
    ],
    ['twice', (ending) => Buffer.concat([ending, ending]), 'RECEIPT_OTHER_ANSWER'],
  ])('is refused: one %s', async (_what, change, code) => {
    respond = streamed(change);
    const response = await post('{}');
    await response.text();
    expect(await codeOf(response)).toBe(code);
  });

  it('is missing where the answer breaks off', async () => {
    respond = (response, receipt) => {
      response.writeHead(200, { 'strongroom-receipt-salt': base64url(receipt.salt) });
      response.write('data: 1\n\n', () => response.destroy());
    };
    const response = await post('{}');
    await expect(response.text()).rejects.toThrow();
    expect(await codeOf(response)).toBe('RECEIPT_MISSING');
  });

  it('is there for a reader that leaves after the last event, as some do', async () => {
    respond = streamed((ending) => ending);
    const response = await post('{}');
    const reader = (response.body as ReadableStream<Uint8Array>).getReader();
    let text = '';
    while (!text.includes('[DONE]')) text += Buffer.from((await reader.read()).value ?? []).toString();
    await reader.cancel();
    expect((await receiptOf(response)).model).toEqual(IRIS);
  });

  it('is missing for such a reader too where the stream broke off before it', async () => {
    const read = Promise.withResolvers<void>();
    respond = (response, receipt) => {
      receipt.beginAnswer({ status: 200, contentType: 'text/event-stream', framing: undefined });
      response.writeHead(200, {
        'content-type': 'text/event-stream',
        'strongroom-receipt-salt': base64url(receipt.salt),
      });
      response.write('data: [DONE]\n\n');
      void read.promise.then(() => response.destroy());
    };
    const response = await post('{}');
    const reader = (response.body as ReadableStream<Uint8Array>).getReader();
    await reader.read();
    read.resolve();
    await reader.cancel();
    expect(await codeOf(response)).toBe('RECEIPT_MISSING');
  });

  it('is missing where the answer is not read to its end', async () => {
    respond = streamed((ending) => ending);
    const response = await post('{}');
    await response.body?.cancel();
    expect(await codeOf(response)).toBe('RECEIPT_MISSING');
  });
});

describe('a receipt is refused', () => {
  const refused = async () => {
    const response = await post('{"inputs":[]}');
    await response.text();
    return codeOf(response);
  };
  const changed =
    (headers: (receipt: PendingReceipt, bytes: Uint8Array) => Record<string, string>): Responder =>
    (response, receipt, body) => {
      receipt.beginAnswer({ status: 200, contentType: JSON_TYPE, framing: undefined });
      receipt.readAnswer(body);
      response.writeHead(200, {
        'content-type': JSON_TYPE,
        'strongroom-receipt-salt': base64url(receipt.salt),
        ...headers(receipt, receipt.finish()),
      });
      response.end(body);
    };

  it('of another answer', async () => {
    respond = (response, receipt, body) => {
      receipt.beginAnswer({ status: 200, contentType: JSON_TYPE, framing: undefined });
      receipt.readAnswer(Buffer.from('something else'));
      response.writeHead(200, {
        'content-type': JSON_TYPE,
        'strongroom-receipt': base64url(receipt.finish()),
        'strongroom-receipt-salt': base64url(receipt.salt),
      });
      response.end(body);
    };
    expect(await refused()).toBe('RECEIPT_OTHER_ANSWER');
  });

  it('of another request, with its own salt', async () => {
    const head = { method: 'POST', target: PATH, contentType: JSON_TYPE, framing: undefined };
    const earlier = await begun(issuer, head, Buffer.from('another prompt'));
    respond = (response, _receipt, body) => whole(response, earlier, body);
    expect(await refused()).toBe('RECEIPT_OTHER_REQUEST');
  });

  it('with a salt that was replayed from another answer', async () => {
    respond = changed((_, bytes) => ({
      'strongroom-receipt': base64url(bytes),
      'strongroom-receipt-salt': base64url(new Uint8Array(32)),
    }));
    expect(await refused()).toBe('RECEIPT_OTHER_REQUEST');
  });

  it('with a salt that is none', async () => {
    respond = changed((_, bytes) => ({
      'strongroom-receipt': base64url(bytes),
      'strongroom-receipt-salt': 'AA',
    }));
    expect(await refused()).toBe('RECEIPT_SALT');
  });

  it('with a changed byte', async () => {
    respond = changed((_, bytes) => ({
      'strongroom-receipt': base64url(bytes.with(-1, (bytes.at(-1) ?? 0) ^ 1)),
    }));
    expect(await refused()).toBe('RECEIPT_SIGNATURE');
  });

  it('by a key that no evidence named, of the same enclave', async () => {
    const other = newReceiptIssuer(platform);
    const head = { method: 'POST', target: PATH, contentType: JSON_TYPE, framing: undefined };
    const body = Buffer.from('{"inputs":[]}');
    const pending = await begun(other, head, body);
    respond = (response) => whole(response, pending, body);
    expect(await refused()).toBe('RECEIPT_OTHER_KEY');
  });

  it('of an enclave under another root', async () => {
    const head = { method: 'POST', target: PATH, contentType: JSON_TYPE, framing: undefined };
    const body = Buffer.from('{"inputs":[]}');
    const pending = await begun(newReceiptIssuer(await startPlatform()), head, body);
    respond = (response) => whole(response, pending, body);
    expect(await refused()).toBe('ATTESTATION_UNTRUSTED_ROOT');
  });

  it('where none came with the answer', async () => {
    respond = (response) => response.end('{}');
    expect(await refused()).toBe('RECEIPT_MISSING');
    respond = (response) => response.writeHead(503).end('{}');
    expect(await refused()).toBe('RECEIPT_MISSING');
    expect(await codeOf(new Response('of another fetch'))).toBe('RECEIPT_MISSING');
  });
});
