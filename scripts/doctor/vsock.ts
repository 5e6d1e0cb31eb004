/** The only way between this host and its enclave. */
import { access } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type Check,
  type CheckGroup,
  messageOf,
  ok,
  problem,
  type Result,
  skipped,
  warning,
} from './check.ts';
import type { World } from './world.ts';

export const vsockGroup: CheckGroup = {
  title: 'vsock',
  checks: (world, { config }): readonly Check[] => {
    const unneeded = config?.link.kind === 'unix';
    return [
      {
        id: 'vsock.socket',
        why: 'Parent and enclave talk over AF_VSOCK and nothing else.',
        run: async () =>
          unneeded ? skipped('The link of the configuration is a UNIX socket.') : checkSocket(world),
      },
      {
        id: 'vsock.device',
        why: 'It is there when a transport of vsocks is loaded.',
        needs: ['vsock.socket'],
        run: () => checkDevice(world),
      },
    ];
  },
};

async function checkSocket(world: World): Promise<Result> {
  try {
    await world.openVsock();
    return ok('an AF_VSOCK socket can be opened');
  } catch (error) {
    return problem(
      messageOf(error),
      'sudo modprobe vsock vmw_vsock_virtio_transport; in a container, let its seccomp profile allow AF_VSOCK.',
    );
  }
}

async function checkDevice({ root }: World): Promise<Result> {
  try {
    await access(join(root, 'dev/vsock'));
    return ok('/dev/vsock exists');
  } catch {
    return warning('There is no /dev/vsock.', 'sudo modprobe vmw_vsock_virtio_transport');
  }
}
