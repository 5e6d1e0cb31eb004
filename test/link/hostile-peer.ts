/** A peer that answers with the very bytes that a test gives it, over a real link. */
import { mkdtemp, rm } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import { BoundedStream } from '../../link/bounded-stream.ts';
import type { Link } from '../../link/link.ts';
import { HOST_SERVICE_PORT } from '../../link/ports.ts';
import { unixLink } from '../../link/unix.ts';

export interface HostilePeer extends AsyncDisposable {
  /** For the code under attack. */
  readonly link: Link;
  /** Connections accepted so far. */
  accepted(): number;
  /** Requests as they came, headers and all. */
  readonly requests: string[];
}

/** `answer` is called once for every request head that arrives, with its number on this peer. */
export async function hostilePeer(
  answer: (connection: Duplex, request: string, index: number) => void | Promise<void>,
  port: number = HOST_SERVICE_PORT,
): Promise<HostilePeer> {
  const folder = await mkdtemp(join(tmpdir(), 'sr-'));
  const open = new Set<Duplex>();
  const requests: string[] = [];
  let accepted = 0;
  const peer = unixLink({ dial: join(folder, 'e'), listen: join(folder, 'p') });
  const listener = await peer.listen(port, (connection) => {
    accepted += 1;
    open.add(connection);
    connection.once('close', () => open.delete(connection));
    let received = '';
    connection.on('data', (chunk: Buffer) => {
      received += chunk.toString('latin1');
      for (let end = received.indexOf('\r\n\r\n'); end >= 0; end = received.indexOf('\r\n\r\n')) {
        const request = received.slice(0, end + 4);
        received = received.slice(end + 4);
        requests.push(request);
        void answer(connection, request, requests.length - 1);
      }
    });
  });
  return {
    link: unixLink({ dial: join(folder, 'p'), listen: join(folder, 'e') }),
    accepted: () => accepted,
    requests,
    [Symbol.asyncDispose]: async () => {
      await listener.close();
      for (const connection of open) connection.destroy();
      await rm(folder, { recursive: true });
    },
  };
}

/** Writes one byte a turn, so that the reader sees every possible cut. */
export async function drip(connection: Duplex, text: string | Buffer): Promise<void> {
  for (const byte of Buffer.from(text as string, 'latin1')) {
    if (connection.destroyed) return;
    connection.write(Buffer.of(byte));
    await turn();
  }
}

/** The same link with the streams of a vsock: no net.Socket at either end. */
export function boundedLink(link: Link): Link {
  const wrap = (connection: Duplex): Duplex => new BoundedStream(connection as Socket).on('error', () => {});
  return {
    dial: async (port, options) => wrap(await link.dial(port, options)),
    listen: (port, onConnection) => link.listen(port, (connection) => onConnection(wrap(connection))),
  };
}
