import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, rm, utimes, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { HOST_SERVICE_PORT } from '../../../link/ports.ts';
import type { RegistryModelsConfig } from '../../../parent/config/models.ts';
import { pattern } from '../setup.ts';
import { createTestCa } from './certificates.ts';
import { ask, registry, type TestRegistry, type TestRegistryOptions, writeFiles } from './stores.ts';

const HEAD = 'iris.sealed/head';

async function withHead(options: TestRegistryOptions = {}): Promise<TestRegistry> {
  const store = await registry(options);
  store.put(HEAD, Buffer.from('the head'));
  return store;
}

/** The head's text, or what the parent logged about why there is none. */
async function fetchHead(config: TestRegistry['config']): Promise<string> {
  await using asking = await ask(config);
  try {
    return Buffer.from(await asking.host.fetchModelFile('iris', 'head', 100)).toString();
  } catch {
    const [event] = asking.events;
    return `${event?.error} ${event?.reason}`;
  }
}

describe('TLS with a registry', () => {
  it('is TLS 1.3 under the configured CA', async () => {
    await using store = await withHead({ server: { minVersion: 'TLSv1.3' } });
    expect(await fetchHead(store.config)).toBe('the head');
  });

  it('is never TLS 1.2', async () => {
    await using store = await withHead({ server: { maxVersion: 'TLSv1.2' } });
    expect(await fetchHead(store.config)).toBe('PARENT_MODELS_TLS tls-alert-70');
    expect(store.asked).toEqual([]);
  });

  it.each([
    ['the suite that the profile leaves out', { ciphers: 'TLS_AES_128_GCM_SHA256' }],
    ['a group outside of the profile', { ecdhCurve: 'P-521' }],
  ])('refuses a server that speaks only %s', async (_what, server) => {
    await using store = await withHead({ server: { minVersion: 'TLSv1.3', ...server } });
    expect(await fetchHead(store.config)).toMatch(/^PARENT_MODELS_TLS tls-/);
    expect(store.asked).toEqual([]);
  });

  it('refuses a server under another CA, also one of the same name', async () => {
    const other = await createTestCa();
    await using store = await withHead({ config: { ca: other.certificate } });
    expect(await fetchHead(store.config)).toMatch(/^PARENT_MODELS_TLS tls-/);
    expect(store.asked).toEqual([]);
  });

  it('refuses a private CA when none is configured, whatever the environment trusts', async () => {
    await using store = await withHead();
    const { ca: _ca, ...config } = store.config as RegistryModelsConfig;
    expect(await fetchHead(config)).toBe('PARENT_MODELS_TLS tls-unable-to-verify-leaf-signature');
  });

  it('refuses a server whose certificate is over', async () => {
    const ca = await createTestCa();
    await using store = await withHead({ ca, issued: await ca.issue({ days: -1 }) });
    expect(await fetchHead(store.config)).toBe('PARENT_MODELS_TLS tls-cert-has-expired');
  });

  it('refuses a server by another name, and one with a client’s certificate', async () => {
    const ca = await createTestCa();
    await using named = await withHead({ ca, issued: await ca.issue({ address: '127.0.0.2' }) });
    expect(await fetchHead(named.config)).toBe('PARENT_MODELS_TLS tls-err-tls-cert-altname-invalid');
    await using client = await withHead({ ca, issued: await ca.issue({ use: 'client' }) });
    expect(await fetchHead(client.config)).toMatch(/^PARENT_MODELS_TLS tls-/);
    expect([...named.asked, ...client.asked]).toEqual([]);
  });

  it('shows the client certificate', async () => {
    const ca = await createTestCa();
    await using store = await withHead({
      ca,
      config: await ca.issue({ use: 'client' }),
      server: { requestCert: true, ca: ca.certificate, minVersion: 'TLSv1.3' },
    });
    expect(await fetchHead(store.config)).toBe('the head');
    expect(store.handshakes[0]).toEqual({ client: 'client', resumed: false });
  });

  it('fails with a reason when the client certificate is missing or another CA’s', async () => {
    const ca = await createTestCa();
    const stranger = await (await createTestCa('Stranger')).issue({ use: 'client' });
    for (const config of [{}, stranger]) {
      await using store = await withHead({
        ca,
        config,
        server: { requestCert: true, rejectUnauthorized: true, ca: ca.certificate },
      });
      // Which of the two comes first, the server's alert or the end of its connection, is the network's choice.
      expect(await fetchHead(store.config)).toMatch(/^PARENT_MODELS_(TLS tls-err-ssl-tlsv1|UNAVAILABLE cut)/);
      expect(store.asked).toEqual([]);
    }
  });

  it('resumes no session, so that each connection shows the identity of now', async () => {
    await using store = await withHead();
    await using asking = await ask(store.config);
    for (let count = 0; count < 3; count += 1) {
      store.meet('HEAD', (request, response) => {
        response.writeHead(404, { 'content-length': 0, connection: 'close' }).end();
        request.socket.end();
        return true;
      });
      await expect(asking.host.fetchModelFile('iris', 'head', 100)).rejects.toThrow('found 404');
    }
    expect(store.handshakes.length).toBeGreaterThanOrEqual(3);
    expect(store.handshakes.every(({ resumed }) => !resumed)).toBe(true);
  });
});

describe('a client certificate that is replaced', () => {
  it('is shown on new connections, while what is being read finishes', async () => {
    const ca = await createTestCa();
    await using store = await registry({
      ca,
      config: await ca.issue({ use: 'client' }),
      server: { requestCert: true, ca: ca.certificate },
    });
    const whole = pattern(300_000);
    store.put('iris.sealed/payload', whole);
    let clock = Date.now();
    await using asking = await ask(store.config, { now: () => clock });
    const release = Promise.withResolvers<void>();
    store.meet('GET', (_request, response) => {
      const { length } = whole;
      response.writeHead(206, {
        'content-length': length,
        'content-range': `bytes 0-${length - 1}/${length}`,
      });
      response.write(whole.subarray(0, 1_000));
      void release.promise.then(() => response.end(whole.subarray(1_000)));
      return true;
    });
    store.meet('HEAD', (_request, response) => {
      response.writeHead(200, { 'content-length': whole.length }).end();
      return true;
    });
    const connection = await asking.link.dial(HOST_SERVICE_PORT, { timeoutMs: 5_000 });
    connection.write('GET /models/iris/payload HTTP/1.1\r\nHost: p\r\nConnection: close\r\n\r\n');
    await once(connection, 'readable');
    const before = store.handshakes.length;

    await writeFiles(store.folder, await ca.issue({ use: 'client', name: 'next' }));
    clock += 2_000;
    store.put(HEAD, Buffer.from('the head'));
    await asking.host.fetchModelFile('iris', 'head', 100);
    const after = store.handshakes.slice(before);
    expect(after.length).toBeGreaterThan(0);
    expect(after.every(({ client }) => client === 'next')).toBe(true);
    expect(store.handshakes[0]?.client).toBe('client');
    expect(asking.events).toEqual([{ event: 'tls-files-reloaded', name: 'models' }]);

    release.resolve();
    const chunks: Buffer[] = [];
    for await (const chunk of connection as AsyncIterable<Buffer>) chunks.push(chunk);
    expect(Buffer.concat(chunks).subarray(-whole.length).equals(whole)).toBe(true);
  });
});

describe('answers of a registry', () => {
  const refused: readonly (readonly [string, 'HEAD' | 'GET', number, Record<string, string>, string])[] = [
    ['without a length', 'HEAD', 200, {}, 'no-length'],
    ['that are compressed', 'HEAD', 200, { 'content-length': '8', 'content-encoding': 'gzip' }, 'encoded'],
    ['in chunks', 'GET', 206, { 'content-range': 'bytes 0-7/8', 'transfer-encoding': 'chunked' }, 'encoded'],
    [
      'of a server that knows no ranges',
      'HEAD',
      200,
      { 'content-length': '8', 'accept-ranges': 'none' },
      'range-ignored',
    ],
    ['with another status', 'GET', 204, {}, 'status-204'],
    ['that are too large for a number', 'HEAD', 200, { 'content-length': '9999999999999999' }, 'no-length'],
  ];
  for (const [what, method, status, headers, reason] of refused) {
    it(`${what} are refused`, async () => {
      await using store = await withHead();
      if (method === 'GET') {
        store.meet('HEAD', (_request, response) => {
          response.writeHead(200, { 'content-length': 8 }).end();
          return true;
        });
      }
      store.meet(method, (request, response) => {
        const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
        request.socket.end(`HTTP/1.1 ${status} X\r\n${lines.join('')}\r\n`);
        response.destroy();
        return true;
      });
      expect(await fetchHead(store.config)).toBe(`PARENT_MODELS_MALFORMED ${reason}`);
    });
  }

  it('that change the protocol are refused', async () => {
    await using store = await withHead();
    store.meet('HEAD', (request) => {
      request.socket.write('HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nbytes');
      return true;
    });
    expect(await fetchHead(store.config)).toBe('PARENT_MODELS_MALFORMED malformed');
  });

  it('after any number of interim ones are taken', async () => {
    await using store = await withHead();
    store.meet('HEAD', (_request, response) => {
      for (let count = 0; count < 5; count += 1) response.writeProcessing();
      return false;
    });
    expect(await fetchHead(store.config)).toBe('the head');
  });

  it.each([
    ['two lengths', 'content-length: 8\r\ncontent-length: 9\r\n'],
    ['headers beyond 8 KiB', `content-length: 8\r\nx: ${'y'.repeat(9 * 1024)}\r\n`],
    ['what is no HTTP', '\0\0\0'],
  ])('with %s are refused', async (_what, headers) => {
    await using store = await withHead();
    store.meet('HEAD', (request) => {
      request.socket.end(`HTTP/1.1 200 OK\r\n${headers}\r\n`);
      return true;
    });
    expect(await fetchHead(store.config)).toBe('PARENT_MODELS_MALFORMED malformed');
  });

  it('without a validator are held against their size', async () => {
    await using store = await withHead();
    store.meet('HEAD', (_request, response) => {
      response.writeHead(200, { 'content-length': 8 }).end();
      return true;
    });
    store.meet('GET', (request, response) => {
      expect(request.headers['if-match']).toBeUndefined();
      response.writeHead(206, { 'content-length': 8, 'content-range': 'bytes 0-7/9' }).end('the head');
      return true;
    });
    expect(await fetchHead(store.config)).toBe('PARENT_MODELS_CHANGED changed');
  });

  it('with a weak validator are compared by it, and asked for without If-Match', async () => {
    await using store = await withHead();
    store.meet('HEAD', (_request, response) => {
      response.writeHead(200, { 'content-length': 8, etag: 'W/"1"' }).end();
      return true;
    });
    store.meet('GET', (request, response) => {
      expect(request.headers['if-match']).toBeUndefined();
      const headers = { 'content-length': 8, 'content-range': 'bytes 0-7/8', etag: 'W/"2"' };
      response.writeHead(206, headers).end('the head');
      return true;
    });
    expect(await fetchHead(store.config)).toBe('PARENT_MODELS_CHANGED changed');
  });

  it('ask for nothing that could be compressed or mistaken', async () => {
    await using store = await withHead();
    store.meet('HEAD', (request) => {
      expect(request.url).toBe(`/models/${HEAD}`);
      expect(Object.keys(request.headers).sort()).toEqual([
        'accept-encoding',
        'connection',
        'host',
        'user-agent',
      ]);
      expect(request.headers['accept-encoding']).toBe('identity');
      return false;
    });
    expect(await fetchHead(store.config)).toBe('the head');
  });
});

const NGINX = ['/usr/sbin/nginx', '/usr/local/sbin/nginx', '/usr/bin/nginx'].find((path) => {
  try {
    execFileSync(path, ['-v'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
});

describe.skipIf(NGINX === undefined)('nginx as a registry (skipped where nginx is missing)', () => {
  it('serves ranges to the holder of a client certificate, and refuses everybody else', async () => {
    const ca = await createTestCa();
    const folder = await mkdtemp(join(tmpdir(), 'sr-nginx-'));
    // nginx's workers may have another uid than this test.
    await chmod(folder, 0o755);
    const served = join(folder, 'www', 'models', 'iris.sealed');
    await mkdir(served, { recursive: true });
    const whole = pattern(1_000_000);
    await writeFile(join(served, 'payload'), whole);
    // nginx makes its ETag of size and modification time, in seconds.
    await utimes(join(served, 'payload'), 1_000_000_000, 1_000_000_000);
    const server = await ca.issue();
    const files = await writeFiles(folder, {
      ca: ca.certificate,
      server: server.certificate,
      serverKey: server.key,
    });
    const client = await writeFiles(folder, await ca.issue({ use: 'client' }));
    const port = await freePort();
    await writeFile(
      join(folder, 'nginx.conf'),
      `daemon off; pid ${folder}/nginx.pid; error_log stderr; worker_processes 1;
       events { worker_connections 64; }
       http {
         access_log off; client_body_temp_path ${folder}/t1; proxy_temp_path ${folder}/t2;
         fastcgi_temp_path ${folder}/t3; uwsgi_temp_path ${folder}/t4; scgi_temp_path ${folder}/t5;
         server {
           listen 127.0.0.1:${port} ssl; root ${folder}/www;
           ssl_certificate ${files.server}; ssl_certificate_key ${files.serverKey};
           ssl_protocols TLSv1.3; ssl_client_certificate ${files.ca}; ssl_verify_client on;
         }
       }`,
    );
    const nginx = spawn(String(NGINX), ['-e', 'stderr', '-p', folder, '-c', join(folder, 'nginx.conf')], {
      stdio: 'ignore',
    });
    try {
      await expect.poll(() => answers(port), { timeout: 20_000 }).toBe(true);
      const url = `https://127.0.0.1:${port}/models`;
      const anybody: RegistryModelsConfig = { kind: 'registry', url, ca: String(files.ca) };
      const { certificate, key } = client as { certificate: string; key: string };
      await using asking = await ask({ ...anybody, certificate, key });
      const target = new Uint8Array(whole.length);
      const source = asking.host.payloadSource('iris', whole.length);
      const middle = 500_000;
      await Promise.all([
        source.read(0, target.subarray(0, middle)),
        source.read(middle, target.subarray(middle)),
      ]);
      expect(Buffer.compare(Buffer.from(target), whole)).toBe(0);
      await expect(asking.host.fetchModelFile('iris', 'key.json', 100)).rejects.toThrow('found 404');

      await writeFile(join(served, 'payload'), Buffer.from(whole).reverse());
      await expect(source.read(0, target)).rejects.toThrow('found 502');
      expect(asking.events).toMatchObject([{ error: 'PARENT_MODELS_CHANGED' }]);
      expect(await fetchHead(anybody)).toBe('PARENT_MODELS_REFUSED status-400');
    } finally {
      nginx.kill('SIGTERM');
      if (nginx.exitCode === null) await once(nginx, 'exit');
      await rm(folder, { recursive: true });
    }
  });
});

/** A port that was free a moment ago: nginx cannot say which one it took. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function answers(port: number): Promise<boolean> {
  try {
    await fetch(`http://127.0.0.1:${port}/`);
    return true;
  } catch {
    return false;
  }
}
