/**
 * The image's command: the production platform, named in one place. Nothing here can be chosen by the host.
 */
import { availableParallelism } from 'node:os';
import { vsockLink } from '../link/vsock.ts';
import { boot } from './boot.ts';
import { amazonRoots } from './kms/amazon-roots.ts';
import { nsmDevice } from './nsm/device.ts';
import { refuseUnsafeStart } from './start-guard.ts';

/** From inside a Nitro Enclave the parent instance is always CID 3 (vsock(7); AWS Nitro Enclaves guide). */
const PARENT_CID = 3;
const ENGINE_UID = 65533;

refuseUnsafeStart();
await boot({
  nsm: nsmDevice(),
  link: vsockLink({ peerCid: PARENT_CID }),
  kmsRoots: amazonRoots(),
  memoryFolder: '/tmp',
  engineUid: ENGINE_UID,
  cpuCount: availableParallelism(),
  systemNow: () => new Date(),
  reached: async () => {},
});
