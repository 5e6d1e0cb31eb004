/** The verifying proxy: what it passes on unchanged, what it refuses, and what it says of itself. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import {
  request as httpRequest,
  type IncomingMessage,
  type RequestOptions,
  type ServerResponse,
} from 'node:http';
import { connect as netConnect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { promisify } from 'node:util';
import OpenAI, { InternalServerError } from 'openai';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { ClientExpectations } from '../../client/index.ts';
import { command } from '../../scripts/commands/proxy.ts';
import { endToEnd } from '../../scripts/proxy/headers.ts';
import { statusPage } from '../../scripts/proxy/page.ts';
import { ProxyStatus } from '../../scripts/proxy/status.ts';
import { type OpenAiStub, openAiStub } from '../client/openai-stub.ts';
import {
  honestHttp,
  newIdentity,
  newIssuer,
  startPlatform,
  startRawServer,
  startTestEnclave,
  type TestEnclave,
  type TestPlatform,
} from '../client/test-enclave.ts';
import { CHROMIUM, look, openBrowser } from '../support/browser.ts';
import { testCa, testClient } from '../support/client-certificates.ts';
import { eventually } from '../support/eventually.ts';

const run = promisify(execFile);

let folder: string;
let platform: TestPlatform;
let enclave: TestEnclave;
let proxy: RunningProxy;
let stub: OpenAiStub;
let special: ((request: IncomingMessage, response: ServerResponse, body: string) => void) | undefined;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'proxy-'));
  platform = await startPlatform();
  stub = openAiStub();
  enclave = await startTestEnclave({
    platform,
    handler: (...asked) => (special ?? stub.handler)(...asked),
  });
  proxy = await startProxy(enclave.url);
});
beforeEach(() => {
  special = undefined;
});
afterAll(async () => {
  await proxy.end();
  enclave.close();
  await rm(folder, { recursive: true });
});

async function expectationsFile(pcrs = platform.expectations.pcrs): Promise<string> {
  const path = join(folder, `expect-${Math.random()}.json`);
  await writeFile(join(folder, 'root.pem'), platform.expectations.simulationRoot as string);
  const file = { format: 'strongroom-expectations/1', pcrs, simulationRoot: 'root.pem' };
  await writeFile(path, JSON.stringify(file));
  return path;
}

interface RunningProxy {
  readonly url: string;
  readonly port: number;
  readonly ready: Record<string, unknown>;
  readonly errors: () => string;
  /** As Ctrl-C does; resolves to the exit code. */
  end(): Promise<number>;
}

async function startProxy(url: string, more: readonly string[] = []): Promise<RunningProxy> {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const interrupt = new AbortController();
  let errors = '';
  stderr.on('data', (chunk) => {
    errors += chunk;
  });
  const args = [url, '--expect', await expectationsFile(), '--json', ...more];
  const ended = command.run(args, { stdin: Readable.from([]), stdout, stderr, signal: interrupt.signal });
  const [line] = (await Promise.race([once(stdout, 'data'), ended])) as [Buffer];
  const ready = JSON.parse(line.toString());
  return {
    url: ready.url,
    port: Number(new URL(ready.url).port),
    ready,
    errors: () => errors,
    end: () => {
      interrupt.abort();
      return ended;
    },
  };
}

interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly rawHeaders: readonly string[];
  readonly body: string;
}

async function ask(options: RequestOptions, body?: string | Readable): Promise<Answer> {
  const request = httpRequest({ host: '127.0.0.1', port: proxy.port, ...options });
  if (body instanceof Readable) body.pipe(request);
  else request.end(body);
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  const { statusCode = 0, headers, rawHeaders } = response;
  return { status: statusCode, headers, rawHeaders, body: await text(response) };
}

const chat = (content: string, more: object = {}) =>
  JSON.stringify({ model: 'tiny', messages: [{ role: 'user', content }], ...more });

function openai(url = proxy.url): OpenAI {
  return new OpenAI({ baseURL: `${url}/v1`, apiKey: 'unused', maxRetries: 0 });
}

describe('curl', () => {
  const curl = async (...args: string[]) =>
    run('curl', ['-sS', '--noproxy', '*', ...args]).catch(
      (error) => error as { code: number; stdout: string },
    );

  test('asks and is answered', async () => {
    const { stdout } = await curl(`${proxy.url}/v1/models`);
    expect(JSON.parse(stdout).data[0].id).toBe('tiny');
    const answer = await curl(
      `${proxy.url}/v1/chat/completions`,
      ...['-H', 'content-type: application/json', '-d', chat('hello there')],
    );
    expect(JSON.parse(answer.stdout).choices[0].message.content).toBe('hello there');
  });

  test('streams, and is told when a stream is cut', async () => {
    const whole = await curl('-N', `${proxy.url}/v1/chat/completions`, '-d', chat('a b', { stream: true }));
    expect(whole.stdout).toMatch(/"content":"a"[\s\S]*"content":" b"[\s\S]*data: \[DONE\]\n\n$/);
    const cut = await curl('-N', `${proxy.url}/v1/chat/completions`, '-d', chat('a cut', { stream: true }));
    // CURLE_PARTIAL_FILE: "transfer closed with outstanding read data remaining".
    expect(cut).toMatchObject({ code: 18 });
  });

  test('sends a large body that it announces (Expect: 100-continue), and one in chunks', async () => {
    special = (_request, response, body) => response.end(String(body.length));
    const path = join(folder, 'large');
    await writeFile(path, 'x'.repeat(3_000_000));
    for (const header of ['expect: 100-continue', 'transfer-encoding: chunked']) {
      const { stdout } = await curl('-H', header, '-T', path, `${proxy.url}/v2/echo`);
      expect(stdout).toBe('3000000');
    }
  });
});

test("Python's own client asks and reads a stream", async () => {
  const script = `
import json, sys, urllib.request
def post(path, body):
    request = urllib.request.Request(sys.argv[1] + path, json.dumps(body).encode(), {"content-type": "application/json"})
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request)
asked = {"model": "tiny", "messages": [{"role": "user", "content": "hello python"}]}
print(json.load(post("/v1/chat/completions", asked))["choices"][0]["message"]["content"])
for line in post("/v1/chat/completions", {**asked, "stream": True}):
    if line.startswith(b"data: {"):
        for choice in json.loads(line[6:])["choices"]:
            print(choice["delta"].get("content", ""), end="|")
`;
  const { stdout } = await run('/usr/bin/python3', ['-c', script, proxy.url]);
  expect(stdout).toBe('hello python\n|hello| python||');
});

test('shows its client certificate to an enclave that asks for one', async () => {
  const ca = testCa();
  const { cert, key } = testClient(ca, { uris: ['spiffe://example.org/app'] });
  const [certFile, keyFile] = [join(folder, 'client.pem'), join(folder, 'client.key')];
  await writeFile(certFile, cert);
  await writeFile(keyFile, key);
  const identity = newIdentity();
  const { serve } = honestHttp(newIssuer(platform, identity), stub.handler);
  const shown: (string | undefined)[] = [];
  const server = await startRawServer(
    () => identity,
    (socket) => {
      shown.push(socket.getPeerX509Certificate()?.subjectAltName);
      serve(socket);
    },
    { ca: ca.pem, requestCert: true, rejectUnauthorized: true },
  );
  const admitted = await startProxy(server.url, ['--client-cert', certFile, '--client-key', keyFile]);
  expect((await openai(admitted.url).models.list()).data).toHaveLength(1);
  expect(shown).toEqual(['URI:spiffe://example.org/app']);
  await admitted.end();
  await expect(startProxy(server.url)).rejects.toMatchObject({ code: 'CLIENT_CERTIFICATE_REQUIRED' });
  server.close();
});

describe("OpenAI's client", () => {
  test('asks, streams, lists and embeds, with nothing but the base URL', async () => {
    const { choices } = await openai().chat.completions.create(JSON.parse(chat('as usual')));
    expect(choices[0]?.message.content).toBe('as usual');
    const stream = await openai().chat.completions.create({ ...JSON.parse(chat('one two')), stream: true });
    let said = '';
    for await (const part of stream as unknown as AsyncIterable<OpenAI.ChatCompletionChunk>) {
      said += part.choices[0]?.delta.content ?? '';
    }
    expect(said).toBe('one two');
    expect((await openai().models.list()).data).toHaveLength(1);
    const { data } = await openai().embeddings.create({ model: 'tiny', input: 'x' });
    expect(data[0]?.embedding).toEqual([0.5, -1, 2]);
  });
});

describe('what is passed on', () => {
  test('is the request with its fields, but for those of one connection', async () => {
    await ask(
      {
        method: 'POST',
        path: '/v1/chat/completions?x=%20y',
        headers: {
          authorization: 'Bearer key',
          connection: 'keep-alive, x-mine',
          'x-mine': 'dropped',
          'x-other': ['1', '2'],
          'proxy-authorization': 'secret',
          te: 'trailers',
          upgrade: 'websocket',
          'content-type': 'application/json',
        },
      },
      chat('x'),
    );
    const { path, headers } = stub.asked.at(-1) as OpenAiStub['asked'][number];
    expect(path).toBe('/v1/chat/completions?x=%20y');
    expect(headers).toMatchObject({
      authorization: 'Bearer key',
      'content-type': 'application/json',
      'x-other': '1, 2',
      host: new URL(enclave.url).host,
    });
    for (const name of ['x-mine', 'proxy-authorization', 'te', 'upgrade'])
      expect(headers).not.toHaveProperty(name);
  });

  test('is the answer with its fields, repeated ones too, and its status', async () => {
    special = (_request, response) => {
      response.setHeader('x-twice', ['a', 'b']).setHeader('date', 'then').setHeader('trailer', 'x-end');
      response.writeHead(418, 'Teapot').end('short and stout');
    };
    const { status, rawHeaders, headers, body } = await ask({ path: '/v1/tea' });
    expect([status, body]).toEqual([418, 'short and stout']);
    expect(rawHeaders.join('|')).toContain('x-twice|a|x-twice|b');
    expect(headers.date).toBe('then');
    expect(headers).not.toHaveProperty('trailer');
  });

  test('HEAD and an answer without a body', async () => {
    special = (request, response) =>
      request.method === 'HEAD'
        ? response.setHeader('content-length', '5').end()
        : response.writeHead(204).end();
    expect(await ask({ method: 'HEAD', path: '/v2' })).toMatchObject({ status: 200, body: '' });
    expect(await ask({ method: 'DELETE', path: '/v2' })).toMatchObject({ status: 204, body: '' });
  });

  test('an upload as it comes, while the answer comes too', async () => {
    const enclaveStream = await startRawEnclave((request, response) => {
      response.writeHead(200);
      request.on('data', (chunk: Buffer) => response.write(`got ${chunk}`));
      request.on('end', () => response.end('end'));
    });
    const other = await startProxy(enclaveStream.url);
    const request = httpRequest({ host: '127.0.0.1', port: other.port, method: 'POST', path: '/v1/echo' });
    request.write('1');
    const [response] = (await once(request, 'response')) as [IncomingMessage];
    const [first] = await once(response, 'data');
    expect(String(first)).toBe('got 1');
    request.end('2');
    expect(await text(response)).toBe('got 2end');
    await other.end();
    enclaveStream.close();
  });

  test('no faster than its reader takes it', async () => {
    let sent = 0;
    const chunk = Buffer.alloc(64 * 1024, 'x');
    function* much() {
      for (; sent < 64 * 1024 * 1024; sent += chunk.length) yield chunk;
    }
    special = (_request, response) => void Readable.from(much()).pipe(response);
    const request = httpRequest({ host: '127.0.0.1', port: proxy.port, path: '/v1/much' }).end();
    const [response] = (await once(request, 'response')) as [IncomingMessage];
    let before = -1;
    while (before !== sent) {
      before = sent;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    expect(sent).toBeLessThan(32 * 1024 * 1024);
    let read = 0;
    for await (const part of response) read += part.length;
    expect(read).toBe(64 * 1024 * 1024);
  });

  test('ends in the enclave when its asker leaves', async () => {
    const held: ServerResponse[] = [];
    special = (_request, response) => {
      held.push(response);
      response.write('data: 1\n\n');
    };
    const request = httpRequest({ host: '127.0.0.1', port: proxy.port, path: '/v1/stream' }).end();
    await once(request, 'response');
    request.on('error', () => {}).destroy();
    await eventually(() => held[0]?.destroyed).toBe(true);
    expect(proxy.errors()).not.toContain('left');
  });
});

/** An enclave that hands the requests over before their bodies have come. */
async function startRawEnclave(handler: (request: IncomingMessage, response: ServerResponse) => void) {
  const identity = newIdentity();
  const { server } = honestHttp(newIssuer(platform, identity));
  const [evidence] = server.listeners('request') as [(...args: unknown[]) => void];
  server.removeAllListeners('request');
  server.on('request', (request, response) =>
    request.url?.startsWith('/attestation') ? evidence(request, response) : handler(request, response),
  );
  return startRawServer(
    () => identity,
    (socket) => void server.emit('connection', socket),
  );
}

describe('hop-by-hop fields', () => {
  test.each([
    [
      ['Connection', 'X-A', 'x-a', '1', 'X-B', '2'],
      ['X-B', '2'],
    ],
    [['KEEP-ALIVE', 'timeout=5', 'Transfer-Encoding', 'chunked', 'TE', 'x'], []],
    // Without its length a body would be passed on as another one.
    [
      ['connection', 'content-length', 'content-length', '3'],
      ['content-length', '3'],
    ],
    [
      [Buffer.from('A'), Buffer.from('é', 'latin1')],
      ['A', 'é'],
    ],
  ])('%j become %j', (given, expected) => {
    expect(endToEnd(given)).toEqual(expected);
  });
});

describe('browsers that act for strangers', () => {
  const count = () => stub.asked.length;
  const refusedWith = async (code: string, options: RequestOptions) => {
    const before = count();
    const { status, headers, body } = await ask({ path: '/v1/models', ...options });
    expect(status).toBe(403);
    expect(JSON.parse(body).error).toMatchObject({ code, type: 'invalid_request_error', param: null });
    expect(headers).not.toHaveProperty('access-control-allow-origin');
    expect(count()).toBe(before);
  };

  test.each([
    'rebound.example',
    'rebound.example:PORT',
    '127.0.0.1',
    'localhost:1',
    '127.0.0.1:PORT.example',
  ])('a name of their own that leads here: %s', async (host) => {
    const headers = { host: host.replace('PORT', String(proxy.port)) };
    await refusedWith('PROXY_HOST', { headers });
    const page = await ask({ path: '/', headers });
    expect([page.status, page.body]).toEqual([403, expect.not.stringContaining('<html')]);
  });

  test.each([
    [{ origin: 'https://evil.example' }],
    [{ origin: 'null' }],
    [{ 'sec-fetch-site': 'cross-site' }],
    [{ 'sec-fetch-site': 'same-site' }],
    [{ origin: 'http://127.0.0.1:1' }],
  ])('a page of another site: %j', async (headers) => {
    await refusedWith('PROXY_CROSS_SITE', { headers });
    await refusedWith('PROXY_CROSS_SITE', { method: 'OPTIONS', headers });
  });

  test('a program that names the proxy is fine', async () => {
    for (const host of ['127.0.0.1', 'localhost', '[::1]']) {
      const { status } = await ask({ path: '/v1/models', headers: { host: `${host}:${proxy.port}` } });
      expect(status).toBe(200);
    }
    expect((await ask({ path: '/v1/models', headers: { origin: proxy.url } })).status).toBe(200);
  });

  test('what no program sends to this kind of proxy: no host, no path of its own, a tunnel', async () => {
    const raw = async (head: string) => {
      const socket = netConnect(proxy.port, '127.0.0.1');
      socket.end(`${head}\r\n\r\n`);
      return text(socket);
    };
    expect(await raw('GET /v1/models HTTP/1.0')).toContain('PROXY_HOST');
    const old = await raw(`GET /v1/models HTTP/1.0\r\nhost: 127.0.0.1:${proxy.port}`);
    expect(old).toMatch(/^HTTP\/1\.1 505 [\s\S]*PROXY_HTTP_VERSION/);
    const host = `host: 127.0.0.1:${proxy.port}`;
    expect(await raw(`GET http://other.example/ HTTP/1.1\r\n${host}`)).toContain('PROXY_PATH');
    expect(await raw(`CONNECT other.example:443 HTTP/1.1\r\n${host}`)).toBe('');
  });

  test('evidence is not passed on: it would be that of another connection', async () => {
    const { status, body } = await ask({ path: `/attestation?nonce=${'A'.repeat(43)}` });
    expect([status, JSON.parse(body).error.code]).toEqual([404, 'PROXY_PATH']);
  });
});

describe('an enclave that turns out to be another', () => {
  test('is asked nothing: 502 with the code, in the shape that OpenAI clients read', async () => {
    const identity = newIdentity();
    const issuer = newIssuer(platform, identity);
    const other = newIssuer(platform, newIdentity());
    const honest = honestHttp(issuer, stub.handler);
    const impostor = honestHttp(other, stub.handler);
    const server = await startRawServer(
      () => identity,
      (socket, index) => (index === 0 ? honest : impostor).serve(socket),
    );
    const turned = await startProxy(server.url);
    const client = openai(turned.url);
    expect((await client.models.list()).data).toHaveLength(1);
    server.connections[0]?.destroy();
    await eventually(() => server.connections[0]?.closed).toBe(true);
    const before = stub.asked.length;
    const error = await client.models.list().catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(InternalServerError);
    expect(error).toMatchObject({ status: 502, code: 'CLIENT_OTHER_CERTIFICATE', type: 'enclave_error' });
    expect(stub.asked).toHaveLength(before);
    expect(turned.errors()).toContain('CLIENT_OTHER_CERTIFICATE: ');

    const response = await fetch(`${turned.url}/v1/models`);
    expect(response.headers.get('x-should-retry')).toBe('false');
    const page = await (await fetch(turned.url)).text();
    expect(page).toContain('not verified');
    expect(page).toContain('CLIENT_OTHER_CERTIFICATE');
    const status = (await (await fetch(`${turned.url}/strongroom.json`)).json()) as { failure: object };
    expect(status.failure).toMatchObject({ code: 'CLIENT_OTHER_CERTIFICATE' });
    await turned.end();
    server.close();
  });

  test('from the start is refused at the start', async () => {
    const path = await expectationsFile({ 0: 'ee'.repeat(48), 16: 'any' });
    const io = {
      stdin: Readable.from([]),
      stdout: new PassThrough(),
      stderr: new PassThrough(),
      signal: new AbortController().signal,
    };
    await expect(command.run([enclave.url, '--expect', path], io)).rejects.toThrow(
      expect.objectContaining({ code: 'ATTESTATION_PCR_MISMATCH' }),
    );
  });

  test('that is gone may be asked again later', async () => {
    const leaving = await startTestEnclave({ platform, handler: stub.handler });
    const left = await startProxy(leaving.url);
    leaving.close();
    await eventually(async () => (await fetch(`${left.url}/v1/models`)).status).toBe(502);
    const response = await fetch(`${left.url}/v1/models`);
    expect(response.headers.get('x-should-retry')).toBe('true');
    expect(await response.json()).toMatchObject({ error: { code: 'CLIENT_UNREACHABLE' } });
    await left.end();
  });
});

describe('what it says of itself', () => {
  test('when it is ready, in one line of JSON', () => {
    expect(proxy.ready).toMatchObject({
      url: `http://127.0.0.1:${proxy.port}`,
      baseUrl: `http://127.0.0.1:${proxy.port}/v1`,
      enclave: enclave.url,
      verified: {
        trust: 'simulation',
        pcrs: platform.expectations.pcrs,
        models: [{ name: 'iris', version: 3 }],
      },
      failure: null,
    });
    expect(proxy.errors()).toMatch(/^verified: i-.*models iris 3\n/);
  });

  test('as a page: image, deployment, models, trust and time, with nothing fetched and nothing run', async () => {
    const { status, headers, body } = await ask({ path: '/' });
    expect(status).toBe(200);
    expect(headers['content-type']).toBe('text/html; charset=utf-8');
    expect(headers['x-frame-options']).toBe('DENY');
    for (const shown of [
      platform.expectations.pcrs[0] as string,
      platform.expectations.pcrs[16] as string,
      'iris',
      'b2'.repeat(32),
      'simulation',
      `${proxy.url}/v1`,
    ]) {
      expect(body).toContain(shown);
    }
    expect(body).toMatch(/Verified at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC/);
    expect(body).toContain("default-src 'none'");
    expect(body).not.toMatch(/<script|https?:\/\/(?!127\.0\.0\.1)/);
  });

  test('as a page that does not praise what nobody compared', () => {
    const evidence = {
      trust: 'aws-nitro',
      moduleId: 'i-1-enc2',
      timestamp: new Date(0),
      pcrs: { 0: 'a1'.repeat(48), 16: 'b2'.repeat(48) },
      models: [],
      deploymentSha384: '',
      certificateSpkiSha256: '',
      receiptKey: '',
      document: new Uint8Array(0),
    } as const;
    const pageFor = (pcrs: ClientExpectations['pcrs']) => {
      const status = new ProxyStatus('https://enclave', { pcrs }, 3_600_000, () => new Date(0));
      status.verified(evidence);
      return statusPage(status, 'http://127.0.0.1:1');
    };
    expect(pageFor({ 0: 'a1'.repeat(48), 16: 'b2'.repeat(48) })).toContain('enclave that you expect.');
    for (const pcrs of [{ 0: 'any', 16: 'b2'.repeat(48) } as const, { 0: 'any', 16: 'any' } as const]) {
      expect(pageFor(pcrs)).not.toContain('enclave that you expect.');
      expect(pageFor(pcrs)).toContain('partly verified');
    }
  });

  test.skipIf(CHROMIUM === undefined)(
    'as a page that a browser shows as it should: nothing fetched, readable, light and dark, wide and narrow',
    async () => {
      const { body } = await ask({ path: '/' });
      const browser = await openBrowser();
      try {
        for (const [width, colours] of [
          [1100, 'light'],
          [400, 'dark'],
        ] as const) {
          const seen = await look(browser, body, { width, colours });
          expect(seen).toMatchObject({ fetched: [], complaints: [], overflowPx: 0, faint: [] });
          expect(seen.measured).toBeGreaterThan(20);
        }
      } finally {
        await browser.close();
      }
    },
  );

  test('as JSON', async () => {
    const { body } = await ask({ path: '/strongroom.json' });
    const said = JSON.parse(body);
    expect(said.verified.models).toMatchObject([{ name: 'iris', version: 3 }]);
    expect(new Date(said.verifiedAt).getTime()).toBeLessThanOrEqual(Date.now());
    expect(said.requests).toBeGreaterThan(0);
  });
});

describe('starting and ending', () => {
  test.each([
    ['no URL', []],
    ['two URLs', ['https://a', 'https://b']],
    ['a port that is none', ['https://a', '--port', '65536']],
    ['no number of connections', ['https://a', '--connections', 'many']],
    ['a time beyond a day', ['https://a', '--reverify', '86401']],
    ['a certificate without its key', ['https://a', '--client-cert', 'c']],
  ])('with %s is a usage error', async (_what, args) => {
    const io = {
      stdin: Readable.from([]),
      stdout: new PassThrough(),
      stderr: new PassThrough(),
      signal: new AbortController().signal,
    };
    const given = [...args, '--expect', await expectationsFile()];
    await expect(command.run(given, io)).rejects.toThrow(expect.objectContaining({ code: 'USAGE' }));
  });

  test('a port that is taken is told', async () => {
    const args = ['--port', String(proxy.port)];
    await expect(startProxy(enclave.url, args)).rejects.toThrow(
      expect.objectContaining({ code: 'PROXY_PORT' }),
    );
  });

  test('an answer under way is finished before the end', async () => {
    const other = await startProxy(enclave.url);
    const held: ServerResponse[] = [];
    special = (_request, response) => void held.push(response);
    const answer = fetch(`${other.url}/v1/late`).then((response) => response.text());
    await eventually(() => held.length).toBe(1);
    const ended = other.end();
    await eventually(() => fetch(`${other.url}/v1/new`).catch(() => 'refused')).toBe('refused');
    held[0]?.end('whole');
    expect(await answer).toBe('whole');
    expect(await ended).toBe(0);
  });

  test('as a process it ends cleanly with Ctrl-C', async () => {
    const main = join(import.meta.dirname, '..', '..', 'scripts', 'strongroom.ts');
    const args = [main, 'proxy', enclave.url, '--expect', await expectationsFile()];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    const [line] = await once(child.stdout, 'data');
    expect(String(line)).toMatch(/^Serving https:\/\/127.0.0.1:\d+ at http:\/\/127.0.0.1:\d+\n/);
    const [, url = ''] = / at (http:\S+)/.exec(String(line)) ?? [];
    expect((await fetch(`${url}/v1/models`)).status).toBe(200);
    child.kill('SIGINT');
    expect(await once(child, 'exit')).toEqual([0, null]);
  });
});
