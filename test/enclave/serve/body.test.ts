import type { IncomingMessage } from 'node:http';
import { PassThrough } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { readBody } from '../../../enclave/serve/body.ts';

it.each([
  ['announced', 5],
  ['chunked', undefined],
])('copies every piece as it comes, so that no piece is kept (%s)', async (_, announcedBytes) => {
  const request = new PassThrough();
  const reading = readBody(request as unknown as IncomingMessage, announcedBytes, 100);
  const piece = Buffer.alloc(1);
  for (const letter of 'hello') {
    piece.write(letter);
    request.write(piece);
    await turn();
  }
  request.end();
  expect(Buffer.from(await reading).toString()).toBe('hello');
});

it('takes a chunked body of exactly the limit, and not a byte more', async () => {
  const bodyOf = (sizeBytes: number): Promise<Uint8Array> => {
    const request = new PassThrough();
    request.end(Buffer.alloc(sizeBytes, 1));
    return readBody(request as unknown as IncomingMessage, undefined, 100);
  };
  expect(await bodyOf(100)).toHaveLength(100);
  await expect(bodyOf(101)).rejects.toMatchObject({ code: 'API_TOO_LARGE' });
});

it('is cut off when the connection ends before the body does', async () => {
  const request = new PassThrough();
  const reading = readBody(request as unknown as IncomingMessage, 5, 100);
  request.write('hell');
  request.destroy();
  await expect(reading).rejects.toMatchObject({ code: 'API_INVALID' });
});
