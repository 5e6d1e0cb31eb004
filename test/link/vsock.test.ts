import { once } from 'node:events';
import type { Socket } from 'node:net';
import { connect, createServer } from 'node:net';
import type { Duplex } from 'node:stream';
import { TLSSocket, connect as tlsConnect } from 'node:tls';
import { afterEach, describe, expect, it } from 'vitest';
import { createTlsIdentity } from '../../enclave/tls-identity.ts';
import { BoundedStream, MAX_WRITE_BYTES } from '../../link/bounded-stream.ts';
import { selfTest, vsockLink } from '../../link/vsock.ts';
import { SOCK_SEQPACKET, SOCK_STREAM, socketFrom, socketPair } from '../../link/vsock-socket.ts';
import { pattern, readAll } from '../parent/setup.ts';

const open: Duplex[] = [];
afterEach(() => {
  for (const stream of open.splice(0)) stream.destroy();
});

/** A bounded stream and the plain socket at its other end; SOCK_SEQPACKET keeps every write a record of its own. */
function pair(type: number): { bounded: BoundedStream; plain: Socket } {
  const [first, second] = socketPair(type);
  const streams = { bounded: new BoundedStream(socketFrom(first)), plain: socketFrom(second) };
  open.push(streams.bounded, streams.plain);
  return streams;
}

/** Reads all, and the size of every record. */
async function records(socket: Socket): Promise<{ sizes: number[]; bytes: Buffer }> {
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  await once(socket, 'end');
  return { sizes: chunks.map(({ length }) => length), bytes: Buffer.concat(chunks) };
}

describe('a bounded stream', () => {
  it('never gives its socket more than 31 KiB in one write, however much is queued', async () => {
    const { bounded, plain } = pair(SOCK_SEQPACKET);
    const bytes = pattern(5_000_000);
    const read = records(plain);
    bounded.cork();
    for (let at = 0; at < bytes.length; at += 999_999) bounded.write(bytes.subarray(at, at + 999_999));
    bounded.uncork();
    bounded.end();
    const { sizes, bytes: received } = await read;
    expect(Math.max(...sizes)).toBe(MAX_WRITE_BYTES);
    expect(Buffer.compare(received, bytes)).toBe(0);
  });

  it('is what bounds the writes: without it the same bytes go in larger ones', async () => {
    const { bounded, plain } = pair(SOCK_SEQPACKET);
    const larger: number[] = [];
    bounded.on('data', (chunk: Buffer) => larger.push(chunk.length));
    plain.end(Buffer.alloc(60 * 1024));
    await once(bounded, 'end');
    expect(Math.max(...larger)).toBeGreaterThan(MAX_WRITE_BYTES);
  });

  it('keeps the bound below TLS under bulk load', async () => {
    const identity = createTlsIdentity(new Date(), new Uint8Array(16).fill(1));
    const wire = pair(SOCK_SEQPACKET);
    const link = pair(SOCK_STREAM);
    const sizes: number[] = [];
    wire.plain.on('data', (chunk: Buffer) => sizes.push(chunk.length));
    wire.plain.pipe(link.plain);
    link.plain.pipe(wire.plain);
    const server = new TLSSocket(wire.bounded, {
      isServer: true,
      cert: identity.certificatePem,
      key: Buffer.from(identity.key),
      minVersion: 'TLSv1.3',
    });
    const client = tlsConnect({ socket: link.bounded, rejectUnauthorized: false });
    open.push(server, client);
    const bytes = pattern(8_000_000);
    server.end(bytes);
    expect(Buffer.compare(await readAll(client), bytes)).toBe(0);
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBeGreaterThan(bytes.length);
    expect(Math.max(...sizes)).toBeLessThanOrEqual(MAX_WRITE_BYTES);
  });

  it('carries half-closes in both directions', async () => {
    const { bounded, plain } = pair(SOCK_STREAM);
    bounded.end('question');
    expect((await readAll(plain)).toString()).toBe('question');
    plain.end('answer');
    expect((await readAll(bounded)).toString()).toBe('answer');
    const other = pair(SOCK_STREAM);
    other.plain.end('greeting');
    expect((await readAll(other.bounded)).toString()).toBe('greeting');
    other.bounded.end('late');
    expect((await readAll(other.plain)).toString()).toBe('late');
  });

  it('keeps bytes that nobody has read yet when the socket has closed', async () => {
    const { bounded, plain } = pair(SOCK_STREAM);
    bounded.end();
    plain.resume();
    plain.end('last words');
    await once(plain, 'close');
    expect((await readAll(bounded)).toString()).toBe('last words');
  });

  it('passes back-pressure on in both directions', async () => {
    const { bounded, plain } = pair(SOCK_STREAM);
    let sent = 0;
    while (plain.write(Buffer.alloc(64 * 1024)) && sent < 1e9) sent += 64 * 1024;
    expect(bounded.readableLength).toBeLessThan(1024 * 1024);
    expect(bounded.write(Buffer.alloc(10_000_000))).toBe(false);
  });

  it('breaks when its peer is gone', async () => {
    const { bounded, plain } = pair(SOCK_STREAM);
    const broken = new Promise((resolve) => bounded.once('error', resolve));
    plain.destroy();
    bounded.write(Buffer.alloc(10_000_000));
    expect(await broken).toMatchObject({ code: 'EPIPE' });
  });

  it('works over TCP too, hundreds at once', async () => {
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      const stream = new BoundedStream(socket);
      stream.pipe(stream);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as { port: number };
    const answers = await Promise.all(
      Array.from({ length: 200 }, async (_, index) => {
        const own = pattern(100_000).subarray(index);
        const stream = new BoundedStream(connect({ port, host: '127.0.0.1', allowHalfOpen: true }));
        stream.end(own);
        return Buffer.compare(await readAll(stream), own);
      }),
    );
    expect(answers.every((difference) => difference === 0)).toBe(true);
    server.close();
  });
});

describe('a link over vsock', () => {
  it('passes its self-test on this Node', async () => {
    await selfTest();
  });

  it('gives up at the deadline, or says what is missing', async () => {
    // What happens depends on the kernel: no AF_VSOCK, no such peer, or a peer that never answers.
    const link = vsockLink({ peerCid: 4_242 });
    const refusal = await link.dial(7_000, { timeoutMs: 50 }).catch((error) => error);
    expect(['LINK_TIMEOUT', 'LINK_UNREACHABLE', 'LINK_UNSUPPORTED']).toContain(refusal.code);
    expect(refusal.action).not.toBe('');
  });

  it('listens where the kernel lets it, and refuses a port that is taken', async (context) => {
    const link = vsockLink({ peerCid: 3 });
    const port = 50_000 + (process.pid % 10_000);
    const listener = await link.listen(port, () => {}).catch((error) => error);
    if (listener instanceof Error) return context.skip(`no AF_VSOCK to listen on here: ${listener.message}`);
    await expect(link.listen(port, () => {})).rejects.toMatchObject({ code: 'LINK_ADDRESS_IN_USE' });
    await listener.close();
    await (await link.listen(port, () => {})).close();
  });
});
