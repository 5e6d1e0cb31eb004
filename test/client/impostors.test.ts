/** Servers that are not the enclave, or not always, or not quite. None of them may ever see a request. */
import { once } from 'node:events';
import net from 'node:net';
import tls from 'node:tls';
import { Pool } from 'undici';
import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import { connect } from '../../client/index.ts';
import { VerifiedConnection } from '../../client/verified-connection.ts';
import { encodeEvidenceClaims, encodeEvidenceResponse, parseNonce } from '../../shared/evidence/encode.ts';
import { EXPORTER_LABEL, modelsDigest } from '../../shared/evidence/evidence.ts';
import { keyPair } from '../shared/attestation/build.ts';
import { eventually } from '../support/eventually.ts';
import {
  DEPLOYMENT,
  evidenceRequestOn,
  honestAnswer,
  honestHttp,
  httpResponse,
  IRIS,
  newIdentity,
  newIssuer,
  startPlatform,
  startRawServer,
  startTestEnclave,
  type TestPlatform,
} from './test-enclave.ts';

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

let platform: TestPlatform;
beforeAll(async () => {
  platform = await startPlatform();
});

const refusal = (code: string) => expect.objectContaining({ code });
const JSON_TYPE = { 'content-type': 'application/json' };

type Script = (socket: tls.TLSSocket, nonce: string, index: number) => Promise<void> | void;

/** A server that holds a genuine identity and issuer, and runs a script instead of HTTP. */
async function scripted(script: Script, options: tls.SecureContextOptions = {}) {
  const identity = newIdentity();
  const issuer = newIssuer(platform, identity);
  const received: string[] = [];
  const server = await startRawServer(
    () => identity,
    async (socket, index) => {
      socket.on('data', (chunk) => {
        received[index] = (received[index] ?? '') + chunk.toString('latin1');
      });
      const { nonce } = await evidenceRequestOn(socket);
      await script(socket, nonce, index);
    },
    options,
  );
  cleanups.push(() => server.close());
  return { ...server, identity, issuer, received };
}

async function expectRefused(url: string, code: string, timeoutMs = 20_000): Promise<void> {
  await expect(connect(url, platform.expectations, { timeoutMs })).rejects.toThrow(refusal(code));
}

describe('somebody in the middle', () => {
  /** Ends the client's TLS with `identity` and asks the real enclave for evidence with the client's own nonce. */
  async function relay(identity: ReturnType<typeof newIdentity>, enclavePort: number) {
    const received: string[] = [];
    const server = await startRawServer(
      () => identity,
      (downstream) => {
        const upstream = tls.connect({ port: enclavePort, host: '127.0.0.1', rejectUnauthorized: false });
        upstream.on('error', () => {});
        downstream.on('data', (chunk) => received.push(chunk.toString('latin1')));
        downstream.pipe(upstream).pipe(downstream);
      },
    );
    cleanups.push(() => server.close());
    return { ...server, received };
  }

  test('relays genuine evidence under a TLS key of its own: refused', async () => {
    const enclave = await startTestEnclave({ platform });
    cleanups.push(() => enclave.close());
    const middle = await relay(newIdentity(), enclave.port);
    await expectRefused(middle.url, 'CLIENT_OTHER_SESSION');
    expect(enclave.requests).toEqual(['GET /attestation']);
    expect(middle.received.join('')).toMatch(
      /^GET \/attestation\?nonce=[\w-]{43} HTTP\/1\.1\r\nhost: 127\.0\.0\.1:\d+\r\naccept: application\/json\r\n\r\n$/,
    );
  });

  test("relays genuine evidence under the enclave's own stolen TLS key: refused all the same", async () => {
    const enclave = await startTestEnclave({ platform });
    cleanups.push(() => enclave.close());
    const middle = await relay(enclave.identity, enclave.port);
    await expectRefused(middle.url, 'CLIENT_OTHER_SESSION');
    expect(enclave.requests).toEqual(['GET /attestation']);
  });

  test('replays evidence that another client got on another connection: refused', async () => {
    const recorded: Buffer[] = [];
    const server = await scripted(async (socket, nonce) => {
      if (recorded.length === 0) recorded.push(await honestAnswer(server.issuer, socket, nonce));
      socket.write(recorded[0] as Buffer);
    });
    await (await connect(server.url, platform.expectations)).close();
    await expectRefused(server.url, 'ATTESTATION_NONCE_MISMATCH');
  });

  test('shows evidence of this session that names another certificate: refused', async () => {
    const server = await scripted(async (socket, nonce) => {
      socket.write(await honestAnswer(newIssuer(platform, newIdentity()), socket, nonce));
    });
    await expectRefused(server.url, 'CLIENT_OTHER_CERTIFICATE');
  });

  test('changes the list of models beside the evidence: refused', async () => {
    const server = await scripted(async (socket, nonce) => {
      const { body } = await server.issuer.answer(socket, nonce);
      const changed = Buffer.from(Buffer.from(body).toString().replace('"version":3', '"version":4'));
      socket.write(
        httpResponse('HTTP/1.1 200 OK', { ...JSON_TYPE, 'content-length': String(changed.length) }, changed),
      );
    });
    await expectRefused(server.url, 'CLIENT_MODELS_MISMATCH');
  });

  test('shows evidence that the enclave made for another purpose: refused', async () => {
    const server = await scripted(async (socket, nonceText) => {
      const nonce = parseNonce(nonceText);
      const { createHash } = await import('node:crypto');
      const userData = encodeEvidenceClaims({
        purpose: 'kms',
        exporter: socket.exportKeyingMaterial(32, EXPORTER_LABEL, Buffer.from(nonce)),
        spki: server.identity.spkiSha256,
        models: modelsDigest([IRIS]),
        deployment: createHash('sha384').update(DEPLOYMENT).digest(),
      });
      const document = await platform.nsm.attest({ userData, nonce, publicKey: null });
      const body = encodeEvidenceResponse(document, [IRIS]);
      socket.write(
        httpResponse('HTTP/1.1 200 OK', { ...JSON_TYPE, 'content-length': String(body.length) }, body),
      );
    });
    await expectRefused(server.url, 'CLIENT_PURPOSE');
  });

  test.each([
    ['no key', null],
    ['the RSA key of a document for KMS', new Uint8Array(294).fill(1)],
    ['a key of another curve', keyPair('P-384').publicKey.export({ type: 'spki', format: 'der' })],
  ])('shows evidence that carries %s for receipts: refused', async (_what, receiptKey) => {
    const server = await scripted(async (socket, nonce) => {
      const issuer = newIssuer(platform, server.identity, { receiptKey: receiptKey as Uint8Array });
      const { body } = await issuer.answer(socket, nonce);
      socket.write(
        httpResponse('HTTP/1.1 200 OK', { ...JSON_TYPE, 'content-length': String(body.length) }, body),
      );
    });
    await expectRefused(server.url, 'EVIDENCE_RECEIPT_KEY');
  });

  test('shows a genuine document without claims: refused', async () => {
    const server = await scripted(async (socket, nonceText) => {
      const document = await platform.nsm.attest({
        userData: null,
        nonce: parseNonce(nonceText),
        publicKey: null,
      });
      const body = encodeEvidenceResponse(document, [IRIS]);
      socket.write(
        httpResponse('HTTP/1.1 200 OK', { ...JSON_TYPE, 'content-length': String(body.length) }, body),
      );
    });
    await expectRefused(server.url, 'EVIDENCE_CLAIMS');
  });
});

describe('a server that answers oddly', () => {
  const oddly = (change: (answer: Buffer) => Buffer) =>
    scripted(async (socket, nonce) => {
      const identity = newIdentity();
      socket.write(change(await honestAnswer(newIssuer(platform, identity), socket, nonce)));
    });
  const text = (change: (answer: string) => string) => (answer: Buffer) =>
    Buffer.from(change(answer.toString('latin1')), 'latin1');

  test.each([
    ['one byte more', text((answer) => `${answer}x`), 'CLIENT_RESPONSE_EXTRA'],
    [
      'an answer to a request that was not made',
      text((answer) => `${answer}HTTP/1.1 200 OK\r\n\r\n`),
      'CLIENT_RESPONSE_EXTRA',
    ],
    ['HTTP/1.0', text((answer) => answer.replace('HTTP/1.1', 'HTTP/1.0')), 'CLIENT_RESPONSE_MALFORMED'],
    ['100 Continue first', text((answer) => `HTTP/1.1 100 Continue\r\n\r\n${answer}`), 'CLIENT_NO_EVIDENCE'],
    [
      '103 Early Hints first',
      text((answer) => `HTTP/1.1 103 Early Hints\r\n\r\n${answer}`),
      'CLIENT_NO_EVIDENCE',
    ],
    [
      'a redirect',
      text(() => 'HTTP/1.1 307 X\r\nlocation: https://x/\r\ncontent-length: 0\r\n\r\n'),
      'CLIENT_NO_EVIDENCE',
    ],
    [
      'huge headers',
      text((answer) => answer.replace('\r\n', `\r\nx: ${'a'.repeat(1e6)}\r\n`)),
      'CLIENT_RESPONSE_MALFORMED',
    ],
    [
      'chunks',
      text((answer) => answer.replace('\r\n', '\r\ntransfer-encoding: chunked\r\n')),
      'CLIENT_RESPONSE_MALFORMED',
    ],
    [
      'two lengths',
      text((answer) => answer.replace('\r\n', '\r\ncontent-length: 5\r\n')),
      'CLIENT_RESPONSE_MALFORMED',
    ],
    ['too many requests', text(() => 'HTTP/1.1 429 X\r\nretry-after: 3\r\n\r\n'), 'CLIENT_BUSY'],
    [
      'a web page',
      text(() => 'HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\nhi'),
      'CLIENT_RESPONSE_MALFORMED',
    ],
    [
      'JSON that is not evidence',
      text(() => 'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}'),
      'EVIDENCE_RESPONSE',
    ],
  ])('%s: refused, whatever it would have proved', async (_what, change, code) => {
    const server = await oddly(change);
    await expectRefused(server.url, code);
    expect(server.received.join('').match(/HTTP\/1\.1/g)).toHaveLength(1);
  });

  test('half an answer and then the end: refused', async () => {
    const server = await scripted(async (socket, nonce) => {
      const answer = await honestAnswer(server.issuer, socket, nonce);
      socket.end(answer.subarray(0, answer.length - 1));
    });
    await expectRefused(server.url, 'CLIENT_CONNECTION_LOST');
  });

  test('a slow drip runs into the deadline', async () => {
    const server = await scripted(async (socket, nonce) => {
      for (const byte of await honestAnswer(server.issuer, socket, nonce)) {
        if (socket.destroyed) return;
        socket.write(Uint8Array.of(byte));
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    });
    await expectRefused(server.url, 'CLIENT_TIMEOUT', 300);
  });

  test('an answer byte by byte, in time, is fine', async () => {
    const server = await scripted(async (socket, nonce) => {
      for (const byte of await honestAnswer(server.issuer, socket, nonce)) {
        socket.write(Uint8Array.of(byte));
        await new Promise((resolve) => setImmediate(resolve));
      }
    });
    await (await connect(server.url, platform.expectations)).close();
  });

  test('an answer before the question: refused', async () => {
    const identity = newIdentity();
    const issuer = newIssuer(platform, identity);
    const server = await startRawServer(
      () => identity,
      async (socket) => {
        socket.on('data', () => {});
        socket.write(await honestAnswer(issuer, socket, 'A'.repeat(43)));
      },
    );
    cleanups.push(() => server.close());
    // Whether it is seen before or after the question was sent is a matter of timing; it fails either way.
    const codes = /^(CLIENT_RESPONSE_EXTRA|ATTESTATION_NONCE_MISMATCH)$/;
    await expect(connect(server.url, platform.expectations)).rejects.toThrow(
      expect.objectContaining({ code: expect.stringMatching(codes) }),
    );
  });

  test('a server that says nothing runs into the deadline', async () => {
    const silent = net.createServer(() => {});
    silent.listen(0, '127.0.0.1');
    await once(silent, 'listening');
    cleanups.push(() => silent.close());
    const { port } = silent.address() as net.AddressInfo;
    await expectRefused(`https://127.0.0.1:${port}`, 'CLIENT_TIMEOUT', 200);
  });

  test('a server that does not speak TLS: refused', async () => {
    const plain = net.createServer((socket) =>
      socket.on('error', () => {}).end('HTTP/1.1 400 Bad Request\r\n\r\n'),
    );
    plain.listen(0, '127.0.0.1');
    await once(plain, 'listening');
    cleanups.push(() => plain.close());
    const { port } = plain.address() as net.AddressInfo;
    await expectRefused(`https://127.0.0.1:${port}`, 'CLIENT_TLS');
  });

  test.each([
    ['ends', (socket: net.Socket) => socket.end()],
    ['resets', (socket: net.Socket) => socket.resetAndDestroy()],
  ])('a server that %s the connection without a word is not there', async (_how, leave) => {
    const mute = net.createServer((socket) => {
      leave(socket.on('error', () => {}).resume());
    });
    mute.listen(0, '127.0.0.1');
    await once(mute, 'listening');
    cleanups.push(() => mute.close());
    const { port } = mute.address() as net.AddressInfo;
    await expectRefused(`https://127.0.0.1:${port}`, 'CLIENT_UNREACHABLE');
  });

  test('a server that speaks TLS 1.2 at most: refused in the handshake', async () => {
    const server = await scripted(() => {}, { maxVersion: 'TLSv1.2' });
    await expectRefused(server.url, 'CLIENT_TLS');
    expect(server.received).toEqual([]);
  });
});

describe('a server that turns hostile after the first connection', () => {
  /** Honest on its first connection; what it is afterwards is the test's choice. */
  async function turncoat(afterwards: Script, laterIdentity?: ReturnType<typeof newIdentity>) {
    const identity = newIdentity();
    const issuer = newIssuer(platform, identity);
    const { serve, requests } = honestHttp(issuer, (_request, response) =>
      setTimeout(() => response.end('honest'), 20),
    );
    const received: string[] = [];
    const server = await startRawServer(
      (index) => (index === 0 ? identity : (laterIdentity ?? identity)),
      async (socket, index) => {
        if (index === 0) return serve(socket);
        socket.on('data', (chunk) => received.push(chunk.toString('latin1')));
        const { nonce } = await evidenceRequestOn(socket);
        await afterwards(socket, nonce, index);
      },
    );
    cleanups.push(() => server.close());
    return { ...server, requests, received, issuer };
  }

  async function afterReconnect(server: Awaited<ReturnType<typeof turncoat>>, code: string): Promise<void> {
    const client = await connect(server.url, platform.expectations);
    cleanups.push(() => client.close());
    expect(await (await client.fetch('/first')).text()).toBe('honest');
    server.connections[0]?.destroy();
    await eventually(() => server.connections[0]?.closed).toBe(true);
    // The pool may not have noticed yet that its connection is gone; that failure is not the one under test.
    await eventually(() =>
      client.fetch('/second', { method: 'POST', body: 'secret prompt' }).catch((error) => error),
    ).toEqual(refusal(code));
    expect(server.requests).toEqual(['GET /attestation', 'GET /first']);
    expect(server.received.join('')).not.toMatch(/second|secret/);
  }

  test('with another certificate and no evidence', async () => {
    const server = await turncoat(
      (socket) => void socket.write('HTTP/1.1 404 X\r\ncontent-length: 0\r\n\r\n'),
      newIdentity(),
    );
    await afterReconnect(server, 'CLIENT_NO_EVIDENCE');
  });

  test('with another certificate and the evidence of the old one', async () => {
    const server = await turncoat(async (socket, nonce) => {
      socket.write(await honestAnswer(server.issuer, socket, nonce));
    }, newIdentity());
    await afterReconnect(server, 'CLIENT_OTHER_CERTIFICATE');
  });

  test('with an answer to the request, unasked, in place of evidence', async () => {
    const server = await turncoat(
      (socket) =>
        void socket.write('HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok'),
    );
    await afterReconnect(server, 'CLIENT_RESPONSE_MALFORMED');
  });

  test('with evidence of another image', async () => {
    const otherImage = await startPlatform();
    const other = newIdentity();
    const server = await turncoat(async (socket, nonce) => {
      socket.write(await honestAnswer(newIssuer(otherImage, other), socket, nonce));
    }, other);
    await afterReconnect(server, 'ATTESTATION_UNTRUSTED_ROOT');
  });

  test('while many requests wait: only the verified connection carries any of them', async () => {
    const server = await turncoat(
      (socket) => void socket.write('HTTP/1.1 404 X\r\ncontent-length: 0\r\n\r\n'),
    );
    const client = await connect(server.url, platform.expectations);
    cleanups.push(() => client.close());
    const attempts = Array.from({ length: 12 }, (_, i) =>
      client.fetch(`/many-${i}`, { method: 'POST', body: `secret ${i}` }).then((response) => response.text()),
    );
    const outcomes = await Promise.allSettled(attempts);
    const answered = outcomes.filter(({ status }) => status === 'fulfilled').length;
    expect(answered).toBeGreaterThan(0);
    expect(answered).toBeLessThan(12);
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') expect(outcome.reason).toEqual(refusal('CLIENT_NO_EVIDENCE'));
    }
    expect(server.requests.filter((line) => line.startsWith('POST'))).toHaveLength(answered);
    expect(server.received.join('')).not.toMatch(/many|secret/);
  });

  test('speaking out of turn while the verified connection waits: it is not used', async () => {
    const connected = Promise.withResolvers<void>();
    const server = await scripted(async (socket, nonce, index) => {
      socket.write(await honestAnswer(server.issuer, socket, nonce));
      if (index > 0) return;
      await connected.promise;
      socket.write('HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nplanted');
    });
    const client = await connect(server.url, platform.expectations);
    cleanups.push(() => client.close());
    connected.resolve();
    await eventually(() => server.connections[0]?.destroyed).toBe(true);
    const unanswered = new AbortController();
    const refused = expect(client.fetch('/a', { signal: unanswered.signal })).rejects.toThrow();
    await eventually(() => server.received[1]).toMatch(/GET \/a /);
    unanswered.abort();
    await refused;
    expect(server.connections).toHaveLength(2);
    expect(server.received[0]).not.toMatch(/GET \/a /);
  });
});

describe('a connection that was not verified cannot send', () => {
  test('pipelined requests wait for the verification of their connection', async () => {
    const server = await scripted(
      (socket) => void socket.write('HTTP/1.1 404 X\r\ncontent-length: 0\r\n\r\n'),
    );
    const honest = await startTestEnclave({ platform });
    cleanups.push(() => honest.close());
    const client = await connect(honest.url, platform.expectations);
    cleanups.push(() => client.close());
    const pool = new Pool(server.url, {
      pipelining: 10,
      connections: 1,
      connect: (_options, callback) => {
        VerifiedConnection.open(
          new URL(server.url),
          { pcrs: platform.expectations.pcrs, maxAgeMs: 1000, models: [], anchors: [] as never },
          { now: () => new Date(), timeoutMs: 1000 },
        ).then(
          (connection) => callback(null, VerifiedConnection.takeSocket(connection)),
          (error: Error) => callback(error, null),
        );
      },
    });
    cleanups.push(() => pool.destroy());
    const attempts = Array.from({ length: 10 }, (_, i) =>
      pool.request({ path: `/piped-${i}`, method: 'GET' }),
    );
    for (const outcome of await Promise.allSettled(attempts)) expect(outcome.status).toBe('rejected');
    expect(server.received.join('')).not.toContain('piped');
  });

  test('a verified connection cannot be made up', async () => {
    const made = Reflect.construct.bind(Reflect, VerifiedConnection as never);
    expect(() => made([Symbol('verified'), {}, {}])).toThrow(TypeError);
    const lookalike = Object.create(VerifiedConnection.prototype) as VerifiedConnection;
    expect(() => VerifiedConnection.takeSocket(lookalike)).toThrow(TypeError);
  });

  test('a verified connection gives its socket once', async () => {
    const enclave = await startTestEnclave({ platform });
    cleanups.push(() => enclave.close());
    const { checkExpectations } = await import('../../client/expectations.ts');
    const connection = await VerifiedConnection.open(
      new URL(enclave.url),
      checkExpectations(platform.expectations),
      {
        now: () => new Date(),
        timeoutMs: 5000,
      },
    );
    const socket = VerifiedConnection.takeSocket(connection);
    expect(socket).toBeInstanceOf(tls.TLSSocket);
    expect(() => VerifiedConnection.takeSocket(connection)).toThrow(refusal('CLIENT_CONNECTION_LOST'));
    socket.destroy();
  });
});
