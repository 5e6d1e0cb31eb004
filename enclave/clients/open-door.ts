import { performance } from 'node:perf_hooks';
import type { Deployment } from '../../shared/deployment/deployment.ts';
import type { EnclaveClock } from '../clock.ts';
import type { HostService } from '../host/host-service.ts';
import type { Report } from '../report.ts';
import { DenyListWatch } from './deny-list.ts';
import { ClientDoor, type Door, doorForAnyone } from './door.ts';

export interface DoorNeeds {
  readonly host: HostService;
  readonly clock: EnclaveClock;
  readonly report: Report;
}

/** Whom the deployment lets in. */
export async function openDoor(
  { clients, perClient }: Deployment,
  { host, clock, report }: DoorNeeds,
): Promise<Door> {
  if (clients === 'anyone') return doorForAnyone(perClient);
  const now = (): Date => clock.now();
  const { denyListSigner: signer } = clients;
  const denyList =
    signer === undefined
      ? undefined
      : await DenyListWatch.start({
          fetch: () => host.fetchDenyList(),
          signer,
          now,
          observe: (event) => report.denyList(event),
        });
  return new ClientDoor({ rules: clients, denyList, now, monotonicMs: () => performance.now() });
}
