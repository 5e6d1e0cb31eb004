/** The parent that is soaked, as a process of its own: `--expose-gc soak-parent.ts FOLDER EGRESS_HOST EGRESS_PORT IDLE_TIMEOUT_MS`. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { unixLink } from '../../../link/unix.ts';
import type { ParentConfig } from '../../../parent/config/config.ts';
import { startParent } from '../../../parent/parent.ts';
import { serveQuestions } from './worker.ts';

export interface SoakQuestion {
  readonly kind: 'sample' | 'reload' | 'drain';
}

/** Taken after garbage collection. */
export interface SoakSample {
  readonly port: number;
  readonly rssBytes: number;
  readonly heapBytes: number;
  readonly externalBytes: number;
  readonly descriptors: number;
  readonly counters: Readonly<Record<string, number>>;
  /** Whether a drain ended without cutting anybody. */
  readonly graceful?: boolean;
}

const DRAIN_TIMEOUT_MS = 60_000;

const [folder, egressHost, egressPort, idleTimeoutMs] = process.argv.slice(2) as [
  string,
  string,
  string,
  string,
];
const config: ParentConfig = {
  link: { kind: 'unix', dial: join(folder, 'e'), listen: join(folder, 'p') },
  ingress: {
    host: '127.0.0.1',
    port: 0,
    maxConnections: 1_024,
    maxConnectionsPerAddress: 1_024,
    idleTimeoutMs: Number(idleTimeoutMs),
    connectTimeoutMs: 30_000,
  },
  egress: [
    {
      host: egressHost,
      port: 443,
      maxConnections: 1_024,
      override: { address: '127.0.0.1', port: Number(egressPort) },
    },
  ],
  deploymentPath: join(folder, 'deployment.json'),
  models: { kind: 'folder', path: folder },
  credentials: { kind: 'file', path: join(folder, 'credentials.json') },
};
const parent = await startParent(config, unixLink({ dial: join(folder, 'e'), listen: join(folder, 'p') }));

function sample(): SoakSample {
  globalThis.gc?.();
  globalThis.gc?.();
  const { rss, heapUsed, external } = process.memoryUsage();
  return {
    port: parent.address.port,
    rssBytes: rss,
    heapBytes: heapUsed,
    externalBytes: external,
    descriptors: readdirSync('/proc/self/fd').length,
    counters: parent.counters(),
  };
}

serveQuestions<SoakQuestion>(async ({ kind }) => {
  if (kind === 'reload') parent.reload(config);
  if (kind === 'drain') return { ...sample(), graceful: await parent.drain(DRAIN_TIMEOUT_MS) };
  return sample();
});
process.send?.(sample());
