/**
 * The image's command: the production platform, named in one place. Nothing here can be chosen by the host.
 */
import { availableParallelism } from 'node:os';
import { refuseUnsafeStart } from './start-guard.ts';

/** From inside a Nitro Enclave the parent instance is always CID 3 (AWS Nitro Enclaves user guide, "vsock"). */
const PARENT_CID = 3;
const ENGINE_UID = 65533;

refuseUnsafeStart();

// Imported only now: no other code, ours or a library's, runs in a process that was started in another way.
const [{ boot }, { nsmDevice }, { amazonRoots }, { vsockLink }] = await Promise.all([
  import('./boot.ts'),
  import('./nsm/device.ts'),
  import('./kms/amazon-roots.ts'),
  import('../link/vsock.ts'),
]);

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
