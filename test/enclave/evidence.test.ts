import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import tls from 'node:tls';
import { afterEach, expect, test } from 'vitest';
import { createEvidenceIssuer, type EvidenceSource } from '../../enclave/evidence.ts';
import { createTlsIdentity } from '../../enclave/tls-identity.ts';
import { decodeEvidenceClaims, decodeEvidenceResponse } from '../../shared/evidence/decode.ts';
import { EXPORTER_LABEL, type LoadedModel, modelsDigest } from '../../shared/evidence/evidence.ts';
import { eventually } from '../support/eventually.ts';

const IRIS: LoadedModel = {
  name: 'iris',
  version: 3,
  manifestSha256: 'a1'.repeat(32),
  contentId: 'b2'.repeat(32),
};
const NONCE = new Uint8Array(32).fill(7);
const NONCE_TEXT = Buffer.from(NONCE).toString('base64url');
const RECEIPT_KEY = new Uint8Array(91).fill(3);
const UNLIMITED = { burst: 1e9, perSecond: 1e9 };

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0)) cleanup();
});

/** Both ends of one real TLS 1.3 connection. */
async function connectedPair(version: tls.SecureVersion = 'TLSv1.3') {
  const identity = createTlsIdentity(new Date('2026-01-01T00:00:00Z'), new Uint8Array(16));
  const secureContext = tls.createSecureContext({
    key: Buffer.from(identity.key),
    cert: identity.certificatePem,
  });
  const accepted = Promise.withResolvers<tls.TLSSocket>();
  const listener = createServer((socket) => {
    const secured = new tls.TLSSocket(socket, { isServer: true, secureContext });
    secured.on('error', () => {});
    secured.once('secure', () => accepted.resolve(secured));
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address() as AddressInfo;
  const atClient = tls.connect({ port, host: '127.0.0.1', rejectUnauthorized: false, maxVersion: version });
  atClient.on('error', () => {});
  await once(atClient, 'secureConnect');
  const server = await accepted.promise;
  cleanups.push(() => {
    atClient.destroy();
    server.destroy();
    listener.close();
  });
  return { atClient, atServer: server, identity };
}

function issuer(changes: Partial<EvidenceSource> = {}) {
  const asked: Parameters<EvidenceSource['nsm']['attest']>[0][] = [];
  const failures: unknown[] = [];
  const time = { ms: 0 };
  const made = createEvidenceIssuer({
    nsm: {
      attest: async (fields) => {
        asked.push(fields);
        return Uint8Array.of(1, 2, 3);
      },
    },
    spkiSha256: new Uint8Array(32).fill(1),
    receiptKey: RECEIPT_KEY,
    deploymentSha384: new Uint8Array(48).fill(2),
    currentModels: () => ({ models: [IRIS] }),
    monotonicMs: () => time.ms,
    onFailure: (error) => failures.push(error),
    ...changes,
  });
  return { issuer: made, asked, failures, time };
}

const errorOf = (body: Uint8Array): string => JSON.parse(Buffer.from(body).toString()).error;

test('the document is asked for with the nonce and with claims about this very session', async () => {
  const { atClient, atServer, identity } = await connectedPair();
  const { issuer: made, asked } = issuer({ spkiSha256: identity.spkiSha256 });
  const { status, headers, body } = await made.answer(atServer, NONCE_TEXT);
  expect(status).toBe(200);
  expect(headers).toEqual({
    'content-type': 'application/json',
    'content-length': String(body.length),
    'cache-control': 'no-store',
  });
  expect(decodeEvidenceResponse(body)).toEqual({
    untrustedDocument: Buffer.from([1, 2, 3]),
    untrustedModels: [IRIS],
  });
  const [{ nonce, userData, publicKey }] = asked as [(typeof asked)[number]];
  expect(new Uint8Array(nonce as Uint8Array)).toEqual(NONCE);
  expect(publicKey).toBe(RECEIPT_KEY);
  const claims = decodeEvidenceClaims(userData);
  expect(claims.purpose).toBe('tls');
  expect(Buffer.from(claims.exporter)).toEqual(
    atClient.exportKeyingMaterial(32, EXPORTER_LABEL, Buffer.from(NONCE)),
  );
  expect(claims.spki).toEqual(new Uint8Array(identity.spkiSha256));
  expect(claims.deployment).toEqual(new Uint8Array(48).fill(2));
  expect(Buffer.from(claims.models)).toEqual(modelsDigest([IRIS]));
});

test.each([null, '', 'A'.repeat(42), `${'A'.repeat(43)}=`])(
  'nonce %j is a 400 and costs no document',
  async (nonce) => {
    const { atServer } = await connectedPair();
    const { issuer: made, asked } = issuer();
    const { status, body } = await made.answer(atServer, nonce);
    expect(status).toBe(400);
    expect(errorOf(body)).toMatch(/^nonce: expected 32 bytes/);
    expect(asked).toHaveLength(0);
  },
);

test('one connection gets only so many, and then some more with time', async () => {
  const { atServer } = await connectedPair();
  const limits = { overall: UNLIMITED, perConnection: { burst: 2, perSecond: 0.1 }, queueLength: 8 };
  const { issuer: made, time } = issuer({ limits });
  expect((await made.answer(atServer, NONCE_TEXT)).status).toBe(200);
  expect((await made.answer(atServer, NONCE_TEXT)).status).toBe(200);
  const refused = await made.answer(atServer, NONCE_TEXT);
  expect(refused.status).toBe(429);
  expect(refused.headers['retry-after']).toBe('10');
  time.ms += 9_999;
  expect((await made.answer(atServer, NONCE_TEXT)).headers['retry-after']).toBe('1');
  time.ms += 1;
  expect((await made.answer(atServer, NONCE_TEXT)).status).toBe(200);
});

test('all connections together get only so many', async () => {
  const [one, two] = [await connectedPair(), await connectedPair()];
  const limits = { overall: { burst: 1, perSecond: 0.5 }, perConnection: UNLIMITED, queueLength: 8 };
  const { issuer: made } = issuer({ limits });
  expect((await made.answer(one.atServer, NONCE_TEXT)).status).toBe(200);
  const refused = await made.answer(two.atServer, NONCE_TEXT);
  expect([refused.status, refused.headers['retry-after']]).toEqual([429, '2']);
});

test('the NSM is asked one thing at a time, and only so many wait for it', async () => {
  const { atServer } = await connectedPair();
  let running = 0;
  let mostAtOnce = 0;
  const release: (() => void)[] = [];
  const { issuer: made } = issuer({
    limits: { overall: UNLIMITED, perConnection: UNLIMITED, queueLength: 2 },
    nsm: {
      attest: async () => {
        mostAtOnce = Math.max(mostAtOnce, ++running);
        await new Promise<void>((resolve) => release.push(resolve));
        running--;
        return Uint8Array.of(1);
      },
    },
  });
  const accepted = [1, 2, 3].map(() => made.answer(atServer, NONCE_TEXT));
  const refused = await made.answer(atServer, NONCE_TEXT);
  expect([refused.status, refused.headers['retry-after']]).toEqual([503, '1']);
  for (let served = 0; served < 3; served++) {
    await eventually(() => release.length).toBeGreaterThan(0);
    release.shift()?.();
  }
  expect((await Promise.all(accepted)).map(({ status }) => status)).toEqual([200, 200, 200]);
  expect(mostAtOnce).toBe(1);
});

test('what goes wrong inside is told inside; the caller learns only to try again', async () => {
  const { atServer } = await connectedPair();
  const secret = new Error('the NSM said something precise');
  const { issuer: made, failures } = issuer({ nsm: { attest: () => Promise.reject(secret) } });
  const { status, headers, body } = await made.answer(atServer, NONCE_TEXT);
  expect([status, headers['retry-after']]).toEqual([503, '5']);
  expect(errorOf(body)).toBe('evidence is not available');
  expect(failures).toEqual([secret]);
});

test('one failure does not stop those behind it', async () => {
  const { atServer } = await connectedPair();
  let calls = 0;
  const { issuer: made } = issuer({
    nsm: { attest: async () => (calls++ === 0 ? Promise.reject(new Error('once')) : Uint8Array.of(1)) },
  });
  const answers = await Promise.all([made.answer(atServer, NONCE_TEXT), made.answer(atServer, NONCE_TEXT)]);
  expect(answers.map(({ status }) => status)).toEqual([503, 200]);
});

test('a caller that has gone costs no document', async () => {
  const { atServer } = await connectedPair();
  const { issuer: made, asked } = issuer();
  atServer.destroy();
  expect((await made.answer(atServer, NONCE_TEXT)).status).toBe(503);
  expect(asked).toHaveLength(0);
});

test('a TLS 1.2 session gets no evidence: its exporter does not bind the handshake', async () => {
  const { atServer } = await connectedPair('TLSv1.2');
  const { issuer: made, asked } = issuer();
  expect((await made.answer(atServer, NONCE_TEXT)).status).toBe(503);
  expect(asked).toHaveLength(0);
});
