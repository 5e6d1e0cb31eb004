import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { serveControl } from '../../enclave/serve/control.ts';
import type { Listener } from '../../link/link.ts';
import { CONTROL_PORT, SERVICE_PORT } from '../../link/ports.ts';
import { NO_MODELS } from '../support/serving.ts';
import { eventually, pattern, readAll, type Setup, setup } from './setup.ts';

function knock(at: Setup): Socket {
  const caller = connect({ port: at.parent.address.port, host: '127.0.0.1', allowHalfOpen: true });
  caller.on('error', () => {});
  return caller;
}

async function call(at: Setup): Promise<Socket> {
  const caller = knock(at);
  await once(caller, 'connect');
  return caller;
}

function serve(at: Setup, onConnection: (connection: Duplex) => void): Promise<Listener> {
  return at.enclaveLink.listen(SERVICE_PORT, onConnection);
}

/** Resolves to how the stream ended. */
function ending(stream: Duplex): Promise<'reset' | 'end'> {
  return new Promise((resolve) => {
    stream.once('error', () => resolve('reset'));
    stream.once('end', () => resolve('end'));
    stream.resume();
  });
}

describe('the relay', () => {
  it('carries four hundred callers at once without mixing or changing a byte', async () => {
    await using at = await setup();
    await serve(at, (connection) => connection.pipe(connection));
    const bytes = pattern(70_000);
    const answers = await Promise.all(
      Array.from({ length: 400 }, async (_, index) => {
        const caller = await call(at);
        const own = Buffer.concat([Buffer.from(`caller ${index} `), bytes.subarray(index * 100)]);
        caller.end(own);
        return Buffer.compare(await readAll(caller), own);
      }),
    );
    expect(answers.every((difference) => difference === 0)).toBe(true);
    await eventually(() => at.parent.counters()['ingress.finished']).toBe(400);
  });

  it('carries what arrives byte by byte', async () => {
    await using at = await setup();
    await serve(at, (connection) => connection.pipe(connection));
    const caller = await call(at);
    caller.setNoDelay(true);
    const bytes = pattern(600);
    const answer = readAll(caller);
    for (const byte of bytes) {
      caller.write(Buffer.of(byte));
      await turn();
    }
    caller.end();
    expect(Buffer.compare(await answer, bytes)).toBe(0);
  });

  it('passes on the end of one direction while the other keeps flowing, both ways', async () => {
    await using at = await setup();
    const told = Promise.withResolvers<string>();
    const listener = await serve(at, async (connection) => {
      const question = await readAll(connection);
      connection.write('answer to ');
      await sleep(10);
      connection.end(question);
    });
    const caller = await call(at);
    caller.end('question');
    expect((await readAll(caller)).toString()).toBe('answer to question');
    await listener.close();

    await serve(at, (connection) => {
      connection.end('greeting');
      readAll(connection).then((bytes) => told.resolve(bytes.toString()));
    });
    const second = await call(at);
    expect((await readAll(second)).toString()).toBe('greeting');
    await sleep(10);
    second.end('late words');
    expect(await told.promise).toBe('late words');
  });

  it('holds no more than its buffers for a caller that reads nothing', async () => {
    await using at = await setup();
    const stuck = Promise.withResolvers<number>();
    await serve(at, async (connection) => {
      const chunk = Buffer.alloc(256 * 1024);
      for (let sent = 0; ; sent += chunk.length) {
        if (connection.write(chunk)) continue;
        const drained = await Promise.race([once(connection, 'drain').then(() => true), sleep(500, false)]);
        if (!drained || sent > 512 * 1024 * 1024) return stuck.resolve(sent);
      }
    });
    const caller = await call(at);
    caller.pause();
    expect(await stuck.promise).toBeLessThan(32 * 1024 * 1024);
    caller.destroy();
  });

  it('delivers every byte to a slow caller once it reads', async () => {
    await using at = await setup();
    const bytes = pattern(20_000_000);
    await serve(at, (connection) => void connection.end(bytes));
    const caller = await call(at);
    await sleep(50);
    expect(Buffer.compare(await readAll(caller), bytes)).toBe(0);
  });

  it('resets the caller when the enclave’s connection breaks in the middle', async () => {
    await using at = await setup();
    await serve(at, (connection) => {
      connection.once('data', () => connection.destroy());
    });
    const caller = await call(at);
    const end = ending(caller);
    // More than the enclave reads: closing a UNIX socket with unread bytes is what breaks the other end.
    caller.write(Buffer.alloc(4_000_000));
    expect(await end).toBe('reset');
    await eventually(() => at.parent.counters()['ingress.broken']).toBe(1);
  });

  it('ends the enclave’s connection when the caller is killed in the middle', async () => {
    await using at = await setup();
    const accepted = Promise.withResolvers<Duplex>();
    await serve(at, (connection) => accepted.resolve(connection));
    const caller = await call(at);
    caller.write('first bytes');
    const connection = await accepted.promise;
    await once(connection, 'data');
    const end = ending(connection);
    caller.resetAndDestroy();
    await end;
    await eventually(() => at.parent.counters()['ingress.broken']).toBe(1);
  });

  it('resets callers, and says why, while the enclave is not running', async () => {
    await using at = await setup();
    expect(await ending(knock(at))).toBe('reset');
    expect(at.events).toContainEqual({ event: 'ingress-refused', reason: 'LINK_UNREACHABLE' });
    await serve(at, (connection) => connection.pipe(connection));
    const caller = await call(at);
    caller.end('now');
    expect((await readAll(caller)).toString()).toBe('now');
  });

  it('refuses callers beyond its cap, and takes new ones when others have left', async () => {
    await using at = await setup((config) => ({
      ...config,
      ingress: { ...config.ingress, maxConnections: 2 },
    }));
    await serve(at, (connection) => connection.pipe(connection));
    const first = await call(at);
    const second = await call(at);
    for (const caller of [first, second]) {
      caller.write('x');
      await once(caller, 'data');
    }
    expect(await ending(knock(at))).toBe('reset');
    expect(at.events).toContainEqual({ event: 'ingress-refused', reason: 'too-many-connections' });
    first.end();
    await readAll(first);
    await eventually(() => at.parent.counters()['ingress.finished']).toBe(1);
    const third = await call(at);
    third.end('welcome');
    expect((await readAll(third)).toString()).toBe('welcome');
    second.destroy();
  });

  it('cuts a connection on which nothing moves', async () => {
    await using at = await setup((config) => ({
      ...config,
      ingress: { ...config.ingress, idleTimeoutMs: 100 },
    }));
    await serve(at, (connection) => connection.resume());
    const caller = await call(at);
    expect(await ending(caller)).toBe('reset');
    await eventually(() => at.parent.counters()['ingress.idle']).toBe(1);
  });

  it('survives callers that leave while the enclave is being dialled', async () => {
    await using at = await setup();
    await serve(at, (connection) => connection.pipe(connection));
    for (let count = 0; count < 50; count += 1) {
      const caller = connect({ port: at.parent.address.port, host: '127.0.0.1' });
      caller.on('error', () => {});
      await once(caller, 'connect');
      caller.resetAndDestroy();
    }
    const caller = await call(at);
    caller.end('fine');
    expect((await readAll(caller)).toString()).toBe('fine');
  });
});

describe('draining a parent', () => {
  it('lets open connections finish, takes no new ones and tells the enclave', async () => {
    const at = await setup();
    const asked: string[] = [];
    await at.enclaveLink.listen(CONTROL_PORT, (connection) => {
      connection.once('data', (bytes: Buffer) => {
        asked.push(bytes.toString().split('\r\n')[0] ?? '');
        connection.end('HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n');
      });
    });
    await serve(at, (connection) => connection.pipe(connection));
    const caller = await call(at);
    caller.write('a');
    await once(caller, 'data');
    const drained = at.parent.drain(20_000);
    await eventually(() => asked).toEqual(['POST /drain HTTP/1.1']);
    const late = connect({ port: at.parent.address.port, host: '127.0.0.1' });
    await expect(once(late, 'connect')).rejects.toMatchObject({ code: 'ECONNREFUSED' });
    caller.end('b');
    expect((await readAll(caller)).toString()).toBe('b');
    expect(await drained).toBe(true);
    await at[Symbol.asyncDispose]();
  });

  it('cuts what is left at the deadline', async () => {
    const at = await setup();
    await serve(at, (connection) => connection.pipe(connection));
    const caller = await call(at);
    caller.write('a');
    await once(caller, 'data');
    const end = ending(caller);
    expect(await at.parent.drain(50)).toBe(false);
    expect(await end).toBe('reset');
    await at[Symbol.asyncDispose]();
  });

  it('speaks with the control port of the real enclave', async () => {
    const at = await setup();
    let drained = 0;
    const drain = async (): Promise<void> => {
      drained += 1;
    };
    await at.enclaveLink.listen(CONTROL_PORT, serveControl({ ready: true, drain }, NO_MODELS));
    expect(await at.parent.live()).toBe(true);
    await at.parent.drain(1_000);
    expect(drained).toBe(1);
    await at[Symbol.asyncDispose]();
  });

  it('asks the enclave whether it lives', async () => {
    await using at = await setup();
    expect(await at.parent.live()).toBe(false);
    await at.enclaveLink.listen(CONTROL_PORT, (connection) => {
      connection.once('data', () => connection.end('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'));
    });
    expect(await at.parent.live()).toBe(true);
  });
});
