/**
 * The way in: callers' TCP connections to the enclave's TLS port, bytes untouched (docs/link.md section 4).
 * The TLS ends inside the enclave, so all that can be said to a caller who is refused is a reset.
 */
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Link } from '../link/link.ts';
import { SERVICE_PORT } from '../link/ports.ts';
import { callersThatFit } from './descriptors.ts';
import { ParentError } from './errors.ts';
import type { Counters, Observe } from './observe.ts';
import { type Splice, splice } from './splice.ts';
import { throttled } from './throttle.ts';

export interface IngressConfig {
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  readonly maxConnections: number;
  /** Of these, how many one address may have open. */
  readonly maxConnectionsPerAddress: number;
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
  options: { readonly counters: Counters; readonly observe: Observe },
): Promise<Relay> {
  const { counters } = options;
  const observe = throttled(options.observe);
  const running = new Set<Promise<void>>();
  const splices = new Set<Splice>();
  const waiting = new Set<Socket>();
  const openFrom = new Map<string, number>();
  const most = Math.min(ingress.maxConnections, callersThatFit());
  if (most < ingress.maxConnections) {
    observe({ event: 'ingress-limited', maxConnections: ingress.maxConnections, descriptorsFor: most });
  }

  function refuse(caller: Socket, counter: string, reason: string): void {
    counters.add(`ingress.${counter}`);
    observe({ event: 'ingress-refused', reason });
    caller.resetAndDestroy();
  }

  function accept(caller: Socket): void {
    caller.on('error', () => {});
    const address = caller.remoteAddress ?? '';
    const alike = openFrom.get(address) ?? 0;
    if (running.size >= most) {
      refuse(caller, 'too-many', 'too-many-connections');
      return;
    }
    if (alike >= ingress.maxConnectionsPerAddress) {
      refuse(caller, 'too-many-from-address', 'too-many-from-address');
      return;
    }
    counters.add('ingress.opened');
    counters.add('ingress.open');
    openFrom.set(address, alike + 1);
    const run = serve(caller).finally(() => {
      running.delete(run);
      counters.add('ingress.open', -1);
      const left = (openFrom.get(address) ?? 1) - 1;
      if (left === 0) openFrom.delete(address);
      else openFrom.set(address, left);
    });
    running.add(run);
  }

  async function serve(caller: Socket): Promise<void> {
    try {
      const enclave = await dialFor(caller);
      if (enclave === undefined) {
        counters.add('ingress.broken');
        return;
      }
      const joined = splice(caller, enclave, {
        idleTimeoutMs: ingress.idleTimeoutMs,
        onMoved: (direction, sizeBytes) => counters.add(BYTES[direction], sizeBytes),
      });
      splices.add(joined);
      const end = await joined.ended;
      splices.delete(joined);
      counters.add(`ingress.${end}`);
    } catch (error) {
      const code = reasonOf(error);
      refuse(caller, code === 'LINK_TIMEOUT' ? 'timeout' : 'unreachable', code);
    }
  }

  /** Undefined when the caller is cut meanwhile: nobody waits for the enclave any longer. */
  async function dialFor(caller: Socket): Promise<Duplex | undefined> {
    const { promise: cut, resolve } = Promise.withResolvers<undefined>();
    const onClose = (): void => resolve(undefined);
    caller.once('close', onClose);
    waiting.add(caller);
    counters.add('ingress.dialling');
    const dialled = link.dial(SERVICE_PORT, { timeoutMs: ingress.connectTimeoutMs });
    try {
      const enclave = await Promise.race([dialled, cut]);
      if (!caller.destroyed) return enclave;
      dialled.then(
        (late) => late.destroy(),
        () => {},
      );
      return undefined;
    } finally {
      counters.add('ingress.dialling', -1);
      waiting.delete(caller);
      caller.off('close', onClose);
    }
  }

  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true }, accept);
  await listen(server, ingress);
  // It loses the one connection, and must not end the process.
  server.on('error', (error) => {
    counters.add('ingress.accept-failed');
    observe({ event: 'ingress-refused', reason: reasonOf(error) });
  });

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

/** The code of the project's own error or of the system's, such as EMFILE. */
function reasonOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : 'LINK_LOST';
}

const BYTES = { up: 'ingress.bytes-up', down: 'ingress.bytes-down' } as const;

async function listen(server: Server, { host, port }: IngressConfig): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const onError = (error: Error): void => {
      const message = `Cannot listen on ${host} port ${port}: ${error.message}`;
      reject(new ParentError('PARENT_LISTEN_FAILED', message, error));
    };
    server.once('error', onError);
    server.listen({ host, port, backlog: 1024 }, () => {
      server.off('error', onError);
      resolve();
    });
  });
}
