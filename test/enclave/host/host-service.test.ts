import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { type HostService, hostService } from '../../../enclave/host/host-service.ts';
import { telemetryQueue } from '../../../enclave/host/telemetry.ts';
import type { HttpClient } from '../../../link/http-client.ts';
import { hostilePeer } from '../../link/hostile-peer.ts';
import { CREDENTIALS } from '../../parent/setup.ts';
import { eventually } from '../../support/eventually.ts';

type Answer = string | ((request: string, index: number) => string);

/** What one call makes of a parent that answers with these bytes. */
async function withParent<T>(answer: Answer, call: (host: HostService) => Promise<T>): Promise<T> {
  await using peer = await hostilePeer((connection: Duplex, request, index) => {
    connection.write(typeof answer === 'string' ? answer : answer(request, index), 'latin1');
  });
  const host = hostService(peer.link);
  try {
    return await call(host);
  } finally {
    host.close();
  }
}

function ok(body: string, extra = ''): string {
  return `HTTP/1.1 200 OK\r\n${extra}Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
}

describe('what the enclave takes from a hostile parent: whole files', () => {
  it('takes a deployment of 64 KiB and refuses one byte more before reading it', async () => {
    const most = 'x'.repeat(64 * 1024);
    expect((await withParent(ok(most), (host) => host.fetchDeployment())).length).toBe(64 * 1024);
    const announced = `HTTP/1.1 200 OK\r\nContent-Length: ${64 * 1024 + 1}\r\n\r\n`;
    await expect(withParent(announced, (host) => host.fetchDeployment())).rejects.toMatchObject({
      code: 'LINK_ANSWER_TOO_LARGE',
    });
  });

  it('refuses to make room for a terabyte', async () => {
    const announced = 'HTTP/1.1 200 OK\r\nContent-Length: 1099511627776\r\n\r\n';
    await expect(
      withParent(announced, (host) => host.fetchModelFile('iris', 'head', 1024)),
    ).rejects.toMatchObject({ code: 'LINK_ANSWER_TOO_LARGE' });
  });

  it('refuses a part where the whole was asked for', async () => {
    const part = ok('part', 'Content-Range: bytes 0-3/10\r\n');
    await expect(withParent(part, (host) => host.fetchDeployment())).rejects.toMatchObject({
      code: 'LINK_ANSWER_MALFORMED',
    });
  });

  it('keeps what it fetched in memory of its own, not in a shared pool', async () => {
    const bytes = await withParent(ok('deployment'), (host) => host.fetchDeployment());
    expect(bytes.buffer.byteLength).toBe(bytes.length);
  });

  for (const name of [
    '',
    '..',
    '../iris',
    'a/b',
    'a%2fb',
    'a b',
    '.hidden',
    'x'.repeat(65),
    'a\r\nHost: b',
  ]) {
    it(`never asks for a model named ${JSON.stringify(name)}`, async () => {
      await expect(withParent(ok(''), (host) => host.fetchModelFile(name, 'head', 10))).rejects.toMatchObject(
        { code: 'HOST_MODEL_NAME_INVALID' },
      );
    });
  }
});

describe('what the enclave takes from a hostile parent: ranges of a payload', () => {
  const read = (answer: Answer, offsetBytes = 10, sizeBytes = 4): Promise<string> =>
    withParent(answer, async (host) => {
      const target = new Uint8Array(new SharedArrayBuffer(sizeBytes));
      await host.payloadSource('iris', 100).read(offsetBytes, target);
      return Buffer.from(target).toString();
    });
  const partial = (body: string, contentRange: string): string =>
    `HTTP/1.1 206 Partial Content\r\n${contentRange}Content-Length: ${body.length}\r\n\r\n${body}`;

  it('asks for exactly the bytes of the read and takes exactly them', async () => {
    const asked: string[] = [];
    const answer = (request: string): string => {
      asked.push(request);
      return partial('abcd', 'Content-Range: bytes 10-13/100\r\n');
    };
    expect(await read(answer)).toBe('abcd');
    expect(asked[0]).toContain('GET /models/iris/payload HTTP/1.1\r\n');
    expect(asked[0]).toContain('range: bytes=10-13\r\n');
  });

  const refused: readonly (readonly [string, string, string])[] = [
    ['another start', partial('abcd', 'Content-Range: bytes 11-14/100\r\n'), 'LINK_ANSWER_MALFORMED'],
    ['another end', partial('abcd', 'Content-Range: bytes 10-14/100\r\n'), 'LINK_ANSWER_MALFORMED'],
    ['another whole', partial('abcd', 'Content-Range: bytes 10-13/101\r\n'), 'LINK_ANSWER_MALFORMED'],
    ['an unknown whole', partial('abcd', 'Content-Range: bytes 10-13/*\r\n'), 'LINK_ANSWER_MALFORMED'],
    ['another unit', partial('abcd', 'Content-Range: items 10-13/100\r\n'), 'LINK_ANSWER_MALFORMED'],
    ['no range', partial('abcd', ''), 'LINK_ANSWER_MALFORMED'],
    [
      'two ranges',
      partial('abcd', 'Content-Range: bytes 10-13/100\r\nContent-Range: bytes 10-13/100\r\n'),
      'LINK_ANSWER_MALFORMED',
    ],
    ['fewer bytes', partial('abc', 'Content-Range: bytes 10-13/100\r\n'), 'LINK_ANSWER_MALFORMED'],
    ['more bytes', partial('abcde', 'Content-Range: bytes 10-13/100\r\n'), 'LINK_ANSWER_MALFORMED'],
    ['the whole file', ok('x'.repeat(100)), 'LINK_ANSWER_REFUSED'],
    [
      'a multipart answer',
      partial('--x\r\n\r\n--x--', 'Content-Type: multipart/byteranges\r\n'),
      'LINK_ANSWER_MALFORMED',
    ],
    ['range not satisfiable', 'HTTP/1.1 416 No\r\nContent-Length: 0\r\n\r\n', 'LINK_ANSWER_REFUSED'],
  ];
  for (const [what, answer, code] of refused) {
    it(`refuses an answer with ${what}`, async () => {
      await expect(read(answer)).rejects.toMatchObject({ code });
    });
  }

  it('never writes beyond the target when a body goes on', async () => {
    const surplus = `${partial('abcd', 'Content-Range: bytes 10-13/100\r\n')}${'Z'.repeat(1_000)}`;
    await withParent(surplus, async (host) => {
      const memory = new Uint8Array(new SharedArrayBuffer(12));
      await host
        .payloadSource('iris', 100)
        .read(10, memory.subarray(4, 8))
        .catch(() => {});
      await sleep(20);
      expect(Buffer.from(memory).includes('Z')).toBe(false);
    });
  });

  it('never asks for bytes beyond the end', async () => {
    for (const [offset, size] of [
      [97, 4],
      [100, 1],
      [-1, 4],
      [0.5, 4],
      [Number.NaN, 4],
    ] as const) {
      await expect(read(ok(''), offset, size)).rejects.toMatchObject({ code: 'HOST_RANGE_OUTSIDE' });
    }
  });

  it('asks nothing for nothing', async () => {
    expect(await read('never sent', 10, 0)).toBe('');
  });
});

describe('what the enclave takes from a hostile parent: credentials', () => {
  const fetch = (body: string) => withParent(ok(body), (host) => host.fetchCredentials());

  it('takes the four members', async () => {
    expect(await fetch(JSON.stringify(CREDENTIALS))).toEqual({
      ...CREDENTIALS,
      expiration: new Date(CREDENTIALS.expiration),
    });
  });

  const { sessionToken: _, ...withoutToken } = CREDENTIALS;
  const refused: readonly (readonly [string, unknown])[] = [
    ['a list', [CREDENTIALS]],
    ['a missing member', withoutToken],
    ['an unknown member', { ...CREDENTIALS, endpoint: 'https://kms.evil.example' }],
    ['a number where text belongs', { ...CREDENTIALS, accessKeyId: 1 }],
    ['an object where text belongs', { ...CREDENTIALS, sessionToken: {} }],
    ['a header in a token', { ...CREDENTIALS, sessionToken: 'a\r\nX-Evil: 1' }],
    ['an access key id with a slash', { ...CREDENTIALS, accessKeyId: 'ASIA/EXAMPLE/EXAMPLE' }],
    ['an empty secret', { ...CREDENTIALS, secretAccessKey: '' }],
    ['a date that is none', { ...CREDENTIALS, expiration: '2026-13-41T00:00:00Z' }],
    ['a date in words', { ...CREDENTIALS, expiration: 'tomorrow' }],
    ['a token without end', { ...CREDENTIALS, sessionToken: 'x'.repeat(8_193) }],
  ];
  for (const [what, value] of refused) {
    it(`refuses ${what}`, async () => {
      await expect(fetch(JSON.stringify(value))).rejects.toMatchObject({ code: 'CREDENTIALS_MALFORMED' });
    });
  }

  it('refuses duplicate members', async () => {
    const twice = JSON.stringify(CREDENTIALS).replace('{', '{"accessKeyId":"AKIAOTHEROTHEROTHER0",');
    await expect(fetch(twice)).rejects.toMatchObject({ code: 'CREDENTIALS_MALFORMED' });
  });

  it('refuses more than 16 KiB before reading it', async () => {
    await expect(fetch(' '.repeat(16 * 1024 + 1))).rejects.toMatchObject({ code: 'LINK_ANSWER_TOO_LARGE' });
  });

  it('never repeats a value in an error', async () => {
    const broken = JSON.stringify({ ...CREDENTIALS, expiration: 'x' });
    for (const body of [broken, `${broken}!`, broken.slice(0, -1)]) {
      const refusal = (await fetch(body).catch((error) => error)) as Error;
      const told = `${refusal.stack} ${JSON.stringify(refusal)} ${String(refusal.cause)}`;
      expect(told).not.toContain(CREDENTIALS.secretAccessKey);
      expect(told).not.toContain(CREDENTIALS.sessionToken);
    }
  });
});

describe('telemetry', () => {
  const line = { event: 'boot', fields: { step: 'serving' } } as const;

  it('leaves in order, in batches', async () => {
    const sent: string[] = [];
    const queue = telemetryQueue(fakeHttp(async (body) => void sent.push(body)));
    queue.send([line]);
    queue.send([{ event: 'boot', fields: { step: 'engine-loaded', durationMs: 3 } }, line]);
    await eventually(() => sent).toEqual([
      JSON.stringify({ lines: [line] }),
      JSON.stringify({ lines: [{ event: 'boot', fields: { step: 'engine-loaded', durationMs: 3 } }, line] }),
    ]);
    expect(queue.dropped).toBe(0);
  });

  it('is dropped, counted and bounded when the parent is slow', async () => {
    let posts = 0;
    const queue = telemetryQueue(
      fakeHttp(() => {
        posts += 1;
        return new Promise(() => {});
      }),
    );
    for (let count = 0; count < 10_000; count += 1) queue.send([line]);
    await sleep(1);
    expect(posts).toBe(1);
    expect(queue.dropped).toBeGreaterThanOrEqual(10_000 - 257);
  });

  it('is dropped and counted when the parent refuses, and never throws', async () => {
    const queue = telemetryQueue(fakeHttp(() => Promise.reject(new Error('no'))));
    queue.send([line, line]);
    await eventually(() => queue.dropped).toBe(2);
  });

  it('never leaves with a field that is not on the allow-list', async () => {
    const sent: string[] = [];
    const queue = telemetryQueue(fakeHttp(async (body) => void sent.push(body)));
    queue.send([
      { event: 'boot', fields: { prompt: 'secret' } },
      { event: 'boot', fields: { step: 'free text with a secret' } },
      { event: 'boot', fields: { durationMs: -1 } },
      { event: 'boot', fields: { durationMs: 1.5 } },
      { event: 'boot', fields: { code: 'not a code' } },
      { event: 'other' as 'boot', fields: {} },
      { event: 'constructor' as 'boot', fields: {} },
      { event: 'boot', fields: { constructor: 1 } },
      { ...line, extra: 'secret' } as typeof line,
    ]);
    await sleep(5);
    expect(sent).toEqual([]);
    expect(queue.dropped).toBe(9);
  });
});

function fakeHttp(post: (body: string) => Promise<unknown>): HttpClient {
  return {
    exchange: async (exchange) => {
      await post(Buffer.from(exchange.body ?? []).toString());
      return new Uint8Array(0);
    },
    tunnel: () => Promise.reject(new Error('not here')),
    close: () => {},
  };
}
