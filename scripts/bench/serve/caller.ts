/** A caller that verifies nothing and asks quickly: load for the serving side, not a client to copy. */
import { randomBytes } from 'node:crypto';
import { request as httpRequest, type IncomingHttpHeaders } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ConnectionOptions, type TLSSocket, connect as tlsConnect } from 'node:tls';

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

/** A connection that has its evidence. Waits its turn where the enclave says that it gives no more at the moment. */
export async function openConnection(where: ConnectionOptions): Promise<TLSSocket> {
  for (;;) {
    const socket = await dial(where);
    const answer = await ask(socket, 'GET', `/attestation?nonce=${randomBytes(32).toString('base64url')}`);
    if (answer.status === 200) return socket;
    socket.destroy();
    if (answer.status !== 429 && answer.status !== 503) throw new Error(`evidence: ${answer.status}`);
    await sleep(1_000 * Number(answer.headers['retry-after'] ?? 1));
  }
}

function dial(where: ConnectionOptions): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const socket = tlsConnect({ rejectUnauthorized: false, ...where }, () => {
      socket.off('error', reject);
      socket.on('error', () => {});
      resolve(socket);
    });
    socket.once('error', reject);
  });
}

/** Rejects when the answer does not come to its end. */
export function ask(socket: TLSSocket, method: string, path: string, body?: object): Promise<Answer> {
  const bytes = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
  const headers = {
    host: 'enclave',
    connection: 'keep-alive',
    ...(bytes === undefined
      ? {}
      : { 'content-type': 'application/json', 'content-length': String(bytes.length) }),
  };
  return new Promise((resolve, reject) => {
    const request = httpRequest({ createConnection: () => socket, method, path, headers });
    request.once('error', reject);
    request.once('response', (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.once('error', reject);
      response.once('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          body: Buffer.concat(chunks),
        }),
      );
    });
    request.end(bytes);
  });
}
