/** strace under a process that sends bulk TLS over a vsock: the size of every single write. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { connect } from 'node:tls';
import { MAX_WRITE_BYTES } from '../../../link/bounded-stream.ts';
import type { Link } from '../../../link/link.ts';

const STRACE = '/bin/strace';
const TRACE = '/tmp/writes.trace';
export const TLS_BYTES = 16 << 20;

export async function checkWritesBelowTls(link: Link, port: number): Promise<string> {
  const accepted = Promise.withResolvers<Duplex>();
  const listener = await link.listen(port, accepted.resolve);
  const traced = spawn(
    STRACE,
    [
      ...['-f', '-qq', '-s', '0', '-o', TRACE, '-e', 'trace=socket,write,writev,sendto,sendmsg,sendmmsg'],
      ...[process.execPath, join(import.meta.dirname, 'link-tls.ts'), String(port)],
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  const exited = once(traced, 'exit');
  const sentDigest = once(traced.stdout, 'data');
  const client = connect({ socket: await accepted.promise, rejectUnauthorized: false });
  const received = createHash('sha256');
  let bytes = 0;
  for await (const chunk of client as AsyncIterable<Buffer>) {
    received.update(chunk);
    bytes += chunk.length;
  }
  client.destroy();
  const [digest] = (await sentDigest) as [Buffer];
  assert.equal((await exited)[0], 0);
  await listener.close();
  assert.equal(bytes, TLS_BYTES);
  assert.equal(received.digest('hex'), digest.toString());

  const sizes = writesToVsock(readFileSync(TRACE, 'latin1'));
  const total = sizes.reduce((sum, size) => sum + size, 0);
  const largest = sizes.reduce((most, size) => Math.max(most, size), 0);
  assert.ok(total > TLS_BYTES, `strace saw ${total} bytes`);
  assert.ok(largest <= MAX_WRITE_BYTES, `a write of ${largest} bytes`);
  return `${sizes.length} writes that asked for ${total} bytes, the largest for ${largest}`;
}

/** Sizes that were asked for, in bytes, of writes to descriptors that socket(AF_VSOCK) gave. */
function writesToVsock(trace: string): number[] {
  const lines = trace.split('\n');
  const sockets = new Set(lines.flatMap((line) => /\bsocket\(AF_VSOCK, .*\) = (\d+)$/.exec(line)?.[1] ?? []));
  assert.equal(sockets.size, 1, 'one vsock is traced');
  return lines.flatMap((line) => {
    const [, call = '', fd = '', rest = ''] = /\b(write|writev|send\w+)\((\d+), (.*)$/.exec(line) ?? [];
    if (!sockets.has(fd)) return [];
    if (call === 'write') return Number(/^""(?:\.\.\.)?, (\d+)/.exec(rest)?.[1] ?? Number.NaN);
    if (call !== 'writev') throw new Error(`an unexpected call: ${line}`);
    return [...rest.matchAll(/iov_len=(\d+)/g)].reduce((sum, [, length]) => sum + Number(length), 0);
  });
}
