import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Link, Listener } from '../../../link/link.ts';
import { unixLink } from '../../../link/unix.ts';
import { answerHeartbeats, heartbeatTimeoutMs } from '../../../parent/nitro/heartbeat.ts';
import { eventually } from '../../support/eventually.ts';

const PORT = 9_000;
const GIB = 1024 ** 3;
let folder: string;
let enclave: Link;
let listener: Listener;
let outcomes: string[];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'sr-'));
  const parent = unixLink({ dial: join(folder, 'e'), listen: join(folder, 'p') });
  enclave = unixLink({ dial: join(folder, 'p'), listen: join(folder, 'e') });
  outcomes = [];
  listener = await answerHeartbeats(parent, (outcome) => outcomes.push(outcome));
});
afterEach(async () => {
  await listener.close();
  await rm(folder, { recursive: true });
});

/** What comes back for these bytes, until the other side ends. */
async function beat(bytes: Uint8Array, end: boolean): Promise<Buffer> {
  const connection = await enclave.dial(PORT, { timeoutMs: 5_000 });
  const received: Buffer[] = [];
  connection.on('data', (chunk: Buffer) => received.push(chunk));
  const closed = once(connection, 'close');
  connection.on('end', () => connection.end());
  if (bytes.length > 0) connection.write(bytes);
  if (end) connection.end();
  await closed;
  return Buffer.concat(received);
}

describe("an enclave's sign of life", () => {
  it('is the byte 0xB7, and gets the same byte', async () => {
    expect(await beat(Uint8Array.of(0xb7), false)).toEqual(Buffer.of(0xb7));
    expect(await beat(Uint8Array.of(0xb7), true)).toEqual(Buffer.of(0xb7));
    await eventually(() => outcomes).toEqual(['answered', 'answered']);
  });

  it.each([
    ['another byte', Uint8Array.of(0xb6)],
    ['two of them', Uint8Array.of(0xb7, 0xb7)],
    ['none', new Uint8Array()],
  ])('is refused if it is %s', async (_, bytes) => {
    expect(await beat(bytes, true)).toEqual(Buffer.alloc(0));
    await eventually(() => outcomes).toEqual(['refused']);
  });

  it('may come again: every enclave that is started gives one', async () => {
    for (let index = 0; index < 5; index += 1) await beat(Uint8Array.of(0xb7), false);
    await eventually(() => outcomes).toHaveLength(5);
  });

  it('is not waited for on more than a few connections at once', async () => {
    const ended: number[] = [];
    for (let index = 0; index < 17; index += 1) {
      const connection = await enclave.dial(PORT, { timeoutMs: 5_000 });
      connection.resume().once('end', () => {
        ended.push(index);
        connection.destroy();
      });
    }
    await eventually(() => ended).toHaveLength(17);
    expect(ended[0]).toBe(16);
    expect(await beat(Uint8Array.of(0xb7), false)).toEqual(Buffer.of(0xb7));
  });
});

describe('the time until it', () => {
  it.each([
    [1, 512, 90_000],
    [6 * GIB, 512, 90_000],
    [6 * GIB + 1, 512, 180_000],
    [1, 100 * 1024, 90_000],
    [1, 100 * 1024 + 1, 180_000],
    [13 * GIB, 250 * 1024, 270_000],
  ])('is, for an image of %i bytes and %i MiB of memory, %i ms', (image, memory, expected) => {
    expect(heartbeatTimeoutMs(image, memory)).toBe(expected);
  });
});
