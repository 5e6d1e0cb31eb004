/** The parent process on the other side of the vsock. */
import { readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { vsockLink } from '../../../link/vsock.ts';
import { parseParentConfig } from '../../../parent/config/config.ts';
import { startParent } from '../../../parent/parent.ts';
import { givenArgument, tell } from './helper.ts';

const ENCLAVE_CID = 1;

const { configPath } = givenArgument<{ configPath: string }>();
const config = parseParentConfig(readFileSync(configPath), dirname(configPath));
const parent = await startParent(config, vsockLink({ peerCid: ENCLAVE_CID }));
tell({ port: parent.address.port });
