/** What `strongroom ask --receipt` keeps, `strongroom receipt verify` accepts; and of what is not whole nothing is kept. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { PendingReceipt } from '../../enclave/receipts.ts';
import { main } from '../../scripts/strongroom.ts';
import { streamEnding } from '../../shared/receipt/receipt.ts';
import {
  type Handler,
  IRIS,
  newReceiptIssuer,
  startPlatform,
  startTestEnclave,
  type TestEnclave,
} from '../client/test-enclave.ts';

const base64url = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64url');
const OUTPUTS = '{"outputs":[{"name":"label","datatype":"INT64","shape":[1],"data":[2]}]}';
const CHUNKS = ['blue', ' sky'].map(
  (content) => `data: ${JSON.stringify({ choices: [{ delta: { content } }] })}\n\n`,
);
const DONE = 'data: [DONE]\n\n';

let folder: string;
let enclave: TestEnclave;
let answer: (response: ServerResponse, receipt: PendingReceipt) => void;
let asked: unknown[] = [];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'ask-receipt-'));
  const platform = await startPlatform();
  const issuer = newReceiptIssuer(platform);
  const respond = async (...[request, response, body]: Parameters<Handler>): Promise<void> => {
    asked.push(request.headers['strongroom-receipt']);
    const { method = '', url = '', headers } = request;
    const head = { method, target: url, contentType: headers['content-type'], framing: undefined };
    const pending = issuer.begin([IRIS], head);
    pending.readRequest(Buffer.from(body));
    await pending.vouch('iris');
    answer(response, pending);
  };
  const handler: Handler = (...args) => void respond(...args);
  enclave = await startTestEnclave({ platform, changes: { receiptKey: issuer.publicKey }, handler });
  const { pcrs, simulationRoot } = platform.expectations;
  writeFileSync(join(folder, 'root.pem'), simulationRoot as string);
  const expectations = { format: 'strongroom-expectations/1', pcrs, simulationRoot: 'root.pem' };
  writeFileSync(join(folder, 'expect.json'), JSON.stringify(expectations));
  writeFileSync(join(folder, 'request.json'), '{"inputs":[]}');
});
afterAll(() => {
  enclave.close();
  rmSync(folder, { recursive: true });
});
beforeEach(() => {
  asked = [];
  for (const name of kept()) rmSync(join(folder, name));
});

const path = (name: string) => join(folder, name);
const kept = () => readdirSync(folder).filter((name) => name.includes('receipt'));

const whole = (response: ServerResponse, receipt: PendingReceipt): void => {
  receipt.beginAnswer({ status: 200, contentType: 'application/json', framing: undefined });
  receipt.readAnswer(Buffer.from(OUTPUTS));
  response
    .writeHead(200, {
      'content-type': 'application/json',
      'strongroom-receipt': base64url(receipt.finish()),
      'strongroom-receipt-salt': base64url(receipt.salt),
    })
    .end(OUTPUTS);
};

const streamed =
  (end: (response: ServerResponse, receipt: PendingReceipt) => void) =>
  (response: ServerResponse, receipt: PendingReceipt): void => {
    receipt.beginAnswer({ status: 200, contentType: 'text/event-stream', framing: undefined });
    const salt = base64url(receipt.salt);
    response.writeHead(200, { 'content-type': 'text/event-stream', 'strongroom-receipt-salt': salt });
    for (const chunk of CHUNKS) {
      receipt.readAnswer(Buffer.from(chunk));
      response.write(chunk);
    }
    end(response, receipt);
  };

async function strongroom(...args: string[]) {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const signal = new AbortController().signal;
  const exit = await main(args, { stdin: Readable.from([]), stdout, stderr, signal });
  return { exit, out: String(stdout.read() ?? ''), err: String(stderr.read() ?? '') };
}

const QUESTION = ['why is the sky blue'];
const INPUT = () => ['--input', path('request.json')];
const ask = (what: string[], ...more: string[]) =>
  strongroom(
    'ask',
    enclave.url,
    ...['--expect', path('expect.json'), '--model', 'iris', ...what],
    ...['--receipt', path('receipt'), ...more],
  );

async function verify(target: string, ...more: string[]) {
  const exchange = ['--request', path('receipt.request'), '--answer', path('receipt.answer')];
  const { exit, out } = await strongroom(
    ...['receipt', 'verify', path('receipt'), '--expect', path('expect.json'), '--json'],
    ...(more.length > 0 ? more : [...exchange, '--path', target]),
  );
  return { exit, ...JSON.parse(out) };
}

describe('strongroom ask --receipt', () => {
  it('keeps an answer of tensors, which receipt verify accepts', async () => {
    answer = whole;
    const { exit, out, err } = await ask(INPUT());
    expect([exit, out]).toEqual([0, 'label [1]: [2]\n']);
    expect(asked).toEqual(['1']);
    expect(readFileSync(path('receipt.request'), 'utf8')).toBe('{"inputs":[]}');
    expect(readFileSync(path('receipt.answer'), 'utf8')).toBe(OUTPUTS);
    expect(await verify('/v2/models/iris/infer')).toMatchObject({ exit: 0, verified: true });
    // The line that it prints is one that works.
    const line = /^ {2}npx strongroom (receipt verify .*)$/m.exec(err)?.[1] ?? '';
    expect((await strongroom(...line.split(' '))).exit).toBe(0);
  });

  it('keeps a stream to its last byte, which receipt verify accepts', async () => {
    answer = streamed((response, receipt) => {
      receipt.readAnswer(Buffer.from(DONE));
      response.end(Buffer.concat([Buffer.from(DONE), streamEnding(receipt.finish())]));
    });
    const { exit, out } = await ask(QUESTION);
    expect([exit, out]).toEqual([0, 'blue sky\n']);
    expect(JSON.parse(readFileSync(path('receipt.request'), 'utf8'))).toMatchObject({ stream: true });
    expect(await verify('/v1/chat/completions')).toMatchObject({ exit: 0, verified: true });
    // The head alone has it too, for whoever is shown neither question nor answer.
    expect(await verify('', '--at', 'document')).toMatchObject({ exit: 0, verified: true });
    writeFileSync(path('receipt.answer'), CHUNKS.join(''));
    expect(await verify('/v1/chat/completions')).toMatchObject({ exit: 1, code: 'RECEIPT_OTHER_ANSWER' });
  });

  it('says in JSON where everything is', async () => {
    answer = whole;
    const { out } = await ask(INPUT(), '--json');
    expect(JSON.parse(out)).toMatchObject({
      answer: { outputs: [{ data: [2] }] },
      receipt: {
        receipt: path('receipt'),
        request: path('receipt.request'),
        answer: path('receipt.answer'),
        path: '/v2/models/iris/infer',
        sequence: expect.any(Number),
        answered: expect.stringMatching(/^\d{4}-.*Z$/),
      },
    });
  });

  it('keeps the files from other users: the salt lets them try out short prompts', async () => {
    answer = whole;
    await ask(INPUT());
    expect(kept().map((name) => [name, statSync(path(name)).mode & 0o777])).toEqual([
      ['receipt', 0o600],
      ['receipt.answer', 0o600],
      ['receipt.request', 0o600],
    ]);
  });

  it.each(['receipt', 'receipt.request', 'receipt.answer'])(
    'asks nothing where %s exists, and leaves it as it is',
    async (name) => {
      answer = whole;
      writeFileSync(path(name), 'mine');
      const { exit, err } = await ask(INPUT());
      expect([exit, err]).toEqual([2, expect.stringContaining('OWNER_WOULD_OVERWRITE')]);
      expect(asked).toEqual([]);
      expect(kept()).toEqual([name]);
      expect(readFileSync(path(name), 'utf8')).toBe('mine');
    },
  );

  it('leaves no file where one of them cannot be made', async () => {
    answer = (response, receipt) => {
      writeFileSync(path('receipt.answer'), 'somebody was faster');
      whole(response, receipt);
    };
    const { exit, err } = await ask(INPUT());
    expect([exit, err]).toEqual([2, expect.stringContaining('OWNER_WOULD_OVERWRITE')]);
    expect(kept()).toEqual(['receipt.answer']);
  });

  it.each(['', '-'])('is a usage error with "%s" for a file', async (name) => {
    const { exit, err } = await strongroom(
      ...['ask', enclave.url, '--expect', path('expect.json'), '--model', 'iris', 'x', '--receipt', name],
    );
    expect([exit, err]).toEqual([2, expect.stringContaining('code: USAGE')]);
  });
});

describe('strongroom ask --receipt keeps nothing', () => {
  it.each<[string, (response: ServerResponse, receipt: PendingReceipt) => void, number, string]>([
    [
      'of a stream whose connection was cut',
      streamed((response) => response.write(': \n\n', () => response.destroy())),
      3,
      'CLIENT_ANSWER_LOST',
    ],
    ['of a stream without its last event', streamed((response) => response.end()), 3, 'CLIENT_ANSWER_LOST'],
    [
      'of a stream that ends before its receipt',
      streamed((response) => response.end(DONE)),
      1,
      'RECEIPT_MISSING',
    ],
    [
      'of a stream of which an event was left out',
      streamed((response, receipt) => {
        receipt.readAnswer(Buffer.from(`data: {}\n\n${DONE}`));
        response.end(Buffer.concat([Buffer.from(DONE), streamEnding(receipt.finish())]));
      }),
      1,
      'RECEIPT_OTHER_ANSWER',
    ],
  ])('%s', async (_what, how, exit, code) => {
    answer = how;
    const asking = await ask(QUESTION);
    expect([asking.exit, asking.err]).toEqual([exit, expect.stringContaining(`code: ${code}`)]);
    expect(asking.out).toMatch(/^blue/);
    expect(kept()).toEqual([]);
  });

  it('of an answer of tensors without a receipt', async () => {
    answer = (response) => response.writeHead(200, { 'content-type': 'application/json' }).end(OUTPUTS);
    const { exit, err } = await ask(INPUT());
    expect([exit, err]).toEqual([1, expect.stringContaining('code: RECEIPT_MISSING')]);
    expect(kept()).toEqual([]);
  });

  it('of a refusal, and says what the enclave says', async () => {
    answer = (response) =>
      response
        .writeHead(503, { 'content-type': 'application/json', 'retry-after': '1' })
        .end('{"error":"no receipts now","code":"RECEIPT_UNAVAILABLE"}');
    const { exit, err } = await ask(INPUT());
    expect([exit, err]).toEqual([3, expect.stringContaining('code: CLIENT_REQUEST_LATER')]);
    expect(kept()).toEqual([]);
  });
});
