/** The link's promises over AF_VSOCK, between two processes of this machine (context id 1). */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import type { Duplex } from 'node:stream';
import type { Link } from '../../../link/link.ts';
import { vsockLink } from '../../../link/vsock.ts';
import { check, codeOf } from './check.ts';
import { Helper } from './helper.ts';
import { checkWritesBelowTls } from './link-trace.ts';
import { PORTS, sendBulk } from './link-traffic.ts';

const MIB = 1 << 20;
const LOOPBACK_CID = 1;
const DIAL = { timeoutMs: 10_000 };
const MODULES = ['vsock', 'vmw_vsock_virtio_transport_common', 'vsock_loopback'];

export function insertModules(names: readonly string[]): void {
  for (const name of names) {
    const path = `/modules/${name}.ko`;
    // What is built into this kernel has no file.
    if (existsSync(path)) execFileSync('/bin/busybox', ['insmod', path]);
  }
}

export async function checkLink(bulkBytes: number): Promise<void> {
  const link = vsockLink({ peerCid: LOOPBACK_CID });
  await check('link: a kernel without AF_VSOCK is named', async () => {
    assert.equal(await codeOf(link.dial(PORTS.echo, DIAL)), 'LINK_UNSUPPORTED');
    return undefined;
  });
  insertModules(MODULES);
  await check('link: a port where nobody listens is unreachable, at once', async () => {
    assert.equal(await codeOf(link.dial(PORTS.echo, DIAL)), 'LINK_UNREACHABLE');
    return undefined;
  });
  await check('link: a context id that does not exist is unreachable', async () => {
    const code = await codeOf(vsockLink({ peerCid: 4_242 }).dial(PORTS.echo, DIAL));
    assert.equal(code, 'LINK_UNREACHABLE');
    return undefined;
  });

  const start = async () => (await Helper.start('link-peer.ts', { bulkBytes })).helper;
  let peer = await start();
  await check('link: bulk in both directions at once, digests agree', () => bulk(link, bulkBytes));
  await check('link: 100 connections at once', () => concurrent(link));
  await check('link: either side ends its direction and goes on reading', () => halfClose(link, peer));
  await check('link: a port that is taken is refused, a listener can close and come back', () =>
    listenAgain(link),
  );
  await check('link: a connection from another context id is dropped', () => foreign(link));
  await check('link: 300 connections one after the other leave no descriptor behind', () => churn(link));
  await check('link: a listener that is killed ends its connections, and can come back', async () => {
    const connection = await link.dial(PORTS.echo, DIAL);
    const gone = flood(connection);
    await peer.kill();
    const how = await gone;
    assert.equal(await codeOf(link.dial(PORTS.echo, DIAL)), 'LINK_UNREACHABLE');
    peer = await start();
    (await link.dial(PORTS.echo, DIAL)).destroy();
    return how;
  });
  await check('link: a dialler that is killed in mid-transfer ends its connection', () =>
    killedDialler(link),
  );
  await check('link: no write below TLS under bulk load is larger than 31 KiB (strace)', () =>
    checkWritesBelowTls(link, PORTS.tls),
  );
  await peer.kill();
}

async function bulk(link: Link, bulkBytes: number): Promise<string> {
  const begin = performance.now();
  const connection = await link.dial(PORTS.bulk, DIAL);
  const received = createHash('sha256');
  let left = bulkBytes;
  let report = '';
  connection.on('data', (chunk: Buffer) => {
    received.update(chunk.subarray(0, left));
    report += chunk.subarray(left).toString();
    left -= Math.min(left, chunk.length);
  });
  const ended = once(connection, 'end');
  const sent = await sendBulk(connection, bulkBytes);
  connection.end();
  await ended;
  const peer = JSON.parse(report) as { sent: string; received: string };
  assert.equal(left, 0);
  assert.equal(received.digest('hex'), peer.sent);
  assert.equal(sent, peer.received);
  const seconds = (performance.now() - begin) / 1000;
  return `${bulkBytes / MIB} MiB each way, ${Math.round(bulkBytes / MIB / seconds)} MiB/s each`;
}

async function concurrent(link: Link): Promise<string> {
  const connections = await Promise.all(Array.from({ length: 100 }, () => link.dial(PORTS.echo, DIAL)));
  await Promise.all(
    connections.map(async (connection) => {
      const own = randomBytes(512 * 1024);
      connection.end(own);
      assert.equal(Buffer.compare(await readAll(connection), own), 0);
    }),
  );
  return 'each sent 512 KiB of its own and got it back';
}

async function halfClose(link: Link, peer: Helper): Promise<string> {
  const first = await link.dial(PORTS.echo, DIAL);
  const question = randomBytes(3 * MIB);
  first.end(question);
  // The answer begins long after this side has ended.
  assert.equal(Buffer.compare(await readAll(first), question), 0);

  const second = await link.dial(PORTS.endsFirst, DIAL);
  assert.equal((await readAll(second)).toString(), 'greeting');
  const late = randomBytes(3 * MIB);
  second.end(late);
  const expected = createHash('sha256').update(late).digest('hex');
  assert.deepEqual(await peer.next(), { endsFirst: expected });
  return '3 MiB after the end of the other direction, both ways';
}

async function listenAgain(link: Link): Promise<undefined> {
  assert.equal(await codeOf(link.listen(PORTS.echo, () => {})), 'LINK_ADDRESS_IN_USE');
  for (let turn = 0; turn < 3; turn += 1) {
    const accepted = Promise.withResolvers<Duplex>();
    const listener = await link.listen(PORTS.back, accepted.resolve);
    const dialled = await link.dial(PORTS.back, DIAL);
    const other = await accepted.promise;
    await listener.close();
    // Open connections live on.
    dialled.end('still here');
    assert.equal((await readAll(other)).toString(), 'still here');
    other.end();
    await readAll(dialled);
    assert.equal(await codeOf(link.dial(PORTS.back, DIAL)), 'LINK_UNREACHABLE');
  }
  return undefined;
}

async function foreign(link: Link): Promise<string> {
  let told = 0;
  const listener = await vsockLink({ peerCid: 3 }).listen(PORTS.foreign, () => {
    told += 1;
  });
  const connection = await link.dial(PORTS.foreign, DIAL);
  const how = await flood(connection);
  assert.equal(told, 0);
  await listener.close();
  return `expected 3, came from 1: ${how}`;
}

async function churn(link: Link): Promise<string> {
  const before = descriptors();
  for (let turn = 0; turn < 300; turn += 1) {
    const connection = await link.dial(PORTS.echo, DIAL);
    connection.end('x');
    assert.equal((await readAll(connection)).toString(), 'x');
  }
  await codeOf(link.dial(PORTS.back, DIAL));
  await settled(() => descriptors() <= before);
  return `${before} descriptors before, ${descriptors()} after`;
}

async function killedDialler(link: Link): Promise<string> {
  const accepted = Promise.withResolvers<Duplex>();
  const listener = await link.listen(PORTS.back, accepted.resolve);
  const { helper } = await Helper.start('link-peer.ts', { bulkBytes: 0, dialPort: PORTS.back });
  const connection = await accepted.promise;
  await once(connection, 'data');
  const gone = outcome(connection);
  connection.resume();
  await helper.kill();
  const how = await gone;
  connection.destroy();
  await listener.close();
  return how;
}

/** Writes until the connection is gone; says how it went. */
async function flood(connection: Duplex): Promise<string> {
  const gone = outcome(connection);
  const more = (): void => {
    if (!connection.destroyed && connection.write(Buffer.alloc(64 * 1024))) setImmediate(more);
  };
  connection.on('drain', more);
  connection.resume();
  more();
  return gone;
}

/** How a connection ended: with an error's code, at its end, or closed without one. */
function outcome(connection: Duplex): Promise<string> {
  return new Promise((resolve) => {
    connection.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    connection.once('close', () => resolve('closed'));
    connection.once('end', () => setTimeout(() => resolve('ended'), 500));
  });
}

async function readAll(stream: Duplex): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function descriptors(): number {
  return readdirSync('/proc/self/fd').length;
}

async function settled(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 20));
}
