/** The parent process on the other side of the vsock, and the answer to the enclave's sign of life. */
import { readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { vsockLink } from '../../../link/vsock.ts';
import { parseParentConfig } from '../../../parent/config/config.ts';
import { answerHeartbeats } from '../../../parent/nitro/heartbeat.ts';
import { startParent } from '../../../parent/parent.ts';
import { givenArgument, tell } from './helper.ts';

/** Connections over the loopback come from 1, whichever context id they were made to. */
const ENCLAVE_CID = 1;
const KMS_ROOT_PORT = 9_100;

const { configPath, kmsRoot } = givenArgument<{ configPath: string; kmsRoot: string }>();
const config = parseParentConfig(readFileSync(configPath), dirname(configPath));
const link = vsockLink({ peerCid: ENCLAVE_CID });
await answerHeartbeats(link, (outcome) => tell({ event: 'heartbeat', outcome }));
// For the stand-in alone: the production image knows its roots.
await link.listen(KMS_ROOT_PORT, (connection) => void connection.end(kmsRoot));
const parent = await startParent(config, link, { observe: (event) => tell(event) });
tell({ port: parent.address.port });
process.on('message', () => tell({ event: 'counters', ...parent.counters() }));
