/** What S3 and a registry have in common: the same story and the same faults on both. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { describe, expect, it } from 'vitest';
import { HOST_SERVICE_PORT } from '../../../link/ports.ts';
import { eventually, pattern } from '../setup.ts';
import { type Asking, ask, registry, s3Store, type TestStore } from './stores.ts';

const SIZE = 1_000_000;
const whole = pattern(SIZE);
const RANGE = { offset: 100_000, sizeBytes: 500_000 };

async function readRange({ host }: Asking, { offset, sizeBytes } = RANGE): Promise<Buffer> {
  const target = new Uint8Array(sizeBytes);
  await host.payloadSource('iris', SIZE).read(offset, target);
  return Buffer.from(target);
}

const refused = (status: number) => ({
  code: 'LINK_ANSWER_REFUSED',
  message: expect.stringContaining(`found ${status}`),
});
const failed = (error: string, reason: string, file = 'payload') => ({
  event: 'models-failed',
  model: 'iris',
  file,
  error,
  reason,
});

/** The range that a request asks for. */
function rangeOf(request: IncomingMessage): { first: number; last: number } {
  const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? [];
  return { first: Number(first), last: Number(last) };
}

/** The headers of the right answer, with some replaced or (undefined) left out. */
function promise(
  request: IncomingMessage,
  response: ServerResponse,
  etag: string | undefined,
  change: Record<string, string | number | undefined> = {},
): { first: number; last: number } {
  const { first, last } = rangeOf(request);
  const headers = {
    ...(etag !== undefined && { etag }),
    'last-modified': new Date(0).toUTCString(),
    'content-length': last - first + 1,
    'content-range': `bytes ${first}-${last}/${SIZE}`,
    ...change,
  };
  const sent = Object.fromEntries(Object.entries(headers).filter(([, value]) => value !== undefined));
  response.writeHead(206, sent as Record<string, string | number>);
  return { first, last };
}

const status =
  (code: number, headers: Record<string, string> = {}) =>
  (_request: IncomingMessage, response: ServerResponse): boolean => {
    response.writeHead(code, { 'content-length': 0, ...headers }).end();
    return true;
  };
const reset = (request: IncomingMessage): boolean => {
  request.socket.destroy();
  return true;
};
const hang = (): boolean => true;

describe.each([
  ['S3', () => s3Store()],
  ['a registry', () => registry()],
] as const)('models from %s', (_kind, open) => {
  async function setup(limits: Parameters<typeof ask>[1] = {}) {
    const store: TestStore = await open();
    store.put('iris.sealed/payload', whole);
    store.put('iris.sealed/head', Buffer.from('the head'));
    const asking = await ask(store.config, limits);
    return {
      ...asking,
      store,
      [Symbol.asyncDispose]: async () => {
        await asking[Symbol.asyncDispose]();
        await store[Symbol.asyncDispose]();
      },
    };
  }
  /** The headers that make an answer one of the version in the store. */
  async function etagOf({ host, store }: Asking & { store: TestStore }): Promise<string | undefined> {
    let etag: string | undefined;
    store.meet('GET', (request) => {
      etag = request.headers['if-match'];
      return false;
    });
    await host.payloadSource('iris', SIZE).read(0, new Uint8Array(1));
    return etag;
  }

  it('are served whole and by ranges, many at once, byte for byte', async () => {
    await using at = await setup();
    expect(Buffer.from(await at.host.fetchModelFile('iris', 'head', 100)).toString()).toBe('the head');
    const source = at.host.payloadSource('iris', SIZE);
    const target = new Uint8Array(new SharedArrayBuffer(SIZE));
    const step = 70_001;
    await Promise.all(
      Array.from({ length: Math.ceil(SIZE / step) }, (_, index) =>
        source.read(index * step, target.subarray(index * step, (index + 1) * step)),
      ),
    );
    expect(Buffer.compare(Buffer.from(target), whole)).toBe(0);
    expect(at.events).toEqual([]);
  });

  it('are looked at once for many ranges, and anew when an enclave begins with the head', async () => {
    await using at = await setup();
    const looks = () => at.store.asked.filter((asked) => asked === 'HEAD iris.sealed/payload').length;
    for (let count = 0; count < 5; count += 1) await readRange(at);
    expect(looks()).toBe(1);
    await at.host.fetchModelFile('iris', 'head', 100);
    await readRange(at);
    expect(looks()).toBe(2);
  });

  it('may be empty', async () => {
    await using at = await setup();
    at.store.put('iris.sealed/key.json', new Uint8Array(0));
    expect(await at.host.fetchModelFile('iris', 'key.json', 100)).toHaveLength(0);
  });

  it('are absent without being a failure', async () => {
    await using at = await setup();
    await expect(at.host.fetchModelFile('iris', 'manifest.json', 100)).rejects.toMatchObject(refused(404));
    await expect(at.host.fetchModelFile('other', 'head', 100)).rejects.toMatchObject(refused(404));
    expect(at.events).toEqual([]);
  });

  it('that were replaced under a running fetch are an error and no mix, until the enclave begins anew', async () => {
    await using at = await setup();
    await readRange(at);
    const next = Buffer.from(whole).reverse();
    at.store.put('iris.sealed/payload', next);
    for (let count = 0; count < 2; count += 1)
      await expect(readRange(at)).rejects.toMatchObject(refused(502));
    expect(at.events).toContainEqual(failed('PARENT_MODELS_CHANGED', 'changed'));
    expect(at.counters.get('models.failed.changed')).toBe(2);
    await at.host.fetchModelFile('iris', 'head', 100);
    expect(Buffer.compare(await readRange(at), next.subarray(100_000, 600_000))).toBe(0);
  });

  it('that were replaced in the middle of a body are an error', async () => {
    await using at = await setup();
    const etag = await etagOf(at);
    at.store.meet('GET', (request, response) => {
      const { first } = promise(request, response, etag);
      response.write(whole.subarray(first, first + 1_000), () => {
        at.store.put('iris.sealed/payload', Buffer.alloc(SIZE, 7));
        response.destroy();
      });
      return true;
    });
    await expect(readRange(at)).rejects.toMatchObject({ code: 'LINK_LOST' });
    await eventually(() => at.events).toContainEqual(failed('PARENT_MODELS_CHANGED', 'changed'));
  });

  it('that are gone after they were seen are an error', async () => {
    await using at = await setup();
    at.store.meet('GET', status(404));
    await expect(readRange(at)).rejects.toMatchObject(refused(502));
    expect(at.events).toEqual([failed('PARENT_MODELS_CHANGED', 'changed')]);
  });

  it('of another version whose server does not know If-Match are an error', async () => {
    await using at = await setup();
    at.store.meet('GET', (request, response) => {
      const { first, last } = promise(request, response, '"another"');
      response.end(whole.subarray(first, last + 1));
      return true;
    });
    await expect(readRange(at)).rejects.toMatchObject(refused(502));
    expect(at.events).toEqual([failed('PARENT_MODELS_CHANGED', 'changed')]);
  });

  it('arrive after a few failures that pass', async () => {
    await using at = await setup();
    at.store.meet('HEAD', status(500), status(503));
    at.store.meet('GET', reset, status(429));
    expect(Buffer.compare(await readRange(at), whole.subarray(100_000, 600_000))).toBe(0);
    expect(at.store.asked).toHaveLength(6);
    expect(at.events).toEqual([]);
  });

  it('are asked for only so often', async () => {
    await using at = await setup();
    at.store.meet('HEAD', ...Array(9).fill(status(500)));
    await expect(readRange(at)).rejects.toMatchObject(refused(503));
    expect(at.store.asked).toHaveLength(3);
    expect(at.events).toEqual([failed('PARENT_MODELS_UNAVAILABLE', 'status-500')]);
    expect(at.counters.get('models.failed.status-500')).toBe(1);
  });

  it.each([400, 401, 403])('that are not for this parent (%i) are asked for once', async (code) => {
    await using at = await setup();
    at.store.meet('HEAD', status(code));
    await expect(readRange(at)).rejects.toMatchObject(refused(502));
    expect(at.store.asked).toHaveLength(1);
    expect(at.events).toEqual([failed('PARENT_MODELS_REFUSED', `status-${code}`)]);
  });

  it.each([301, 302, 307, 308])('are never fetched from where a redirect (%i) leads', async (code) => {
    await using at = await setup();
    at.store.meet('GET', status(code, { location: 'http://169.254.169.254/latest/meta-data/' }));
    await expect(readRange(at)).rejects.toMatchObject(refused(502));
    expect(at.store.asked).toHaveLength(2);
    expect(at.events).toEqual([failed('PARENT_MODELS_MALFORMED', 'redirect')]);
  });

  it('whose server ignores ranges are refused, and the reason says so', async () => {
    await using at = await setup();
    const etag = await etagOf(at);
    at.store.meet('GET', (_request, response) => {
      response.writeHead(200, { 'content-length': SIZE, ...(etag !== undefined && { etag }) }).end(whole);
      return true;
    });
    await expect(readRange(at)).rejects.toMatchObject(refused(502));
    expect(at.events).toEqual([failed('PARENT_MODELS_MALFORMED', 'range-ignored')]);
  });

  const malformed: readonly (readonly [string, string, Record<string, string | number | undefined>])[] = [
    ['of another place', 'wrong-range', { 'content-range': `bytes 0-499999/${SIZE}` }],
    ['of no place', 'wrong-range', { 'content-range': undefined }],
    ['in another unit', 'wrong-range', { 'content-range': `items 100000-599999/${SIZE}` }],
    ['of another length', 'wrong-range', { 'content-length': 499_999 }],
  ];
  for (const [what, reason, headers] of malformed) {
    it(`with a range ${what} are refused before the enclave hears anything`, async () => {
      await using at = await setup();
      const etag = await etagOf(at);
      at.store.meet('GET', (request, response) => {
        promise(request, response, etag, headers);
        response.write(whole.subarray(0, 1_000));
        return true;
      });
      await expect(readRange(at)).rejects.toMatchObject(refused(502));
      expect(at.events).toEqual([failed('PARENT_MODELS_MALFORMED', reason)]);
    });
  }

  it('are continued where a body broke off', async () => {
    await using at = await setup();
    const etag = await etagOf(at);
    const asked: { first: number; last: number }[] = [];
    const cutAfter = (sizeBytes: number) => (request: IncomingMessage, response: ServerResponse) => {
      const { first, last } = promise(request, response, etag);
      asked.push({ first, last });
      response.write(whole.subarray(first, first + sizeBytes), () => response.destroy());
      return true;
    };
    at.store.meet('GET', cutAfter(1_000), cutAfter(20_000));
    expect(Buffer.compare(await readRange(at), whole.subarray(100_000, 600_000))).toBe(0);
    expect(asked.map(({ last }) => last)).toEqual([599_999, 599_999]);
    expect(asked[0]?.first).toBe(100_000);
    expect(asked[1]?.first).toBeGreaterThanOrEqual(100_000);
    expect(asked[1]?.first).toBeLessThanOrEqual(101_000);
    expect(at.events).toEqual([]);
  });

  it('that break off every time end in an error, and the enclave sees no end', async () => {
    await using at = await setup();
    const etag = await etagOf(at);
    const cut = (request: IncomingMessage, response: ServerResponse) => {
      const { first } = promise(request, response, etag);
      response.write(whole.subarray(first, first + 10), () => response.destroy());
      return true;
    };
    at.store.meet('GET', cut, cut, cut);
    await expect(readRange(at)).rejects.toMatchObject({ code: 'LINK_LOST' });
    await eventually(() => at.events).toContainEqual(failed('PARENT_MODELS_UNAVAILABLE', 'cut'));
  });

  it('that fall silent are continued on another connection', async () => {
    await using at = await setup({ limits: { idleTimeoutMs: 1_000 } });
    const etag = await etagOf(at);
    at.store.meet('GET', (request, response) => {
      const { first } = promise(request, response, etag);
      response.write(whole.subarray(first, first + 1_000));
      return true;
    });
    expect(Buffer.compare(await readRange(at), whole.subarray(100_000, 600_000))).toBe(0);
  });

  it('whose server says nothing are given up', async () => {
    await using at = await setup({ limits: { attemptTimeoutMs: 50 } });
    at.store.meet('HEAD', hang, hang, hang);
    await expect(readRange(at)).rejects.toMatchObject(refused(503));
    expect(at.events).toEqual([failed('PARENT_MODELS_UNAVAILABLE', 'timeout')]);
    // On a busy machine an attempt may be over before it has got through.
    expect(at.store.asked.length).toBeLessThanOrEqual(3);
  });

  it('are given up in time for the enclave to hear it, however many attempts are left', async () => {
    await using at = await setup({
      limits: { attemptTimeoutMs: 60_000, answerTimeoutMs: 200, attempts: 99 },
    });
    at.store.meet('HEAD', status(500), hang);
    await expect(readRange(at)).rejects.toMatchObject(refused(503));
    expect(at.store.asked.length).toBeLessThanOrEqual(3);
  });

  it('from a server that is not there are a failure, not an absence', async () => {
    await using at = await setup();
    await at.store[Symbol.asyncDispose]();
    await expect(readRange(at)).rejects.toMatchObject(refused(503));
    expect(at.events).toEqual([failed('PARENT_MODELS_UNAVAILABLE', 'unreachable')]);
    at.store[Symbol.asyncDispose] = async () => {};
  });

  it('are not read on when the enclave hangs up, and that is no failure', async () => {
    await using at = await setup();
    const etag = await etagOf(at);
    const ended = Promise.withResolvers<void>();
    at.store.meet('GET', (request, response) => {
      const { first } = promise(request, response, etag);
      response.write(whole.subarray(first, first + 1_000));
      request.socket.once('close', () => ended.resolve());
      return true;
    });
    const connection = await at.link.dial(HOST_SERVICE_PORT, { timeoutMs: 5_000 });
    connection.write('GET /models/iris/payload HTTP/1.1\r\nHost: p\r\n\r\n');
    await new Promise((resolve) => connection.once('data', resolve));
    connection.destroy();
    await ended.promise;
    expect(at.store.asked).toHaveLength(3);
    expect(at.events).toEqual([]);
    expect(at.counters.get('host.failed')).toBe(0);
  });

  it('are read only as fast as the enclave takes them', async () => {
    await using at = await setup();
    const sizeBytes = 64 * 1024 * 1024;
    let sent = 0;
    at.store.meet('HEAD', (_request, response) => {
      response.writeHead(200, { 'content-length': sizeBytes, etag: '"big"' }).end();
      return true;
    });
    at.store.meet('GET', (_request, response) => {
      const last = sizeBytes - 1;
      response.writeHead(206, {
        etag: '"big"',
        'content-length': sizeBytes,
        'content-range': `bytes 0-${last}/${sizeBytes}`,
      });
      const chunk = Buffer.alloc(64 * 1024);
      const more = (): void => {
        while (sent < sizeBytes) {
          sent += chunk.length;
          if (!response.write(chunk)) return void response.once('drain', more);
        }
        response.end();
      };
      more();
      return true;
    });
    const connection = await at.link.dial(HOST_SERVICE_PORT, { timeoutMs: 5_000 });
    connection.write('GET /models/iris/payload HTTP/1.1\r\nHost: p\r\n\r\n');
    await new Promise((resolve) => connection.once('readable', resolve));
    let before = -1;
    const stands = (): boolean => {
      const stood = sent === before;
      before = sent;
      return stood;
    };
    await expect.poll(stands, { interval: 200, timeout: 15_000 }).toBe(true);
    expect(sent).toBeLessThan(sizeBytes / 2);
    let taken = 0;
    for await (const chunk of connection as AsyncIterable<Buffer>) {
      taken += chunk.length;
      if (taken > sizeBytes) break;
    }
    expect(sent).toBe(sizeBytes);
    connection.destroy();
  });
});
