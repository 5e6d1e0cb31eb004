/**
 * The stand-in for `enclave/main.ts` on ordinary hardware: the same boot on a simulated platform.
 *
 * It is part of the measured copy that a simulated enclave starts from, and of no production image. It is
 * started in its run folder, where the simulated hypervisor has put the NSM's socket, the link's sockets and
 * the root certificate of the simulated KMS; all paths are relative, so no measured byte depends on them.
 */
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { getuid } from 'node:process';
import { refuseUnsafeStart } from '../enclave/start-guard.ts';

const ENGINE_UID = 65533;

try {
  refuseUnsafeStart();
  // As in enclave/main.ts: nothing else is loaded before the guard has spoken.
  const [{ boot }, { unixLink }, { hypervisorSocket }] = await Promise.all([
    import('../enclave/boot.ts'),
    import('../link/unix.ts'),
    import('./nsm/socket-client.ts'),
  ]);
  const hypervisor = await hypervisorSocket('nsm.sock');
  await boot({
    nsm: (request) => hypervisor.nsm(request),
    link: unixLink({ dial: 'parent', listen: 'enclave' }),
    kmsRoots: [readFileSync('kms-root.pem', 'latin1')],
    memoryFolder: '/dev/shm',
    engineUid: getuid?.() === 0 ? ENGINE_UID : undefined,
    cpuCount: availableParallelism(),
    systemNow: () => new Date(),
    reached: (step) => hypervisor.reached(step),
  });
} catch (error) {
  // The console of a simulated enclave: the hypervisor reads the reason from it.
  const { code, message, stack } = error as { code?: string; message: string; stack: string };
  process.stderr.write(`${JSON.stringify({ code: code ?? 'INTERNAL', message: code ? message : stack })}\n`);
  process.exit(1);
}
