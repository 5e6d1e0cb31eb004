import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { Duplex, PassThrough } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { reset, splice } from '../../parent/splice.ts';
import { PATIENCE_MS } from '../support/eventually.ts';
import { pattern, readAll } from './setup.ts';

const open: Socket[] = [];

/** The two ends of a TCP connection. */
async function tcpPair(): Promise<[near: Socket, far: Socket]> {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  const near = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  const [[far]] = (await Promise.all([once(server, 'connection'), once(near, 'connect')])) as [
    [Socket],
    unknown,
  ];
  server.close();
  for (const socket of [near, far]) open.push(socket.on('error', () => {}));
  return [near, far];
}

afterEach(() => {
  for (const socket of open.splice(0)) socket.destroy();
});

describe('a splice', () => {
  it('ends both sides, and frees their descriptors, when one breaks while the other is ending', async () => {
    const [caller, first] = await tcpPair();
    const [enclave, second] = await tcpPair();
    const joined = splice(first, second, { idleTimeoutMs: PATIENCE_MS });
    caller.write('question');
    await once(enclave, 'data');
    // The end reaches the first side's socket; in the same turn the second side breaks.
    second.push(null);
    await once(second, 'end');
    expect(first.writableEnded).toBe(true);
    second.destroy(new Error('broken'));
    expect(await joined.ended).toBe('broken');
    expect([first.closed, second.closed]).toEqual([true, true]);
  });

  it('leaves alone what others may still read: bytes that are part of a larger buffer', async () => {
    const whole = Buffer.from(new Uint8Array(200_000).fill(7));
    const part = whole.subarray(100, 100_100);
    const [caller, first] = await tcpPair();
    const second = new PassThrough();
    first.unshift(part);
    splice(first, second, { idleTimeoutMs: PATIENCE_MS });
    const received = readAll(second);
    caller.end();
    await received;
    expect(whole.every((byte) => byte === 7)).toBe(true);
    expect(whole.length).toBe(200_000);
  });

  it('tells of every byte as it passes, not at the end', async () => {
    const [caller, first] = await tcpPair();
    const [enclave, second] = await tcpPair();
    const moved = { up: 0, down: 0 };
    const joined = splice(first, second, {
      idleTimeoutMs: PATIENCE_MS,
      onMoved: (direction, sizeBytes) => {
        moved[direction] += sizeBytes;
      },
    });
    enclave.end('four');
    expect((await readAll(caller)).toString()).toBe('four');
    expect(moved).toEqual({ up: 0, down: 4 });
    caller.end('three');
    expect((await readAll(enclave)).toString()).toBe('three');
    expect(await joined.ended).toBe('finished');
    expect(joined.carried).toEqual({ up: 5, down: 4 });
  });

  it('passes on an end that came before it', async () => {
    const [caller, first] = await tcpPair();
    const [enclave, second] = await tcpPair();
    caller.end();
    first.resume();
    await once(first, 'end');
    const joined = splice(first, second, { idleTimeoutMs: PATIENCE_MS });
    enclave.end('answer to nothing');
    expect((await readAll(enclave)).length).toBe(0);
    expect((await readAll(caller)).toString()).toBe('answer to nothing');
    expect(await joined.ended).toBe('finished');
  });

  it('keeps order and bytes for a side that takes one byte at a time', async () => {
    const bytes = pattern(3_000);
    const taken: Buffer[] = [];
    const slow = new Duplex({
      highWaterMark: 1,
      allowHalfOpen: true,
      read() {},
      write(chunk: Buffer, _encoding, done) {
        taken.push(Buffer.from(chunk));
        turn().then(() => done());
      },
    });
    const [caller, first] = await tcpPair();
    splice(first, slow, { idleTimeoutMs: PATIENCE_MS });
    for (let at = 0; at < bytes.length; at += 7) caller.write(bytes.subarray(at, at + 7));
    caller.end();
    await once(slow, 'finish');
    expect(Buffer.compare(Buffer.concat(taken), bytes)).toBe(0);
    slow.destroy();
  });
});

describe('resetting a socket', () => {
  it('closes it even while its end is on the way', async () => {
    const [near] = await tcpPair();
    near.end();
    // The shutdown is begun, not done: here Node's own reset fails, and would leave the descriptor open.
    expect(near.writableFinished).toBe(false);
    reset(near);
    await once(near, 'close');
    expect(near.closed).toBe(true);
  });

  it('tells the other end of a cut by a reset', async () => {
    const [near, far] = await tcpPair();
    far.resume();
    reset(near);
    const [error] = await once(far, 'error');
    expect(error).toMatchObject({ code: 'ECONNRESET' });
  });
});
