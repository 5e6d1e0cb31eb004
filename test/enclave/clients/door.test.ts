/** What a client with a certificate meets at the enclave, over real TLS. */
import { once } from 'node:events';
import { TLSSocket } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ClientDoorOptions } from '../../../enclave/clients/door.ts';
import { TAG } from '../../../shared/asn1.ts';
import type { ClientRules } from '../../../shared/deployment/clients.ts';
import { commonName, endEntityExtensions, extension, ID, sequence } from '../../../shared/x509/write.ts';
import {
  type ClientOptions,
  hours,
  type TestCa,
  type TestClient,
  testCa,
  testClient,
} from '../../support/client-certificates.ts';
import { APP, allow, doorOf, rulesOf } from '../../support/door.ts';
import {
  type Answer,
  type Connection,
  fakeEngine,
  NONCE,
  servedModel,
  serveForTest,
  type TestServer,
} from '../../support/serving.ts';

const METADATA = {
  inputs: [{ name: 'x', datatype: 'FP32', shape: [1] }],
  outputs: [{ name: 'y', datatype: 'FP32', shape: [1] }],
} as const;
const BODY = { inputs: [{ name: 'x', datatype: 'FP32', shape: [1], data: [1] }] };

/** Computes when it is let. */
let gate = Promise.resolve();
const engine = fakeEngine(METADATA, async () => {
  await gate;
  return { outputs: [{ name: 'y', datatype: 'FP32', shape: [1], data: new Uint8Array(4) }] };
});

const serve = (rules: ClientRules, options: Partial<Omit<ClientDoorOptions, 'rules'>> = {}) =>
  serveForTest({
    models: [servedModel(engine)],
    door: doorOf(rules, options),
  });

const ask = (connection: Connection): Promise<Answer> => connection.ask('POST', '/v2/models/m/infer', BODY);

/** What the first request on a connection of this client gets. */
async function first(server: TestServer, client?: Pick<TestClient, 'cert' | 'key'>): Promise<Answer> {
  const connection = await server.connect({ evidence: false, ...client });
  try {
    return await connection.ask('GET', `/attestation?nonce=${NONCE}`);
  } finally {
    connection.close();
  }
}

let ca: TestCa;
let server: TestServer;
beforeAll(async () => {
  ca = testCa();
  server = await serve(
    rulesOf(ca, {
      allowed: [
        allow('spiffe', APP),
        allow('trustDomain', 'team.example.org'),
        allow('subject', 'O=Example, CN=legacy-1'),
      ],
    }),
  );
});
afterAll(() => server[Symbol.asyncDispose]());

const attribute = (oid: string, text: string, tag: number = TAG.UTF8_STRING) => ({
  tag: TAG.SET,
  children: [
    sequence({ tag: TAG.OID, content: Buffer.from(oid, 'hex') }, { tag, content: Buffer.from(text) }),
  ],
});
const O = '55040a';
const CN = '550403';
const OU = '55040b';
const subjectOf = (...attributes: [string, string][]) =>
  sequence(...attributes.map(([oid, text]) => attribute(oid, text)));

describe('a client is served', () => {
  it.each<[string, ClientOptions]>([
    ['by its SPIFFE id', { uris: [APP] }],
    [
      'by any SPIFFE id of a trust domain that is allowed as a whole',
      { uris: ['spiffe://team.example.org/a/B_1.2-3'] },
    ],
    ['by its subject, if no URI names it', { subject: subjectOf([O, 'Example'], [CN, 'legacy-1']) }],
    [
      'by its SPIFFE id beside DNS names',
      { uris: [APP], otherNames: [{ tagClass: 'context', tag: 2, content: Buffer.from('app.example.org') }] },
    ],
    [
      'with a certificate that servers may use too',
      {
        uris: [APP],
        uses: [
          extension(
            ID.extendedKeyUsage,
            true,
            sequence(
              { tag: TAG.OID, content: Buffer.from('2b06010505070301', 'hex') },
              { tag: TAG.OID, content: Buffer.from('2b06010505070302', 'hex') },
            ),
          ),
        ],
      },
    ],
  ])('%s', async (_, options) => {
    const connection = await server.connect(testClient(ca, options));
    expect((await ask(connection)).status).toBe(200);
    connection.close();
  });

  it('through a CA in between, if it shows that too', async () => {
    const between = testCa({}, ca);
    const client = testClient(between, { uris: [APP] });
    expect((await first(server, { ...client, cert: client.cert + between.pem })).status).toBe(200);
    expect((await first(server, client)).json.code).toBe('CALLER_CERTIFICATE_UNTRUSTED');
  });
});

describe('a connection is refused before anything on it is read', () => {
  const clientUse = endEntityExtensions('client');
  const other = (): TestCa => testCa();
  it.each<[string, string, () => Pick<TestClient, 'cert' | 'key'> | undefined]>([
    ['without a certificate', 'CALLER_CERTIFICATE_REQUIRED', () => undefined],
    ['with one of another CA', 'CALLER_CERTIFICATE_UNTRUSTED', () => testClient(other(), { uris: [APP] })],
    [
      'with one of another CA that shows that CA too',
      'CALLER_CERTIFICATE_UNTRUSTED',
      () => {
        const foreign = other();
        const client = testClient(foreign, { uris: [APP] });
        return { ...client, cert: client.cert + foreign.pem };
      },
    ],
    [
      'with one that a client of the CA has signed',
      'CALLER_CERTIFICATE_UNTRUSTED',
      () => {
        const client = testClient(ca, { uris: [APP], subject: commonName('client') });
        const key = other();
        const forged = testClient({ ...key, name: commonName('client') }, { uris: [APP] });
        return { ...forged, cert: forged.cert + client.cert };
      },
    ],
    [
      'with an expired one',
      'CALLER_CERTIFICATE_EXPIRED',
      () => testClient(ca, { uris: [APP], notBefore: hours(-2), notAfter: hours(-1) }),
    ],
    [
      'with one that is not valid yet',
      'CALLER_CERTIFICATE_EXPIRED',
      () => testClient(ca, { uris: [APP], notBefore: hours(1) }),
    ],
    [
      'with one that lives too long',
      'CALLER_CERTIFICATE_UNUSABLE',
      () => testClient(ca, { uris: [APP], notBefore: hours(-1), notAfter: hours(24) }),
    ],
    [
      'with one of a TLS server',
      'CALLER_CERTIFICATE_UNUSABLE',
      () => testClient(ca, { uris: [APP], uses: endEntityExtensions('server') }),
    ],
    [
      'with one that does not say what it is for',
      'CALLER_CERTIFICATE_UNUSABLE',
      () => testClient(ca, { uris: [APP], uses: [] }),
    ],
    [
      'with the certificate of a CA',
      'CALLER_CERTIFICATE_UNUSABLE',
      () =>
        testClient(ca, {
          uris: [APP],
          uses: [
            extension(
              ID.basicConstraints,
              true,
              sequence({ tag: TAG.BOOLEAN, content: Uint8Array.of(0xff) }),
            ),
            ...clientUse.slice(2),
          ],
        }),
    ],
    ['with two URIs', 'CALLER_CERTIFICATE_UNUSABLE', () => testClient(ca, { uris: [APP, APP] })],
    [
      'with a URI that is no SPIFFE id',
      'CALLER_CERTIFICATE_UNUSABLE',
      () => testClient(ca, { uris: ['https://models.example.org/app-1'] }),
    ],
    [
      'with the id of the trust domain itself',
      'CALLER_CERTIFICATE_UNUSABLE',
      () => testClient(ca, { uris: ['spiffe://team.example.org'] }),
    ],
    ['with another SPIFFE id', 'CALLER_NOT_ALLOWED', () => testClient(ca, { uris: [`${APP}0`] })],
    [
      'with a SPIFFE id below the allowed one',
      'CALLER_NOT_ALLOWED',
      () => testClient(ca, { uris: [`${APP}/x`] }),
    ],
    [
      'with a trust domain below the allowed one',
      'CALLER_NOT_ALLOWED',
      () => testClient(ca, { uris: ['spiffe://a.team.example.org/x'] }),
    ],
    [
      'with the allowed subject and another URI',
      'CALLER_NOT_ALLOWED',
      () =>
        testClient(ca, {
          uris: ['spiffe://models.example.org/x'],
          subject: subjectOf([O, 'Example'], [CN, 'legacy-1']),
        }),
    ],
    [
      'with the parts of the allowed subject in another order',
      'CALLER_NOT_ALLOWED',
      () => testClient(ca, { subject: subjectOf([CN, 'legacy-1'], [O, 'Example']) }),
    ],
    [
      'with more than the allowed subject',
      'CALLER_NOT_ALLOWED',
      () => testClient(ca, { subject: subjectOf([O, 'Example'], [CN, 'legacy-1'], [OU, 'x']) }),
    ],
    [
      'with a subject that only prints like the allowed one',
      'CALLER_NOT_ALLOWED',
      () => testClient(ca, { subject: subjectOf([O, 'Example, CN=legacy-1']) }),
    ],
    [
      'with a subject that ends in a NUL',
      'CALLER_NOT_ALLOWED',
      () => testClient(ca, { subject: subjectOf([O, 'Example'], [CN, 'legacy-1\0']) }),
    ],
  ])('%s', async (_, code, client) => {
    const { status, json, headers } = await first(server, client());
    expect({ status, code: json.code }).toEqual({ status: 403, code });
    expect(headers.connection).toBe('close');
    expect(server.events.at(-1)).toMatchObject({ route: 'handshake', status: 403 });
  });

  it('and closed, also if it says nothing or never stops', async () => {
    await using hasty = await serveForTest({
      models: [],
      door: doorOf(rulesOf(ca)),
      deadlines: { headersMs: 100 },
    });
    const silent = await hasty.connect({ evidence: false });
    await once(silent.socket, 'close');
    const loud = await hasty.connect({ evidence: false });
    const timer = setInterval(() => loud.socket.write('x'.repeat(1000)), 5);
    loud.socket.resume();
    await once(loud.socket, 'close');
    clearInterval(timer);
  });
});

describe('time', () => {
  it('is the enclave’s, whatever OpenSSL found by the system clock', async () => {
    let now = new Date();
    await using there = await serve(rulesOf(ca), { now: () => now });
    const client = testClient(ca, { uris: [APP], notAfter: hours(2) });
    expect((await first(there, client)).status).toBe(200);
    now = hours(3);
    expect((await first(there, client)).json.code).toBe('CALLER_CERTIFICATE_EXPIRED');
    now = hours(-5);
    expect((await first(there, client)).json.code).toBe('CALLER_CERTIFICATE_EXPIRED');
  });

  it('holds for the CA as well', async () => {
    const ending = testCa({ notAfter: hours(1) });
    let now = new Date();
    await using there = await serve(rulesOf(ending), { now: () => now });
    const client = testClient(ending, { uris: [APP], notAfter: hours(2) });
    expect((await first(there, client)).status).toBe(200);
    now = hours(1.5);
    expect((await first(there, client)).json.code).toBe('CALLER_CERTIFICATE_EXPIRED');
  });

  it('ends a connection with its certificate: after the request in flight, or at the next one', async () => {
    let now = new Date();
    await using there = await serve(rulesOf(ca), { now: () => now });
    const client = testClient(ca, { uris: [APP], notAfter: hours(2) });
    const [busy, late] = [await there.connect(client), await there.connect(client)];
    const { promise, resolve } = Promise.withResolvers<void>();
    gate = promise;
    const answer = ask(busy);
    await expect.poll(() => there.server.connections).toBe(2);
    await new Promise((done) => setTimeout(done, 100));
    now = hours(3);
    resolve();
    const closed = once(busy.socket, 'close');
    expect((await answer).status).toBe(200);
    await closed;
    const refused = await ask(late);
    expect(refused.json.code).toBe('CALLER_CERTIFICATE_EXPIRED');
    expect(refused.headers.connection).toBe('close');
  });

  it('ends an idle connection by itself', async () => {
    let now = new Date();
    await using there = await serve(rulesOf(ca), { now: () => now, sweepIntervalMs: 20 });
    const idle = await there.connect(testClient(ca, { uris: [APP], notAfter: hours(2) }));
    const closed = once(idle.socket, 'close');
    now = hours(3);
    await closed;
  });
});

describe('limits of one client', () => {
  it('count its connections together, and leave others alone', async () => {
    await using there = await serve(
      rulesOf(ca, {
        allowed: [allow('spiffe', APP, { connections: 2 }), allow('trustDomain', 'team.example.org')],
      }),
    );
    const client = testClient(ca, { uris: [APP] });
    const renewed = testClient(ca, { uris: [APP] });
    const [one] = [await there.connect(client), await there.connect(renewed)];
    const { status, json, headers } = await first(there, renewed);
    expect({ status, code: json.code, wait: headers['retry-after'] }).toEqual({
      status: 429,
      code: 'CALLER_LIMIT',
      wait: '1',
    });
    expect((await first(there, testClient(ca, { uris: ['spiffe://team.example.org/x'] }))).status).toBe(200);
    one?.close();
    await expect.poll(async () => (await first(there, client)).status).toBe(200);
  });

  it('hold its requests back before their bodies are read', async () => {
    await using there = await serve(
      rulesOf(ca, { allowed: [allow('spiffe', APP, { concurrentRequests: 1 })] }),
    );
    const client = testClient(ca, { uris: [APP] });
    const [busy, next] = [await there.connect(client), await there.connect(client)];
    const { promise, resolve } = Promise.withResolvers<void>();
    gate = promise;
    const answer = ask(busy);
    await expect.poll(async () => (await next.ask('GET', '/v2')).status).toBe(429);
    // Were the body awaited, there would be no answer.
    next.socket.write(
      'POST /v2/models/m/infer HTTP/1.1\r\nhost: e\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n',
    );
    const [said] = (await once(next.socket, 'data')) as [Buffer];
    expect(said.toString()).toContain('429');
    expect(said.toString()).toContain('CALLER_LIMIT');
    resolve();
    expect((await answer).status).toBe(200);
  });

  it('keep evidence for others', async () => {
    let nowMs = 0;
    await using there = await serve(
      rulesOf(ca, { allowed: [allow('spiffe', APP), allow('trustDomain', 'team.example.org')] }),
      { monotonicMs: () => nowMs },
    );
    const connection = await there.connect(testClient(ca, { uris: [APP] }));
    const evidence = () => connection.ask('GET', `/attestation?nonce=${NONCE}`);
    for (let count = 1; count < 50; count++) expect((await evidence()).status).toBe(200);
    const { status, json, headers } = await evidence();
    expect({ status, code: json.code, wait: headers['retry-after'] }).toEqual({
      status: 429,
      code: 'CALLER_LIMIT',
      wait: '1',
    });
    expect((await connection.ask('GET', '/v2')).status).toBe(200);
    expect((await first(there, testClient(ca, { uris: ['spiffe://team.example.org/x'] }))).status).toBe(200);
    nowMs += 1_000;
    expect((await evidence()).status).toBe(200);
  });

  it('say when to come back', async () => {
    let nowMs = 0;
    await using there = await serve(
      rulesOf(ca, { allowed: [allow('spiffe', APP, { requestsPerMinute: 18 })] }),
      {
        monotonicMs: () => nowMs,
      },
    );
    const client = testClient(ca, { uris: [APP] });
    const connection = await there.connect(client);
    for (let count = 0; count < 3; count++) expect((await connection.ask('GET', '/v2')).status).toBe(200);
    const { status, headers } = await connection.ask('GET', '/v2');
    expect({ status, wait: headers['retry-after'] }).toEqual({ status: 429, wait: '4' });
    nowMs += 4_000;
    expect((await connection.ask('GET', '/v2')).status).toBe(200);
  });
});

it('asks for no certificate where anyone may call', async () => {
  await using open = await serveForTest({ models: [] });
  const connection = await open.connect(testClient(ca, { uris: [APP] }));
  expect((await connection.ask('GET', '/v2')).status).toBe(200);
  expect(connection.socket).toBeInstanceOf(TLSSocket);
});
