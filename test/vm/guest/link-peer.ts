/** The process at the other end of the vsock. */
import { createHash } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { vsockLink } from '../../../link/vsock.ts';
import { givenArgument, tell } from './helper.ts';
import { PORTS, sendBulk } from './link-traffic.ts';

const { bulkBytes, dialPort } = givenArgument<{ bulkBytes: number; dialPort?: number }>();
const link = vsockLink({ peerCid: 1 });

if (dialPort === undefined) {
  await link.listen(PORTS.echo, (connection) => void connection.pipe(connection));
  await link.listen(PORTS.bulk, (connection) => void bulk(connection));
  await link.listen(PORTS.endsFirst, (connection) => void endFirst(connection));
} else {
  // A client that sends until somebody stops it.
  const connection = await link.dial(dialPort, { timeoutMs: 5_000 });
  const endless = (): void => {
    while (connection.write(Buffer.alloc(256 * 1024, 'strongroom')));
    connection.once('drain', endless);
  };
  endless();
}
tell({ ready: true });

/** Sends and receives at once; says both digests after its own bytes. */
async function bulk(connection: Duplex): Promise<void> {
  const received = createHash('sha256');
  connection.on('data', (chunk: Buffer) => received.update(chunk));
  const ended = new Promise((resolve) => connection.once('end', resolve));
  const sent = await sendBulk(connection, bulkBytes);
  await ended;
  connection.end(JSON.stringify({ sent, received: received.digest('hex') }));
}

/** Ends its own direction at once and goes on reading. */
async function endFirst(connection: Duplex): Promise<void> {
  connection.end('greeting');
  const received = createHash('sha256');
  for await (const chunk of connection as AsyncIterable<Buffer>) received.update(chunk);
  tell({ endsFirst: received.digest('hex') });
}
