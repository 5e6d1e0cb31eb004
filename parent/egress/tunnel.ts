import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { ParentError } from '../errors.ts';
import type { Counters, Observe } from '../observe.ts';
import { type Splice, splice } from '../splice.ts';
import { throttled } from '../throttle.ts';
import { type AllowList, parseAuthority } from './allow-list.ts';
import { dialDestination, type Resolve } from './dial.ts';
import { sharedLookups } from './resolve.ts';

export interface EgressLimits {
  readonly connectTimeoutMs: number;
  readonly idleTimeoutMs: number;
}

export const EGRESS_LIMITS: EgressLimits = { connectTimeoutMs: 10_000, idleTimeoutMs: 120_000 };

export interface Egress {
  /** Answers one CONNECT: a tunnel to an allowed destination, or a status that says no. */
  connect(request: IncomingMessage, connection: Duplex, head: Buffer): Promise<void>;
  /** Cuts every tunnel. */
  abort(): void;
}

/** `allowed` is asked again for every CONNECT, so a reload rules the next tunnel and leaves open ones alone. */
export function egress(options: {
  readonly allowed: () => AllowList;
  readonly resolve: Resolve;
  readonly limits: EgressLimits;
  readonly counters: Counters;
  readonly observe: Observe;
}): Egress {
  const { counters, limits } = options;
  const observe = throttled(options.observe);
  const resolve = sharedLookups(options.resolve);
  const tunnels = new Set<Splice>();

  function refuse(connection: Duplex, status: string, destination: string, reason: string): void {
    counters.add(`egress.refused.${reason}`);
    observe({ event: 'egress-refused', destination: destination.slice(0, 260), reason });
    connection.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
    connection.resume();
    connection.once('end', () => connection.destroy());
    setTimeout(() => connection.destroy(), 1_000).unref();
  }

  async function connect(request: IncomingMessage, connection: Duplex, head: Buffer): Promise<void> {
    connection.on('error', () => {});
    // Bytes of the tunnel may have come with the request; they go back first, before an end could pass them.
    if (head.length > 0) connection.unshift(head);
    const target = request.url ?? '';
    const authority = parseAuthority(target);
    if (authority === undefined) return refuse(connection, '400 Bad Request', target, 'malformed');
    const key = `${authority.host}:${authority.port}`;
    if (request.headers.host !== undefined && request.headers.host.toLowerCase() !== key) {
      return refuse(connection, '400 Bad Request', target, 'host-differs');
    }
    if (
      request.headers['content-length'] !== undefined ||
      request.headers['transfer-encoding'] !== undefined
    ) {
      return refuse(connection, '400 Bad Request', target, 'has-body');
    }
    const destination = options.allowed().get(key);
    if (destination === undefined) return refuse(connection, '403 Forbidden', key, 'not-allowed');
    const open = `egress.open.${key}`;
    if (counters.get(open) >= destination.maxConnections) {
      return refuse(connection, '503 Service Unavailable', key, 'too-many');
    }

    counters.add(open);
    try {
      const upstream = await dialDestination(destination, {
        timeoutMs: limits.connectTimeoutMs,
        resolve,
      });
      if (connection.destroyed) {
        upstream.destroy();
        return;
      }
      counters.add(`egress.opened.${key}`);
      connection.write('HTTP/1.1 200 OK\r\n\r\n');
      const bytes = { up: `egress.bytes-up.${key}`, down: `egress.bytes-down.${key}` };
      const tunnel = splice(connection, upstream, {
        idleTimeoutMs: limits.idleTimeoutMs,
        onMoved: (direction, sizeBytes) => counters.add(bytes[direction], sizeBytes),
      });
      tunnels.add(tunnel);
      const end = await tunnel.ended;
      tunnels.delete(tunnel);
      const { up, down } = tunnel.carried;
      options.observe({ event: 'egress-closed', destination: key, end, up, down });
    } catch (error) {
      const denied = error instanceof ParentError && error.code === 'PARENT_EGRESS_DENIED';
      const status = denied ? '403 Forbidden' : '502 Bad Gateway';
      refuse(connection, status, key, denied ? 'forbidden-address' : 'unreachable');
    } finally {
      counters.add(open, -1);
    }
  }

  return {
    connect,
    abort: () => {
      for (const tunnel of tunnels) tunnel.abort();
    },
  };
}
