/** The TLS that ends in the enclave (docs/serving.md section 1). */
import { constants } from 'node:crypto';
import { createServer, type Server, type TLSSocket } from 'node:tls';
import type { TlsIdentity } from '../tls-identity.ts';

const CIPHERS = 'TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256';
/** The hybrid group first: what is recorded today shall not be readable by a quantum computer. */
const GROUPS = 'X25519MLKEM768:X25519:P-256';

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
    cert: certificatePem,
    key: Buffer.from(key.buffer, key.byteOffset, key.byteLength),
    minVersion: 'TLSv1.3',
    maxVersion: 'TLSv1.3',
    ciphers: CIPHERS,
    honorCipherOrder: true,
    ecdhCurve: GROUPS,
    ALPNProtocols: ['http/1.1'],
    handshakeTimeout: handshakeMs,
    // Tickets without content, and no store behind them: no session is ever resumed, so that every connection
    // is a full handshake with evidence of its own.
    secureOptions: constants.SSL_OP_NO_TICKET,
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
