import type { ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';

/**
 * One exchange at a time on each connection of a server. node:http hands over pipelined requests (RFC 9112 9.3.2)
 * as fast as it can parse them, so that one connection could open as many files as it has room for requests; and a
 * CONNECT behind an unfinished answer would find that answer in its tunnel.
 */
export class Exchanges {
  readonly #running = new WeakSet<Duplex>();

  /** False if another exchange runs on this connection, which is cut then. Ends with the response, if there is one. */
  begin(connection: Duplex, response?: ServerResponse): boolean {
    if (this.#running.has(connection)) {
      connection.destroy();
      return false;
    }
    this.#running.add(connection);
    response?.once('close', () => this.#running.delete(connection));
    return true;
  }
}
