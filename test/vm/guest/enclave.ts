/**
 * The stand-in for `enclave/main.ts` on a kernel of our own: /dev/nsm and the vsock are the real ones. What
 * differs is the parent's context id, the KMS roots, and that the boot reports its steps to the checks.
 */
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { refuseUnsafeStart } from '../../../enclave/start-guard.ts';

const PARENT_CID = 1;
const ENGINE_UID = 65533;

try {
  refuseUnsafeStart();
  const [{ boot }, { nsmDevice }, { vsockLink }, { hypervisorSocket }] = await Promise.all([
    import('../../../enclave/boot.ts'),
    import('../../../enclave/nsm/device.ts'),
    import('../../../link/vsock.ts'),
    import('../../../simulator/nsm/socket-client.ts'),
  ]);
  const hypervisor = await hypervisorSocket('nsm.sock');
  await boot({
    nsm: nsmDevice(),
    link: vsockLink({ peerCid: PARENT_CID }),
    kmsRoots: [readFileSync('kms-root.pem', 'latin1')],
    memoryFolder: '/tmp',
    engineUid: ENGINE_UID,
    cpuCount: availableParallelism(),
    systemNow: () => new Date(),
    reached: (step) => hypervisor.reached(step),
  });
} catch (error) {
  const { code, message, stack } = error as { code?: string; message: string; stack: string };
  process.stderr.write(`${JSON.stringify({ code: code ?? 'INTERNAL', message: code ? message : stack })}\n`);
  process.exit(1);
}
