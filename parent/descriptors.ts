import { readFileSync } from 'node:fs';

/** What the parent needs beside callers: the host service's connections and tunnels, files, Node's own. */
const RESERVED = 768;
const PER_CALLER = 2;

/**
 * How many callers the limit of open files has room for. Beyond it the kernel gives no descriptor, and libuv
 * closes callers without a word to anybody; so the relay refuses them before, and counts them.
 */
export function callersThatFit(limits = readFileSync('/proc/self/limits', 'utf8')): number {
  const soft = /^Max open files\s+(\d+|unlimited)/m.exec(limits)?.[1];
  if (soft === undefined || soft === 'unlimited') return Number.POSITIVE_INFINITY;
  return Math.max(1, Math.floor((Number(soft) - RESERVED) / PER_CALLER));
}
