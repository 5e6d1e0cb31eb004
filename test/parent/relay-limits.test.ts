import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Duplex, PassThrough } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { LinkError } from '../../link/errors.ts';
import { SERVICE_PORT } from '../../link/ports.ts';
import { unixLink } from '../../link/unix.ts';
import { callersThatFit } from '../../parent/descriptors.ts';
import { Counters, type ParentEvent } from '../../parent/observe.ts';
import { startRelay } from '../../parent/relay.ts';
import { eventually } from '../support/eventually.ts';
import { readAll, setup } from './setup.ts';

const INGRESS = {
  host: '127.0.0.1',
  port: 0,
  maxConnections: 100,
  maxConnectionsPerAddress: 100,
  idleTimeoutMs: 60_000,
  connectTimeoutMs: 60_000,
};

/** What an echoing enclave answers to one byte, or how the connection ended instead. */
async function greet(
  port: number,
  localAddress = '127.0.0.1',
): Promise<{ socket: Socket; answered: boolean }> {
  const socket = connect({ port, host: '127.0.0.1', localAddress, allowHalfOpen: true });
  socket.on('error', () => {});
  socket.write('x');
  // Not events.once: a reset comes as an error before the close.
  const answered = await new Promise<boolean>((resolve) => {
    socket.once('data', () => resolve(true));
    socket.once('close', () => resolve(false));
  });
  return { socket, answered };
}

describe('the relay bounds', () => {
  it('how many callers one address may have, and counts whom it refuses', async () => {
    await using at = await setup((config) => ({
      ...config,
      ingress: { ...config.ingress, maxConnectionsPerAddress: 2 },
    }));
    await at.enclaveLink.listen(SERVICE_PORT, (connection) => connection.pipe(connection));
    const { port } = at.parent.address;
    const own = [await greet(port), await greet(port)];
    expect((await greet(port)).answered).toBe(false);
    // Another address is not the worse for it (all of 127.0.0.0/8 is this machine).
    const other = await greet(port, '127.0.0.2');
    expect([...own, other].map(({ answered }) => answered)).toEqual([true, true, true]);
    expect(at.parent.counters()).toMatchObject({ 'ingress.too-many-from-address': 1, 'ingress.open': 3 });
    expect(at.events).toContainEqual({ event: 'ingress-refused', reason: 'too-many-from-address' });

    own[0]?.socket.end();
    await readAll(own[0]?.socket as Socket);
    await eventually(() => at.parent.counters()['ingress.open']).toBe(2);
    const next = await greet(port);
    expect(next.answered).toBe(true);
    for (const { socket } of [...own, other, next]) socket.destroy();
  });

  it('callers by the open files that the process may have', () => {
    const limits = (soft: string) =>
      `Limit  Soft Limit  Hard Limit  Units\nMax open files            ${soft}                 524288               files\n`;
    expect(callersThatFit(limits('65536'))).toBe((65_536 - 768) / 2);
    expect(callersThatFit(limits('1024'))).toBe(128);
    expect(callersThatFit(limits('64'))).toBe(1);
    expect(callersThatFit(limits('unlimited'))).toBe(Number.POSITIVE_INFINITY);
    expect(callersThatFit()).toBeGreaterThan(0);
  });

  it('callers before descriptors run out, where the kernel would close them without a word', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'sr-'));
    const enclave = await unixLink({ dial: folder, listen: folder }).listen(SERVICE_PORT, (connection) =>
      connection.pipe(connection),
    );
    const script = join(import.meta.dirname, '..', '..', 'scripts', 'bench', 'relay', 'own-relay.ts');
    // (784 - 768) / 2 = 8 callers.
    const relay = spawn(
      '/bin/sh',
      ['-c', 'ulimit -n 784 && exec "$@"', 'sh', process.execPath, script, folder],
      {
        stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
      },
    );
    try {
      const [[port]] = (await once(relay, 'message')) as [[number]];
      const callers = [];
      for (let count = 0; count < 12; count += 1) callers.push(await greet(port));
      expect(callers.map(({ answered }) => answered)).toEqual([
        ...new Array(8).fill(true),
        ...new Array(4).fill(false),
      ]);
      for (const { socket } of callers) socket.destroy();
    } finally {
      relay.kill('SIGKILL');
      await once(relay, 'exit');
      await enclave.close();
      await rm(folder, { recursive: true });
    }
  });
});

describe('the relay, while the enclave does not answer', () => {
  const never = {
    dial: () => new Promise<never>(() => {}),
    listen: () => Promise.reject(new Error('not here')),
  };
  it('says how many callers wait, and a drain does not wait for the enclave beyond its deadline', async () => {
    const counters = new Counters();
    const relay = await startRelay(INGRESS, never, { counters, observe: () => {} });
    const callers = Array.from({ length: 5 }, () => {
      const caller = connect({ port: relay.address.port, host: '127.0.0.1' });
      return caller.on('error', () => {});
    });
    await eventually(() => counters.get('ingress.dialling')).toBe(5);
    const gone = Promise.all(
      callers.map((caller) => new Promise<void>((resolve) => caller.once('close', () => resolve()))),
    );
    // The dial itself never ends, so nothing but the deadline can end this.
    expect(await relay.drain(1)).toBe(false);
    await gone;
    expect(counters.snapshot()).toMatchObject({
      'ingress.dialling': 0,
      'ingress.open': 0,
      'ingress.opened': 5,
      'ingress.broken': 5,
    });
  });

  it('closes a connection to the enclave that comes after its caller was cut', async () => {
    const late = Promise.withResolvers<Duplex>();
    const counters = new Counters();
    const relay = await startRelay(
      INGRESS,
      { ...never, dial: () => late.promise },
      { counters, observe: () => {} },
    );
    const caller = connect({ port: relay.address.port, host: '127.0.0.1' }).on('error', () => {});
    await eventually(() => counters.get('ingress.dialling')).toBe(1);
    await relay.drain(0);
    const enclave = new PassThrough();
    late.resolve(enclave);
    await eventually(() => enclave.destroyed).toBe(true);
    caller.destroy();
  });

  it('tells a missed deadline from an enclave that is not there', async () => {
    for (const [code, counter] of [
      ['LINK_TIMEOUT', 'ingress.timeout'],
      ['LINK_UNREACHABLE', 'ingress.unreachable'],
    ] as const) {
      const counters = new Counters();
      const events: ParentEvent[] = [];
      const link = { ...never, dial: () => Promise.reject(new LinkError(code, 'Nobody.')) };
      const relay = await startRelay(INGRESS, link, { counters, observe: (event) => events.push(event) });
      expect((await greet(relay.address.port)).answered).toBe(false);
      await eventually(() => counters.get('ingress.open')).toBe(0);
      expect(counters.get(counter)).toBe(1);
      expect(events).toEqual([{ event: 'ingress-refused', reason: code }]);
      await relay.drain(0);
    }
  });
});

describe('a flood of callers while the enclave is down', () => {
  it('is all counted, and is a few lines in the log', async () => {
    const events: ParentEvent[] = [];
    const counters = new Counters();
    const folder = await mkdtemp(join(tmpdir(), 'sr-'));
    const relay = await startRelay(
      { ...INGRESS, maxConnections: 500, maxConnectionsPerAddress: 500 },
      unixLink({ dial: folder, listen: folder }),
      { counters, observe: (event) => events.push(event) },
    );
    await Promise.all(Array.from({ length: 300 }, () => greet(relay.address.port)));
    await eventually(() => counters.get('ingress.unreachable')).toBe(300);
    expect(counters.get('ingress.open')).toBe(0);
    expect(events[0]).toEqual({ event: 'ingress-refused', reason: 'LINK_UNREACHABLE' });
    const told = events.reduce((sum, { count }) => sum + Number(count ?? 1), 0);
    expect(told).toBeLessThanOrEqual(300);
    expect(events.length).toBeLessThan(50);
    await relay.drain(0);
    await rm(folder, { recursive: true });
  });
});
