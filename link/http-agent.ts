import { Agent, type ClientRequest, type ClientRequestArgs } from 'node:http';
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Link } from './link.ts';

/**
 * A node:http connection pool whose connections are dialled over the link. Its own bounds do not hold for
 * connections that are dialled asynchronously: whoever uses it bounds the exchanges.
 */
export class LinkAgent extends Agent {
  readonly #dial: () => Promise<Duplex>;

  constructor(
    link: Link,
    port: number,
    options: { readonly keepAlive: boolean; readonly connectTimeoutMs: number },
  ) {
    super({ keepAlive: options.keepAlive });
    this.#dial = () => link.dial(port, { timeoutMs: options.connectTimeoutMs });
  }

  // The signature is node:http's: a connection that comes later is handed to the callback.
  override createConnection(
    _options: ClientRequestArgs,
    callback?: (error: Error | null, connection: Duplex) => void,
  ): undefined {
    this.#dial().then(
      (connection) => callback?.(null, connection),
      (error) => callback?.(error, undefined as never),
    );
  }

  // node:http destroys an idle net.Socket on which anything arrives, so that bytes sent ahead never become the
  // answer to a later request. It does so below the stream, hence not for streams of other kinds.
  override keepSocketAlive(connection: Duplex): boolean {
    const keep = super.keepSocketAlive(connection) as unknown as boolean;
    if (!(connection instanceof Socket)) connection.on('data', discard).on('end', discard);
    return keep;
  }

  override reuseSocket(connection: Duplex, request: ClientRequest): void {
    connection.off('data', discard).off('end', discard);
    super.reuseSocket(connection, request);
  }
}

function discard(this: Duplex): void {
  this.destroy();
}
