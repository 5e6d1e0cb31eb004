import { isIPv6 } from 'node:net';
import type { Resolve } from './dial.ts';

/**
 * Those who ask for the same name at the same time share one look-up. The system's holds one of the four threads
 * that also read files for the enclave (Node.js dns, "Implementation considerations"), so a name server that hangs
 * takes one of them for each name, and not one for each tunnel.
 */
export function sharedLookups(resolve: Resolve): Resolve {
  const running = new Map<string, Promise<readonly string[]>>();
  return (host) => {
    const already = running.get(host);
    if (already !== undefined) return already;
    const lookup = resolve(host).finally(() => running.delete(host));
    running.set(host, lookup);
    return lookup;
  };
}

/**
 * Families in turns, beginning with that of the first address (RFC 8305 4): when one of them leads nowhere, the
 * other is tried after one address and not after all of them.
 */
export function interleaved(addresses: readonly string[]): string[] {
  const firstIsV6 = isIPv6(addresses[0] ?? '');
  const first = addresses.filter((address) => isIPv6(address) === firstIsV6);
  const second = addresses.filter((address) => isIPv6(address) !== firstIsV6);
  return Array.from({ length: Math.max(first.length, second.length) }, (_, index) => [
    first[index],
    second[index],
  ])
    .flat()
    .filter((address) => address !== undefined);
}
