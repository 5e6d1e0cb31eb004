/** The TLS that ends in the enclave (docs/serving.md section 1). */
import { createServer, type Server, type TLSSocket } from 'node:tls';
import { TLS_PROFILE } from '../../shared/tls-profile.ts';
import type { TlsIdentity } from '../tls-identity.ts';

export interface TlsEvents {
  /** Handshake done. */
  readonly onSecure: (socket: TLSSocket) => void;
  /** No handshake: another version, suite or group, garbage, or too late. The connection is closed. */
  readonly onFailure: () => void;
}

export interface TlsOptions {
  readonly identity: TlsIdentity;
  /** What certificates of clients must lead to, PEM; undefined: clients are asked for none. */
  readonly clientCa: readonly string[] | undefined;
  readonly handshakeMs: number;
}

/** Takes connections by `emit('connection', duplex)`; it never listens. Wipes the identity's private key. */
export function createTls({ identity, clientCa, handshakeMs }: TlsOptions, events: TlsEvents): Server {
  const { certificatePem, key } = identity;
  const server = createServer({
    ...TLS_PROFILE,
    cert: certificatePem,
    key: Buffer.from(key.buffer, key.byteOffset, key.byteLength),
    ALPNProtocols: ['http/1.1'],
    handshakeTimeout: handshakeMs,
    ...(clientCa === undefined ? {} : askFor(clientCa)),
  });
  // OpenSSL has its own copy by now.
  key.fill(0);
  server.on('secureConnection', (socket) => {
    socket.on('error', () => socket.destroy());
    events.onSecure(socket);
  });
  server.on('tlsClientError', (_error, socket) => {
    socket.destroy();
    events.onFailure();
  });
  return server;
}

/**
 * OpenSSL verifies what the client shows; `socket.authorized` is its verdict, and whoever hands connections on judges
 * by it (enclave/clients/identify.ts). Node would otherwise close the connection without a word to the client: it
 * sends an alert for a certificate that is missing, and none for one that is wrong.
 */
function askFor(clientCa: readonly string[]) {
  return {
    requestCert: true,
    rejectUnauthorized: false,
    ca: [...clientCa],
  };
}
