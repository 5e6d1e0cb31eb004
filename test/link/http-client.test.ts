import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { type Exchange, HTTP_LIMITS, type HttpLimits, httpOverLink } from '../../link/http-client.ts';
import type { Link } from '../../link/link.ts';
import { HOST_SERVICE_PORT } from '../../link/ports.ts';
import { readAll } from '../parent/setup.ts';
import { boundedLink, drip, hostilePeer } from './hostile-peer.ts';

const HASTY: HttpLimits = {
  ...HTTP_LIMITS,
  connectTimeoutMs: 1_000,
  headersTimeoutMs: 150,
  idleTimeoutMs: 150,
};

const GET: Exchange = {
  method: 'GET',
  path: '/thing',
  status: 200,
  receive: (sizeBytes) => {
    if (sizeBytes > 64) throw new RangeError('too large for this test');
    return new Uint8Array(sizeBytes);
  },
};

/** What the client makes of one scripted answer. */
async function exchangeWith(
  answer: string | ((connection: Duplex, request: string, index: number) => void | Promise<void>),
  exchange: Exchange = GET,
  limits: HttpLimits = HTTP_LIMITS,
): Promise<string> {
  const respond = typeof answer === 'string' ? (connection: Duplex) => void connection.write(answer) : answer;
  await using peer = await hostilePeer(respond);
  const http = httpOverLink(peer.link, HOST_SERVICE_PORT, limits);
  try {
    return Buffer.from(await http.exchange(exchange)).toString('latin1');
  } catch (error) {
    return codeOf(error);
  } finally {
    http.close();
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : String(error);
}

describe('HTTP over the link, from a hostile peer', () => {
  it('takes an answer of exactly the announced length', async () => {
    expect(await exchangeWith('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello')).toBe('hello');
  });

  it('takes the same answer byte by byte', async () => {
    const answer = 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello';
    expect(await exchangeWith((connection) => drip(connection, answer))).toBe('hello');
  });

  it('takes an empty answer', async () => {
    expect(await exchangeWith('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n')).toBe('');
  });

  const refused: readonly (readonly [string, string, string])[] = [
    ['another status', 'HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n', 'LINK_ANSWER_REFUSED'],
    ['another success', 'HTTP/1.1 206 Partial\r\nContent-Length: 1\r\n\r\nx', 'LINK_ANSWER_REFUSED'],
    [
      'a redirect',
      'HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n',
      'LINK_ANSWER_REFUSED',
    ],
    ['no length', 'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nx', 'LINK_ANSWER_MALFORMED'],
    ['a signed length', 'HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello', 'LINK_ANSWER_MALFORMED'],
    ['a negative length', 'HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello', 'LINK_ANSWER_MALFORMED'],
    [
      'a length with a leading zero',
      'HTTP/1.1 200 OK\r\nContent-Length: 05\r\n\r\nhello',
      'LINK_ANSWER_MALFORMED',
    ],
    ['a hexadecimal length', 'HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\nhello', 'LINK_ANSWER_MALFORMED'],
    [
      'a length beyond all numbers',
      `HTTP/1.1 200 OK\r\nContent-Length: ${'9'.repeat(30)}\r\n\r\nhello`,
      'LINK_ANSWER_MALFORMED',
    ],
    [
      'two lengths that differ',
      'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!',
      'LINK_ANSWER_MALFORMED',
    ],
    [
      'the same length twice',
      'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello',
      'LINK_ANSWER_MALFORMED',
    ],
    [
      'a chunked body',
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n',
      'LINK_ANSWER_MALFORMED',
    ],
    [
      'chunked and a length',
      'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n',
      'LINK_ANSWER_MALFORMED',
    ],
    [
      'a compressed body',
      'HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello',
      'LINK_ANSWER_MALFORMED',
    ],
    [
      'an interim answer',
      'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n',
      'LINK_ANSWER_MALFORMED',
    ],
    ['a flood of interim answers', 'HTTP/1.1 102 Processing\r\n\r\n'.repeat(2_000), 'LINK_ANSWER_MALFORMED'],
    [
      'a change of protocol',
      'HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n',
      'LINK_ANSWER_MALFORMED',
    ],
    ['HTTP/1.0', 'HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello', 'LINK_ANSWER_MALFORMED'],
    ['no HTTP at all', 'SSH-2.0-OpenSSH_9.2\r\n', 'LINK_ANSWER_MALFORMED'],
    [
      'a folded header',
      'HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 5\r\n\r\nhello',
      'LINK_ANSWER_MALFORMED',
    ],
    ['a bare line feed', 'HTTP/1.1 200 OK\nContent-Length: 5\n\nhello', 'LINK_ANSWER_MALFORMED'],
    ['a long header', `HTTP/1.1 200 OK\r\nA: ${'x'.repeat(9_000)}\r\n`, 'LINK_ANSWER_TOO_LARGE'],
    ['many headers', `HTTP/1.1 200 OK\r\n${'A: b\r\n'.repeat(10_000)}`, 'LINK_ANSWER_TOO_LARGE'],
    [
      'a body that is longer than announced',
      'HTTP/1.1 200 OK\r\nContent-Length: 65\r\n\r\n',
      'RangeError: too large for this test',
    ],
  ];
  for (const [what, answer, code] of refused) {
    it(`refuses ${what}`, async () => {
      expect(await exchangeWith(answer)).toBe(code);
    });
  }

  it('refuses headers without an end, fed as fast as they are read', async () => {
    const endless = async (connection: Duplex): Promise<void> => {
      connection.write('HTTP/1.1 200 OK\r\n');
      while (!connection.destroyed) {
        connection.write('X-Header: value\r\n'.repeat(10));
        await sleep(1);
      }
    };
    expect(await exchangeWith(endless)).toBe('LINK_ANSWER_TOO_LARGE');
  });

  it('refuses room of another size than announced', async () => {
    const exchange: Exchange = { ...GET, receive: () => new Uint8Array(4) };
    expect(await exchangeWith('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello', exchange)).toBe(
      'LINK_ANSWER_MALFORMED',
    );
  });

  it('gives up on a peer that never answers', async () => {
    expect(await exchangeWith(() => {}, GET, HASTY)).toBe('LINK_TIMEOUT');
  });

  it('gives up on headers that come too slowly, however steadily', async () => {
    const slow = async (connection: Duplex): Promise<void> => {
      for (const byte of 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello') {
        if (connection.destroyed) return;
        connection.write(byte);
        await sleep(60);
      }
    };
    expect(await exchangeWith(slow, GET, HASTY)).toBe('LINK_TIMEOUT');
  });

  it('gives up on a body that stops', async () => {
    expect(await exchangeWith('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel', GET, HASTY)).toBe(
      'LINK_TIMEOUT',
    );
  });

  it('gives up on a body that drips for ever below the slowest accepted rate', async () => {
    const slow = async (connection: Duplex): Promise<void> => {
      connection.write('HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n');
      for (let sent = 0; sent < 60 && !connection.destroyed; sent += 1) {
        connection.write('x');
        await sleep(20);
      }
    };
    expect(await exchangeWith(slow, GET, HASTY)).toBe('LINK_TIMEOUT');
  });

  it('reports an end before any answer', async () => {
    expect(await exchangeWith((connection) => void connection.end())).toBe('LINK_LOST');
    expect(await exchangeWith((connection) => void connection.destroy())).toBe('LINK_LOST');
  });

  it('reports an end inside the headers', async () => {
    expect(await exchangeWith((connection) => void connection.end('HTTP/1.1 200 OK\r\nConte'))).toMatch(
      /^LINK_/,
    );
  });

  it('reports an end inside the body', async () => {
    const cut = 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel';
    expect(await exchangeWith((connection) => void connection.end(cut))).toBe('LINK_LOST');
    const killed = (connection: Duplex): void => void connection.write(cut, () => connection.destroy());
    expect(await exchangeWith(killed)).toBe('LINK_LOST');
  });

  it('reports an unreachable peer as the link does', async () => {
    const peer = await hostilePeer(() => {});
    await peer[Symbol.asyncDispose]();
    const http = httpOverLink(peer.link, HOST_SERVICE_PORT, HASTY);
    await expect(http.exchange(GET)).rejects.toMatchObject({ code: 'LINK_UNREACHABLE' });
    await expect(http.tunnel('example.com:443', 5_000)).rejects.toMatchObject({ code: 'LINK_UNREACHABLE' });
  });
});

describe.each([
  ['sockets', (link: Link) => link],
  ['bounded streams, as on a vsock', boundedLink],
] as const)('pooled connections that are %s', (_kind, wrap) => {
  const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';

  it('are used again', async () => {
    await using peer = await hostilePeer((connection) => void connection.write(OK));
    const http = httpOverLink(wrap(peer.link), HOST_SERVICE_PORT);
    for (let count = 0; count < 5; count += 1) await http.exchange(GET);
    expect(peer.accepted()).toBe(1);
    http.close();
  });

  it('are bounded, and what exceeds them waits its turn', async () => {
    await using peer = await hostilePeer((connection) => void setTimeout(() => connection.write(OK), 5));
    const http = httpOverLink(wrap(peer.link), HOST_SERVICE_PORT, { ...HTTP_LIMITS, maxConnections: 3 });
    await Promise.all(Array.from({ length: 30 }, () => http.exchange(GET)));
    expect(peer.accepted()).toBeLessThanOrEqual(3);
    http.close();
  });

  it('never take bytes that were sent ahead as the answer to the next request', async () => {
    const ahead = 'HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON';
    await using peer = await hostilePeer((connection, _request, index) => {
      connection.write(index === 0 ? OK + ahead : OK);
    });
    const http = httpOverLink(wrap(peer.link), HOST_SERVICE_PORT);
    const answers: string[] = [];
    for (let count = 0; count < 3; count += 1) {
      answers.push(await http.exchange(GET).then((bytes) => Buffer.from(bytes).toString(), codeOf));
    }
    expect(answers).not.toContain('POISON');
    http.close();
  });

  it('never take bytes that come while they are idle as the answer to the next request', async () => {
    const ahead = 'HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON';
    const idle = Promise.withResolvers<void>();
    const dropped = Promise.withResolvers<void>();
    await using peer = await hostilePeer(async (connection, _request, index) => {
      if (index === 0) connection.once('end', dropped.resolve).once('close', dropped.resolve);
      connection.write(OK);
      await idle.promise;
      if (index === 0) connection.write(ahead);
    });
    const http = httpOverLink(wrap(peer.link), HOST_SERVICE_PORT);
    await http.exchange(GET);
    idle.resolve();
    await dropped.promise;
    expect(Buffer.from(await http.exchange(GET)).toString()).toBe('ok');
    http.close();
  });

  it('are replaced when the peer has ended them meanwhile', async () => {
    await using peer = await hostilePeer((connection) => void connection.end(OK));
    const http = httpOverLink(wrap(peer.link), HOST_SERVICE_PORT);
    for (let count = 0; count < 3; count += 1) {
      await http.exchange(GET);
      await sleep(10);
    }
    expect(peer.accepted()).toBe(3);
    http.close();
  });

  it('are replaced once, not for ever, when the peer ends each on its reuse', async () => {
    await using peer = await hostilePeer((connection, _request, index) => {
      if (index === 0) connection.write(OK);
      else connection.destroy();
    });
    const http = httpOverLink(wrap(peer.link), HOST_SERVICE_PORT);
    await http.exchange(GET);
    await expect(http.exchange(GET)).rejects.toMatchObject({ code: 'LINK_LOST' });
    expect(peer.requests.length).toBe(3);
    http.close();
  });
});

describe('a tunnel by CONNECT, from a hostile peer', () => {
  async function tunnelWith(
    answer: (connection: Duplex) => void | Promise<void>,
    timeoutMs = 5_000,
  ): Promise<string> {
    await using peer = await hostilePeer(answer);
    const http = httpOverLink(peer.link, HOST_SERVICE_PORT);
    try {
      const tunnel = await http.tunnel('kms.example.com:443', timeoutMs);
      expect(peer.requests[0]).toContain('CONNECT kms.example.com:443 HTTP/1.1\r\n');
      tunnel.end();
      return (await readAll(tunnel)).toString('latin1');
    } catch (error) {
      return codeOf(error);
    }
  }

  it('loses no byte that arrives with the answer', async () => {
    expect(await tunnelWith((connection) => void connection.end('HTTP/1.1 200 OK\r\n\r\nfirst bytes'))).toBe(
      'first bytes',
    );
  });

  it('loses no byte when everything arrives byte by byte', async () => {
    const answer = async (connection: Duplex): Promise<void> => {
      await drip(connection, 'HTTP/1.1 200 OK\r\n\r\nfirst bytes, and more');
      connection.end();
    };
    expect(await tunnelWith(answer)).toBe('first bytes, and more');
  });

  it('hands over what looks like HTTP behind the answer as bytes', async () => {
    const junk = 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\njunk';
    expect(await tunnelWith((connection) => void connection.end(`HTTP/1.1 200 OK\r\n\r\n${junk}`))).toBe(
      junk,
    );
  });

  const refused: readonly (readonly [string, string, string])[] = [
    ['a refusal', 'HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n', 'LINK_ANSWER_REFUSED'],
    ['another success', 'HTTP/1.1 204 No Content\r\n\r\n', 'LINK_ANSWER_REFUSED'],
    ['a redirect', 'HTTP/1.1 307 Elsewhere\r\nLocation: http://evil.example\r\n\r\n', 'LINK_ANSWER_REFUSED'],
    ['an answer with a body', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello', 'LINK_ANSWER_MALFORMED'],
    [
      'a chunked answer',
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
      'LINK_ANSWER_MALFORMED',
    ],
    ['interim answers', 'HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n', 'LINK_ANSWER'],
    [
      'a change of protocol',
      'HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n',
      'LINK_ANSWER',
    ],
    ['no HTTP', 'hello there\r\n\r\n', 'LINK_ANSWER_MALFORMED'],
    ['long headers', `HTTP/1.1 200 OK\r\nA: ${'x'.repeat(9_000)}\r\n\r\n`, 'LINK_ANSWER_TOO_LARGE'],
  ];
  for (const [what, answer, code] of refused) {
    it(`refuses ${what}`, async () => {
      expect(await tunnelWith((connection) => void connection.write(answer))).toContain(code);
    });
  }

  it('gives up at the deadline', async () => {
    expect(await tunnelWith(() => {}, 100)).toBe('LINK_TIMEOUT');
  });

  it('reports an end before the answer', async () => {
    expect(await tunnelWith((connection) => void connection.end('HTTP/1.1 200'))).toMatch(/^LINK_/);
  });
});
