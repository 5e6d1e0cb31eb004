import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { PassThrough } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { BodyBudget } from '../../../enclave/serve/admission.ts';
import { type BodyRules, readBody } from '../../../enclave/serve/body.ts';

const PLENTY = 1_000_000;
const rules: BodyRules = { limitBytes: 100, windowMs: 5_000, bytesPerSecond: 2 };

function read(
  request: PassThrough,
  announcedBytes: number | undefined,
  held = new BodyBudget(PLENTY).open(),
): Promise<Uint8Array> {
  return readBody(request as unknown as IncomingMessage, announcedBytes, held, rules);
}

it.each([
  ['announced', 5],
  ['chunked', undefined],
])('copies every piece as it comes, so that no piece is kept (%s)', async (_, announcedBytes) => {
  const request = new PassThrough();
  const reading = read(request, announcedBytes);
  const piece = Buffer.alloc(1);
  for (const letter of 'hello') {
    piece.write(letter);
    request.write(piece);
    await turn();
  }
  request.end();
  expect(Buffer.from(await reading).toString()).toBe('hello');
});

it('that came along with the headers is taken as a whole, into memory of its own, and the stream ends', async () => {
  const request = new PassThrough();
  const sent = Buffer.from('hello');
  request.write(sent);
  const ended = once(request, 'end');
  const reading = read(request, 5);
  request.end();
  const body = await reading;
  sent.fill(0);
  expect(Buffer.from(body).toString()).toBe('hello');
  expect(body.buffer.byteLength).toBe(5);
  await ended;
});

it('of no bytes is taken', async () => {
  const request = new PassThrough();
  request.end();
  expect(await read(request, 0)).toHaveLength(0);
});

it.each([
  ['that came as a whole', ['hello']],
  ['in pieces', ['he', 'l', 'lo']],
])('%s is shown to whoever else has to see it', async (_, pieces) => {
  const request = new PassThrough();
  const seen: string[] = [];
  const held = new BodyBudget(PLENTY).open();
  const reading = readBody(request as unknown as IncomingMessage, 5, held, rules, (piece) => {
    seen.push(Buffer.from(piece).toString());
  });
  for (const piece of pieces) {
    request.write(piece);
    if (pieces.length > 1) await turn();
  }
  request.end();
  await reading;
  expect(seen).toEqual(pieces);
});

it('is cut off when the connection has ended before anybody read', async () => {
  const request = new PassThrough();
  request.destroy();
  await turn();
  await expect(read(request, 5)).rejects.toMatchObject({ code: 'API_INVALID' });
});

it('takes a chunked body of exactly the limit, and not a byte more', async () => {
  const bodyOf = (sizeBytes: number): Promise<Uint8Array> => {
    const request = new PassThrough();
    request.end(Buffer.alloc(sizeBytes, 1));
    return read(request, undefined);
  };
  expect(await bodyOf(100)).toHaveLength(100);
  await expect(bodyOf(101)).rejects.toMatchObject({ code: 'API_TOO_LARGE' });
});

it('is cut off when the connection ends before the body does', async () => {
  const request = new PassThrough();
  const reading = read(request, 5);
  request.write('hell');
  request.destroy();
  await expect(reading).rejects.toMatchObject({ code: 'API_INVALID' });
});

describe('the memory that a body takes', () => {
  it.each([
    ['announced', 100],
    ['chunked', undefined],
  ])('follows what has arrived, at most twice as much, never what is to come (%s)', async (_, announced) => {
    let taken = 0;
    const request = new PassThrough();
    const held = {
      take: (sizeBytes: number) => {
        taken += sizeBytes;
      },
    };
    const reading = readBody(request as unknown as IncomingMessage, announced, held, rules);
    await turn();
    expect(taken).toBe(0);
    for (let arrived = 1; arrived <= 100; arrived += 1) {
      request.write('x');
      await turn();
      expect(taken).toBeGreaterThanOrEqual(arrived);
      expect(taken).toBeLessThanOrEqual(Math.min(100, 2 * arrived));
    }
    request.end();
    expect(await reading).toHaveLength(100);
    expect(taken).toBe(100);
  });

  it('is refused as soon as all bodies together hold too much, and nothing is taken after that', async () => {
    const budget = new BodyBudget(10);
    using other = budget.open();
    other.take(6);
    const request = new PassThrough();
    {
      using held = budget.open();
      const reading = read(request, 20, held);
      request.write('1234');
      await turn();
      request.write('5');
      await expect(reading).rejects.toMatchObject({ code: 'API_OVERLOADED' });
    }
    request.write('6789');
    await turn();
    using next = budget.open();
    expect(() => next.take(4)).not.toThrow();
  });
});

describe('the rate at which a body arrives', () => {
  afterEach(() => {
    vi.useRealTimers();
  });
  /** Streams keep their own time. */
  const fakeClock = () => vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });

  it('may be as low as the floor, for as long as it takes', async () => {
    fakeClock();
    const request = new PassThrough();
    const reading = read(request, 100);
    for (let window = 0; window < 10; window += 1) {
      request.write(Buffer.alloc(10, 0x20));
      await turn();
      vi.advanceTimersByTime(5_000);
    }
    request.end();
    expect(await reading).toHaveLength(100);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('below the floor ends with 408, but not before the first seconds are over', async () => {
    fakeClock();
    const request = new PassThrough();
    let ended = false;
    const reading = read(request, 100).finally(() => {
      ended = true;
    });
    const refused = expect(reading).rejects.toMatchObject({ code: 'API_SLOW', status: 408 });
    request.write(Buffer.alloc(9));
    await turn();
    vi.advanceTimersByTime(4_999);
    await turn();
    expect(ended).toBe(false);
    vi.advanceTimersByTime(1);
    await refused;
    expect(vi.getTimerCount()).toBe(0);
  });

  it('is not made up for by what came before: a sender that stops is cut off', async () => {
    fakeClock();
    const request = new PassThrough();
    const refused = expect(read(request, 100)).rejects.toMatchObject({ code: 'API_SLOW' });
    request.write(Buffer.alloc(99));
    await turn();
    vi.advanceTimersByTime(5_000);
    await turn();
    vi.advanceTimersByTime(5_000);
    await refused;
  });

  it('is watched no longer once the body is there', async () => {
    fakeClock();
    const request = new PassThrough();
    const reading = read(request, 1);
    request.end('x');
    await reading;
    expect(vi.getTimerCount()).toBe(0);
  });
});
