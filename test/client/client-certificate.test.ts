/** Callers with certificates: which one is shown, when, and what a refusal that comes late is told as. */
import { createPrivateKey } from 'node:crypto';
import { mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type tls from 'node:tls';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type ClientCertificate, type ClientCertificateSource, connect } from '../../client/index.ts';
import { permittedName } from '../../owner/certificates/constraints.ts';
import { createCa, issueCertificate, type Pair } from '../../owner/certificates/issue.ts';
import { spiffeId } from '../../owner/certificates/names.ts';
import { eventually } from '../support/eventually.ts';
import {
  evidenceRequestOn,
  honestHttp,
  newIdentity,
  newIssuer,
  startPlatform,
  startRawServer,
  type TestPlatform,
} from './test-enclave.ts';

const DAY_MS = 24 * 60 * 60 * 1000;
const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

let platform: TestPlatform;
let ca: Pair;
let folder: string;
beforeAll(async () => {
  platform = await startPlatform();
  ca = createCa({
    at: new Date(),
    days: 30,
    curve: 'P-256',
    permitted: [permittedName('spiffe://example.org')],
  });
  folder = await mkdtemp(join(tmpdir(), 'client-certificate-'));
});
afterAll(() => rm(folder, { recursive: true }));

function certificateFor(path: string, life: { at?: Date; days?: number } = {}): ClientCertificate {
  const holder = { certificate: ca.certificate, key: createPrivateKey(Buffer.from(ca.keyPem)) };
  const { certificatePem, keyPem } = issueCertificate(holder, {
    at: new Date(),
    days: 1,
    ...life,
    use: 'client',
    curve: 'P-256',
    names: [spiffeId(`spiffe://example.org/${path}`)],
  });
  return { cert: certificatePem, key: keyPem };
}

/** Serves whoever shows a certificate, as OpenSSL does it; the names that were shown, in order. */
async function server(script?: (socket: tls.TLSSocket) => void) {
  const identity = newIdentity();
  const { serve } = honestHttp(newIssuer(platform, identity));
  const shown: (string | undefined)[] = [];
  const started = await startRawServer(
    () => identity,
    (socket) => {
      shown.push(socket.getPeerX509Certificate()?.subjectAltName);
      (script ?? serve)(socket);
    },
    { ca: ca.certificatePem, requestCert: true, rejectUnauthorized: script === undefined },
  );
  cleanups.push(() => started.close());
  return { ...started, shown };
}

async function connected(url: string, clientCertificate: ClientCertificateSource) {
  const client = await connect(url, platform.expectations, { clientCertificate });
  cleanups.push(() => client.close());
  return client;
}

const refusal = (code: string) => expect.objectContaining({ code, action: expect.stringMatching(/\w/) });

describe('a client certificate', () => {
  test('is shown on every connection', async () => {
    const enclave = await server();
    const client = await connected(enclave.url, certificateFor('a'));
    expect(await (await client.fetch('/x', { method: 'POST', body: '1' })).text()).toBe('echo 1');
    await client.verify();
    expect(enclave.shown).toEqual(['URI:spiffe://example.org/a', 'URI:spiffe://example.org/a']);
  });

  test('from files is read anew, so that a renewed one is used and nothing is dropped', async () => {
    const write = async (path: string) => {
      const { cert, key } = certificateFor(path);
      const target = await mkdtemp(join(folder, 'pair-'));
      await writeFile(join(target, 'certificate.pem'), cert);
      await writeFile(join(target, 'key.pem'), key);
      await symlink(target, join(folder, 'next'));
      await rename(join(folder, 'next'), join(folder, 'current'));
    };
    await write('before');
    const enclave = await server();
    const client = await connected(enclave.url, {
      certFile: join(folder, 'current', 'certificate.pem'),
      keyFile: join(folder, 'current', 'key.pem'),
    });
    const ask = (i: number) => client.fetch('/x', { method: 'POST', body: `${i}` }).then((r) => r.text());
    const before = Array.from({ length: 10 }, (_, i) => ask(i));
    await write('after');
    const renewed = client.verify();
    const after = Array.from({ length: 10 }, (_, i) => ask(10 + i));
    const answers = await Promise.all([...before, ...after]);
    expect(answers).toEqual(Array.from({ length: 20 }, (_, i) => `echo ${i}`));
    await renewed;
    expect(new Set(enclave.shown)).toEqual(
      new Set(['URI:spiffe://example.org/before', 'URI:spiffe://example.org/after']),
    );
    expect(enclave.shown.at(-1)).toBe('URI:spiffe://example.org/after');
  });

  test('may come from a function', async () => {
    const enclave = await server();
    let count = 0;
    const client = await connected(enclave.url, async () => certificateFor(`n${count++}`));
    await client.verify();
    expect(enclave.shown).toEqual(['URI:spiffe://example.org/n0', 'URI:spiffe://example.org/n1']);
  });

  test('is not outlived by its connections', async () => {
    const enclave = await server();
    // Certificates are made with ten minutes behind them.
    const short = certificateFor('short', { at: new Date(Date.now() - DAY_MS + 1500) });
    const client = await connected(enclave.url, short);
    await eventually(() => enclave.connections[0]?.destroyed).toBe(true);
    await expect(client.fetch('/x')).rejects.toThrow(refusal('CLIENT_CERTIFICATE_UNUSABLE'));
  });
});

describe('before any connection is opened', () => {
  test.each([
    ['is no PEM', () => ({ ...certificateFor('a'), cert: 'certificate' }), /not one in PEM/],
    ['has no key in PEM', () => ({ ...certificateFor('a'), key: 'key' }), /not an unencrypted private key/],
    ["has another's key", () => ({ ...certificateFor('a'), key: certificateFor('b').key }), /another certif/],
    ['is over', () => certificateFor('a', { at: new Date(Date.now() - 2 * DAY_MS) }), /expired at/],
    ['is to come', () => certificateFor('a', { at: new Date(Date.now() + DAY_MS) }), /not valid before/],
    ['has no file', () => ({ certFile: '/nowhere/c.pem', keyFile: '/nowhere/k.pem' }), /cannot be read/],
  ] as [string, () => ClientCertificateSource, RegExp][])(
    'one that %s is refused',
    async (_what, make, message) => {
      const connecting = connect('https://127.0.0.1:1', platform.expectations, { clientCertificate: make() });
      await expect(connecting).rejects.toThrow(refusal('CLIENT_CERTIFICATE_UNUSABLE'));
      await expect(connecting).rejects.toThrow(message);
    },
  );
});

describe('a refusal that comes after the handshake', () => {
  test('as an alert, for want of a certificate', async () => {
    const enclave = await server();
    await expect(connect(enclave.url, platform.expectations)).rejects.toThrow(
      refusal('CLIENT_CERTIFICATE_REQUIRED'),
    );
  });

  const answering = (status: string, body: string) =>
    server(async (socket) => {
      await evidenceRequestOn(socket);
      socket.end(
        `HTTP/1.1 ${status}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
      );
    });

  test.each([
    ['CALLER_CERTIFICATE_REQUIRED', 'CLIENT_CERTIFICATE_REQUIRED'],
    ['CALLER_CERTIFICATE_UNTRUSTED', 'CLIENT_CERTIFICATE_REFUSED'],
    ['CALLER_NOT_ALLOWED', 'CLIENT_CERTIFICATE_REFUSED'],
    ['CALLER_DENIED', 'CLIENT_CERTIFICATE_REFUSED'],
    ['EVIDENCE_REQUIRED', 'CLIENT_NO_EVIDENCE'],
    ['CALLER_\\u001b[31m', 'CLIENT_NO_EVIDENCE'],
  ])('in the answer to the evidence request: %s', async (code, expected) => {
    const enclave = await answering('403 Forbidden', `{"error":"why","code":"${code}"}`);
    const connecting = connected(enclave.url, certificateFor('a'));
    await expect(connecting).rejects.toThrow(refusal(expected));
    if (expected === 'CLIENT_CERTIFICATE_REFUSED') await expect(connecting).rejects.toThrow(code);
  });

  test('with more to read than a refusal has', async () => {
    const enclave = await answering('403 Forbidden', ' '.repeat(5000));
    await expect(connected(enclave.url, certificateFor('a'))).rejects.toThrow(
      refusal('CLIENT_RESPONSE_MALFORMED'),
    );
  });

  test('too many connections of one client: try again', async () => {
    const enclave = await answering('429 Too Many Requests', '{"error":"why","code":"CALLER_LIMIT"}');
    await expect(connected(enclave.url, certificateFor('a'))).rejects.toThrow(refusal('CLIENT_BUSY'));
  });
});
