/** Who is at the other end of a connection, as the rest of serving may know it. */

/** Nothing of it is ever logged or counted by. */
export interface Caller {
  /**
   * The same for one client on all its connections, different for any two clients: what fairness and quotas go by.
   * Where anyone may call, each connection is a client of its own.
   */
  readonly key: string;
  /** SPIFFE id or subject, from the verified certificate of this very connection; undefined where anyone may call. */
  readonly identity: string | undefined;
}

/** A request that was let in. */
export interface Admitted {
  readonly caller: Caller;
  /** Once, when the request is over, however it ended. */
  leave(): void;
}
