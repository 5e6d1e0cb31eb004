import type { ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';

/**
 * Bounds the exchanges that are open at once on each connection of a server. node:http hands over pipelined requests
 * (RFC 9112 9.3.2) as fast as it can parse them, whether or not anybody reads the answers, so that one connection
 * could hold as many files or answers as it has room for requests; and a CONNECT behind an unfinished answer would
 * find that answer in its tunnel.
 */
export class Exchanges {
  readonly #most: number;
  readonly #open = new WeakMap<Duplex, number>();

  constructor(mostPerConnection: number) {
    this.#most = mostPerConnection;
  }

  /** False if as many are open as may be: the connection is cut then. Ends with the response, if there is one. */
  begin(connection: Duplex, response?: ServerResponse): boolean {
    const open = this.#open.get(connection) ?? 0;
    if (open >= this.#most) {
      connection.destroy();
      return false;
    }
    this.#open.set(connection, open + 1);
    response?.once('close', () => this.#open.set(connection, (this.#open.get(connection) ?? 1) - 1));
    return true;
  }
}
