/** The callers of the benchmark, in a process of their own: bulk streams, round trips, and connections held. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { type Measurement, pump, Received } from './load.ts';
import { serveQuestions } from './worker.ts';

export type CallersQuestion =
  | {
      readonly kind: 'bulk';
      readonly port: number;
      readonly streams: number;
      readonly direction: 'up' | 'down';
    }
  | Measurement
  | { readonly kind: 'round-trips'; readonly port: number; readonly count: number }
  | { readonly kind: 'hold'; readonly port: number; readonly count: number }
  | { readonly kind: 'greet' }
  | { readonly kind: 'leave' };

const PING_BYTES = 64;
const CONNECTING_AT_ONCE = 32;
/** Every read of every connection lands here: what was sent is counted and nothing else. */
const DISCARD = Buffer.alloc(256 * 1024);

const received = new Received();
let open: Socket[] = [];

async function answer(question: CallersQuestion): Promise<number[]> {
  switch (question.kind) {
    case 'bulk':
      await openAll(question.port, question.streams);
      for (const socket of open) {
        socket.write(question.direction === 'up' ? 'u' : 'd');
        if (question.direction === 'up') pump(socket);
      }
      return [];
    case 'measure':
      return received.measure(question);
    case 'round-trips':
      await openAll(question.port, 1);
      return roundTrips(open[0] as Socket, question.count);
    case 'hold':
      await openAll(question.port, question.count);
      return [await greet()];
    case 'greet':
      return [await greet()];
    case 'leave':
      await Promise.all(open.map(leave));
      open = [];
      return [];
  }
}

async function openAll(port: number, count: number): Promise<void> {
  while (open.length < count) {
    const some = Math.min(CONNECTING_AT_ONCE, count - open.length);
    open.push(...(await Promise.all(Array.from({ length: some }, () => dial(port)))));
  }
}

async function dial(port: number): Promise<Socket> {
  const socket = connect({
    port,
    host: '127.0.0.1',
    noDelay: true,
    onread: {
      buffer: DISCARD,
      callback: (size) => {
        received.add(size);
        socket.emit('received', size);
        return true;
      },
    },
  });
  socket.on('error', () => {});
  await once(socket, 'connect');
  return socket;
}

/** Nanoseconds of each round trip. */
async function roundTrips(socket: Socket, count: number): Promise<number[]> {
  const ping = Buffer.alloc(PING_BYTES, 'e');
  const times: number[] = [];
  const { promise, resolve } = Promise.withResolvers<void>();
  let due = PING_BYTES;
  let startedAt = process.hrtime.bigint();
  socket.on('received', (size: number) => {
    due -= size;
    if (due > 0) return;
    times.push(Number(process.hrtime.bigint() - startedAt));
    if (times.length === count) return resolve();
    due = PING_BYTES;
    startedAt = process.hrtime.bigint();
    socket.write(ping);
  });
  socket.write(ping);
  await promise;
  return times;
}

/** How many of the open connections answer. */
async function greet(): Promise<number> {
  const answers = await Promise.all(
    open.map(async (socket) => {
      if (socket.destroyed) return false;
      const answered = Promise.race([
        once(socket, 'received').then(() => true),
        once(socket, 'close').then(() => false),
      ]);
      socket.write('e');
      return answered.catch(() => false);
    }),
  );
  return answers.filter(Boolean).length;
}

async function leave(socket: Socket): Promise<void> {
  if (socket.destroyed) return;
  const closed = once(socket, 'close');
  socket.destroy();
  await closed;
}

serveQuestions(answer);
process.send?.([]);
