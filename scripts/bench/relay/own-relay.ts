/** The relay as a process of its own: `own-relay.ts FOLDER`, with the enclave's socket in FOLDER. */
import { unixLink } from '../../../link/unix.ts';
import { Counters } from '../../../parent/observe.ts';
import { startRelay } from '../../../parent/relay.ts';
import { serveQuestions } from './worker.ts';

const folder = process.argv[2] as string;
const relay = await startRelay(
  {
    host: '127.0.0.1',
    port: 0,
    maxConnections: 4_096,
    maxConnectionsPerAddress: 4_096,
    idleTimeoutMs: 300_000,
    connectTimeoutMs: 5_000,
  },
  unixLink({ dial: folder, listen: folder }),
  { counters: new Counters(), observe: () => {} },
);
serveQuestions(async () => []);
process.send?.([relay.address.port]);
