/**
 * An enclave's sign of life, as its init gives it: the byte 0xB7 to port 9000 of its parent, context id 3, and
 * the same byte back (aws-nitro-enclaves-sdk-bootstrap init/init.c, enclave_ready).
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { vsockLink } from '../../../link/vsock.ts';

const PARENT_CID = 3;
const PORT = 9_000;
const HEARTBEAT = 0xb7;

const connection = await vsockLink({ peerCid: PARENT_CID }).dial(PORT, { timeoutMs: 20_000 });
connection.write(Uint8Array.of(HEARTBEAT));
const [answer] = (await once(connection, 'data')) as [Buffer];
assert.deepEqual([...answer], [HEARTBEAT]);
connection.end();
process.exit(0);
