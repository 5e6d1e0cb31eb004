import { lookup } from 'node:dns/promises';
import { connect, type Socket } from 'node:net';
import { ParentError } from '../errors.ts';
import { isForbiddenAddress } from './addresses.ts';
import type { Destination } from './allow-list.ts';
import { interleaved } from './resolve.ts';

/** Every address of a name, in the order to try them. */
export type Resolve = (host: string) => Promise<readonly string[]>;

export const resolveBySystem: Resolve = async (host) =>
  (await lookup(host, { all: true, order: 'verbatim' })).map(({ address }) => address);

/** How long one address may keep the next one waiting (RFC 8305 5 calls it the connection attempt delay). */
const ATTEMPT_DELAY_MS = 250;
const ADDRESSES_MAX = 16;

/** Opens a TCP connection to an allowed destination; resolves names itself, so the enclave never picks an address. */
export async function dialDestination(
  destination: Destination,
  options: { readonly timeoutMs: number; readonly resolve: Resolve },
): Promise<Socket> {
  if (destination.override !== undefined) {
    const { address, port } = destination.override;
    return dialAddresses([address], port, options.timeoutMs);
  }
  const started = performance.now();
  const addresses = await withDeadline(
    options.resolve(destination.host),
    options.timeoutMs,
    destination.host,
  );
  if (addresses.length === 0)
    throw new ParentError('PARENT_EGRESS_FAILED', `${destination.host} has no address.`);
  const forbidden = addresses.find(isForbiddenAddress);
  if (forbidden !== undefined) {
    // One such address among good ones is no accident either: the whole answer is refused.
    throw new ParentError(
      'PARENT_EGRESS_DENIED',
      `${destination.host} leads to ${forbidden}, which is never dialled.`,
    );
  }
  const remainingMs = options.timeoutMs - (performance.now() - started);
  return dialAddresses(interleaved(addresses).slice(0, ADDRESSES_MAX), destination.port, remainingMs);
}

/**
 * Tries the addresses in order and keeps the first connection: the next address starts when the one before it
 * has failed or has been silent for a moment (RFC 8305 5).
 */
export function dialAddresses(
  addresses: readonly string[],
  port: number,
  timeoutMs: number,
): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const attempts = new Set<Socket>();
    const waiting = [...addresses];
    let next: NodeJS.Timeout | undefined;
    let lastError: unknown;
    const deadline = setTimeout(() => finish(undefined), Math.max(timeoutMs, 1));

    function finish(winner: Socket | undefined): void {
      clearTimeout(deadline);
      clearTimeout(next);
      for (const attempt of attempts) if (attempt !== winner) attempt.destroy();
      attempts.clear();
      waiting.length = 0;
      if (winner !== undefined) {
        resolve(winner);
        return;
      }
      reject(
        new ParentError(
          'PARENT_EGRESS_FAILED',
          `No connection to ${addresses.join(', ')} port ${port}.`,
          lastError,
        ),
      );
    }
    function tryNext(): void {
      clearTimeout(next);
      const host = waiting.shift();
      if (host === undefined) {
        if (attempts.size === 0) finish(undefined);
        return;
      }
      const socket = connect({ host, port, allowHalfOpen: true, noDelay: true });
      attempts.add(socket);
      socket.on('error', (error) => {
        if (!attempts.delete(socket)) return;
        lastError = error;
        tryNext();
      });
      socket.once('connect', () => finish(socket));
      next = setTimeout(tryNext, ATTEMPT_DELAY_MS);
    }
    tryNext();
  });
}

async function withDeadline<T>(promise: Promise<T>, timeoutMs: number, host: string): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(
    () =>
      late.reject(
        new ParentError('PARENT_EGRESS_FAILED', `${host} was not resolved within ${timeoutMs} ms.`),
      ),
    timeoutMs,
  );
  try {
    return await Promise.race([promise, late.promise]);
  } catch (error) {
    if (error instanceof ParentError) throw error;
    throw new ParentError('PARENT_EGRESS_FAILED', `${host} was not resolved.`, error);
  } finally {
    clearTimeout(timer);
  }
}
