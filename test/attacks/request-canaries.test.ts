/**
 * What callers send and get is in no place that the operator reads: every field of every API, and every refusal, on a
 * real stack whose deployment lets all telemetry leave.
 *
 * Looked for in what the parent and the enclave print, in the parent's metrics and health, and in every file of the
 * run. Memory is looked through by canary.test.ts.
 */
import { createPrivateKey, randomBytes } from 'node:crypto';
import { lstatSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ConnectionOptions, type TLSSocket, connect as tlsConnect } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { permittedName } from '../../owner/certificates/constraints.ts';
import { createCa, type Holder, issueCertificate, type Pair } from '../../owner/certificates/issue.ts';
import { spiffeId } from '../../owner/certificates/names.ts';
import { prepareReleaseOfSeveral } from '../../scripts/local/release-of-several.ts';
import { TELEMETRY_EVENTS } from '../../shared/deployment/deployment.ts';
import type { LocalInstance } from '../../simulator/local-instance.ts';
import type { LocalStack } from '../../simulator/local-stack.ts';
import { onnx, startStack } from '../flow/support.ts';
import { type Canary, CanarySearch, canary, textCanary } from '../support/canaries.ts';
import { PATIENCE_MS } from '../support/eventually.ts';
import { type Answer, Connection } from '../support/serving.ts';
import { tinyLlama } from '../support/text-models.ts';

const TENSORS = 'tensors';
const TEXT = 'text';
const DOMAIN = 'models.example.org';
/** The enclave sends its counters every ten seconds. */
const ARRIVAL = { timeout: 2 * PATIENCE_MS, interval: 500 };

const canaries: Canary[] = [];

/** Sixteen letters that stand for a secret: short enough that what is cut off in a log would still be found. */
function secret(name: string): string {
  const letters = Array.from(randomBytes(16), (byte) => String.fromCharCode(97 + (byte % 26))).join('');
  canaries.push(textCanary(name, letters));
  return letters;
}

/** Numbers between 1 and 10, by their digits and, four in a row, by their bytes. */
function secretNumbers(name: string): readonly number[] {
  const numbers = Array.from({ length: 4 }, secretNumber);
  for (const number of numbers) canaries.push(textCanary(name, String(number).slice(0, 16)));
  canaries.push(canary(name, bytesOf(numbers)));
  return numbers;
}

function secretNumber(): number {
  const number = 1 + (randomBytes(6).readUIntBE(0, 6) / 2 ** 48) * 9;
  return String(number).length < 16 ? secretNumber() : number;
}

function bytesOf(numbers: readonly number[]): Buffer {
  return Buffer.from(Float32Array.from(numbers).buffer);
}

/** What a model said is as secret as what it was asked. */
function keep(name: string, said: Uint8Array | string): void {
  const bytes = Buffer.from(said);
  if (bytes.length < 16) return;
  canaries.push(canary(`${name}, its beginning`, bytes.subarray(0, 16)));
  canaries.push(canary(`${name}, its end`, bytes.subarray(-16)));
}

interface Request {
  readonly name: string;
  readonly method?: string;
  readonly path: string;
  readonly body?: string | Uint8Array | object;
  readonly headers?: Record<string, string>;
  readonly status: number;
}

const tensor = (more: object = {}) => ({
  name: 'measurements',
  datatype: 'FP32',
  shape: [1, 4],
  data: secretNumbers('data of a tensor'),
  ...more,
});
const INFER = `/v2/models/${TENSORS}/infer`;
const infer = (name: string, status: number, body: Request['body'], headers = {}, path = INFER): Request => ({
  name,
  method: 'POST',
  path,
  status,
  ...(body === undefined ? {} : { body }),
  headers,
});

function binary(
  name: string,
  status: number,
  data: Uint8Array,
  more: object = {},
  input: object = {},
): Request {
  const head = Buffer.from(
    JSON.stringify({
      id: secret(`id, ${name}`),
      inputs: [
        {
          name: 'measurements',
          datatype: 'FP32',
          shape: [1, 4],
          parameters: { binary_data_size: data.length },
          ...input,
        },
      ],
      ...more,
    }),
  );
  return infer(name, status, Buffer.concat([head, data]), {
    'content-type': 'application/octet-stream',
    'inference-header-content-length': String(head.length),
  });
}

const inputs = (more: object = {}) => [tensor(more)];

const tensorRequests = (): Request[] => [
  infer('an inference', 200, { id: secret('id'), inputs: inputs() }),
  infer('outputs by name', 400, { inputs: inputs(), outputs: [{ name: secret('name of an output') }] }),
  infer('an input by another name', 400, { inputs: inputs({ name: secret('name of an input') }) }),
  infer('a datatype', 400, { inputs: inputs({ datatype: secret('datatype') }) }),
  infer('a shape that does not fit', 400, {
    id: secret('id, wrong shape'),
    inputs: inputs({ shape: [2, 2] }),
  }),
  infer('text for numbers', 400, { inputs: inputs({ data: [secret('text in data')] }) }),
  infer('a member', 400, { inputs: inputs(), [secret('member')]: secret('value of a member') }),
  infer('a parameter', 400, {
    inputs: inputs(),
    parameters: { [secret('parameter')]: secret('value of a parameter') },
  }),
  infer('a parameter of an input', 400, {
    inputs: inputs({ parameters: { [secret('parameter of an input')]: 1 } }),
  }),
  infer('a member twice', 400, `{"id":"${secret('first of two')}","id":"${secret('second of two')}"}`),
  infer('no JSON', 400, secret('no JSON')),
  infer('JSON that ends early', 400, `{"inputs":[{"name":"${secret('JSON that ends early')}`),
  infer('no UTF-8', 400, Buffer.concat([Buffer.from(secret('no UTF-8')), Buffer.from([0xff, 0xfe])])),
  infer('another type', 415, secret('body of another type'), {
    'content-type': `text/${secret('content type')}`,
  }),
  infer('a compressed body', 415, secret('compressed body'), {
    'content-encoding': secret('content encoding'),
  }),
  infer('no body', 415, undefined, { 'x-request-id': secret('header, refused') }),
  infer('too large', 413, Buffer.from(secret('too large').repeat(8192))),
  binary('binary data', 200, bytesOf(secretNumbers('binary data'))),
  binary(
    'binary data of another size',
    400,
    Buffer.from(secret('binary data of another size') + secret('rest')),
  ),
  binary(
    'binary data of text',
    400,
    Buffer.from(secret('binary text')),
    {},
    { datatype: 'BYTES', shape: [1] },
  ),
  binary('binary output', 200, bytesOf(secretNumbers('binary data, binary output')), {
    parameters: { binary_data_output: true },
  }),
  infer('a wrong length of the JSON', 400, secret('wrong length'), {
    'content-type': 'application/octet-stream',
    'inference-header-content-length': secret('length of the JSON'),
  }),
  infer('a model', 404, { inputs: inputs() }, {}, `/v2/models/${secret('model of a path')}/infer`),
  infer(
    'a version',
    404,
    { inputs: inputs() },
    {},
    `/v2/models/${TENSORS}/versions/${secret('version')}/infer`,
  ),
  infer(
    'a query',
    400,
    { inputs: inputs() },
    {},
    `${INFER}?${secret('query')}=${secret('value of a query')}`,
  ),
  infer('a receipt', 200, { inputs: inputs() }, { 'strongroom-receipt': '1' }),
  infer(
    'a receipt of another kind',
    400,
    { inputs: inputs() },
    { 'strongroom-receipt': secret('kind of receipt') },
  ),
  {
    name: 'a path',
    path: `/${secret('path')}/${encodeURIComponent(`%${secret('in percent')}`)}`,
    status: 404,
  },
  { name: 'a description', path: `/v2/models/${secret('described model')}`, status: 404 },
  { name: 'evidence for no nonce', path: `/attestation?nonce=${secret('nonce')}`, status: 400 },
  { name: 'evidence with more', path: `/attestation?nonce=x&${secret('beside the nonce')}`, status: 400 },
  { name: 'a body where none belongs', path: '/v2', body: secret('body of a GET'), status: 400 },
  {
    name: 'every header that clients send',
    path: '/v2',
    status: 200,
    headers: {
      host: secret('host'),
      authorization: `Bearer ${secret('API key')}`,
      'api-key': secret('API key, Azure'),
      'x-api-key': secret('API key, others'),
      cookie: `session=${secret('cookie')}`,
      'user-agent': secret('user agent'),
      referer: `https://${secret('referer')}/`,
      origin: `https://${secret('origin')}`,
      traceparent: `00-${secret('trace')}-0-01`,
      forwarded: `for=${secret('forwarded')}`,
      'x-forwarded-for': secret('forwarded for'),
      'openai-organization': secret('organization'),
      'idempotency-key': secret('idempotency key'),
      [secret('name of a header')]: secret('value of a header'),
    },
  },
  { name: 'another method', method: 'DELETE', path: `/v2/models/${secret('deleted')}`, status: 405 },
  { name: 'an expectation', path: '/v2', headers: { expect: secret('expectation') }, status: 400 },
];

const text = (name: string, status: number, body: object, path = '/v1/chat/completions'): Request => ({
  name,
  method: 'POST',
  path,
  status,
  body: JSON.stringify({ model: TEXT, ...body }),
  headers: { authorization: `Bearer ${secret(`API key, ${name}`)}` },
});
const says = (role: string, name: string) => ({ role, content: secret(`${name}, ${role}`) });
const COMPLETIONS = '/v1/completions';
const EMBEDDINGS = '/v1/embeddings';

const textRequests = (): Request[] => [
  text('a chat', 200, {
    messages: [
      says('system', 'chat'),
      says('user', 'chat'),
      says('assistant', 'chat'),
      says('user', 'chat again'),
    ],
    max_completion_tokens: 24,
    stop: [secret('stop'), secret('another stop')],
    user: secret('user'),
    safety_identifier: secret('safety identifier'),
    prompt_cache_key: secret('prompt cache key'),
    metadata: { [secret('metadata')]: secret('value of metadata') },
    logprobs: true,
  }),
  text('a streamed chat', 200, {
    messages: [says('user', 'stream')],
    max_completion_tokens: 24,
    stream: true,
    stream_options: { include_usage: true },
  }),
  text('JSON of a schema', 200, {
    messages: [says('user', 'schema')],
    max_completion_tokens: 48,
    response_format: {
      type: 'json_schema',
      json_schema: {
        name: secret('name of a schema'),
        description: secret('description of a schema'),
        schema: {
          type: 'object',
          properties: { [secret('property')]: { enum: [secret('one of an enum')] } },
          additionalProperties: false,
        },
      },
    },
  }),
  text('a schema that is not taken', 400, {
    messages: [says('user', 'bad schema')],
    response_format: {
      type: 'json_schema',
      json_schema: { name: 'x', schema: { [secret('keyword')]: secret('value of a keyword') } },
    },
  }),
  text('an unknown format', 400, {
    messages: [says('user', 'bad format')],
    response_format: { type: secret('type of a format') },
  }),
  text('an unknown role', 400, { messages: [says(secret('role'), 'bad role')] }),
  text('an unknown part', 400, {
    messages: [
      { role: 'user', content: [{ type: secret('type of a part'), text: secret('text of a part') }] },
    ],
  }),
  text('a tool', 400, {
    messages: [says('user', 'tool')],
    tools: [{ type: 'function', function: { name: secret('name of a tool') } }],
  }),
  text('an unknown member', 400, {
    messages: [says('user', 'member')],
    [secret('member, chat')]: secret('its value'),
  }),
  text('an unknown model', 404, { messages: [says('user', 'model')], model: secret('model') }),
  text('more than the context holds', 400, {
    messages: [{ role: 'user', content: `${secret('longer than the context')} `.repeat(400) }],
  }),
  text(
    'a completion',
    200,
    { prompt: [secret('prompt'), secret('second prompt')], user: secret('user, completion') },
    COMPLETIONS,
  ),
  text('a suffix', 400, { prompt: secret('prompt with suffix'), suffix: secret('suffix') }, COMPLETIONS),
  text(
    'embeddings',
    200,
    { input: [secret('input'), secret('second input')], user: secret('user, input') },
    EMBEDDINGS,
  ),
  text(
    'embeddings in another encoding',
    400,
    { input: secret('input, bad'), encoding_format: secret('encoding') },
    EMBEDDINGS,
  ),
  text('a model of tensors', 404, { model: TENSORS, input: secret('input, tensors') }, EMBEDDINGS),
  { name: 'a described model', path: `/v1/models/${secret('described text model')}`, status: 404 },
];

const raw = (): readonly { readonly name: string; readonly bytes: string }[] => [
  { name: 'no HTTP', bytes: `${secret('no HTTP')}\r\n\r\n` },
  { name: 'an unknown method', bytes: `${secret('method').toUpperCase()} /v2 HTTP/1.1\r\nhost: e\r\n\r\n` },
  { name: 'a target that is a URL', bytes: `GET http://${secret('target')}/v2 HTTP/1.1\r\nhost: e\r\n\r\n` },
  {
    name: 'a broken header',
    bytes: `GET /v2 HTTP/1.1\r\nhost: e\r\n${secret('broken header')}\u0000: x\r\n\r\n`,
  },
  {
    name: 'a body cut off',
    bytes: `POST ${INFER} HTTP/1.1\r\nhost: e\r\ncontent-length: 99\r\n\r\n${secret('cut')}`,
  },
  {
    name: 'broken chunks',
    bytes: `POST ${INFER} HTTP/1.1\r\nhost: e\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n${secret('chunk')}\r\n`,
  },
];

describe('what callers send and get', { timeout: 120_000 }, () => {
  let stack: LocalStack;
  let instance: LocalInstance;
  let client: Pair;
  let adminPort = 0;
  const lines: string[] = [];
  let startedMs = 0;

  const certificateOf = (authority: Pair, id: string, days = 1): Pair =>
    issueCertificate(holderOf(authority), {
      at: new Date(),
      days,
      use: 'client',
      names: [spiffeId(`spiffe://${DOMAIN}/${id}`)],
      curve: 'P-256',
    });

  beforeAll(async () => {
    const authority = (): Pair =>
      createCa({ at: new Date(), days: 9, permitted: [permittedName(`spiffe://${DOMAIN}`)], curve: 'P-256' });
    const [own, foreign] = [authority(), authority()];
    client = certificateOf(own, secret('SPIFFE id'));
    stack = await startStack();
    const { deployment, modelsFolder } = await prepareReleaseOfSeveral(
      stack,
      [
        { name: TENSORS, version: 1, onnx },
        { name: TEXT, version: 1, gguf: tinyLlama() },
      ],
      {
        clients: {
          ca: own.certificatePem,
          // The document itself is the parent's to read, so the client is not named in it.
          allowed: [{ trustDomain: DOMAIN }],
          maxCertificateHours: 48,
          denyList: 'none',
        },
        limits: { requestBytes: 65_536 },
        telemetry: [...TELEMETRY_EVENTS],
      },
    );
    instance = await stack.startInstance({
      deployment,
      modelsFolder,
      adminPort: 0,
      onLine: (from, line) => {
        lines.push(`${from}: ${line}`);
        const found = /"event":"admin-ready".*"port":(\d+)/.exec(line);
        if (found !== null) adminPort = Number(found[1]);
      },
    });
    await instance.serving;
    startedMs = Date.now();
    await beRefused(certificateOf(foreign, secret('SPIFFE id under another CA')));
    await beRefused(certificateOf(own, secret('SPIFFE id of a long life'), 5));
  }, 240_000);
  afterAll(() => stack?.close());

  async function open(options: ConnectionOptions = {}, withEvidence = true): Promise<Connection> {
    const socket = await new Promise<TLSSocket>((resolve, reject) => {
      const tls = tlsConnect(
        {
          host: '127.0.0.1',
          port: Number(new URL(instance.url).port),
          rejectUnauthorized: false,
          servername: `${secret('server name')}.test`,
          cert: client.certificatePem,
          key: Buffer.from(client.keyPem),
          ...options,
        },
        () => resolve(tls),
      );
      tls.once('error', reject);
    });
    socket.on('error', () => {});
    const connection = new Connection(socket);
    if (withEvidence) {
      const nonce = randomBytes(32).toString('base64url');
      const ask = () => connection.ask('GET', `/attestation?nonce=${nonce}`);
      let answer = await ask();
      // One client gets no more than two a second.
      for (; answer.status === 429; answer = await ask()) await sleep(1_000);
      expect(answer.status).toBe(200);
    }
    return connection;
  }

  async function beRefused({ certificatePem, keyPem }: Pair): Promise<void> {
    const connection = await open({ cert: certificatePem, key: Buffer.from(keyPem) }, false);
    expect((await connection.ask('GET', `/v2/${secret('path of one refused')}`)).status).toBe(403);
    connection.close();
  }

  async function send(requests: readonly Request[]): Promise<string[]> {
    const found: string[] = [];
    let connection = await open();
    for (const { name, method = 'GET', path, body, headers = {}, status } of requests) {
      if (connection.socket.destroyed) connection = await open();
      const answer = await connection.ask(method, path, body, headers).catch((error: Error) => error);
      // Node's client lets a connection go on which it announced an expectation.
      const isOver = answer instanceof Error || answer.headers.connection === 'close' || 'expect' in headers;
      if (isOver) connection.close();
      if (answer instanceof Error || answer.status !== status) {
        found.push(`${name}: expected ${status}, got ${show(answer)}`);
      } else if (status === 200) keepAnswer(name, answer);
    }
    connection.close();
    return found;
  }

  it('may be anything that the APIs know, and what they refuse', async () => {
    expect(await send([...tensorRequests(), ...textRequests()])).toEqual([]);
    for (const { bytes } of raw()) {
      const { socket } = await open();
      socket.end(bytes);
      socket.resume();
      await new Promise((resolve) => socket.once('close', resolve));
    }
    expect(canaries.length).toBeGreaterThan(150);
  });

  it('has left the enclave in telemetry by nothing but counts', async () => {
    const metrics = () => fetch(`http://127.0.0.1:${adminPort}/metrics`).then((answer) => answer.text());
    const count = (page: string, kind: string): number =>
      [...page.matchAll(new RegExp(`^strongroom_enclave_answers_total{kind="${kind}",.*} (\\d+)$`, 'gm'))]
        .map(([, number]) => Number(number))
        .reduce((sum, number) => sum + number, 0);
    for (const kind of ['evidence', 'tensors', 'text', 'embeddings']) {
      await expect.poll(async () => count(await metrics(), kind), ARRIVAL).toBeGreaterThan(0);
    }
    const pages = [await metrics()];
    for (const path of ['healthz', 'readyz']) {
      pages.push(await fetch(`http://127.0.0.1:${adminPort}/${path}`).then((answer) => answer.text()));
    }
    expect(pages.flatMap((page) => new CanarySearch(canaries).in(Buffer.from(page)))).toEqual([]);
  });

  it('is in nothing that parent and enclave print, to the end of both', async () => {
    await instance.close();
    const printed = lines.join('\n');
    expect(printed).toMatch(/enclave-requests/);
    expect(printed).toMatch(/enclave-durations/);
    expect(printed).toMatch(/"event":"stopped"/);
    const search = new CanarySearch(canaries);
    expect(search.in(Buffer.from(`${printed}\n${instance.console}`))).toEqual([]);
    const control = canaries[0]?.needles[0]?.bytes ?? Buffer.alloc(0);
    expect(search.in(Buffer.concat([Buffer.from(printed), control]))).not.toEqual([]);
  });

  it('is in no file of the run', () => {
    const search = new CanarySearch(canaries);
    const control = join(stack.folder, 'control');
    writeFileSync(control, canaries[0]?.needles[0]?.bytes ?? '');
    const hits = filesChangedSince(stack.folder, startedMs).flatMap((file) =>
      search.in(readFileSync(file)).map(({ canary: name }) => `${name} in ${file}`),
    );
    expect(hits).toEqual([`SPIFFE id in ${control}`]);
  });
});

function keepAnswer(name: string, { body, headers, json }: Answer): void {
  const salt = headers['strongroom-receipt-salt'];
  if (typeof salt === 'string') canaries.push(canary(`salt, ${name}`, Buffer.from(salt, 'base64url')));
  const said = json?.choices?.[0]?.message?.content ?? json?.choices?.[0]?.text;
  if (typeof said === 'string') keep(`answer to ${name}`, said);
  for (const number of json?.outputs?.[0]?.data ?? []) keep(`output of ${name}`, String(number));
  if (headers['content-type'] === 'application/octet-stream') keep(`binary output of ${name}`, body);
  if (json?.data?.[0]?.embedding !== undefined) keep(`vector of ${name}`, String(json.data[0].embedding[0]));
}

function show(answer: Answer | Error): string {
  return answer instanceof Error
    ? answer.message
    : `${answer.status} ${answer.body.toString().slice(0, 200)}`;
}

function holderOf({ certificate, keyPem }: Pair): Holder {
  return { certificate, key: createPrivateKey(Buffer.from(keyPem)) };
}

/** The image and the sealed models are as old as the start; callers came after it. */
function filesChangedSince(folder: string, sinceMs: number): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .map((name) => join(folder, name))
    .filter((path) => {
      const stats = lstatSync(path);
      return stats.isFile() && Math.max(stats.mtimeMs, stats.ctimeMs) >= sinceMs;
    });
}
