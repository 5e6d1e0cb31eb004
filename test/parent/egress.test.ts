import { once } from 'node:events';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { HOST_SERVICE_PORT } from '../../link/ports.ts';
import { isForbiddenAddress } from '../../parent/egress/addresses.ts';
import { type Destination, isDnsName, parseAuthority } from '../../parent/egress/allow-list.ts';
import { dialAddresses, dialDestination } from '../../parent/egress/dial.ts';
import { eventually, readAll, type Setup, setup, tcpServer } from './setup.ts';

const KMS = 'kms.eu-central-1.amazonaws.com';

function allowing(...destinations: Partial<Destination>[]): Parameters<typeof setup>[0] {
  const egress = destinations.map((destination) => ({
    host: KMS,
    port: 443,
    maxConnections: 8,
    ...destination,
  }));
  return (config) => ({ ...config, egress });
}

/** Sends these bytes to the host service and gives the status line of what comes back. */
async function statusOf(at: Setup, request: string): Promise<string> {
  const connection = await at.enclaveLink.dial(HOST_SERVICE_PORT, { timeoutMs: 5_000 });
  connection.write(request, 'latin1');
  const answer = (await readAll(connection)).toString('latin1');
  connection.destroy();
  return answer.split('\r\n')[0] ?? '';
}

describe('the way out: which destinations', () => {
  it('is nowhere, with an empty list', async () => {
    await using at = await setup();
    await expect(at.host.connect(KMS, 443, 5_000)).rejects.toMatchObject({ code: 'LINK_ANSWER_REFUSED' });
    expect(at.events).toContainEqual({
      event: 'egress-refused',
      destination: `${KMS}:443`,
      reason: 'not-allowed',
    });
  });

  const denied = [
    ['another host', 'evil.example:443'],
    ['another port of an allowed host', `${KMS}:80`],
    ['a host below an allowed one', `x.${KMS}:443`],
    ['a host above an allowed one', 'eu-central-1.amazonaws.com:443'],
    ['a host that ends like an allowed one', `evil${KMS}:443`],
    ['localhost', 'localhost:443'],
  ] as const;
  for (const [what, target] of denied) {
    it(`refuses ${what}`, async () => {
      await using at = await setup(allowing({}));
      const status = await statusOf(at, `CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n\r\n`);
      expect(status).toBe('HTTP/1.1 403 Forbidden');
    });
  }

  const malformed = [
    ['an IPv4 address', '127.0.0.1:443'],
    ['the metadata service', '169.254.169.254:80'],
    ['an IPv6 address', '[::1]:443'],
    ['an IPv4 address inside an IPv6 one', '[::ffff:169.254.169.254]:80'],
    ['a decimal address', '2852039166:80'],
    ['a hexadecimal address', '0xa9fea9fe:80'],
    ['a hexadecimal address in parts', '0xa9.0xfe.0xa9.0xfe:80'],
    ['an octal address', '0251.0376.0251.0376:80'],
    ['a short address', '127.1:443'],
    ['no port', KMS],
    ['port 0', `${KMS}:0`],
    ['port 65536', `${KMS}:65536`],
    ['a port with a sign', `${KMS}:+443`],
    ['a port with a zero before it', `${KMS}:0443`],
    ['two ports', `${KMS}:443:443`],
    ['a closing dot', `${KMS}.:443`],
    ['credentials', `user@${KMS}:443`],
    ['a URL', `https://${KMS}:443`],
    ['a path', `${KMS}:443/`],
    ['an escaped dot', 'kms%2eeu-central-1.amazonaws.com:443'],
    ['an underscore', `_x.${KMS}:443`],
  ] as const;
  for (const [what, target] of malformed) {
    it(`refuses ${what} as a target`, async () => {
      await using at = await setup(allowing({}));
      const status = await statusOf(at, `CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n\r\n`);
      expect(status).toBe('HTTP/1.1 400 Bad Request');
    });
  }

  it('refuses a Host header that names another destination than the target', async () => {
    await using at = await setup(allowing({}));
    const request = `CONNECT ${KMS}:443 HTTP/1.1\r\nHost: other.example:443\r\n\r\n`;
    expect(await statusOf(at, request)).toBe('HTTP/1.1 400 Bad Request');
  });

  it('refuses a CONNECT that announces a body', async () => {
    await using at = await setup(allowing({}));
    const head = `CONNECT ${KMS}:443 HTTP/1.1\r\nHost: ${KMS}:443\r\n`;
    expect(await statusOf(at, `${head}Content-Length: 5\r\n\r\nhello`)).toBe('HTTP/1.1 400 Bad Request');
    expect(await statusOf(at, `${head}Transfer-Encoding: chunked\r\n\r\n`)).toBe('HTTP/1.1 400 Bad Request');
  });

  it('takes a target in capitals as the same host', () => {
    expect(parseAuthority(`${KMS.toUpperCase()}:443`)).toEqual({ host: KMS, port: 443 });
  });

  it('knows names from addresses', () => {
    expect([KMS, 'a.b', 'host', 'x1.y2'].filter((name) => !isDnsName(name))).toEqual([]);
    const others = [
      '1.2.3.4',
      '127.1',
      '0x7f000001',
      '1',
      'a.1',
      'A.example',
      'a..b',
      '-a.b',
      '::1',
      '',
      'a.b.',
      'é.fr',
    ];
    expect(others.filter(isDnsName)).toEqual([]);
    expect(isDnsName(`${'a'.repeat(64)}.example`)).toBe(false);
    expect(isDnsName(`${'a.'.repeat(130)}example`)).toBe(false);
  });
});

describe('the way out: which addresses', () => {
  const forbidden = [
    '0.0.0.0',
    '127.0.0.1',
    '127.255.255.255',
    '169.254.169.254',
    '169.254.169.123',
    '224.0.0.1',
    '255.255.255.255',
    '::',
    '::1',
    '::127.0.0.1',
    '::ffff:127.0.0.1',
    '::ffff:169.254.169.254',
    '::ffff:10.0.0.1',
    '64:ff9b::169.254.169.254',
    '64:ff9b::7f00:1',
    '64:ff9b::',
    '2002:a9fe:a9fe::1',
    'fe80::1',
    'fe80::1%eth0',
    'fd00:ec2::254',
    'ff02::1',
    'no address',
    '',
    '2130706433',
  ];
  for (const address of forbidden) {
    it(`never dials ${JSON.stringify(address)}`, () => {
      expect(isForbiddenAddress(address)).toBe(true);
    });
  }

  it('dials public and private addresses', () => {
    const allowed = [
      '52.94.1.1',
      '10.0.3.4',
      '172.31.0.9',
      '192.168.1.1',
      '2600:1f18::1',
      'fd12:3456::1',
      '64:ff9b::345e:101',
    ];
    expect(allowed.filter(isForbiddenAddress)).toEqual([]);
  });

  it('refuses an allowed name that leads to this host or the metadata service, even among good addresses', async () => {
    for (const addresses of [
      ['127.0.0.1'],
      ['169.254.169.254'],
      ['52.94.1.1', '::1'],
      ['10.0.0.1', '169.254.169.254'],
    ]) {
      await using at = await setup(allowing({}), { resolve: async () => addresses });
      const request = `CONNECT ${KMS}:443 HTTP/1.1\r\nHost: ${KMS}:443\r\n\r\n`;
      expect(await statusOf(at, request)).toBe('HTTP/1.1 403 Forbidden');
      expect(at.parent.counters()['egress.refused.forbidden-address']).toBe(1);
    }
  });

  it('answers that a name cannot be resolved or reached', async () => {
    for (const resolve of [async () => [], () => Promise.reject(new Error('NXDOMAIN'))]) {
      await using at = await setup(allowing({}), { resolve });
      const request = `CONNECT ${KMS}:443 HTTP/1.1\r\nHost: ${KMS}:443\r\n\r\n`;
      expect(await statusOf(at, request)).toBe('HTTP/1.1 502 Bad Gateway');
    }
  });

  it('gives up on a name server that never answers', async () => {
    const destination = { host: KMS, port: 443, maxConnections: 1 };
    const never = new Promise<never>(() => {});
    await expect(dialDestination(destination, { timeoutMs: 50, resolve: () => never })).rejects.toMatchObject(
      { code: 'PARENT_EGRESS_FAILED' },
    );
  });

  it('tries the next address when one refuses', async () => {
    await using server = await tcpServer((socket) => socket.end('reached'));
    const socket = await dialAddresses(['127.0.0.2', '127.0.0.3', '127.0.0.1'], server.port, 5_000);
    expect((await readAll(socket)).toString()).toBe('reached');
  });

  it('tries the next address when one is silent, and keeps only one connection', async () => {
    await using server = await tcpServer((socket) => socket.end('reached'));
    // 192.0.2.0/24 is documentation space (RFC 5737): nothing answers there.
    const socket = await dialAddresses(['192.0.2.1', '127.0.0.1'], server.port, 10_000);
    expect(socket.remoteAddress).toBe('127.0.0.1');
    expect((await readAll(socket)).toString()).toBe('reached');
  });

  it('gives up when no address answers', async () => {
    await expect(dialAddresses(['127.0.0.2', '127.0.0.3'], 9, 5_000)).rejects.toMatchObject({
      code: 'PARENT_EGRESS_FAILED',
    });
    await expect(dialAddresses(['192.0.2.1'], 443, 50)).rejects.toMatchObject({
      code: 'PARENT_EGRESS_FAILED',
    });
  });
});

describe('the way out: tunnels', () => {
  const through = (port: number, more: Partial<Destination> = {}) =>
    allowing({ override: { address: '127.0.0.1', port }, ...more });

  it('carry half-closes in both directions', async () => {
    await using server = await tcpServer(async (socket) => {
      socket.write('greeting, ');
      const question = await readAll(socket);
      socket.end(`answer to ${question}`);
    });
    await using at = await setup(through(server.port));
    const tunnel = await at.host.connect(KMS, 443, 5_000);
    tunnel.end('question');
    expect((await readAll(tunnel)).toString()).toBe('greeting, answer to question');

    await using early = await tcpServer((socket) => {
      socket.end('bye');
      readAll(socket).then((bytes) => socket.emit('told', bytes.toString()));
    });
    await using other = await setup(through(early.port));
    const second = await other.host.connect(KMS, 443, 5_000);
    await eventually(() => early.sockets.size).toBe(1);
    const [socket] = [...early.sockets];
    const told = once(socket as NonNullable<typeof socket>, 'told');
    expect((await readAll(second)).toString()).toBe('bye');
    second.end('late');
    expect(await told).toEqual(['late']);
  });

  it('lose no byte that the enclave sends along with the request', async () => {
    await using server = await tcpServer((socket) => socket.pipe(socket));
    await using at = await setup(through(server.port));
    const connection = await at.enclaveLink.dial(HOST_SERVICE_PORT, { timeoutMs: 5_000 });
    connection.end(`CONNECT ${KMS}:443 HTTP/1.1\r\nHost: ${KMS}:443\r\n\r\nearly bytes`);
    expect((await readAll(connection)).toString()).toBe('HTTP/1.1 200 OK\r\n\r\nearly bytes');
  });

  it('are bounded for each destination, and counted', async () => {
    await using server = await tcpServer((socket) => socket.pipe(socket));
    await using at = await setup(through(server.port, { maxConnections: 2 }));
    const open = [await at.host.connect(KMS, 443, 5_000), await at.host.connect(KMS, 443, 5_000)];
    await expect(at.host.connect(KMS, 443, 5_000)).rejects.toMatchObject({ code: 'LINK_ANSWER_REFUSED' });
    expect(at.parent.counters()).toMatchObject({
      [`egress.open.${KMS}:443`]: 2,
      [`egress.opened.${KMS}:443`]: 2,
      'egress.refused.too-many': 1,
    });
    for (const tunnel of open) tunnel.end('1234');
    await Promise.all(open.map(readAll));
    await eventually(() => at.parent.counters()[`egress.open.${KMS}:443`]).toBe(0);
    expect(at.parent.counters()[`egress.bytes-up.${KMS}:443`]).toBe(8);
    expect(at.parent.counters()[`egress.bytes-down.${KMS}:443`]).toBe(8);
    (await at.host.connect(KMS, 443, 5_000)).destroy();
  });

  it('live on when a reload takes their destination off the list', async () => {
    await using server = await tcpServer((socket) => socket.pipe(socket));
    await using at = await setup(through(server.port));
    const tunnel = await at.host.connect(KMS, 443, 5_000);
    at.parent.reload({ ...at.config, egress: [] });
    await expect(at.host.connect(KMS, 443, 5_000)).rejects.toMatchObject({ code: 'LINK_ANSWER_REFUSED' });
    tunnel.end('still open');
    expect((await readAll(tunnel)).toString()).toBe('still open');
    at.parent.reload(at.config);
    (await at.host.connect(KMS, 443, 5_000)).destroy();
  });

  it('end on both sides when one is cut', async () => {
    await using server = await tcpServer((socket) => socket.resume().on('end', () => socket.end()));
    await using at = await setup(through(server.port));
    const tunnel = await at.host.connect(KMS, 443, 5_000);
    await eventually(() => server.sockets.size).toBe(1);
    tunnel.destroy();
    await eventually(() => server.sockets.size).toBe(0);

    const second = await at.host.connect(KMS, 443, 5_000);
    await eventually(() => server.sockets.size).toBe(1);
    // A UNIX socket knows no reset: the enclave sees an end, which TLS inside tells from a proper one.
    const gone = new Promise((resolve) => second.once('end', resolve).once('error', resolve));
    second.resume();
    for (const socket of server.sockets) socket.resetAndDestroy();
    await gone;
    second.destroy();
  });

  it('hold no more than their buffers for a destination that reads nothing', async () => {
    await using server = await tcpServer((socket) => socket.pause());
    await using at = await setup(through(server.port));
    const tunnel = await at.host.connect(KMS, 443, 5_000);
    const sent = await pushUntilStuck(tunnel);
    expect(sent).toBeLessThan(32 * 1024 * 1024);
    tunnel.destroy();
  });
});

/** Writes as long as the stream takes more; gives how much that was. */
async function pushUntilStuck(stream: Duplex): Promise<number> {
  const chunk = Buffer.alloc(256 * 1024);
  for (let sent = 0; ; sent += chunk.length) {
    if (stream.write(chunk)) continue;
    const drained = await Promise.race([once(stream, 'drain').then(() => true), sleep(500, false)]);
    if (!drained || sent > 256 * 1024 * 1024) return sent;
  }
}
