/**
 * A parent that keeps the enclave waiting, so that it can be watched in the middle of something. It stands between
 * the enclave and its real parent, on the socket of the host service, and changes nothing.
 */
import { renameSync } from 'node:fs';
import { createConnection, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { HOST_SERVICE_PORT } from '../../../link/ports.ts';

/** Takes the parent's place in the folder of an instance. What the enclave asks is passed on once `wait` resolves. */
export function slowHost(folder: string, wait: (request: string) => Promise<void>): { close(): void } {
  const front = join(folder, 'parent', `${HOST_SERVICE_PORT}.sock`);
  const real = join(folder, 'parent', 'real.sock');
  renameSync(front, real);
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (enclave) => {
    const parent = createConnection({ path: real, allowHalfOpen: true });
    for (const socket of [enclave, parent]) {
      sockets.add(socket);
      socket.on('error', () => socket.destroy());
      socket.on('close', () => {
        enclave.destroy();
        parent.destroy();
      });
    }
    parent.pipe(enclave);
    let turn = Promise.resolve();
    enclave.on('data', (bytes: Buffer) => {
      turn = turn.then(() => wait(bytes.toString('latin1'))).then(() => void parent.write(bytes));
    });
    enclave.on('end', () => void turn.then(() => parent.end()));
  });
  server.listen(front);
  return {
    close: () => {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
