import { request, connect as undiciConnect } from 'undici';
import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type ClientExpectations, connect, type VerifiedEnclave } from '../../client/index.ts';
import { modelsDigest } from '../../shared/evidence/evidence.ts';
import { eventually } from '../support/eventually.ts';
import {
  IRIS,
  startPlatform,
  startTestEnclave,
  type TestEnclave,
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

async function enclave(options: Parameters<typeof startTestEnclave>[0] = {}): Promise<TestEnclave> {
  const started = await startTestEnclave({ platform, ...options });
  cleanups.push(() => started.close());
  return started;
}

async function verified(
  server: TestEnclave,
  expectations: ClientExpectations = server.expectations,
): Promise<VerifiedEnclave> {
  const made = await connect(server.url, expectations);
  cleanups.push(() => made.close());
  return made;
}

/** Undefined while the pool has not noticed yet that its connection is gone. */
async function answerTo(client: VerifiedEnclave, path: string, body: string): Promise<string | undefined> {
  const response = await client.fetch(path, { method: 'POST', body }).catch(() => undefined);
  return response?.text();
}

const refusal = (code: string) => expect.objectContaining({ code, action: expect.stringMatching(/\w/) });

describe('a verified enclave', () => {
  test('answers, over the very connection that was verified', async () => {
    const server = await enclave();
    const client = await verified(server);
    const response = await client.fetch('/v2/echo', { method: 'POST', body: 'hello' });
    expect(await response.text()).toBe('echo hello');
    expect(server.requests).toEqual(['GET /attestation', 'POST /v2/echo']);
    expect(server.connections).toHaveLength(1);
  });

  test('says what was verified', async () => {
    const server = await enclave();
    const { evidence } = await verified(server);
    expect(evidence.trust).toBe('simulation');
    expect(evidence.pcrs[0]).toBe(platform.expectations.pcrs[0]);
    expect(evidence.pcrs[16]).toBe(platform.expectations.pcrs[16]);
    expect(evidence.models).toEqual([IRIS]);
    expect(evidence.certificateSpkiSha256).toBe(Buffer.from(server.identity.spkiSha256).toString('hex'));
    expect(evidence.moduleId).toMatch(/^i-[0-9a-f]{17}-enc[0-9a-f]{16}$/);
    expect(Math.abs(evidence.timestamp.getTime() - Date.now())).toBeLessThan(60_000);
    expect(evidence.document.length).toBeGreaterThan(1000);
  });

  test('takes full URLs, URL objects and Request objects', async () => {
    const server = await enclave();
    const client = await verified(server);
    const post = { method: 'POST', body: 'x', headers: { 'x-a': 'b' } };
    expect(await (await client.fetch(`${server.url}/a`, post)).text()).toBe('echo x');
    expect(await (await client.fetch(new URL(`${server.url}/a`), post)).text()).toBe('echo x');
    expect(await (await client.fetch(new Request(`${server.url}/a`, post))).text()).toBe('echo x');
  });

  test("gives a dispatcher for undici's own functions", async () => {
    const server = await enclave();
    const client = await verified(server);
    const { body } = await request(`${server.url}/a`, {
      dispatcher: client.dispatcher,
      method: 'POST',
      body: 'y',
    });
    expect(await body.text()).toBe('echo y');
  });

  test('verifies every connection of its pool before it is used', async () => {
    const server = await enclave({
      handler: (_request, response) => setTimeout(() => response.end('slow'), 50),
    });
    const client = await verified(server);
    const answers = await Promise.all(
      Array.from({ length: 6 }, () => client.fetch('/slow').then((r) => r.text())),
    );
    expect(answers).toEqual(Array.from({ length: 6 }, () => 'slow'));
    expect(server.connections.length).toBeGreaterThan(1);
    const evidenceRequests = server.requests.filter((line) => line === 'GET /attestation');
    expect(evidenceRequests).toHaveLength(server.connections.length);
  });

  test('is verified anew when a connection was lost, and the evidence is that of the new one', async () => {
    const server = await enclave();
    const client = await verified(server);
    await (await client.fetch('/1', { method: 'POST', body: '1' })).text();
    const before = client.evidence;
    server.connections[0]?.destroy();
    await eventually(() => server.connections[0]?.closed).toBe(true);
    await eventually(() => answerTo(client, '/2', '2')).toBe('echo 2');
    expect(server.requests.filter((line) => line === 'GET /attestation')).toHaveLength(2);
    expect(client.evidence.document).not.toEqual(before.document);
  });

  test('is verified anew when the first connection ended before its first use', async () => {
    const server = await enclave();
    const client = await verified(server);
    server.connections[0]?.destroy();
    await eventually(() => answerTo(client, '/2', '2')).toBe('echo 2');
    expect(server.requests).toEqual(['GET /attestation', 'GET /attestation', 'POST /2']);
  });

  test('says that the answer was lost when the connection ends under a request', async () => {
    const server = await enclave({ handler: ({ socket }) => void socket.destroy() });
    const client = await verified(server);
    await expect(client.fetch('/a', { method: 'POST', body: 'x' })).rejects.toThrow(
      refusal('CLIENT_ANSWER_LOST'),
    );
  });

  test('sends nothing any more once it is closed, and closing twice is fine', async () => {
    const server = await enclave();
    const client = await connect(server.url, server.expectations);
    await client.close();
    await client.close();
    await expect(client.fetch('/late')).rejects.toThrow();
    expect(server.requests).toEqual(['GET /attestation']);
    await eventually(() => server.connections[0]?.destroyed).toBe(true);
  });

  test('never resumes a TLS session', async () => {
    const server = await enclave();
    for (let i = 0; i < 3; i++) {
      const client = await connect(server.url, server.expectations);
      await (await client.fetch('/a')).text();
      await client.close();
    }
    expect(server.resumed).toEqual([false, false, false]);
  });
});

describe('requests go to the enclave alone', () => {
  test('another origin is refused by fetch, and nobody is asked', async () => {
    const [server, other] = [await enclave(), await enclave()];
    const client = await verified(server);
    for (const url of [
      `${other.url}/a`,
      'http://127.0.0.1:8080/a',
      `${server.url.replace('127.0.0.1', 'localhost')}/a`,
    ]) {
      await expect(client.fetch(url)).rejects.toThrow(refusal('CLIENT_OTHER_ORIGIN'));
    }
    expect([server.requests, other.requests]).toEqual([['GET /attestation'], []]);
  });

  test('another origin is refused by the dispatcher, for requests and for tunnels', async () => {
    const [server, other] = [await enclave(), await enclave()];
    const { dispatcher } = await verified(server);
    await expect(request(other.url, { dispatcher })).rejects.toThrow(refusal('CLIENT_OTHER_ORIGIN'));
    await expect(undiciConnect(`${other.url}/`, { dispatcher } as never)).rejects.toThrow(
      refusal('CLIENT_OTHER_ORIGIN'),
    );
    expect(other.connections).toHaveLength(0);
  });

  test('a dispatcher of the caller does not replace the verified one', async () => {
    const server = await enclave();
    const client = await verified(server);
    const dispatcher = {
      dispatch: () => {
        throw new Error('the unverified dispatcher was used');
      },
    };
    const response = await client.fetch('/a', { dispatcher } as never);
    expect(response.status).toBe(200);
  });

  test.each([301, 302, 303, 307, 308])(
    'a %i to elsewhere is refused, and its target never asked',
    async (status) => {
      const other = await enclave();
      const server = await enclave({
        handler: (_request, response) =>
          response.writeHead(status, { location: `${other.url}/stolen` }).end(),
      });
      const client = await verified(server);
      await expect(client.fetch('/a', { method: 'POST', body: 'secret' })).rejects.toThrow(
        refusal('CLIENT_OTHER_ORIGIN'),
      );
      expect(other.connections).toHaveLength(0);
    },
  );

  test('a redirect within the enclave is followed', async () => {
    const server = await enclave({
      handler: (message, response) =>
        message.url === '/a' ? response.writeHead(307, { location: '/b' }).end() : response.end('arrived'),
    });
    const client = await verified(server);
    expect(await (await client.fetch('/a')).text()).toBe('arrived');
  });
});

describe('what the evidence says is compared with what is expected', () => {
  const WRONG = 'ee'.repeat(48);

  test.each([
    ['another image', { pcrs: { 0: WRONG, 16: 'any' } }],
    ['another deployment', { pcrs: { 0: 'any', 16: WRONG } }],
    ['another role', { pcrs: { 0: 'any', 16: 'any', 4: WRONG } }],
    ['one of two images that it is not', { pcrs: { 0: [WRONG, 'dd'.repeat(48)], 16: 'any' } }],
  ] as [string, ClientExpectations][])('%s', async (_what, expectations) => {
    const server = await enclave();
    const { simulationRoot } = server.expectations;
    await expect(
      connect(server.url, { ...expectations, ...(simulationRoot && { simulationRoot }) }),
    ).rejects.toThrow(refusal('ATTESTATION_PCR_MISMATCH'));
    expect(server.requests).toEqual(['GET /attestation']);
  });

  test('a list matches when one of its values does', async () => {
    const server = await enclave();
    const { pcrs, ...rest } = server.expectations;
    const client = await verified(server, { ...rest, pcrs: { ...pcrs, 0: [WRONG, pcrs[0] as string] } });
    expect(client.evidence.pcrs[0]).toBe(pcrs[0]);
  });

  test('"any" must be spelled, and then any image will do', async () => {
    const server = await enclave();
    const client = await verified(server, { ...server.expectations, pcrs: { 0: 'any', 16: 'any' } });
    expect(client.evidence.trust).toBe('simulation');
  });

  test('a simulation is refused by a client that was not told of it', async () => {
    const server = await enclave();
    const { simulationRoot: _, ...production } = server.expectations;
    await expect(connect(server.url, production)).rejects.toThrow(refusal('ATTESTATION_UNTRUSTED_ROOT'));
  });

  test('another simulation is refused', async () => {
    const server = await enclave();
    const { ca } = await startPlatform();
    await expect(connect(server.url, { ...server.expectations, simulationRoot: ca.rootPem })).rejects.toThrow(
      refusal('ATTESTATION_UNTRUSTED_ROOT'),
    );
  });

  test('a debug image is refused, also when any image would do', async () => {
    const debug = await startPlatform({ debug: true });
    const server = await enclave({ platform: debug });
    await expect(
      connect(server.url, { ...server.expectations, pcrs: { 0: 'any', 16: 'any' } }),
    ).rejects.toThrow(refusal('ATTESTATION_DEBUG_IMAGE'));
  });

  test('evidence that is too old is refused', async () => {
    const server = await enclave();
    const now = () => new Date(Date.now() + 61_000);
    await expect(connect(server.url, { ...server.expectations, maxAgeMs: 60_000 }, { now })).rejects.toThrow(
      refusal('ATTESTATION_TOO_OLD'),
    );
  });

  test('evidence whose certificates are over is refused', async () => {
    const server = await enclave();
    const now = () => new Date(Date.now() + 4 * 3600_000);
    await expect(
      connect(server.url, { ...server.expectations, maxAgeMs: 86_400_000 }, { now }),
    ).rejects.toThrow(refusal('ATTESTATION_EXPIRED'));
  });

  test('a deployment that was claimed but not measured is refused', async () => {
    const server = await enclave({ changes: { deploymentSha384: new Uint8Array(48).fill(1) } });
    await expect(connect(server.url, server.expectations)).rejects.toThrow(
      refusal('CLIENT_DEPLOYMENT_MISMATCH'),
    );
  });

  test.each([
    ['that is not loaded', [{ name: 'wine' }]],
    ['of a newer version', [{ name: 'iris', minimumVersion: 4 }]],
    ['with another content', [{ name: 'iris', contentId: 'cc'.repeat(32) }]],
    ['beside one that is loaded', [{ name: 'iris' }, { name: 'wine' }]],
  ])('a model %s is refused', async (_what, models) => {
    const server = await enclave();
    await expect(connect(server.url, { ...server.expectations, models })).rejects.toThrow(
      refusal('CLIENT_MODEL_NOT_LOADED'),
    );
  });

  test('a model that is loaded as expected is fine, and others may be beside it', async () => {
    const models = [IRIS, { ...IRIS, name: 'wine' }];
    const server = await enclave({ changes: { currentModels: () => ({ models }) } });
    const expected = [{ name: 'iris', minimumVersion: 3, contentId: IRIS.contentId }];
    const { evidence } = await verified(server, { ...server.expectations, models: expected });
    expect(modelsDigest(evidence.models)).toEqual(modelsDigest(models));
  });
});

describe('before any connection', () => {
  test.each([
    'http://127.0.0.1:1',
    '127.0.0.1:1',
    '',
    'https://127.0.0.1:1/path',
    'https://127.0.0.1:1/?query',
    'https://user@127.0.0.1:1',
    'https://127.0.0.1:1/#part',
  ])('the URL %j is refused', async (url) => {
    await expect(connect(url, platform.expectations)).rejects.toThrow(refusal('CLIENT_URL'));
  });

  test('nobody there is told as such', async () => {
    // A port that was free a moment ago may be another test's by now; nobody listens on the first one.
    await expect(connect('https://127.0.0.1:1', platform.expectations)).rejects.toThrow(
      refusal('CLIENT_UNREACHABLE'),
    );
  });
});
