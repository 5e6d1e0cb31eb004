/** A hostile parent: takes the place of the host service on the link, and changes what it likes on the way. */
import { renameSync } from 'node:fs';
import { createServer, request as httpRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { HOST_SERVICE_PORT } from '../../link/ports.ts';

export interface HostileHost {
  /** Paths that were asked for, in order. */
  readonly asked: readonly string[];
  close(): void;
}

/** From now on every new connection of this instance's enclave gets here first. `change` may write into the body. */
export async function takeHostService(
  instanceFolder: string,
  change: (path: string, body: Buffer) => void,
): Promise<HostileHost> {
  const path = join(instanceFolder, 'parent', `${HOST_SERVICE_PORT}.sock`);
  const honest = `${path}.honest`;
  renameSync(path, honest);
  const asked: string[] = [];
  const server = createServer(async (incoming: IncomingMessage, response: ServerResponse) => {
    const { method, url = '', headers } = incoming;
    asked.push(url);
    const outgoing = httpRequest({ socketPath: honest, method, path: url, headers });
    outgoing.once('response', async (answer) => {
      const body = await buffer(answer);
      change(url, body);
      response.writeHead(answer.statusCode ?? 500, answer.headers).end(body);
    });
    outgoing.once('error', () => response.destroy());
    incoming.pipe(outgoing);
  });
  server.on('connect', (incoming: IncomingMessage, socket, head: Buffer) => {
    asked.push(`CONNECT ${incoming.url}`);
    const onward = connect(honest);
    onward.write(`CONNECT ${incoming.url} HTTP/1.1\r\nHost: ${incoming.headers.host}\r\n\r\n`);
    onward.write(head);
    onward.pipe(socket).pipe(onward);
    for (const stream of [onward, socket]) stream.on('error', () => stream.destroy());
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return {
    asked,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}
