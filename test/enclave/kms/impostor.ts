/** A server that plays KMS as badly as a test wants: its certificate, its TLS and its answers are the test's. */
import { once } from 'node:events';
import { createServer, type ServerOptions } from 'node:https';
import type { AddressInfo } from 'node:net';
import { createServerTls, type ServerTls } from '../../../simulator/kms/tls.ts';
import { REGION } from '../../simulator/kms/support.ts';

export interface Impostor extends AsyncDisposable {
  readonly port: number;
  readonly tls: ServerTls;
  /** Requests that got as far as HTTP. */
  readonly requests: () => number;
}

export interface ImpostorOptions {
  /** The region in the name of its certificate. */
  readonly region?: string;
  readonly tls?: ServerOptions;
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array;
  /** Never ends its answer after the body, nor the connection. */
  readonly stops?: true;
}

export async function startImpostor(options: ImpostorOptions = {}): Promise<Impostor> {
  const tls = await createServerTls(options.region ?? REGION, new Date());
  let requests = 0;
  const server = createServer(
    { key: tls.keyPem, cert: tls.chainPem, ...options.tls },
    async (request, response) => {
      requests += 1;
      for await (const _ of request);
      const headers = { 'content-type': 'application/x-amz-json-1.1', ...options.headers };
      response.writeHead(options.status ?? 200, headers).write(options.body ?? '{}');
      if (!options.stops) response.end();
    },
  );
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    tls,
    requests: () => requests,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
