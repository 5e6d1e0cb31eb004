/**
 * The way in: callers' TCP connections to the enclave's TLS port, bytes untouched (docs/link.md section 4).
 * The TLS ends inside the enclave, so all that can be said to a caller who is refused is a reset.
 */
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import type { Link } from '../link/link.ts';
import { SERVICE_PORT } from '../link/ports.ts';
import { codeOf } from '../shared/errors.ts';
import { ParentError } from './errors.ts';
import type { Counters, Observe } from './observe.ts';
import { type Splice, splice } from './splice.ts';

export interface IngressConfig {
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  readonly maxConnections: number;
  readonly idleTimeoutMs: number;
  readonly connectTimeoutMs: number;
}

export interface Relay {
  readonly address: AddressInfo;
  /** Stops accepting; open connections live on. */
  stopAccepting(): void;
  /** Resolves true when every connection has ended by itself, or false after cutting the rest at the deadline. */
  drain(timeoutMs: number): Promise<boolean>;
}

export async function startRelay(
  ingress: IngressConfig,
  link: Link,
  { counters, observe }: { readonly counters: Counters; readonly observe: Observe },
): Promise<Relay> {
  const running = new Set<Promise<void>>();
  const splices = new Set<Splice>();
  const waiting = new Set<Socket>();

  async function carry(caller: Socket): Promise<void> {
    waiting.add(caller);
    try {
      const enclave = await link.dial(SERVICE_PORT, { timeoutMs: ingress.connectTimeoutMs });
      if (caller.destroyed) {
        enclave.destroy();
        return;
      }
      const joined = splice(caller, enclave, { idleTimeoutMs: ingress.idleTimeoutMs });
      splices.add(joined);
      const end = await joined.ended;
      splices.delete(joined);
      counters.add(`ingress.${end}`);
      counters.add('ingress.bytes-up', joined.carried.up);
      counters.add('ingress.bytes-down', joined.carried.down);
    } catch (error) {
      counters.add('ingress.unreachable');
      observe({ event: 'ingress-refused', reason: codeOf(error) ?? 'LINK_LOST' });
      caller.resetAndDestroy();
    } finally {
      waiting.delete(caller);
    }
  }

  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true }, (caller) => {
    caller.on('error', () => {});
    if (running.size >= ingress.maxConnections) {
      counters.add('ingress.too-many');
      observe({ event: 'ingress-refused', reason: 'too-many-connections' });
      caller.resetAndDestroy();
      return;
    }
    counters.add('ingress.opened');
    counters.add('ingress.open');
    const run = carry(caller).finally(() => {
      counters.add('ingress.open', -1);
      running.delete(run);
    });
    running.add(run);
  });
  await listen(server, ingress);

  return {
    address: server.address() as AddressInfo,
    stopAccepting: () => {
      server.close();
    },
    drain: async (timeoutMs) => {
      server.close();
      let graceful = true;
      const deadline = setTimeout(() => {
        graceful = false;
        for (const joined of splices) joined.abort();
        for (const caller of waiting) caller.resetAndDestroy();
      }, timeoutMs);
      while (running.size > 0) await Promise.all(running);
      clearTimeout(deadline);
      return graceful;
    },
  };
}

async function listen(server: Server, { host, port }: IngressConfig): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => {
      reject(
        new ParentError(
          'PARENT_LISTEN_FAILED',
          `Cannot listen on ${host} port ${port}: ${error.message}`,
          error,
        ),
      );
    });
    server.listen({ host, port, backlog: 1024 }, resolve);
  });
  // A failed accept (too many open files) loses that one connection and must not end the process.
  server.on('error', () => {});
}
