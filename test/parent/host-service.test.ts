import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { HOST_SERVICE_PORT } from '../../link/ports.ts';
import { unixLink } from '../../link/unix.ts';
import { credentialsFromFile } from '../../parent/credentials/file.ts';
import { HOST_SERVICE_LIMITS, type HostServiceLimits, startHostService } from '../../parent/host-service.ts';
import { folderStore } from '../../parent/models/folder.ts';
import { Counters } from '../../parent/observe.ts';
import { drip } from '../link/hostile-peer.ts';
import { eventually, pattern, readAll, type Setup, setup, tcpServer } from './setup.ts';

/** Sends these bytes on one connection and gives all that comes back until its end. */
async function raw(at: Setup, request: string): Promise<string> {
  const connection = await at.enclaveLink.dial(HOST_SERVICE_PORT, { timeoutMs: 5_000 });
  connection.write(request, 'latin1');
  const answer = (await readAll(connection)).toString('latin1');
  connection.destroy();
  return answer;
}

function statuses(answer: string): number[] {
  return [...answer.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map((found) => Number(found[1]));
}

async function get(
  at: Setup,
  target: string,
  headers = '',
): Promise<{ status: number; head: string; body: string }> {
  const answer = await raw(
    at,
    `GET ${target} HTTP/1.1\r\nHost: parent\r\nConnection: close\r\n${headers}\r\n`,
  );
  const end = answer.indexOf('\r\n\r\n');
  return { status: statuses(answer)[0] ?? 0, head: answer.slice(0, end), body: answer.slice(end + 4) };
}

describe('the host service: what an enclave can ask for', () => {
  const unknown = [
    '/',
    '/models',
    '/models/',
    '/models/iris',
    '/models/iris/',
    '/models/iris/secrets',
    '/models/iris/payload/',
    '/models/iris/payload?x=1',
    '/models/iris/payload#x',
    '/models/../deployment.json',
    '/models/../../etc/passwd',
    '/models/iris/../iris/payload',
    '/models/iris/..%2f..%2fdeployment.json',
    '/models/%2e%2e/payload',
    '/models/iris%00/payload',
    '/models/.sealed/payload',
    '/models/..sealed/payload',
    '/models//payload',
    '//models/iris/payload',
    '/models\\iris\\payload',
    '/Models/iris/payload',
    '/deployment/',
    '/deployment.json',
    '/credentials.json',
    'http://parent/deployment',
    'http://169.254.169.254/latest/meta-data/',
    'https://kms.eu-central-1.amazonaws.com/',
    '*',
    'deployment',
    `/models/${'x'.repeat(65)}/payload`,
  ];
  for (const target of unknown) {
    it(`is not ${target.slice(0, 50)}`, async () => {
      await using at = await setup();
      const { status, body } = await get(at, target);
      expect([400, 404]).toContain(status);
      expect(body).toBe('');
    });
  }

  for (const method of ['HEAD', 'POST', 'PUT', 'DELETE', 'OPTIONS', 'TRACE', 'PATCH']) {
    it(`is not read by ${method}`, async () => {
      await using at = await setup();
      const answer = await raw(
        at,
        `${method} /deployment HTTP/1.1\r\nHost: parent\r\nConnection: close\r\n\r\n`,
      );
      expect(statuses(answer)).toEqual([405]);
    });
  }

  it('is told apart from a failure by its status', async () => {
    await using at = await setup((config) => ({ ...config, deploymentPath: '/nowhere' }));
    expect((await get(at, '/deployment')).status).toBe(500);
    expect((await get(at, '/models/iris/key.json')).status).toBe(404);
    await truncate(join(at.folder, 'credentials.json'), 0);
    expect((await get(at, '/credentials')).status).toBe(500);
    expect(at.events.map(({ error }) => error)).toEqual(['ENOENT', 'PARENT_CREDENTIALS_UNAVAILABLE']);
  });

  it('never includes a deployment that is longer than any enclave takes', async () => {
    await using at = await setup();
    await writeFile(at.config.deploymentPath, Buffer.alloc(64 * 1024 + 1));
    expect((await get(at, '/deployment')).status).toBe(500);
  });

  it('includes a deny list if there is one, as the file is now', async () => {
    await using without = await setup();
    expect((await get(without, '/deny-list')).status).toBe(404);
    await using at = await setup();
    const denyListPath = join(at.folder, 'deny-list.json');
    at.parent.reload({ ...at.config, denyListPath });
    expect((await get(at, '/deny-list')).status).toBe(500);
    for (const list of ['one', 'two']) {
      await writeFile(denyListPath, list);
      expect(Buffer.from(await at.host.fetchDenyList()).toString()).toBe(list);
    }
    await writeFile(denyListPath, Buffer.alloc(512 * 1024 + 1));
    expect((await get(at, '/deny-list')).status).toBe(500);
    expect(at.parent.counters()['host.deny-list']).toBe(4);
  });

  it('follows a reload', async () => {
    await using at = await setup();
    await writeFile(join(at.folder, 'other.json'), 'other');
    at.parent.reload({ ...at.config, deploymentPath: join(at.folder, 'other.json') });
    expect(Buffer.from(await at.host.fetchDeployment()).toString()).toBe('other');
    const { ingress, link } = at.config;
    const refused = { code: 'PARENT_RELOAD_REFUSED' };
    expect(() => at.parent.reload({ ...at.config, ingress: { ...ingress, port: 1 } })).toThrow(
      expect.objectContaining(refused),
    );
    expect(() => at.parent.reload({ ...at.config, link: { ...link, dial: 'x' } as typeof link })).toThrow(
      expect.objectContaining(refused),
    );
  });
});

describe('the host service: files of a model', () => {
  it('are regular files and nothing else', async () => {
    await using at = await setup();
    const sealed = join(at.folder, 'models', 'odd.sealed');
    await mkdir(sealed);
    await mkdir(join(sealed, 'head'));
    execFileSync('mkfifo', [join(sealed, 'payload')]);
    await symlink(join(at.folder, 'credentials.json'), join(sealed, 'key.json'));
    await symlink('/etc/passwd', join(sealed, 'manifest.json'));
    for (const file of ['head', 'payload', 'key.json', 'manifest.json']) {
      expect((await get(at, `/models/odd/${file}`)).status).toBe(404);
    }
  });

  it('are not reached through a symbolic link to a folder', async () => {
    await using at = await setup();
    await mkdir(join(at.folder, 'outside'));
    await writeFile(join(at.folder, 'outside', 'head'), 'outside');
    await symlink(join(at.folder, 'outside'), join(at.folder, 'models', 'linked.sealed'));
    expect((await get(at, '/models/linked/head')).status).toBe(404);
  });

  it('that are cut short while they are read end in a cut, and the log says so', async () => {
    await using at = await setup();
    const path = join(at.folder, 'models', 'iris.sealed', 'payload');
    await truncate(path, 32 * 1024 * 1024);
    const connection = await at.enclaveLink.dial(HOST_SERVICE_PORT, { timeoutMs: 5_000 });
    connection.write('GET /models/iris/payload HTTP/1.1\r\nHost: p\r\n\r\n');
    await once(connection, 'readable');
    await truncate(path, 1_000);
    expect((await readAll(connection)).length).toBeLessThan(32 * 1024 * 1024);
    await eventually(() => at.events).toMatchObject([
      { event: 'models-failed', model: 'iris', file: 'payload', error: 'PARENT_MODELS_CHANGED' },
    ]);
    expect(at.parent.counters()).toMatchObject({ 'models.failed.changed': 1 });
    expect(at.parent.counters()).not.toHaveProperty('host.refused.malformed');
  });

  it('leave no descriptor open behind them', async () => {
    await using at = await setup();
    const open = () =>
      execFileSync('ls', [`/proc/${process.pid}/fd`])
        .toString()
        .split('\n').length;
    await get(at, '/models/iris/payload', 'Range: bytes=0-9\r\n');
    const before = open();
    for (let count = 0; count < 20; count += 1) {
      await get(at, '/models/iris/payload', 'Range: bytes=0-9\r\n');
      await get(at, '/models/iris/payload', 'Range: bytes=9999999-\r\n');
      await get(at, '/models/none/payload');
      const cut = await at.enclaveLink.dial(HOST_SERVICE_PORT, { timeoutMs: 5_000 });
      cut.write('GET /models/iris/payload HTTP/1.1\r\nHost: p\r\n\r\n');
      await new Promise((resolve) => cut.once('data', resolve));
      cut.destroy();
    }
    await eventually(open).toBeLessThanOrEqual(before + 3);
  });

  const whole = pattern(3_000_000);
  const ranges: readonly (readonly [string, number, number])[] = [
    ['bytes=0-0', 0, 0],
    ['bytes=0-', 0, 2_999_999],
    ['bytes=10-19', 10, 19],
    ['bytes=2999999-', 2_999_999, 2_999_999],
    ['bytes=2999990-99999999', 2_999_990, 2_999_999],
    ['bytes=-5', 2_999_995, 2_999_999],
    ['bytes=-99999999', 0, 2_999_999],
  ];
  for (const [range, first, last] of ranges) {
    it(`are served in part for ${range}`, async () => {
      await using at = await setup();
      const { status, head, body } = await get(at, '/models/iris/payload', `Range: ${range}\r\n`);
      expect(status).toBe(206);
      expect(head.toLowerCase()).toContain(`content-range: bytes ${first}-${last}/3000000\r\n`);
      expect(Buffer.compare(Buffer.from(body, 'latin1'), whole.subarray(first, last + 1))).toBe(0);
    });
  }

  const unsatisfiable = [
    'bytes=3000000-',
    'bytes=5-4',
    'bytes=-0',
    'bytes=-',
    'bytes=',
    'bytes=a-b',
    'bytes=0x1-2',
    'bytes=1-2,4-5',
    'bytes=1-2, 1-2',
    'bytes= 1-2',
    'bytes=1-2-3',
    'bytes=+1-2',
    'items=0-1',
    'bytes=9999999999999999-',
    '0-1',
  ];
  for (const range of unsatisfiable) {
    it(`are refused for ${range}`, async () => {
      await using at = await setup();
      const { status, head, body } = await get(at, '/models/iris/payload', `Range: ${range}\r\n`);
      expect(status).toBe(416);
      expect(head.toLowerCase()).toContain('content-range: bytes */3000000\r\n');
      expect(body).toBe('');
    });
  }

  it('are served whole, empty ones too', async () => {
    await using at = await setup();
    await writeFile(join(at.folder, 'models', 'iris.sealed', 'key.json'), '');
    expect(await get(at, '/models/iris/key.json')).toMatchObject({ status: 200, body: '' });
    expect((await get(at, '/models/iris/payload')).body.length).toBe(3_000_000);
    expect((await get(at, '/models/iris/key.json', 'Range: bytes=0-\r\n')).status).toBe(416);
  });

  it('are read only as fast as the enclave takes them', async () => {
    await using at = await setup();
    const sizeBytes = 400 * 1024 * 1024;
    await truncate(join(at.folder, 'models', 'iris.sealed', 'payload'), sizeBytes);
    const before = process.memoryUsage().rss;
    const connections = await Promise.all(
      Array.from({ length: 20 }, async () => {
        const connection = await at.enclaveLink.dial(HOST_SERVICE_PORT, { timeoutMs: 5_000 });
        connection.write('GET /models/iris/payload HTTP/1.1\r\nHost: p\r\n\r\n');
        await new Promise((resolve) => connection.once('readable', resolve));
        return connection;
      }),
    );
    await sleep(300);
    expect(process.memoryUsage().rss - before).toBeLessThan(200 * 1024 * 1024);
    for (const connection of connections) connection.destroy();
  });
});

describe('the host service: requests that try to be two', () => {
  it('refuses a request with two lengths', async () => {
    await using at = await setup();
    const request =
      'POST /telemetry HTTP/1.1\r\nHost: p\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!';
    expect(statuses(await raw(at, request))).toEqual([400]);
  });

  it('refuses a request with a length and chunks', async () => {
    await using at = await setup();
    const smuggled = 'GET /credentials HTTP/1.1\r\nHost: p\r\n\r\n';
    const request = `POST /telemetry HTTP/1.1\r\nHost: p\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${smuggled}`;
    expect(statuses(await raw(at, request))).toEqual([400]);
  });

  it('refuses a body behind a GET, and never takes it for a request', async () => {
    await using at = await setup();
    const smuggled = 'GET /credentials HTTP/1.1\r\nHost: p\r\n\r\n';
    const withLength = `GET /deployment HTTP/1.1\r\nHost: p\r\nContent-Length: ${smuggled.length}\r\n\r\n${smuggled}`;
    expect(statuses(await raw(at, withLength))).toEqual([400]);
    const chunked = `GET /deployment HTTP/1.1\r\nHost: p\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`;
    expect(statuses(await raw(at, chunked))).toEqual([400]);
  });

  const broken = [
    ['HTTP/1.0', 'GET /deployment HTTP/1.0\r\nHost: p\r\n\r\n'],
    ['no Host', 'GET /deployment HTTP/1.1\r\n\r\n'],
    ['a bare line feed', 'GET /deployment HTTP/1.1\nHost: p\n\n'],
    ['a folded header', 'GET /deployment HTTP/1.1\r\nHost: p\r\nA: b\r\n c\r\n\r\n'],
    ['a space before a colon', 'GET /deployment HTTP/1.1\r\nHost: p\r\nA : b\r\n\r\n'],
    ['a NUL in a header', 'GET /deployment HTTP/1.1\r\nHost: p\r\nA: b\0\r\n\r\n'],
    ['a space in the target', 'GET /deployment x HTTP/1.1\r\nHost: p\r\n\r\n'],
    ['HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
    ['TLS', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03'],
    ['no HTTP', 'hello\r\n\r\n'],
  ] as const;
  for (const [what, request] of broken) {
    it(`refuses ${what}`, async () => {
      await using at = await setup();
      const found = statuses(await raw(at, request));
      expect(found.filter((status) => status !== 400)).toEqual([]);
      expect(await get(at, '/deployment')).toMatchObject({ status: 200 });
    });
  }

  it('refuses headers that are too long or too many', async () => {
    await using at = await setup();
    const long = `GET /deployment HTTP/1.1\r\nHost: p\r\nA: ${'x'.repeat(9_000)}\r\n\r\n`;
    expect(statuses(await raw(at, long))).toEqual([400]);
    const many = `GET /deployment HTTP/1.1\r\nHost: p\r\n${'A: b\r\n'.repeat(10_000)}\r\n`;
    expect(statuses(await raw(at, many))).toEqual([400]);
  });

  it('answers requests that come byte by byte, and several on one connection', async () => {
    await using at = await setup();
    const connection = await at.enclaveLink.dial(HOST_SERVICE_PORT, { timeoutMs: 5_000 });
    let text = '';
    connection.on('data', (chunk: Buffer) => (text += chunk));
    await drip(connection, 'GET /deployment HTTP/1.1\r\nHost: p\r\n\r\n');
    await eventually(() => text).toContain('{"format":"example"}');
    await drip(connection, 'GET /models/iris/head HTTP/1.1\r\nHost: p\r\nConnection: close\r\n\r\n');
    await eventually(() => text).toContain('the head');
    expect(statuses(text)).toEqual([200, 200]);
  });

  it('cuts a connection that asks again before its answer, having opened one file and no more', async () => {
    await using at = await setup();
    const connection = await at.enclaveLink.dial(HOST_SERVICE_PORT, { timeoutMs: 5_000 });
    connection.write('GET /models/iris/payload HTTP/1.1\r\nHost: p\r\n\r\n'.repeat(1_000));
    await readAll(connection);
    expect(at.parent.counters()['host.models']).toBe(1);
    expect(at.parent.counters()['host.refused.malformed']).toBeGreaterThan(0);
  });

  it('opens no tunnel on a connection that has not had its answer', async () => {
    await using kms = await tcpServer((socket) => socket.pipe(socket));
    const override = { address: '127.0.0.1', port: kms.port };
    const destination = { host: 'kms.example', port: 443, maxConnections: 1, override };
    await using at = await setup((config) => ({ ...config, egress: [destination] }));
    const asked = 'GET /models/iris/payload HTTP/1.1\r\nHost: p\r\n\r\n';
    const tunnel = 'CONNECT kms.example:443 HTTP/1.1\r\nHost: kms.example:443\r\n\r\n';
    expect(statuses(await raw(at, asked + tunnel))).toEqual([]);
    expect(at.parent.counters()).toMatchObject({ 'host.refused.malformed': 1 });
    expect(at.parent.counters()['egress.opened.kms.example:443']).toBeUndefined();
  });
});

describe('the host service: telemetry', () => {
  const post = async (at: Setup, body: string): Promise<number[]> =>
    statuses(
      await raw(
        at,
        `POST /telemetry HTTP/1.1\r\nHost: p\r\nConnection: close\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
      ),
    );

  it('takes what is on the allow-list, and counts it', async () => {
    await using at = await setup();
    expect(await post(at, '{"lines":[{"event":"requests","fields":{"served":3}}]}')).toEqual([200]);
    expect(at.parent.counters()['telemetry.requests']).toBe(1);
    expect(at.events).toContainEqual({ event: 'enclave-requests', served: 3 });
  });

  const refused = [
    ['no JSON', 'hello'],
    ['a list', '[]'],
    ['an unknown member', '{"lines":[],"more":1}'],
    ['an unknown event', '{"lines":[{"event":"ready","fields":{}}]}'],
    ['an unknown field', '{"lines":[{"event":"boot","fields":{"prompt":"x"}}]}'],
    ['free text', '{"lines":[{"event":"boot","fields":{"step":"a b"}}]}'],
    ['a line break', '{"lines":[{"event":"boot","fields":{"step":"a\\n{}"}}]}'],
    ['a nested value', '{"lines":[{"event":"boot","fields":{"step":{"a":1}}}]}'],
    ['one bad line among good ones', '{"lines":[{"event":"boot","fields":{}},{"event":"x","fields":{}}]}'],
    ['too many lines', `{"lines":[${Array(257).fill('{"event":"boot","fields":{}}').join()}]}`],
  ] as const;
  for (const [what, body] of refused) {
    it(`refuses ${what}, as a whole`, async () => {
      await using at = await setup();
      expect(await post(at, body)).toEqual([400]);
      expect(at.events).toEqual([]);
    });
  }

  it('refuses more than 64 KiB, announced or chunked', async () => {
    await using at = await setup();
    expect(await post(at, ' '.repeat(64 * 1024 + 1))).toEqual([413]);
    const chunk = `10000\r\n${' '.repeat(0x10000)}\r\n`;
    const chunked = `POST /telemetry HTTP/1.1\r\nHost: p\r\nTransfer-Encoding: chunked\r\n\r\n${chunk}${chunk}0\r\n\r\n`;
    expect(statuses(await raw(at, chunked))).toEqual([413]);
  });
});

describe('the host service: deadlines and bounds', () => {
  async function withLimits(
    limits: Partial<HostServiceLimits>,
    run: (dial: () => ReturnType<Setup['enclaveLink']['dial']>, counters: Counters) => Promise<void>,
  ): Promise<void> {
    await using at = await setup();
    const counters = new Counters();
    const link = unixLink({ dial: join(at.folder, 'none'), listen: join(at.folder, 'q') });
    const service = await startHostService(link, {
      sources: () => ({
        deploymentPath: at.config.deploymentPath,
        models: folderStore(join(at.folder, 'models')),
        credentials: credentialsFromFile(''),
      }),
      egress: { connect: async (_request, connection) => void connection.destroy(), abort: () => {} },
      limits: { ...HOST_SERVICE_LIMITS, ...limits },
      counters,
      observe: () => {},
    });
    const enclave = unixLink({ dial: join(at.folder, 'q'), listen: join(at.folder, 'none') });
    try {
      await run(() => enclave.dial(HOST_SERVICE_PORT, { timeoutMs: 5_000 }), counters);
    } finally {
      await service.close();
    }
  }

  it('cuts a connection that never asks', async () => {
    await withLimits({ headersTimeoutMs: 50, requestTimeoutMs: 50 }, async (dial) => {
      await readAll(await dial());
    });
  });

  it('cuts a connection whose headers drip for ever', async () => {
    await withLimits({ headersTimeoutMs: 100, requestTimeoutMs: 200 }, async (dial) => {
      const connection = await dial();
      const answer = readAll(connection).catch(() => {});
      const dripping = (async () => {
        connection.write('GET /deployment HTTP/1.1\r\n');
        while (!connection.readableEnded && !connection.destroyed) {
          connection.write('A: b\r\n');
          await sleep(20);
        }
      })();
      await Promise.all([answer, dripping]);
    });
  });

  it('cuts a connection that is idle between requests', async () => {
    await withLimits({ keepAliveTimeoutMs: 50 }, async (dial) => {
      const connection = await dial();
      connection.write('GET /deployment HTTP/1.1\r\nHost: p\r\n\r\n');
      expect((await readAll(connection)).toString()).toContain('{"format":"example"}');
    });
  });

  it('takes only so many connections', async () => {
    await withLimits({ maxConnections: 3 }, async (dial, counters) => {
      const open = [await dial(), await dial(), await dial()];
      await readAll(await dial());
      expect(counters.get('host.refused.too-many')).toBe(1);
      for (const connection of open) connection.destroy();
    });
  });
});
