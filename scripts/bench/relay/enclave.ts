/**
 * The enclave's end of the benchmark, in a process of its own: on a UNIX socket, and on TCP for callers that come
 * directly. The first byte of a connection says what it is for.
 */
import { createServer, type Socket } from 'node:net';
import { type Measurement, pump, Received } from './load.ts';
import { serveQuestions } from './worker.ts';

const received = new Received();

function serve(connection: Socket): void {
  connection.on('error', () => {});
  connection.once('data', (first: Buffer) => {
    const kind = String.fromCharCode(first[0] ?? 0);
    if (kind === 'd') return pump(connection);
    if (kind === 'u') {
      received.add(first.length);
      connection.on('data', (bytes: Buffer) => received.add(bytes.length));
      return;
    }
    connection.write(first);
    connection.on('data', (bytes: Buffer) => connection.write(bytes));
  });
}

const path = process.argv[2] as string;
const overUnix = createServer({ noDelay: true }, serve);
const overTcp = createServer({ noDelay: true }, serve);
overUnix.listen({ path, backlog: 1024 }, () => {
  overTcp.listen({ host: '127.0.0.1', port: 0, backlog: 1024 }, () => {
    process.send?.([(overTcp.address() as { port: number }).port]);
  });
});
serveQuestions<Measurement>((measurement) => received.measure(measurement));
