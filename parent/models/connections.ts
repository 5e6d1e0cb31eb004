import type { Agent } from 'node:http';

/** For connections to a store: enough that looks never wait behind what one enclave reads at once (16 bodies). */
export const AGENT_OPTIONS = {
  keepAlive: true,
  maxSockets: 32,
  maxFreeSockets: 32,
  /** Ends a connection that nobody used for so long; it cuts none that is in use. */
  timeout: 15_000,
  maxCachedSessions: 0,
  rejectUnauthorized: true,
  ALPNProtocols: ['http/1.1'],
};

/** Ends the connections that nobody uses now. The others end once they are unused. */
export function closeIdle(...agents: readonly Agent[]): void {
  for (const agent of agents) {
    for (const socket of Object.values(agent.freeSockets).flat()) socket?.destroy();
  }
}
