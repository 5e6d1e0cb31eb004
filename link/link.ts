/**
 * The transport that enclave and parent share: Node streams over AF_VSOCK in production and over UNIX sockets
 * in simulation (docs/link.md). Each side has exactly one peer, so an address is a port and nothing more.
 */
import type { Duplex } from 'node:stream';

export interface Link {
  /** Opens one connection to the peer. Rejects with LinkError when the peer does not answer in time. */
  dial(port: number, options: { readonly timeoutMs: number }): Promise<Duplex>;
  /** Accepts connections from the peer. Resolves once the port is bound. */
  listen(port: number, onConnection: (connection: Duplex) => void): Promise<Listener>;
}

export interface Listener {
  /** Stops accepting; open connections live on. */
  close(): Promise<void>;
}
