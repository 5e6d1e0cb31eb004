import { connect as netConnect, type Socket } from 'node:net';
import { type TLSSocket, connect as tlsConnect } from 'node:tls';
import { afterEach, describe, expect, it } from 'vitest';
import type { InferRequest, InferResponse } from '../../../enclave/engine/engine.ts';
import { EngineError } from '../../../enclave/engine/errors.ts';
import type { ModelMetadata } from '../../../enclave/engine/tensor.ts';
import { eventually } from '../../support/eventually.ts';
import {
  type Answer,
  type Connection,
  fakeEngine,
  NONCE,
  servedModel,
  serveForTest,
  type TestServer,
  type TestServerOptions,
} from '../../support/serving.ts';

const metadata: ModelMetadata = {
  inputs: [{ name: 'x', datatype: 'FP32', shape: [-1] }],
  outputs: [{ name: 'y', datatype: 'FP32', shape: [-1] }],
};
/** y = x. */
const echo = async ({ inputs }: InferRequest): Promise<InferResponse> => ({
  outputs: inputs.map((input) => ({ ...input, name: 'y' })),
});
const INFER = '/v2/models/m/infer';
const question = (...data: number[]) => ({
  inputs: [{ name: 'x', datatype: 'FP32', shape: [data.length], data }],
});

const open: (TestServer | Connection)[] = [];
afterEach(async () => {
  for (const one of open.splice(0).toReversed()) {
    if ('close' in one) one.close();
    else await one[Symbol.asyncDispose]();
  }
});

async function serve(
  infer: (request: InferRequest, signal?: AbortSignal) => Promise<InferResponse> = echo,
  options: Partial<TestServerOptions> = {},
): Promise<TestServer> {
  const server = await serveForTest({
    models: [servedModel(fakeEngine(metadata, infer))],
    ...options,
  });
  open.push(server);
  return server;
}

async function connect(
  server: TestServer,
  options?: Parameters<TestServer['connect']>[0],
): Promise<Connection> {
  const connection = await server.connect(options);
  open.push(connection);
  return connection;
}

/** Deadlines that are short for a slow client are short for a slow machine too: then the client comes again. */
async function connectInTime(server: TestServer): Promise<Connection> {
  for (;;) {
    const connection = await connect(server).catch(() => undefined);
    if (connection !== undefined) return connection;
  }
}

const closed = (socket: {
  closed: boolean;
  once(event: 'close', listener: () => void): unknown;
}): Promise<void> =>
  new Promise((resolve) => {
    if (socket.closed) resolve();
    else socket.once('close', () => resolve());
  });
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Holds every inference until released, and notices those that are given up. */
function gate() {
  const state = { atWork: 0, aborted: 0, release: () => {}, infer: echo as typeof echo };
  const { promise, resolve } = Promise.withResolvers<void>();
  state.release = resolve;
  state.infer = async (request: InferRequest, signal?: AbortSignal) => {
    state.atWork += 1;
    const gone = new Promise<never>((_, reject) => {
      signal?.addEventListener('abort', () => {
        state.aborted += 1;
        reject(signal.reason);
      });
    });
    await Promise.race([promise, gone]);
    return echo(request);
  };
  return state;
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await pause(5);
}

describe('TLS', () => {
  it('is 1.3 with the hybrid group first, and ends in this process', async () => {
    const { socket } = await connect(await serve());
    expect(socket.getProtocol()).toBe('TLSv1.3');
    expect(socket.getCipher().name).toBe('TLS_AES_256_GCM_SHA384');
    expect(socket.getEphemeralKeyInfo()).toMatchObject({ name: 'X25519MLKEM768' });
  });

  it.each([
    ['TLS 1.2', { maxVersion: 'TLSv1.2' as const }],
    ['a suite that is not offered', { ciphers: 'TLS_AES_128_GCM_SHA256' }],
    ['a group that is not offered', { ecdhCurve: 'P-521' }],
    ['another application protocol', { ALPNProtocols: ['h2'] }],
  ])('refuses %s', async (_, options) => {
    const server = await serve();
    await expect(connect(server, options)).rejects.toThrow();
    await until(() => server.events.some(({ route }) => route === 'handshake'));
  });

  it('resumes no session', async () => {
    const server = await serve();
    const sessions: Buffer[] = [];
    const first = await connect(server, { evidence: false });
    first.socket.on('session', (session) => sessions.push(session));
    await first.ask('GET', '/v2/health/live');
    await pause(20);
    for (const session of sessions) {
      const { socket } = await connect(server, { evidence: false, session });
      expect(socket.isSessionReused()).toBe(false);
    }
  });

  it('wipes the private key once the context holds it', async () => {
    const { createTlsIdentity } = await import('../../../enclave/tls-identity.ts');
    const identity = createTlsIdentity(new Date(), new Uint8Array(16).fill(1));
    const server = await serve(echo, { identity });
    expect(identity.key.every((byte) => byte === 0)).toBe(true);
    await connect(server);
  });

  it('closes a connection that does not shake hands in time', async () => {
    const server = await serve(echo, { deadlines: { handshakeMs: 100 } });
    const socket = server.dial();
    socket.resume();
    await closed(socket);
  });

  it('keeps no place for a client that leaves before its handshake is done', async () => {
    const server = await serve(echo, { deadlines: { handshakeMs: 3_600_000 } });
    for (const sent of ['', '160301020001']) {
      const socket = server.dial();
      socket.resume();
      socket.write(Buffer.from(sent, 'hex'));
      await until(() => server.server.connections === 1);
      socket.end();
      await closed(socket);
      await until(() => server.server.connections === 0);
    }
  });

  it('closes a connection that speaks something else', async () => {
    const server = await serve();
    const socket = server.dial();
    socket.write('GET / HTTP/1.1\r\n\r\n');
    socket.resume();
    await closed(socket);
    await connect(server);
  });
});

describe('evidence', () => {
  it('comes first on every connection: nothing but health is answered before', async () => {
    const server = await serve();
    const connection = await connect(server, { evidence: false });
    for (const [method, path] of [
      ['GET', '/v2'],
      ['GET', '/v2/models/m'],
      ['GET', '/v2/models/m/ready'],
      ['POST', INFER],
    ] as const) {
      const answer = await (await connect(server, { evidence: false })).ask(
        method,
        path,
        method === 'POST' ? question(1) : undefined,
      );
      expect([answer.status, answer.json.code]).toEqual([403, 'EVIDENCE_REQUIRED']);
    }
    expect((await connection.ask('GET', '/v2/health/live')).json).toEqual({ live: true });
    expect((await connection.ask('GET', '/v2/health/ready')).json).toEqual({ ready: true });
    expect((await connection.ask('GET', `/attestation?nonce=${NONCE}`)).json).toEqual({ nonce: NONCE });
    expect((await connection.ask('POST', INFER, question(1))).status).toBe(200);
  });

  it('that failed opens nothing', async () => {
    const connection = await connect(await serve(), { evidence: false });
    expect((await connection.ask('GET', '/attestation')).status).toBe(400);
    expect((await connection.ask('GET', '/v2')).status).toBe(403);
  });

  it('of one connection opens no other', async () => {
    const server = await serve();
    await connect(server);
    const other = await connect(server, { evidence: false });
    expect((await other.ask('GET', '/v2')).status).toBe(403);
  });

  it('is not there yet for a request sent right behind', async () => {
    const server = await serve(echo, {
      evidence: {
        answer: async () => {
          await pause(50);
          return { status: 200, headers: {}, body: Buffer.from('evidence') };
        },
      },
    });
    const { socket } = await connect(server, { evidence: false });
    socket.write(
      `GET /attestation?nonce=${NONCE} HTTP/1.1\r\nhost: e\r\n\r\nGET /v2 HTTP/1.1\r\nhost: e\r\nconnection: close\r\n\r\n`,
    );
    const text = await textUntilClose(socket);
    expect(text.match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 200', 'HTTP/1.1 403']);
  });
});

async function textUntilClose(socket: TLSSocket): Promise<string> {
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  await closed(socket);
  return Buffer.concat(chunks).toString('latin1');
}

describe('the protocol', () => {
  it('describes the server and its model', async () => {
    const connection = await connect(await serve());
    expect((await connection.ask('GET', '/v2')).json).toEqual({
      name: 'strongroom',
      version: '0.1.0',
      extensions: ['binary_tensor_data'],
    });
    const model = {
      name: 'm',
      versions: ['3'],
      platform: 'onnx_onnxruntime',
      inputs: [{ name: 'x', datatype: 'FP32', shape: [-1] }],
      outputs: [{ name: 'y', datatype: 'FP32', shape: [-1] }],
    };
    expect((await connection.ask('GET', '/v2/models/m')).json).toEqual(model);
    expect((await connection.ask('GET', '/v2/models/m/versions/3')).json).toEqual(model);
    expect((await connection.ask('GET', '/v2/models/m/ready')).json).toEqual({ name: 'm', ready: true });
  });

  it('infers, with JSON and with binary tensors', async () => {
    const connection = await connect(await serve());
    const { json } = await connection.ask('POST', `${INFER}`, { ...question(0.5, 2), id: 'one' });
    expect(json).toEqual({
      model_name: 'm',
      model_version: '3',
      id: 'one',
      outputs: [{ name: 'y', shape: [2], datatype: 'FP32', data: [0.5, 2] }],
    });
    const tensor = Buffer.from(Float32Array.of(1, 2, 3).buffer);
    const head = Buffer.from(
      JSON.stringify({
        inputs: [{ name: 'x', datatype: 'FP32', shape: [3], parameters: { binary_data_size: 12 } }],
        outputs: [{ name: 'y', parameters: { binary_data: true } }],
      }),
    );
    const binary = { 'content-type': 'application/octet-stream' };
    const answer = await connection.ask(
      'POST',
      '/v2/models/m/versions/3/infer',
      Buffer.concat([head, tensor]),
      {
        ...binary,
        'inference-header-content-length': String(head.length),
      },
    );
    expect(answer.status).toBe(200);
    expect(answer.headers['content-type']).toBe('application/octet-stream');
    const split = Number(answer.headers['inference-header-content-length']);
    expect(JSON.parse(answer.body.subarray(0, split).toString()).outputs).toEqual([
      { name: 'y', shape: [3], datatype: 'FP32', parameters: { binary_data_size: 12 } },
    ]);
    expect(answer.body.subarray(split)).toEqual(tensor);
    const raw = await connection.ask('POST', INFER, tensor, {
      ...binary,
      'inference-header-content-length': '0',
    });
    expect(raw.body.subarray(Number(raw.headers['inference-header-content-length']))).toEqual(tensor);
  });

  it.each([
    ['GET', '/v2/models/other', 404, 'API_NOT_FOUND'],
    ['GET', '/v2/models/m/versions/2', 404, 'API_NOT_FOUND'],
    ['GET', '/v2/models/__proto__', 404, 'API_NOT_FOUND'],
    ['GET', '/metrics', 404, 'API_NOT_FOUND'],
    ['GET', '/v2?x=1', 400, 'API_INVALID'],
    ['DELETE', '/v2/models/m', 405, 'API_METHOD'],
    ['GET', INFER, 405, 'API_METHOD'],
    ['POST', '/v2', 405, 'API_METHOD'],
  ])('answers %s %s with %d', async (method, path, status, code) => {
    const connection = await connect(await serve());
    const answer = await connection.ask(method, path);
    expect([answer.status, answer.json.code]).toEqual([status, code]);
    expect(typeof answer.json.error).toBe('string');
    if (status === 405) expect(answer.headers.allow).toMatch(/^(GET|POST)$/);
    expect((await connection.ask('GET', '/v2')).status).toBe(200);
  });

  it('names the field of a bad request and keeps the connection', async () => {
    const connection = await connect(await serve());
    const answer = await connection.ask('POST', INFER, {
      inputs: [{ ...question(1).inputs[0], shape: [2] }],
    });
    expect([answer.status, answer.json.error]).toEqual([400, 'inputs[0].data: expected 2 elements, found 1']);
    expect((await connection.ask('POST', INFER, question(1))).status).toBe(200);
  });

  it('takes no body where none belongs', async () => {
    const connection = await connect(await serve());
    expect((await connection.ask('GET', '/v2', '{}')).status).toBe(400);
  });

  it.each([
    ['no content type', { 'content-type': '' }],
    ['another content type', { 'content-type': 'text/plain' }],
    ['binary data in JSON', { 'content-type': 'application/json', 'inference-header-content-length': '2' }],
    ['JSON in binary data', { 'content-type': 'application/octet-stream' }],
    ['a compressed body', { 'content-encoding': 'gzip' }],
  ])('refuses %s with 415', async (_, headers) => {
    const connection = await connect(await serve());
    const answer = await connection.ask('POST', INFER, question(1), headers);
    expect([answer.status, answer.json.code]).toEqual([415, 'API_MEDIA_TYPE']);
  });

  it('takes a content type with parameters, in any case', async () => {
    const connection = await connect(await serve());
    const headers = { 'content-type': 'Application/JSON; charset=utf-8' };
    expect((await connection.ask('POST', INFER, question(1), headers)).status).toBe(200);
  });

  it.each([
    [
      'another engine error',
      new EngineError('ENGINE_REJECTED', 'input x: no'),
      400,
      'ENGINE_REJECTED',
      'input x: no',
    ],
    [
      'an engine that died',
      new EngineError('ENGINE_UNAVAILABLE', 'secret'),
      503,
      'ENGINE_UNAVAILABLE',
      'the engine of this model is not available',
    ],
    [
      'an engine that lied',
      new EngineError('ENGINE_PROTOCOL', 'secret'),
      503,
      'ENGINE_UNAVAILABLE',
      'the engine of this model is not available',
    ],
    ['a fault of our own', new Error('secret'), 500, 'API_INTERNAL', 'something failed inside the enclave'],
  ])('answers %s in its own words', async (_, error, status, code, message) => {
    const connection = await connect(await serve(() => Promise.reject(error)));
    const answer = await connection.ask('POST', INFER, question(1));
    expect([answer.status, answer.json]).toEqual([status, { error: message, code }]);
    if (status === 503) expect(answer.headers['retry-after']).toBe('1');
    expect((await connection.ask('GET', '/v2')).status).toBe(200);
  });

  it('is not ready while an engine is away', async () => {
    const engine = fakeEngine(metadata, echo);
    const server = await serve(echo, { models: [servedModel(engine)] });
    const connection = await connect(server);
    engine.ready = false;
    expect(server.server.ready).toBe(false);
    const ready = await connection.ask('GET', '/v2/health/ready');
    expect([ready.status, ready.json]).toEqual([503, { ready: false }]);
    expect((await connection.ask('GET', '/v2/models/m/ready')).status).toBe(503);
    expect((await connection.ask('GET', '/v2/health/live')).status).toBe(200);
  });
});

describe('size', () => {
  const limits = { requestBytes: 1000, queueLength: 4, connections: 32 };

  it('is refused by its announcement, before the body is read', async () => {
    const { socket } = await connect(await serve(echo, { limits }));
    socket.write(
      `POST ${INFER} HTTP/1.1\r\nhost: e\r\ncontent-type: application/json\r\ncontent-length: 1001\r\n\r\n`,
    );
    const head = await new Promise<string>((resolve) =>
      socket.once('data', (chunk) => resolve(chunk.toString())),
    );
    expect(head).toMatch(/^HTTP\/1\.1 413 /);
    expect(head).toMatch(/connection: close/i);
  });

  it('is refused with 413 that the client gets to read while it sends', async () => {
    const connection = await connect(await serve(echo, { limits }));
    const answer = await connection.ask('POST', INFER, Buffer.alloc(2_000_000, 0x20));
    expect([answer.status, answer.json.code]).toEqual([413, 'API_TOO_LARGE']);
  });

  it('is refused in a chunked body as soon as it is passed', async () => {
    const { socket } = await connect(await serve(echo, { limits }));
    socket.write(
      `POST ${INFER} HTTP/1.1\r\nhost: e\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n`,
    );
    for (let sent = 0; sent < 11; sent += 1) socket.write(`64\r\n${' '.repeat(100)}\r\n`);
    expect(await textUntilClose(socket)).toMatch(/^HTTP\/1\.1 413 /);
  });

  it('within the limit is taken, announced or chunked', async () => {
    const connection = await connect(await serve(echo, { limits }));
    const body = JSON.stringify(question(1));
    expect((await connection.ask('POST', INFER, body.padEnd(1000))).status).toBe(200);
    const { socket } = connection;
    const half = body.length >> 1;
    const chunk = (text: string): string => `${text.length.toString(16)}\r\n${text}\r\n`;
    socket.write(
      `POST ${INFER} HTTP/1.1\r\nhost: e\r\nconnection: close\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n` +
        `${chunk(body.slice(0, half))}${chunk(body.slice(half))}0\r\n\r\n`,
    );
    expect(await textUntilClose(socket)).toMatch(/^HTTP\/1\.1 200 /);
  });

  it('is asked for only if it will be taken (Expect: 100-continue)', async () => {
    const server = await serve(echo, { limits });
    const { socket } = await connect(server);
    const head = `POST ${INFER} HTTP/1.1\r\nhost: e\r\nexpect: 100-continue\r\ncontent-type: application/json\r\n`;
    const body = JSON.stringify(question(1));
    socket.write(`${head}connection: close\r\ncontent-length: ${body.length}\r\n\r\n`);
    const go = await new Promise<string>((resolve) =>
      socket.once('data', (chunk) => resolve(chunk.toString())),
    );
    expect(go).toMatch(/^HTTP\/1\.1 100 /);
    socket.write(body);
    expect(await textUntilClose(socket)).toMatch(/HTTP\/1\.1 200 /);

    const other = await connect(server);
    other.socket.write(`${head}content-length: 1001\r\n\r\n`);
    expect(await textUntilClose(other.socket)).toMatch(/^HTTP\/1\.1 413 /);
  });

  it('of the headers is bounded', async () => {
    const { socket } = await connect(await serve(echo, { limits }));
    socket.write(`GET /v2 HTTP/1.1\r\nhost: e\r\nx: ${'x'.repeat(20_000)}\r\n\r\n`);
    expect(await textUntilClose(socket)).toMatch(/^HTTP\/1\.1 431 /);
  });

  const headOf = (sizeBytes: number): string =>
    `POST ${INFER} HTTP/1.1\r\nhost: e\r\ncontent-type: application/json\r\ncontent-length: ${sizeBytes}\r\n\r\n`;

  it('that was only announced takes nothing from anybody', async () => {
    const server = await serve(echo, { limits });
    const honest = await connect(server);
    for (let index = 0; index < 31; index += 1) {
      const { socket } = await connect(server);
      socket.write(`${headOf(1000)}{`);
    }
    await pause(50);
    expect((await honest.ask('POST', INFER, question(1))).status).toBe(200);
    expect((await honest.ask('POST', INFER, JSON.stringify(question(1)).padEnd(1000))).status).toBe(200);
  });

  it('of all bodies together is bounded', async () => {
    const server = await serve(echo, { limits });
    const senders = await Promise.all(Array.from({ length: 16 }, () => connect(server)));
    for (const { socket } of senders) socket.write(headOf(1000) + ' '.repeat(999));
    let answer: Answer;
    do answer = await (await connect(server)).ask('POST', INFER, question(1));
    while (answer.status === 200);
    expect([answer.status, answer.json.code, answer.headers['retry-after']]).toEqual([
      503,
      'API_OVERLOADED',
      '1',
    ]);
    for (const { socket } of senders) socket.destroy();
    await until(() => server.events.filter(({ status }) => status === 0).length === 16);
    expect((await (await connect(server)).ask('POST', INFER, question(1))).status).toBe(200);
  });
});

describe('overload', () => {
  it('is answered with 503 and Retry-After, nothing is lost, and the queue empties', async () => {
    const held = gate();
    const server = await serve(held.infer);
    // Two at work and four waiting are the limits; the seventh is one too many.
    const connections = await Promise.all(Array.from({ length: 7 }, () => connect(server)));
    const answers = connections
      .slice(0, 6)
      .map((connection, index) => connection.ask('POST', INFER, question(index)));
    await until(() => held.atWork === 2);
    await pause(50);
    const refused = await (connections[6] as Connection).ask('POST', INFER, question(6));
    expect([refused.status, refused.json.code, refused.headers['retry-after']]).toEqual([
      503,
      'API_OVERLOADED',
      '1',
    ]);
    held.release();
    const results = await Promise.all(answers);
    expect(results.map(({ json }) => json.outputs[0].data)).toEqual([[0], [1], [2], [3], [4], [5]]);
    expect((await (connections[6] as Connection).ask('POST', INFER, question(6))).status).toBe(200);
  });

  it('of connections closes the ones too many', async () => {
    const server = await serve(echo, { limits: { requestBytes: 1000, queueLength: 4, connections: 2 } });
    await connect(server);
    const second = await connect(server);
    await expect(connect(server)).rejects.toThrow();
    second.close();
    await until(() => server.server.connections < 2);
    await connect(server);
  });
});

describe('a client that goes away', () => {
  it('is not computed for, neither at work nor in the queue', async () => {
    const held = gate();
    const server = await serve(held.infer);
    const connections = await Promise.all(Array.from({ length: 4 }, () => connect(server)));
    for (const connection of connections) connection.ask('POST', INFER, question(1)).catch(() => undefined);
    await until(() => held.atWork === 2);
    await pause(50);
    for (const connection of connections) connection.close();
    await until(
      () => server.events.filter(({ route, status }) => route === 'infer' && status === 0).length === 4,
    );
    expect(held.atWork).toBeLessThanOrEqual(2);
    expect(held.aborted).toBe(held.atWork);
    held.release();
    expect((await (await connect(server)).ask('POST', INFER, question(1))).status).toBe(200);
  });

  it.each([
    ['of its TLS direction alone (close_notify)', (tls: TLSSocket) => tls.end()],
    ['of its direction below TLS alone (FIN)', (_: TLSSocket, plain: Socket) => plain.end()],
  ])('is one that has closed its half, and waits for its answer: the end %s', async (_what, halfClose) => {
    const held = gate();
    const server = await serve(held.infer);
    const plain = netConnect({ path: server.path, allowHalfOpen: true });
    const connection = await connect(server, { socket: plain });
    const answer = connection.ask('POST', INFER, question(1)).then(
      ({ status }) => status,
      () => 'none',
    );
    await until(() => held.atWork === 1);
    halfClose(connection.socket, plain);
    expect(await answer).toBe('none');
    await until(() => held.aborted === 1 && server.server.connections === 0);
    expect(server.events.at(-1)).toMatchObject({ route: 'infer', status: 0 });
  });

  it('in the middle of its body leaves nothing behind', async () => {
    const server = await serve();
    const { socket } = await connect(server);
    socket.write(
      `POST ${INFER} HTTP/1.1\r\nhost: e\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"inputs"`,
    );
    await pause(20);
    socket.destroy();
    await until(() => server.server.connections === 0);
    expect((await (await connect(server)).ask('POST', INFER, question(1))).status).toBe(200);
  });
});

describe('a client that is slow', () => {
  it('with its headers is cut off', async () => {
    const server = await serve(echo, { deadlines: { headersMs: 200, requestMs: 400 } });
    const { socket } = await connectInTime(server);
    socket.write('GET /v2 HTTP/1.1\r\nhost:');
    expect(await textUntilClose(socket)).toMatch(/^HTTP\/1\.1 408 /);
  });

  it('to say anything at all is cut off', async () => {
    const server = await serve(echo, { deadlines: { headersMs: 200, requestMs: 400 } });
    const { socket } = await connect(server, { evidence: false });
    await textUntilClose(socket);
  });

  it('with its body is cut off', async () => {
    const server = await serve(echo, { deadlines: { headersMs: 200, requestMs: 400 } });
    const { socket } = await connectInTime(server);
    socket.write(
      `POST ${INFER} HTTP/1.1\r\nhost: e\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{`,
    );
    const timer = setInterval(() => socket.write(' '), 50);
    await textUntilClose(socket);
    clearInterval(timer);
    await until(() => server.server.connections === 0);
  });

  it('with its body gets 408 long before its whole time is over, and its place is free', async () => {
    const limits = { requestBytes: 1000, queueLength: 4, connections: 32 };
    const deadlines = { bodyWindowMs: 200, bodyBytesPerSecond: 1000 };
    const server = await serve(echo, { limits, deadlines });
    const ends = Array.from({ length: 16 }, async (): Promise<string> => {
      const { socket } = await connect(server);
      socket.write(
        `POST ${INFER} HTTP/1.1\r\nhost: e\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n`,
      );
      socket.write(' '.repeat(900));
      const drip = setInterval(() => socket.write(' '), 50);
      return textUntilClose(socket).finally(() => clearInterval(drip));
    });
    for (const text of await Promise.all(ends)) {
      expect(text).toMatch(/^HTTP\/1\.1 408 /);
      expect(text).toContain('"code":"API_SLOW"');
    }
    const honest = await connect(server);
    const body = JSON.stringify(question(1)).padEnd(1000);
    expect((await honest.ask('POST', INFER, body)).status).toBe(200);
  });

  it('but faster than the floor is answered', async () => {
    const server = await serve(echo, { deadlines: { bodyWindowMs: 1_000, bodyBytesPerSecond: 20 } });
    const { socket } = await connect(server);
    const body = JSON.stringify(question(1)).padEnd(1000);
    socket.write(
      `POST ${INFER} HTTP/1.1\r\nhost: e\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n`,
    );
    const answer = textUntilClose(socket);
    for (let sent = 0; sent < 1000; sent += 50) {
      socket.write(body.slice(sent, sent + 50));
      await pause(75);
    }
    expect(await answer).toMatch(/^HTTP\/1\.1 200 /);
  });

  it('between requests is let go', async () => {
    const server = await serve(echo, { deadlines: { idleMs: 100 } });
    const { socket } = await connect(server);
    await textUntilClose(socket);
  });

  it('to take its answer is cut off', async () => {
    const big = 8 * 1024 * 1024;
    const server = await serve(
      async () => ({
        outputs: [{ name: 'y', datatype: 'FP32', shape: [big / 4], data: new Uint8Array(big) }],
      }),
      { deadlines: { deliveryMs: 200 } },
    );
    const { socket } = await connect(server);
    socket.pause();
    const body = JSON.stringify({ ...question(1), parameters: { binary_data_output: true } });
    socket.write(
      `POST ${INFER} HTTP/1.1\r\nhost: e\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    );
    await until(() => server.server.connections === 0);
  });

  it('is not to blame for a slow answer, which ends with 503 at its deadline', async () => {
    const held = gate();
    const connection = await connect(await serve(held.infer, { deadlines: { answerMs: 100 } }));
    const answer = await connection.ask('POST', INFER, question(1));
    expect([answer.status, answer.json.code, answer.headers['retry-after']]).toEqual([
      503,
      'API_DEADLINE',
      '1',
    ]);
    expect(held.aborted).toBe(1);
  });
});

describe('requests behind one another on a connection', () => {
  const ask = (count: number): string => {
    const body = JSON.stringify(question(1));
    const first = `POST ${INFER} HTTP/1.1\r\nhost: e\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`;
    const last = 'GET /v2 HTTP/1.1\r\nhost: e\r\nconnection: close\r\n\r\n';
    return `${first}${'GET /v2/health/live HTTP/1.1\r\nhost: e\r\n\r\n'.repeat(count - 2)}${last}`;
  };

  it('are answered in their order, up to 16', async () => {
    const held = gate();
    const { socket } = await connect(await serve(held.infer));
    const text = textUntilClose(socket);
    socket.write(ask(16));
    await until(() => held.atWork === 1);
    held.release();
    expect((await text).match(/HTTP\/1\.1 200 /g)).toHaveLength(16);
  });

  it('cut the connection when more are open, so that nobody fills the memory by not reading', async () => {
    const held = gate();
    const server = await serve(held.infer);
    const { socket } = await connect(server);
    socket.write(ask(17));
    expect(await textUntilClose(socket)).toBe('');
    await until(() => server.server.connections === 0);
    held.release();
  });
});

describe('hostile HTTP', () => {
  it.each([
    ['no HTTP', 'hello\r\n\r\n'],
    ['two lengths', `POST ${INFER} HTTP/1.1\r\nhost: e\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n`],
    [
      'a length and chunks',
      `POST ${INFER} HTTP/1.1\r\nhost: e\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`,
    ],
    ['a length that is no number', `POST ${INFER} HTTP/1.1\r\nhost: e\r\ncontent-length: 0x10\r\n\r\n`],
    ['a header with a bare line feed', `GET /v2 HTTP/1.1\r\nhost: e\r\nx: a\nb\r\n\r\n`],
    ['an unknown encoding', `POST ${INFER} HTTP/1.1\r\nhost: e\r\ntransfer-encoding: gzip\r\n\r\n`],
    ['no host', `GET /v2 HTTP/1.1\r\nconnection: close\r\n\r\n`],
  ])('is refused: %s', async (_, text) => {
    const server = await serve();
    const { socket } = await connect(server);
    socket.write(text);
    expect(await textUntilClose(socket)).toMatch(/^HTTP\/1\.1 400 /);
    expect((await (await connect(server)).ask('GET', '/v2')).status).toBe(200);
  });

  it.each([
    ['CONNECT', 'CONNECT kms.amazonaws.com:443 HTTP/1.1\r\nhost: e\r\n\r\n'],
    ['an upgrade', 'GET /v2 HTTP/1.1\r\nhost: e\r\nconnection: upgrade, close\r\nupgrade: websocket\r\n\r\n'],
  ])('leads nowhere: %s', async (_, text) => {
    const { socket } = await connect(await serve());
    socket.write(text);
    expect(await textUntilClose(socket)).not.toMatch(/ 101 | 200 Connection/);
  });
});

describe('a drain', () => {
  it('finishes what is at work, takes nothing new, and closes', async () => {
    const held = gate();
    const server = await serve(held.infer);
    const [busy, idle] = [await connect(server), await connect(server)];
    const answer = busy.ask('POST', INFER, question(1));
    await until(() => held.atWork === 1);
    const drained = server.server.drain(10_000);
    expect(server.server.ready).toBe(false);
    expect((await idle.ask('GET', '/v2/health/ready')).status).toBe(503);
    await expect(connect(server)).rejects.toThrow();
    held.release();
    expect((await answer).json.outputs[0].data).toEqual([1]);
    await drained;
    await until(() => server.server.connections === 0);
  });

  it('refuses new inferences on open connections with 503', async () => {
    const held = gate();
    const server = await serve(held.infer);
    const [busy, other] = [await connect(server), await connect(server)];
    const answer = busy.ask('POST', INFER, question(1));
    await until(() => held.atWork === 1);
    void server.server.drain(10_000);
    const refused = await other.ask('POST', INFER, question(2));
    expect([refused.status, refused.json.code]).toEqual([503, 'API_DRAINING']);
    held.release();
    expect((await answer).status).toBe(200);
  });

  it('cuts what is still at work at its deadline', async () => {
    const held = gate();
    const server = await serve(held.infer);
    const busy = await connect(server);
    const answer = busy.ask('POST', INFER, question(1));
    const cut = expect(answer).rejects.toThrow();
    await until(() => held.atWork === 1);
    await server.server.drain(50);
    await cut;
    await until(() => server.server.connections === 0);
  });

  it('ends the engines, once nothing is at work any more', async () => {
    const held = gate();
    let closes = 0;
    const engine = {
      ...fakeEngine(metadata, held.infer),
      close: async () => {
        closes += 1;
      },
    };
    const server = await serve(echo, { models: [servedModel(engine)] });
    const answer = (await connect(server)).ask('POST', INFER, question(1));
    await until(() => held.atWork === 1);
    const drained = server.server.drain(10_000);
    await pause(20);
    expect(closes).toBe(0);
    held.release();
    expect((await answer).status).toBe(200);
    await drained;
    expect(closes).toBe(1);
  });

  it('is the same drain when asked for twice', async () => {
    const { server } = await serve();
    expect(server.drain()).toBe(server.drain());
    await server.drain();
  });
});

describe('what is observed', () => {
  it('is the class of the path, the status and a coarse duration, whatever was sent', async () => {
    const server = await serve();
    const connection = await connect(server);
    await connection.ask('POST', INFER, question(1));
    await connection.ask('POST', INFER, '{"inputs":"hunter2"}', { 'x-secret': 'hunter2' });
    await connection.ask('GET', '/v2/models/hunter2');
    await connection.ask('GET', '/hunter2');
    await until(() => server.events.length === 5);
    expect(server.events.map(({ route, status }) => `${route} ${status}`)).toEqual([
      'evidence 200',
      'infer 200',
      'infer 400',
      'model 404',
      'unknown 404',
    ]);
    for (const event of server.events) {
      expect(Object.keys(event).sort()).toEqual(['duration', 'route', 'status']);
      expect(event.duration).toMatch(/^(under-(10ms|100ms|1s|10s)|longer)$/);
    }
    expect(JSON.stringify(server.events)).not.toContain('hunter2');
  });
});

it('answers a client of the platform: tls.connect and plain HTTP/1.1', async () => {
  const server = await serve();
  const socket = tlsConnect({ path: server.path, rejectUnauthorized: false });
  socket.write('GET /v2/health/live HTTP/1.1\r\nhost: e\r\nconnection: close\r\n\r\n');
  expect(await textUntilClose(socket)).toMatch(/\r\n\r\n\{"live":true\}$/);
});

describe('a model that is replaced', () => {
  const versionOf = async (connection: Connection) =>
    (await connection.ask('GET', '/v2/models/m')).json?.versions[0];

  it('serves whoever has evidence of it to the end of the request, and then the connection is closed', async () => {
    const release = Promise.withResolvers<void>();
    const server = await serve(async (request) => {
      await release.promise;
      return echo(request);
    });
    const old = await connect(server);
    const asked = old.ask('POST', INFER, question(1));
    await pause(20);
    server.models.put(servedModel(fakeEngine(metadata, echo), { version: 4 }));
    const fresh = await connect(server);
    expect(await versionOf(fresh)).toBe('4');
    release.resolve();
    const answer = await asked;
    expect([answer.status, answer.json.model_version]).toEqual([200, '3']);
    expect(answer.headers.connection).toBe('close');
  });

  it('is told of nobody whose evidence named another: an idle connection is served once more, then closed', async () => {
    const server = await serve();
    const old = await connect(server);
    expect(await versionOf(old)).toBe('3');
    server.models.put(servedModel(fakeEngine(metadata, echo), { version: 4 }));
    const answer = await old.ask('GET', '/v2/models/m');
    expect([answer.json.versions[0], answer.headers.connection]).toEqual(['3', 'close']);
  });

  it('serves a connection that asks for evidence again by what the new evidence names', async () => {
    const server = await serve();
    const connection = await connect(server);
    server.models.put(servedModel(fakeEngine(metadata, echo), { version: 4 }));
    const again = await connection.ask('GET', `/attestation?nonce=${NONCE}`);
    expect(again.status).toBe(200);
    expect(await versionOf(connection)).toBe('4');
  });

  it('is closed when its last connection ends', async () => {
    const closed: string[] = [];
    const first = servedModel(fakeEngine(metadata, echo), { close: async () => void closed.push('m') });
    const server = await serve(echo, { models: [first] });
    const old = await connect(server);
    server.models.put(servedModel(fakeEngine(metadata, echo), { version: 4 }));
    expect(closed).toEqual([]);
    old.close();
    await eventually(() => closed).toEqual(['m']);
  });
});
