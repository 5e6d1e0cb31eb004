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

/** Takes connections by `emit('connection', duplex)`; it never listens. Wipes the identity's private key. */
export function createTls(identity: TlsIdentity, handshakeMs: number, events: TlsEvents): Server {
  const { certificatePem, key } = identity;
  const server = createServer({
    ...TLS_PROFILE,
    cert: certificatePem,
    key: Buffer.from(key.buffer, key.byteOffset, key.byteLength),
    ALPNProtocols: ['http/1.1'],
    handshakeTimeout: handshakeMs,
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
