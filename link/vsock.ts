/**
 * The link over AF_VSOCK, between an enclave and its parent (docs/link.md section 5.2). A vsock address is a
 * context id and a port; each side talks to exactly one context id and refuses every other.
 */
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { BoundedStream, MAX_WRITE_BYTES } from './bounded-stream.ts';
import { LinkError } from './errors.ts';
import type { Link, Listener } from './link.ts';
import {
  beginConnect,
  bindVsock,
  closeDescriptor,
  connectionState,
  descriptorOf,
  openVsock,
  peerCidOf,
  SOCK_STREAM,
  serverFrom,
  socketFrom,
  socketPair,
} from './vsock-socket.ts';

const BACKLOG = 1024;
const POLL_MAX_MS = 20;

/**
 * The link to the one peer with this context id: from an enclave on Nitro that is 3, its parent; from a parent
 * it is the enclave's own.
 */
export function vsockLink({ peerCid }: { readonly peerCid: number }): Link {
  let tested: Promise<void> | undefined;
  const selfTested = (): Promise<void> => {
    tested ??= selfTest();
    return tested;
  };
  return {
    dial: async (port, { timeoutMs }) => {
      await selfTested();
      return dial(peerCid, port, timeoutMs);
    },
    listen: async (port, onConnection) => {
      await selfTested();
      return listen(peerCid, port, onConnection);
    },
  };
}

async function dial(peerCid: number, port: number, timeoutMs: number): Promise<Duplex> {
  const fd = openVsock();
  try {
    beginConnect(fd, peerCid, port);
    await connected(fd, performance.now() + timeoutMs);
    checkPeer(peerCidOf(fd), peerCid);
  } catch (error) {
    closeDescriptor(fd);
    throw asLinkError(error, `context id ${peerCid} port ${port}`, timeoutMs);
  }
  return surviving(new BoundedStream(socketFrom(fd)));
}

/** Looks again and again, never blocking a thread: a few microseconds a look, and a peer answers within one or two. */
async function connected(fd: number, deadline: number): Promise<void> {
  for (let pauseMs = 0; connectionState(fd) === 'pending'; pauseMs = Math.min(pauseMs * 2 + 1, POLL_MAX_MS)) {
    if (performance.now() >= deadline) throw new DeadlinePassed();
    await sleep(pauseMs);
  }
}

class DeadlinePassed extends Error {}

async function listen(
  peerCid: number,
  port: number,
  onConnection: (connection: Duplex) => void,
): Promise<Listener> {
  const fd = openVsock();
  try {
    bindVsock(fd, port);
  } catch (error) {
    closeDescriptor(fd);
    throw asLinkError(error, `port ${port}`, 0);
  }
  const server = await serverFrom(fd, BACKLOG, (socket) => {
    if (isPeer(socket, peerCid)) onConnection(surviving(new BoundedStream(socket)));
    else socket.destroy();
  }).catch((error) => {
    throw asLinkError(error, `port ${port}`, 0);
  });
  // A failed accept (too many open files) loses that one connection and must not end the process.
  server.on('error', () => {});
  return {
    close: async () => {
      server.close();
    },
  };
}

function isPeer(socket: Socket, peerCid: number): boolean {
  try {
    checkPeer(peerCidOf(descriptorOf(socket)), peerCid);
    return true;
  } catch {
    return false;
  }
}

function checkPeer(found: number, expected: number): void {
  if (found !== expected) {
    throw new LinkError('LINK_PEER_REFUSED', `Expected the context id ${expected}, found ${found}.`);
  }
}

/** Without any listener a reset by the peer would end the process; the owner of the stream may add its own. */
function surviving(stream: BoundedStream): Duplex {
  return stream.on('error', () => {});
}

const UNREACHABLE = ['ECONNRESET', 'ECONNREFUSED', 'EHOSTUNREACH', 'ENETUNREACH', 'ENODEV', 'EADDRNOTAVAIL'];

function asLinkError(error: unknown, where: string, timeoutMs: number): unknown {
  if (error instanceof DeadlinePassed) {
    return new LinkError('LINK_TIMEOUT', `No vsock connection to ${where} within ${timeoutMs} ms.`);
  }
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  if (UNREACHABLE.includes(code)) {
    return new LinkError('LINK_UNREACHABLE', `Nobody answers at vsock ${where}: ${code}.`, error);
  }
  if (code === 'ETIMEDOUT') return new LinkError('LINK_TIMEOUT', `No answer from vsock ${where}.`, error);
  if (code === 'EADDRINUSE')
    return new LinkError('LINK_ADDRESS_IN_USE', `The vsock ${where} is taken.`, error);
  return error;
}

const SELF_TEST_BYTES = 3 * MAX_WRITE_BYTES + 1;
const SELF_TEST_TIMEOUT_MS = 5_000;

/**
 * Shows, before anything depends on it, that this Node still opens a foreign descriptor in its stream handle:
 * bytes and both ends pass through a pair of sockets. What it rests on is not a documented interface of Node.
 */
export async function selfTest(): Promise<void> {
  const [first, second] = socketPair(SOCK_STREAM);
  const near = new BoundedStream(socketFrom(first));
  const far = new BoundedStream(socketFrom(second));
  const timer = setTimeout(() => near.destroy(new Error('no bytes came back')), SELF_TEST_TIMEOUT_MS);
  try {
    const sent = Buffer.alloc(SELF_TEST_BYTES, 'strongroom');
    far.pipe(far);
    near.end(sent);
    const received: Buffer[] = [];
    for await (const chunk of near as AsyncIterable<Buffer>) received.push(chunk);
    if (!Buffer.concat(received).equals(sent)) throw new Error('the bytes came back changed');
  } catch (cause) {
    throw new LinkError('LINK_UNSUPPORTED', 'This Node cannot drive a vsock: its self-test failed.', cause);
  } finally {
    clearTimeout(timer);
    near.destroy();
    far.destroy();
  }
}
