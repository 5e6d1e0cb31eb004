/**
 * The stand-in for `enclave/main.ts` in the image of the virtual machine's test. What differs: the parent's context
 * id, because connections over the loopback come from 1, and the KMS roots, which this asks the parent for.
 */
import { availableParallelism } from 'node:os';
import { refuseUnsafeStart } from '../../../enclave/start-guard.ts';

const PARENT_CID = 1;
const ENGINE_UID = 65533;
/** Where the machine's world offers the root of its simulated KMS. */
const KMS_ROOT_PORT = 9_100;

refuseUnsafeStart();

const [{ boot }, { nsmDevice }, { vsockLink }] = await Promise.all([
  import('../../../enclave/boot.ts'),
  import('../../../enclave/nsm/device.ts'),
  import('../../../link/vsock.ts'),
]);
const link = vsockLink({ peerCid: PARENT_CID });
let kmsRoot = '';
const asked = await link.dial(KMS_ROOT_PORT, { timeoutMs: 10_000 });
for await (const piece of asked as AsyncIterable<Buffer>) kmsRoot += piece.toString('latin1');
asked.destroy();

await boot({
  nsm: nsmDevice(),
  link,
  kmsRoots: [kmsRoot],
  memoryFolder: '/tmp',
  engineUid: ENGINE_UID,
  cpuCount: availableParallelism(),
  systemNow: () => new Date(),
  reached: async () => {},
});
