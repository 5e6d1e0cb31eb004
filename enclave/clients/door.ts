/** Who may come in: asked once for each connection, when its handshake is done, and again for each request. */
import type { TLSSocket } from 'node:tls';
import type { ApiError } from '../serve/errors.ts';
import type { Admitted, Caller } from './caller.ts';

export interface Door {
  /** Undefined, or what to refuse the connection with before a byte of it is read. */
  enter(socket: TLSSocket): ApiError | undefined;
  /** For a request on a connection that has entered, before its body is read. Throws ApiError. */
  admit(socket: TLSSocket): Admitted;
}

/** Every connection is a caller of its own. */
export function doorForAnyone(): Door {
  const callers = new WeakMap<TLSSocket, Caller>();
  let connections = 0;
  return {
    enter: (socket) => {
      connections += 1;
      callers.set(socket, { key: `connection-${connections}`, identity: undefined });
      return undefined;
    },
    admit: (socket) => {
      const caller = callers.get(socket);
      if (caller === undefined) throw new TypeError('a connection that did not enter');
      return { caller, leave: () => {} };
    },
  };
}
